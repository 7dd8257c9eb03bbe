//! An answer as a file states it: text, or turns of a conversation.
//!
//! Owns when an answer is its text alone, and when it is empty. Refuses turns that no assistant begins or ends.

use super::chat_json::messages;
use crate::domain::{Message, PromptBody, SftBody, answer_after_thoughts, readable_turns, thoughts};
use serde_json::Value;

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
        Self { text: text.into(), turns: Vec::new() }
    }
}

impl From<String> for GivenAnswer {
    fn from(text: String) -> Self {
        Self { text, turns: Vec::new() }
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
            Some(list @ Value::Array(_)) => Self::of_turns(field, messages(field, list)?),
            Some(message @ Value::Object(parts)) => {
                let is_message = ["role", "from"].iter().any(|name| parts.contains_key(*name));
                if is_message {
                    return Self::of_turns(field, messages(field, &Value::Array(vec![message.clone()]))?);
                }
                let text = ["text", "content", "response", "value"].iter().find_map(|part| parts.get(*part)?.as_str());
                text.map(Self::from).ok_or_else(|| format!("has a `{field}` that holds no text"))
            }
            None | Some(Value::Null) => Err(format!("has no `{field}`")),
            Some(_) => Err(format!("has a `{field}` that is not text")),
        }
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
