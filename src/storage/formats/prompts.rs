//! Imports prompts: one per line as plain text, or JSON lines.
//!
//! A JSON record is a string, `{"prompt": a string or messages}`, `{"messages": […]}` or `{"instruction": …, "input": …}`.
//! Strings become conversations of one user turn; a conversation ends with its last user turn. `tags`, `tag`, `category`, `task` and
//! `topic` become the prompt's tags.

use super::super::answers::tags_of;
use super::super::chat_json::{fits_as_json, instruction, is_blank, messages};
use super::super::container::Record;
use super::super::schema::{Fit, Format, ImportedPrompt, Reader, Reads, Refusal};
use crate::domain::{Message, PromptBody};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "prompts",
    help: "Prompts, one a line, as plain text or JSON",
    reads: Some(Reads {
        plain_text: true,
        record: "a prompt, as text or as JSON with `prompt`, `messages` or `instruction`",
        // `messages` may be SFT texts or prompts to answer; only their owner knows.
        fit: |_| Fit::Possible,
        row: Reader::Prompts(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedPrompt, Refusal> {
    let body = match record {
        Record::Text(text) => PromptBody::user(text.as_str()),
        Record::Json(Value::String(text)) => PromptBody::user(text.as_str()),
        Record::Json(value) => fields(value)?,
    };
    if is_blank(&body) {
        return Err(Refusal::Empty);
    }
    fits_as_json("prompt", &body)?;
    let tags = record.fields().map_or(Ok(Vec::new()), tags_of)?;
    Ok(ImportedPrompt { body, tags })
}

fn fields(value: &Value) -> Result<PromptBody, Refusal> {
    match (value.get("prompt"), value.get("messages"), value.get("instruction")) {
        (Some(Value::String(text)), ..) => Ok(PromptBody::user(text.as_str())),
        (Some(list), ..) => up_to_last_user_turn(messages("prompt", list)?),
        (None, Some(list), _) => up_to_last_user_turn(messages("messages", list)?),
        (None, None, Some(Value::String(text))) => Ok(instruction(text, value.get("input"))),
        _ => Err("has none of `prompt`, `messages` and `instruction`".into()),
    }
}

/// A conversation up to its last user turn; the rest is an answer.
fn up_to_last_user_turn(mut turns: Vec<Message>) -> Result<PromptBody, Refusal> {
    let last = turns.iter().rposition(|m| m.role == "user").ok_or("has no message of the role `user`")?;
    turns.truncate(last + 1);
    Ok(PromptBody::Chat(turns))
}
