//! Texts to imitate or to measure forgetting on, one JSON object a line.

use super::super::error::Result;
use super::{Imported, Refusal, answer, fits, instruction, lines, messages};
use crate::domain::{PromptBody, SftBody};
use serde_json::Value;
use std::path::Path;

/// The texts of a file, at most `limit`. Taken are TRL's forms `{"messages": […]}`, `{"prompt", "completion"}` (both texts or
/// both lists of messages) and `{"text"}`, the older `{"conversations": [{"from", "value"}]}`, and
/// `{"instruction", "input", "output"}`. Other fields do not count.
///
/// # Errors
/// When the file cannot be read or holds no such text at all.
pub fn examples(path: &Path, limit: Option<usize>) -> Result<Imported<SftBody>> {
    lines::some(path, limit, "texts", "`messages`, `prompt` and `completion`, or `text`", from_json)
}

fn from_json(value: &Value) -> Result<SftBody, Refusal> {
    let field = |name: &str| value.get(name).filter(|v| !v.is_null());
    let body = if let Some(list) = field("messages") {
        conversation("messages", list)?
    } else if let (Some(prompt), Some(completion)) = (field("prompt"), field("completion")) {
        let (prompt, completion) = answer("completion", prompt, completion)?;
        SftBody::Completion { prompt, completion }
    } else if let Some(list) = field("conversations") {
        conversation("conversations", list)?
    } else if let (Some(Value::String(asked)), Some(Value::String(output))) = (field("instruction"), field("output")) {
        SftBody::Completion { prompt: instruction(asked, field("input")), completion: output.clone() }
    } else if let Some(text) = field("text") {
        SftBody::Text(text.as_str().ok_or("has a `text` that is no text")?.to_owned())
    } else {
        return Err("has none of `messages`, `prompt` with `completion`, and `text`".into());
    };
    let empty = match &body {
        SftBody::Messages(turns) => turns.iter().all(|m| m.role != "assistant" || m.content.trim().is_empty()),
        SftBody::Completion { prompt, completion } => is_unasked(prompt) || completion.trim().is_empty(),
        SftBody::Text(text) => text.trim().is_empty(),
    };
    if empty {
        return Err(Refusal::Empty);
    }
    fits("text", &serde_json::to_string(&body).unwrap_or_default())?;
    Ok(body)
}

pub(super) fn is_unasked(prompt: &PromptBody) -> bool {
    prompt.headline().trim().is_empty()
}

fn conversation(field: &str, list: &Value) -> Result<SftBody, Refusal> {
    let turns = messages(field, list)?;
    if !turns.iter().any(|m| m.role == "assistant") {
        return Err(format!("has no message of the role `assistant` in `{field}`").into());
    }
    Ok(SftBody::Messages(turns))
}
