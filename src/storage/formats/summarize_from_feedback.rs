//! Imports OpenAI's comparisons of summaries: a post or an article, two summaries, the choice of a worker.
//!
//! `info` holds the text (`post` with its `title`, or `article`), `summaries` two texts with the policy that wrote them, `choice` 0
//! or 1. The prompt asks for the summary in the words of the paper's own prompts: title, post, `TL;DR:`.

use super::super::answers::{TwoAnswers, unjudged};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, PromptBody, Side, Strength};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "summarize-from-feedback",
    help: "OpenAI's comparisons of summaries: `info`, `summaries`, `choice`, `worker`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `info`, two `summaries` and a `choice`",
        fit: |record| if record.has_all(&["info", "summaries", "choice"]) { Fit::Sure } else { Fit::No },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let row = record.row()?;
    let info = row.child("info").ok_or("has no `info`")?;
    let text =
        info.text("post").or_else(|| info.text("article")).ok_or("has neither `post` nor `article` in `info`")?;
    let titled = info.text("title").map_or_else(String::new, |title| format!("TITLE: {title}\n\n"));
    let tags = info.text("subreddit").or_else(|| info.text("site")).map(str::to_owned);
    let list = row.get("summaries").and_then(Value::as_array).ok_or("has no list `summaries`")?;
    let [a, b] = list.as_slice() else { return Err(format!("has {} summaries: expected two", list.len()).into()) };
    let part = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(first), Some(second)) = (part(a, "text"), part(b, "text")) else {
        return Err("has a summary without a `text`".into());
    };
    let answers = TwoAnswers {
        names: ("0".into(), "1".into()),
        texts: (first.into(), second.into()),
        models: (part(a, "policy"), part(b, "policy")),
    };
    let prompt = PromptBody::user(format!("{titled}POST: {text}\n\nTL;DR:"));
    let mut votes = unjudged(prompt, tags.into_iter().collect(), answers)?;
    votes.item = Some(String::new());
    let side = match row.get("choice").and_then(Value::as_f64) {
        Some(0.0) => Side::A,
        Some(1.0) => Side::B,
        _ => return Err("has a `choice` that is neither 0 nor 1".into()),
    };
    let worker = row.text("worker").unwrap_or("worker");
    votes.votes.push(ImportedVote::new(worker, Choice::Prefer(side, Strength::Better)));
    if let Some(note) = row.child("extra").and_then(|extra| extra.text("notes")) {
        votes.notes.push((worker.to_owned(), note.to_owned()));
    }
    Ok(votes)
}
