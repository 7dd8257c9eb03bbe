//! An item of a suite: what is asked of a model, and what the model gave.
//!
//! Owns these types. Refuses scoring: each suite has its own.

use crate::domain::{Finish, PromptBody};
use crate::model::error::Error;

/// What an item asks of a model.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemRequest {
    /// An answer to the prompt.
    Answer,
    /// The log-probs of these answers to the prompt.
    Choices(Vec<String>),
    /// The log-probs of the prompt's own tokens, and how far the two contestants differ on them.
    Text,
    /// The rewards of these answers to the prompt, of a contestant that is a reward run.
    Rewards(Vec<String>),
}

/// An item of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its name, unique within the suite.
    pub name: String,
    /// The prompt.
    pub prompt: PromptBody,
    /// What is asked.
    pub ask: ItemRequest,
    /// What the suite needs to score it.
    pub data: serde_json::Value,
}

impl Item {
    /// The prompt's hash, by which items of one prompt are clustered and training rows are recognised.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.prompt.derived_id().into_string()
    }
}

/// The items of a file, and the rows that are none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReadItems {
    /// The items, in the file's order.
    pub items: Vec<Item>,
    /// Why rows were left out, and how many.
    pub left_out: Vec<(String, usize)>,
}

impl ReadItems {
    /// Counts a row that is left out.
    pub fn leave_out(&mut self, reason: &str) {
        match self.left_out.iter_mut().find(|(known, _)| known == reason) {
            Some((_, n)) => *n += 1,
            None => self.left_out.push((reason.to_owned(), 1)),
        }
    }
}

/// An answer without its thoughts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answered<'a> {
    /// The answer's text; empty where a thought was not closed.
    pub text: &'a str,
    /// The text as the model wrote it.
    pub raw: &'a str,
    /// Its length in the model's tokens, with thoughts.
    pub tokens: usize,
    /// Why it ended.
    pub finish: Finish,
}

/// The log-prob of a given answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChoiceScore {
    /// Sum over its tokens, in nats.
    pub logp: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Its characters.
    pub chars: usize,
}

/// The log-probs of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextScore {
    /// Sum of −log p over the scored tokens, in nats.
    pub nll: f64,
    /// The scored tokens.
    pub tokens: usize,
    /// Their characters.
    pub chars: usize,
    /// Mean over tokens of KL(b ‖ a) in nats, over the whole vocabulary; 0 for b itself, none for other vocabularies.
    pub kl: Option<f64>,
    /// Mean over tokens of KL(a ‖ b).
    pub reverse_kl: Option<f64>,
    /// Share of tokens on whose likeliest continuation both agree.
    pub top1: Option<f64>,
}

/// What a contestant gave for an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Given<'a> {
    /// To [`ItemRequest::Answer`].
    Answer(Answered<'a>),
    /// To [`ItemRequest::Choices`], in their order.
    Choices(&'a [ChoiceScore]),
    /// To [`ItemRequest::Text`].
    Text(&'a TextScore),
    /// To [`ItemRequest::Rewards`], in the answers' order.
    Rewards(&'a [f64]),
}

impl<'a> Given<'a> {
    /// The answer.
    ///
    /// # Errors
    /// When something else was asked.
    pub fn answer(&self) -> Result<Answered<'a>, Error> {
        match self {
            Self::Answer(answer) => Ok(*answer),
            _ => Err(unasked("an answer")),
        }
    }

    /// The choices' log-probs.
    ///
    /// # Errors
    /// When something else was asked.
    pub fn choices(&self) -> Result<&'a [ChoiceScore], Error> {
        match self {
            Self::Choices(choices) => Ok(choices),
            _ => Err(unasked("choices")),
        }
    }

    /// The text's log-probs.
    ///
    /// # Errors
    /// When something else was asked.
    pub fn text(&self) -> Result<&'a TextScore, Error> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(unasked("a text")),
        }
    }

    /// The rewards.
    ///
    /// # Errors
    /// When something else was asked.
    pub fn rewards(&self) -> Result<&'a [f64], Error> {
        match self {
            Self::Rewards(rewards) => Ok(rewards),
            _ => Err(unasked("rewards")),
        }
    }
}

fn unasked(what: &str) -> Error {
    Error::Invalid(format!("an item was scored as {what}, which it did not ask for: please report it"))
}
