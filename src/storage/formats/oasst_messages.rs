//! Imports OpenAssistant's single messages, from which its trees are built: `message_id`, `parent_id`, `text`, `role`, `rank`.
//!
//! This is how the `oasst1` and `oasst2` data sets are published in Parquet. Every question with two ranked answers or more gives
//! the pairs of them; the prompt is the conversation that leads to it, `rank` 0 is the best. Deleted messages are left out with
//! what follows them; a message whose parent the file lacks is counted, with what follows it.

use super::super::chat_json::fits;
use super::super::record::Record;
use super::super::schema::{Fit, Format, Gather, Gathered, RankedAnswer, Ranking, Reader, Reads, Refusal};
use crate::domain::{Message, PromptBody};
use serde_json::Value;
use std::collections::HashMap;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "oasst-messages",
    help: "OpenAssistant's messages, one a row: `message_id`, `parent_id`, `text`, `role`, `rank`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `message_id`, `parent_id`, `text` and `role`",
        fit: |record| {
            let flat = record.has_all(&["message_id", "text", "role"]);
            if flat && record.has("parent_id") { Fit::Sure } else { Fit::No }
        },
        row: Reader::Gathered(|| Box::<Messages>::default()),
    }),
    writes: None,
};

/// The longest conversation that is followed, in turns.
const LONGEST: usize = 64;

/// A message of a tree.
struct TreeMessage {
    id: String,
    parent: Option<String>,
    text: String,
    asks: bool,
    deleted: bool,
    rank: Option<f64>,
    model: Option<String>,
    lang: Option<String>,
}

/// The messages so far.
#[derive(Default)]
struct Messages(Vec<TreeMessage>);

impl Gather for Messages {
    fn take(&mut self, record: &Record) -> Result<(String, String), Refusal> {
        let row = record.row()?;
        let text = |name: &str| row.text(name).map(str::to_owned);
        row.mark_all(&["message_tree_id", "tree_state", "parent_id"]);
        let id = text("message_id").ok_or("has no `message_id`")?;
        let asks = match row.get("role").and_then(Value::as_str) {
            Some("prompter" | "user") => true,
            Some("assistant") => false,
            _ => return Err("has a `role` that is neither `prompter` nor `assistant`".into()),
        };
        let said = row.string("text")?.to_owned();
        fits("text", &said)?;
        self.0.push(TreeMessage {
            id,
            parent: text("parent_id"),
            asks,
            deleted: row.get("deleted").and_then(Value::as_bool) == Some(true) || said.trim().is_empty(),
            rank: row.get("rank").and_then(Value::as_f64).filter(|rank| rank.is_finite()),
            model: text("model_name"),
            lang: text("lang"),
            text: said.clone(),
        });
        Ok((said.clone(), said))
    }

    fn end(self: Box<Self>) -> Gathered {
        let all = self.0;
        let mut by_id: HashMap<&str, usize> = HashMap::with_capacity(all.len());
        let mut twice = 0;
        for (at, message) in all.iter().enumerate() {
            twice += usize::from(by_id.insert(&message.id, at).is_some_and(|_| true));
        }
        let alive = |at: usize| by_id.get(all[at].id.as_str()) == Some(&at) && !all[at].deleted;
        // A question's answers, in the file's order.
        let mut answers: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut orphans = 0;
        for (at, message) in all.iter().enumerate().filter(|(at, _)| alive(*at)) {
            match &message.parent {
                None => {}
                Some(parent) => match by_id.get(parent.as_str()) {
                    Some(parent) if !message.asks => answers.entry(*parent).or_default().push(at),
                    Some(_) => {}
                    None => orphans += 1,
                },
            }
        }
        let mut rankings = Vec::new();
        let (mut unasked, mut long) = (0, 0);
        for (at, question) in all.iter().enumerate().filter(|(at, message)| alive(*at) && message.asks) {
            let Some(own) = answers.get(&at) else { continue };
            if own.iter().filter(|a| all[**a].rank.is_some()).count() < 2 {
                continue;
            }
            let turns = match path(&all, &by_id, at) {
                Path::Whole(turns) => turns,
                Path::Broken => {
                    unasked += 1;
                    continue;
                }
                Path::TooLong => {
                    long += 1;
                    continue;
                }
            };
            let answer = |at: &usize| RankedAnswer {
                answer: all[*at].text.as_str().into(),
                model: all[*at].model.clone(),
                score: all[*at].rank.map(|rank| -rank),
            };
            rankings.push(Ranking {
                prompt: PromptBody::Chat(turns.into()),
                tags: question.lang.clone().into_iter().collect(),
                rater: "rank".into(),
                answers: own.iter().map(answer).collect(),
                unread: Vec::new(),
            });
        }
        let left_out = [
            ("message whose parent the file lacks", orphans),
            ("message with the id of another", twice),
            ("question whose conversation is not whole", unasked),
            ("question behind a conversation of more than 64 turns", long),
        ];
        Gathered { rankings, left_out: left_out.into_iter().filter(|(_, n)| *n > 0).collect() }
    }
}

/// The conversation that leads to a message.
enum Path {
    Whole(Vec<Message>),
    /// A message of it is missing, deleted, or asks or answers out of turn.
    Broken,
    TooLong,
}

fn path(all: &[TreeMessage], by_id: &HashMap<&str, usize>, last: usize) -> Path {
    let mut turns = Vec::new();
    let mut at = Some(last);
    while let Some(here) = at {
        let message = &all[here];
        // The parent asks where the child answers; a circle of parents is as long as the limit.
        let asks = turns.len() % 2 == 0;
        if message.deleted || message.asks != asks {
            return Path::Broken;
        }
        if turns.len() == LONGEST {
            return Path::TooLong;
        }
        turns.push(Message::new(if asks { "user" } else { "assistant" }, message.text.as_str()));
        at = match &message.parent {
            None => None,
            Some(parent) => match by_id.get(parent.as_str()) {
                Some(parent) => Some(*parent),
                None => return Path::Broken,
            },
        };
    }
    turns.reverse();
    Path::Whole(turns)
}
