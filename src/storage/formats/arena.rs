//! Imports battles of the Chatbot Arena and the human and model judgments of MT-bench.
//!
//! Two conversations (`conversation_a`, `conversation_b`) with the same questions, or `prompt`, `response_a` and `response_b` as lists
//! (arena-55k), and a winner: `winner`, or `winner_model_a`, `winner_model_b`, `winner_tie`. The prompt is what both have in common;
//! where there are several questions an answer has several turns. The rater is the `judge`.

use super::super::answers::tags_of;
use super::super::chat_json::messages;
use super::super::given::GivenAnswer;
use super::super::meaning::{sound_pair, truth};
use super::super::record::{Record, RowFields};
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, Message, PromptBody, Side, Strength, counted};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "arena",
    help: "Battles of the Chatbot Arena and MT-bench: `conversation_a`, `conversation_b`, `winner`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `conversation_a`, `conversation_b` and `winner`",
        fit: |record| {
            let battle = record.has_all(&["conversation_a", "conversation_b"]);
            let wide = record.has_all(&["response_a", "response_b", "winner_model_a"]);
            if battle || wide { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let row = record.row()?;
    let (a, b) = if row.peek("conversation_a").is_some() {
        let side = |name: &str| messages(name, row.get(name).unwrap_or(&Value::Null));
        (side("conversation_a")?, side("conversation_b")?)
    } else {
        let asked = texts(&row, "prompt")?;
        let side = |name: &str| {
            let answered = texts(&row, name)?;
            if answered.len() != asked.len() {
                let (n, questions) = (answered.len(), counted(asked.len(), "question"));
                return Err(format!("has {questions} in `prompt` and {} in `{name}`", counted(n, "answer")));
            }
            Ok(woven(&asked, &answered))
        };
        (side("response_a")?, side("response_b")?)
    };
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    // The first answer may be the same: then it is part of the prompt, but not a last answer.
    let split = same.min(a.len().min(b.len()).saturating_sub(1));
    let asked = |turns: &[Message]| -> Vec<String> {
        turns.iter().filter(|turn| turn.role != "assistant").map(|turn| turn.content.clone()).collect()
    };
    if asked(&a) != asked(&b) {
        return Err("has conversations with different questions".into());
    }
    if split == 0 {
        return Err("has conversations without a question that both answer".into());
    }
    let prompt = PromptBody::Chat(a[..split].to_vec().into());
    let side = |name: &str, turns: &[Message]| GivenAnswer::of_turns(name, turns[split..].to_vec());
    let (first, second) = (side("conversation_a", &a)?, side("conversation_b", &b)?);
    sound_pair(&prompt, &first, &second)?;
    let model = |name: &str| row.text(name).map(str::to_owned);
    let rater = row.text("judge").or_else(|| row.text("judge_hash")).unwrap_or("user").to_owned();
    let choice = winner(&row)?;
    Ok(ImportedVotes {
        prompt,
        tags: tags_of(&row)?,
        a: (first, model("model_a")),
        b: (second, model("model_b")),
        votes: vec![ImportedVote::new(rater, choice)],
        ..ImportedVotes::default()
    })
}

fn winner(row: &RowFields<'_>) -> Result<Choice, String> {
    let prefer = |side| Choice::Prefer(side, Strength::Better);
    if let Some(value) = row.get("winner") {
        return match value.as_str().unwrap_or_default() {
            "model_a" => Ok(prefer(Side::A)),
            "model_b" => Ok(prefer(Side::B)),
            "tie" => Ok(Choice::Tie),
            "tie (bothbad)" | "both_bad" | "bothbad" => Ok(Choice::BothBad),
            _ => Err(format!("has the winner {value}: expected model_a, model_b, tie or tie (bothbad)")),
        };
    }
    let won = |name: &str| row.get(name).and_then(truth).unwrap_or(false);
    match (won("winner_model_a"), won("winner_model_b"), won("winner_tie")) {
        (true, false, false) => Ok(prefer(Side::A)),
        (false, true, false) => Ok(prefer(Side::B)),
        (false, false, true) => Ok(Choice::Tie),
        _ => Err("has no single winner in `winner_model_a`, `winner_model_b` and `winner_tie`".into()),
    }
}

/// A list of texts, or one written as JSON; a text of another kind is the only one.
fn texts(row: &RowFields<'_>, name: &str) -> Result<Vec<String>, String> {
    let list = |list: &[Value]| list.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    match row.get(name) {
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(Value::Array(found)) => {
                list(&found).ok_or_else(|| format!("has a `{name}` with an answer that is missing"))
            }
            _ => Ok(vec![text.clone()]),
        },
        Some(Value::Array(found)) => list(found).ok_or_else(|| format!("has a `{name}` that is no list of texts")),
        _ => Err(format!("has no `{name}`")),
    }
}

/// Questions and answers in turn.
fn woven(asked: &[String], answered: &[String]) -> Vec<Message> {
    let pairs = asked.iter().zip(answered);
    pairs.flat_map(|(q, a)| [Message::new("user", q.as_str()), Message::assistant(a.as_str())]).collect()
}
