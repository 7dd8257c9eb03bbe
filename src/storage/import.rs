//! Prompts, preference pairs, texts to imitate and ratings from files: good lines load, bad ones are counted and say why.
//!
//! Owns the formats and their tolerance. Refuses to guess: a line that fits no format is left out with its number and a
//! reason, never half taken.

mod examples;
mod lines;
mod pairs;
mod prompts;
mod ratings;
mod records;

#[cfg(test)]
mod tests;

pub use examples::examples;
pub use pairs::{ImportedPair, pairs};
pub use prompts::prompts;
pub use ratings::{ImportedRating, ratings};
pub use records::{Added, add_examples, add_pairs, add_prompts, add_ratings};

use crate::domain::{Message, PromptBody};
use crate::protocol::MAX_LINE;
use serde_json::Value;

/// A line that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number in the file, from 1.
    pub line: usize,
    /// What is wrong with it, as the end of a sentence that begins with the line.
    pub reason: String,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} {}", self.line, self.reason)
    }
}

/// How many bad lines are kept with their reasons; the others are only counted.
const KEPT: usize = 1000;

/// What a file held.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported<T> {
    /// The file's name without its folder.
    pub file: String,
    /// The good rows, in the file's order.
    pub rows: Vec<T>,
    /// The first bad lines.
    pub bad: Vec<BadLine>,
    /// Bad lines in all.
    pub bad_lines: usize,
    /// Rows left out since an answer (or the prompt) is empty.
    pub empty: usize,
    /// Rows left out since both answers are the same but for white space.
    pub equal: usize,
    /// Whether the limit was reached before the file's end.
    pub limited: bool,
}

impl<T> Imported<T> {
    fn new(file: String) -> Self {
        Self { file, rows: Vec::new(), bad: Vec::new(), bad_lines: 0, empty: 0, equal: 0, limited: false }
    }

    fn refuse(&mut self, line: usize, reason: String) {
        self.bad_lines += 1;
        if self.bad.len() < KEPT {
            self.bad.push(BadLine { line, reason });
        }
    }

    /// What was left out, as one sentence; none when nothing was.
    #[must_use]
    pub fn left_out(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(first) = self.bad.first() {
            let lines =
                if self.bad_lines == 1 { "line".into() } else { format!("{} lines, the first:", self.bad_lines) };
            parts.push(if self.bad_lines == 1 { first.to_string() } else { format!("{lines} {first}") });
        }
        if self.empty > 0 {
            parts.push(format!("{} with an empty answer or prompt", self.empty));
        }
        if self.equal > 0 {
            parts.push(format!("{} with two equal answers", self.equal));
        }
        (!parts.is_empty()).then(|| format!("{}: left out {}", self.file, parts.join("; ")))
    }
}

/// Why a row is left out.
enum Refusal {
    Bad(String),
    Empty,
    Equal,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Bad(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Bad(reason.into())
    }
}

/// A list of messages in TRL's form (`role`, `content`) or ShareGPT's (`from`, `value`).
fn messages(field: &str, value: &Value) -> Result<Vec<Message>, String> {
    let Some(list) = value.as_array() else { return Err(format!("has a `{field}` that is no list of messages")) };
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
                _ => Err(format!("has a message in `{field}` without a `role` and a text as `content`")),
            }
        })
        .collect()
}

/// The one assistant turn that a list of messages is as an answer.
fn turn(field: &str, turns: Vec<Message>) -> Result<String, String> {
    match <[Message; 1]>::try_from(turns) {
        Ok([turn]) if turn.role == "assistant" => Ok(turn.content),
        Ok([turn]) => Err(format!("has a `{field}` answer by `{}` instead of `assistant`", turn.role)),
        Err(turns) => Err(format!("has a `{field}` answer of {} turns: one assistant turn is taken", turns.len())),
    }
}

/// A prompt and the answer in `field`, both texts or both lists of messages.
fn answer(field: &str, prompt: &Value, answer: &Value) -> Result<(PromptBody, String), String> {
    match (prompt, answer) {
        (Value::String(prompt), Value::String(answer)) => Ok((PromptBody::Text(prompt.clone()), answer.clone())),
        (Value::Array(_), Value::Array(_)) => {
            Ok((PromptBody::Chat(messages("prompt", prompt)?), turn(field, messages(field, answer)?)?))
        }
        _ => Err(format!("has a `prompt` and a `{field}` that are not both texts or both lists of messages")),
    }
}

/// An instruction and its input, where there is one, as one user turn.
fn instruction(text: &str, input: Option<&Value>) -> PromptBody {
    match input.and_then(Value::as_str).filter(|input| !input.trim().is_empty()) {
        Some(input) => PromptBody::user(format!("{text}\n\n{input}")),
        None => PromptBody::user(text),
    }
}

/// A text must fit into one record of a log.
fn fits(what: &str, text: &str) -> Result<(), String> {
    let room = MAX_LINE - 8192;
    // Escaping at most multiplies by six; only texts in between need to be measured.
    if text.len() <= room / 6 || serde_json::to_string(text).map_or(usize::MAX, |t| t.len()) <= room {
        Ok(())
    } else {
        Err(format!("has a {what} of {} bytes, longer than the limit of 1 MiB", text.len()))
    }
}
