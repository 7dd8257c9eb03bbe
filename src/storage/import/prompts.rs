//! Prompt files: one prompt a line as plain text, or JSON lines.

use super::super::error::{Error, Result};
use super::{Imported, Refusal, fits, instruction, lines, messages};
use crate::domain::{Message, PromptBody};
use serde_json::Value;
use std::path::Path;

/// The prompts of a file, at most `limit`. A `.jsonl` or `.json` file holds a JSON value a line: a string, `{"prompt": a
/// string or messages}`, `{"messages": […]}` or `{"instruction": …, "input": …}`; any other file holds a prompt a line, unless
/// its first line is a JSON object. Strings become conversations of one user turn; a conversation ends with its last user
/// turn.
///
/// # Errors
/// When the file cannot be read or holds no prompt at all.
pub fn prompts(path: &Path, limit: Option<usize>) -> Result<Imported<PromptBody>> {
    let mut json = path.extension().is_some_and(|e| e == "jsonl" || e == "json" || e == "ndjson").then_some(true);
    let text_file = path.extension().is_some_and(|e| e == "txt");
    let out = lines::texts(path, limit, |line| {
        let is_object = || !text_file && serde_json::from_str::<Value>(line).is_ok_and(|v| v.is_object());
        let body = if *json.get_or_insert_with(is_object) { from_json(line) } else { Ok(PromptBody::user(line)) };
        body.and_then(checked)
    })?;
    if out.rows.is_empty() {
        let why = out.bad.first().map_or_else(String::new, |bad| format!(" ({bad})"));
        return Err(Error::Import {
            path: path.to_owned(),
            reason: format!("holds no prompts{why}: give one a line, as text or as JSON with a `prompt`"),
        });
    }
    Ok(out)
}

fn from_json(line: &str) -> Result<PromptBody, Refusal> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("is not JSON: {e}"))?;
    if let Some(text) = value.as_str() {
        return Ok(PromptBody::user(text));
    }
    match (value.get("prompt"), value.get("messages"), value.get("instruction")) {
        (Some(Value::String(text)), ..) => Ok(PromptBody::user(text.as_str())),
        (Some(list), ..) => asked(messages("prompt", list)?),
        (None, Some(list), _) => asked(messages("messages", list)?),
        (None, None, Some(Value::String(text))) => Ok(instruction(text, value.get("input"))),
        _ => Err("has none of `prompt`, `messages` and `instruction`".into()),
    }
}

/// A conversation up to its last user turn: what follows is an answer.
fn asked(mut turns: Vec<Message>) -> Result<PromptBody, Refusal> {
    let last = turns.iter().rposition(|m| m.role == "user").ok_or("has no message of the role `user`")?;
    turns.truncate(last + 1);
    Ok(PromptBody::Chat(turns))
}

fn checked(body: PromptBody) -> Result<PromptBody, Refusal> {
    if body.headline().trim().is_empty() {
        return Err(Refusal::Empty);
    }
    fits("prompt", &serde_json::to_string(&body).unwrap_or_default())?;
    Ok(body)
}
