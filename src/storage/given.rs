//! An answer as a file states it: text, or turns of a conversation.
//!
//! Owns when an answer is its text alone, and when it is empty. Refuses turns that no assistant begins or ends.

use super::chat_json::messages;
use super::record::{RowFields, is_nothing};
use crate::domain::{Message, PromptBody, SftBody, answer_after_thoughts, readable_turns, thoughts};
use serde_json::{Map, Value};

/// Where an object that is no message has its text.
const TEXTS: [&str; 4] = ["text", "content", "response", "value"];

/// What such an object holds of the answer beside its text.
const TAUGHT: [&str; 4] = ["reasoning_content", "reasoning", "thinking", "tool_calls"];

/// Whether an object is a message.
pub(super) fn is_message(parts: &Map<String, Value>) -> bool {
    ["role", "from"].iter().any(|name| parts.contains_key(*name))
}

/// An answer: its text as a person reads it and, where it is more than one assistant's text, its turns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GivenAnswer {
    /// The text.
    pub text: String,
    /// The turns; none where the text is all there is.
    pub turns: Vec<Message>,
}

impl From<&str> for GivenAnswer {
    fn from(text: &str) -> Self {
        Self { text: text.into(), turns: [].into() }
    }
}

impl From<String> for GivenAnswer {
    fn from(text: String) -> Self {
        Self { text, turns: [].into() }
    }
}

impl GivenAnswer {
    /// An answer of turns.
    ///
    /// # Errors
    /// When an assistant does not begin and end it.
    pub(super) fn of_turns(field: &str, mut turns: Vec<Message>) -> Result<Self, String> {
        let role = |turn: Option<&Message>| turn.map(|turn| turn.role.clone());
        match (role(turns.first()), role(turns.last())) {
            (Some(first), _) if first != "assistant" => {
                Err(format!("has a `{field}` answer by `{first}` instead of `assistant`"))
            }
            (_, Some(last)) if last != "assistant" => {
                Err(format!("has a `{field}` answer that ends with a turn of `{last}` instead of `assistant`"))
            }
            (None, _) => Err(format!("has a `{field}` answer of 0 turns: expected an assistant turn")),
            _ if turns.len() == 1 && turns[0].more.is_empty() => {
                Ok(turns.pop().map(|turn| turn.content).unwrap_or_default().into())
            }
            _ => Ok(Self { text: readable_turns(&turns), turns }),
        }
    }

    /// An answer in one of its forms: a text, a message, a list of messages, a list of parts, an object with a text.
    ///
    /// # Errors
    /// When it is none of them.
    pub(super) fn of(field: &str, value: Option<&Value>) -> Result<Self, String> {
        match value {
            Some(Value::String(text)) => Ok(text.clone().into()),
            Some(Value::Array(texts)) if !texts.is_empty() && texts.iter().all(Value::is_string) => match &texts[..] {
                [Value::String(text)] => Ok(text.clone().into()),
                several => Err(format!("has {} answers in `{field}`: expected one", several.len())),
            },
            Some(list @ Value::Array(_)) => Self::of_turns(field, messages(field, list)?),
            Some(message @ Value::Object(parts)) => {
                if is_message(parts) {
                    return Self::of_turns(field, messages(field, &Value::Array(vec![message.clone()]))?);
                }
                Self::of_object(field, parts)
            }
            None | Some(Value::Null) => Err(format!("has no `{field}`")),
            Some(_) => Err(format!("has a `{field}` that is not text")),
        }
    }

    /// An answer from an object that is no message: its text, with a thought and calls of tools that stand beside it.
    fn of_object(field: &str, parts: &Map<String, Value>) -> Result<Self, String> {
        let text = TEXTS.iter().find_map(|part| parts.get(*part)?.as_str());
        let text = text.ok_or_else(|| format!("has a `{field}` that holds no text"))?;
        let taught =
            TAUGHT.iter().filter_map(|part| Some((*part, parts.get(*part).filter(|value| !is_nothing(value))?)));
        let mut turn: Map<String, Value> = taught.map(|(part, value)| (part.to_owned(), value.clone())).collect();
        if turn.is_empty() {
            return Ok(text.into());
        }
        turn.insert("role".into(), "assistant".into());
        turn.insert("content".into(), text.into());
        Self::of_turns(field, messages(field, &Value::Array(vec![turn.into()]))?)
    }

    /// The answer to a prompt as a text to imitate. Where it has turns it becomes a conversation in which only they train.
    #[must_use]
    pub fn to_imitate(self, prompt: PromptBody) -> SftBody {
        let PromptBody::Chat(talk) = &prompt else { return SftBody::Completion { prompt, completion: self.text } };
        if self.turns.is_empty() {
            return SftBody::Completion { prompt, completion: self.text };
        }
        let flagged = |turn: &Message, train: bool| {
            let mut turn = turn.clone();
            if turn.role == "assistant" && turn.trains().is_none() {
                turn.more.set("train", train.into());
            }
            turn
        };
        let (asked, answered) = (talk.iter().map(|turn| flagged(turn, false)), self.turns.iter());
        SftBody::Messages(talk.with_turns(asked.chain(answered.map(|turn| flagged(turn, true))).collect()))
    }

    /// The answer in a column. What an object there holds beside its text belongs to the answer (a thought, a call of a tool) or is
    /// reported by its path.
    ///
    /// # Errors
    /// When the column is missing or holds no answer.
    pub(super) fn in_row(row: &RowFields<'_>, name: &str) -> Result<Self, String> {
        let object = row.peek(name).and_then(Value::as_object).filter(|parts| !is_message(parts));
        let Some((parts, inner)) = object.zip(row.child(name)) else { return Self::of(name, row.get(name)) };
        let answer = Self::of_object(name, parts)?;
        inner.mark_all(&TAUGHT);
        inner.mark(TEXTS.iter().find(|part| inner.peek(part).is_some_and(Value::is_string)).unwrap_or(&TEXTS[0]));
        Ok(answer)
    }

    /// Whether it says nothing: no text, or a thought with nothing behind it.
    pub(super) fn is_blank(&self) -> bool {
        if self.turns.is_empty() {
            let unended = self.ends_in_thought();
            return self.text.trim().is_empty()
                || !unended && answer_after_thoughts(&self.text, false).trim().is_empty();
        }
        self.turns.iter().filter(|turn| turn.role == "assistant").all(Message::is_blank)
    }

    /// Whether it ends inside a thought.
    pub(super) fn ends_in_thought(&self) -> bool {
        self.turns.is_empty() && thoughts(&self.text).iter().any(|thought| !thought.closed)
    }

    /// Whether it is the same as another up to white space.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.text.split_whitespace().eq(other.text.split_whitespace())
    }

    /// Its turns, whatever its form.
    pub(super) fn as_turns(&self) -> Vec<Message> {
        if self.turns.is_empty() { vec![Message::assistant(self.text.as_str())] } else { self.turns.clone() }
    }
}
