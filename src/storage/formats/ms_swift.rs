//! Imports ms-swift's preferences: `messages` that end with the preferred answer, and `rejected_response` or `rejected_messages`.
//!
//! Older files have `query`, `response`, `history` and `system` in place of `messages`. A rejected response answers the same question
//! as the last preferred one.

use super::super::answers::plain_pair;
use super::super::chat_json::messages;
use super::super::given::GivenAnswer;
use super::super::meaning::{question, split_answer, surround};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedPair, Reader, Reads, Refusal};
use crate::domain::{Conversation, PromptBody};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "ms-swift",
    help: "ms-swift's preferences: `messages` with `rejected_response` or `rejected_messages`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `messages` and `rejected_response` or `rejected_messages`",
        fit: |record| {
            let rejected = record.has_any(&["rejected_response", "rejected_messages"]);
            if rejected && record.has_any(&["messages", "response"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Pairs(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedPair, Refusal> {
    let row = record.row()?;
    let whole = |name: &str| -> Result<(PromptBody, GivenAnswer), String> {
        let mut talk = Conversation::from(messages(name, row.get(name).unwrap_or(&Value::Null))?);
        surround(&row, &mut talk)?;
        split_answer(name, talk)
    };
    let (prompt, chosen) = if row.holds("messages") {
        whole("messages")?
    } else {
        (question(&row, false)?, GivenAnswer::in_row(&row, "response")?)
    };
    let rejected = if row.holds("rejected_messages") {
        let (asked, rejected) = whole("rejected_messages")?;
        if asked != prompt {
            return Err("has `rejected_messages` that answer another question".into());
        }
        rejected
    } else {
        GivenAnswer::in_row(&row, "rejected_response")?
    };
    plain_pair(&row, prompt, chosen, rejected)
}
