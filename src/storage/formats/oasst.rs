//! Imports OpenAssistant's trees: every question with two ranked answers or more gives the pairs of them.
//!
//! The prompt is the conversation that leads to the question. `rank` 0 is the best. Deleted messages are left out and counted. A file of single
//! messages (`parent_id`) is `oasst-messages`.

use super::super::record::Record;
use super::super::schema::{Fit, Format, RankedAnswer, Ranking, Reader, Reads, Refusal};
use crate::domain::{Message, PromptBody};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "oasst",
    help: "OpenAssistant's trees: `message_tree_id`, `prompt` with `replies`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with a `prompt` that has `text` and `replies`",
        fit: |record| {
            let tree = record.has("message_tree_id") && !record.has("parent_id");
            if tree { Fit::Sure } else { Fit::No }
        },
        row: Reader::Rankings(row),
    }),
    writes: None,
};

/// The deepest conversation that is followed.
const DEEPEST: usize = 64;

fn row(record: &Record) -> Result<Vec<Ranking>, Refusal> {
    let row = record.row()?;
    if row.peek("prompt").is_none() && row.peek("text").is_some() {
        return Err("is one message of a tree: name --as oasst-messages".into());
    }
    row.mark("tree_state");
    row.mark("message_tree_id");
    let root = row.get("prompt").and_then(Value::as_object).ok_or("has no `prompt` with `text` and `replies`")?;
    let mut out = Vec::new();
    let tags = root.get("lang").and_then(Value::as_str).map(|lang| vec![lang.to_owned()]).unwrap_or_default();
    let mut left_out = Vec::new();
    walk(root, &mut Vec::new(), &tags, &mut out, &mut left_out);
    let first = out.first_mut().ok_or("has no question with two ranked answers")?;
    first.unread = left_out;
    Ok(out)
}

type Node = serde_json::Map<String, Value>;

fn walk(
    node: &Node,
    path: &mut Vec<Message>,
    tags: &[String],
    out: &mut Vec<Ranking>,
    left_out: &mut Vec<&'static str>,
) {
    let text = node.get("text").and_then(Value::as_str).unwrap_or_default();
    let deleted = node.get("deleted").and_then(Value::as_bool) == Some(true);
    let why = match () {
        () if deleted => Some("deleted message"),
        () if text.trim().is_empty() => Some("message without a text"),
        () if path.len() >= DEEPEST => Some("message behind a conversation of more than 64 turns"),
        () => None,
    };
    if why.is_some() {
        left_out.extend(why);
        return;
    }
    let asks = node.get("role").and_then(Value::as_str) == Some("prompter");
    path.push(Message::new(if asks { "user" } else { "assistant" }, text));
    let replies: Vec<&Node> =
        node.get("replies").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect();
    if asks {
        let live = |reply: &&&Node| reply.get("deleted").and_then(Value::as_bool) != Some(true);
        let answers: Vec<RankedAnswer> = replies
            .iter()
            .filter(live)
            .filter_map(|reply| {
                let answer = reply.get("text").and_then(Value::as_str).filter(|text| !text.trim().is_empty())?;
                let model = reply.get("model_name").and_then(Value::as_str).filter(|name| !name.trim().is_empty());
                let score = reply.get("rank").and_then(Value::as_f64).map(|rank| -rank);
                Some(RankedAnswer { answer: answer.into(), model: model.map(str::to_owned), score })
            })
            .collect();
        if answers.iter().filter(|one| one.score.is_some()).count() > 1 {
            let prompt = PromptBody::Chat(path.clone().into());
            let rater = "rank".to_owned();
            out.push(Ranking { prompt, tags: tags.to_vec(), rater, answers, unread: Vec::new() });
        }
    }
    for reply in replies {
        walk(reply, path, tags, out, left_out);
    }
    path.pop();
}
