//! The shapes that formats share: messages, an answer of one turn, an instruction with its input, a prompt with its
//! completion.
//!
//! Owns reading and writing these shapes. Refuses to decide which shape a record has: the format does.

use super::container::Record;
use super::schema::Refusal;
use crate::domain::{Message, PromptBody, SftBody};
use crate::protocol::MAX_LINE;
use serde_json::{Value, json};

/// A list of messages in TRL's form (`role`, `content`) or ShareGPT's (`from`, `value`).
pub(super) fn messages(field: &str, value: &Value) -> Result<Vec<Message>, String> {
    let Some(list) = value.as_array() else { return Err(format!("has a `{field}` that is not a list of messages")) };
    list.iter()
        .map(|message| {
            let part = |a: &str, b: &str| message.get(a).or_else(|| message.get(b)).and_then(Value::as_str);
            match (part("role", "from"), part("content", "value")) {
                (Some(role), Some(content)) => {
                    let role = match role {
                        "human" => "user",
                        "gpt" => "assistant",
                        other => other,
                    };
                    Ok(Message { role: role.into(), content: content.into() })
                }
                _ => Err(format!("has a message in `{field}` without the strings `role` and `content`")),
            }
        })
        .collect()
}

/// The text of an answer, which must be one assistant turn.
pub(super) fn turn(field: &str, turns: Vec<Message>) -> Result<String, String> {
    match <[Message; 1]>::try_from(turns) {
        Ok([turn]) if turn.role == "assistant" => Ok(turn.content),
        Ok([turn]) => Err(format!("has a `{field}` answer by `{}` instead of `assistant`", turn.role)),
        Err(turns) => Err(format!("has a `{field}` answer of {} turns: expected one assistant turn", turns.len())),
    }
}

/// A prompt and the answer in `field`, both strings or both lists of messages.
pub(super) fn answer(field: &str, prompt: &Value, answer: &Value) -> Result<(PromptBody, String), String> {
    match (prompt, answer) {
        (Value::String(prompt), Value::String(answer)) => Ok((PromptBody::Text(prompt.clone()), answer.clone())),
        (Value::Array(_), Value::Array(_)) => {
            Ok((PromptBody::Chat(messages("prompt", prompt)?), turn(field, messages(field, answer)?)?))
        }
        _ => Err(format!("has a `prompt` and a `{field}` that are not both strings or both lists of messages")),
    }
}

/// An instruction with its optional input, as one user turn.
pub(super) fn instruction(text: &str, input: Option<&Value>) -> PromptBody {
    match input.and_then(Value::as_str).filter(|input| !input.trim().is_empty()) {
        Some(input) => PromptBody::user(format!("{text}\n\n{input}")),
        None => PromptBody::user(text),
    }
}

/// Whether a prompt is blank.
pub(super) fn is_blank(prompt: &PromptBody) -> bool {
    prompt.headline().trim().is_empty()
}

/// Refuses a text that does not fit into one record of a log.
pub(super) fn fits(what: &str, text: &str) -> Result<(), String> {
    let room = MAX_LINE - 8192;
    // Escaping multiplies the length by at most six; only texts in between need to be measured.
    if text.len() <= room / 6 || serde_json::to_string(text).map_or(usize::MAX, |t| t.len()) <= room {
        Ok(())
    } else {
        Err(format!("has a {what} of {} bytes, longer than the limit of 1 MiB", text.len()))
    }
}

/// The same for a value that is stored as JSON.
pub(super) fn fits_as_json<T: serde::Serialize>(what: &str, value: &T) -> Result<(), String> {
    fits(what, &serde_json::to_string(value).unwrap_or_default())
}

/// An answer as an assistant's turn.
pub(super) fn assistant(text: &str) -> Message {
    Message { role: "assistant".into(), content: text.into() }
}

/// `prompt` and `completion`: messages for a conversation, strings for plain text.
pub(super) fn completed(prompt: &PromptBody, completion: &str) -> Value {
    match prompt {
        PromptBody::Chat(turns) => json!({"prompt": turns, "completion": [assistant(completion)]}),
        PromptBody::Text(text) => json!({"prompt": text, "completion": completion}),
    }
}

/// A text for SFT or to measure forgetting on: TRL's forms `{"messages": […]}`, `{"prompt", "completion"}` (both
/// strings or both lists of messages) and `{"text"}`, the older `{"conversations": [{"from", "value"}]}`, and
/// `{"instruction", "input", "output"}`. Other fields are ignored.
pub(super) fn text_of(record: &Record) -> Result<SftBody, Refusal> {
    record.object()?;
    let field = |name: &str| record.field(name);
    let body = if let Some(list) = field("messages") {
        conversation("messages", list)?
    } else if let (Some(prompt), Some(completion)) = (field("prompt"), field("completion")) {
        let (prompt, completion) = answer("completion", prompt, completion)?;
        SftBody::Completion { prompt, completion }
    } else if let Some(list) = field("conversations") {
        conversation("conversations", list)?
    } else if let (Some(Value::String(text)), Some(Value::String(output))) = (field("instruction"), field("output")) {
        SftBody::Completion { prompt: instruction(text, field("input")), completion: output.clone() }
    } else if let Some(text) = field("text") {
        SftBody::Text(text.as_str().ok_or("has a `text` that is not a string")?.to_owned())
    } else {
        return Err("has none of `messages`, `prompt` with `completion`, and `text`".into());
    };
    let empty = match &body {
        SftBody::Messages(turns) => turns.iter().all(|m| m.role != "assistant" || m.content.trim().is_empty()),
        SftBody::Completion { prompt, completion } => is_blank(prompt) || completion.trim().is_empty(),
        SftBody::Text(text) => text.trim().is_empty(),
    };
    if empty {
        return Err(Refusal::Empty);
    }
    fits_as_json("text", &body)?;
    Ok(body)
}

fn conversation(field: &str, list: &Value) -> Result<SftBody, Refusal> {
    let turns = messages(field, list)?;
    if !turns.iter().any(|m| m.role == "assistant") {
        return Err(format!("has no message of the role `assistant` in `{field}`").into());
    }
    Ok(SftBody::Messages(turns))
}
