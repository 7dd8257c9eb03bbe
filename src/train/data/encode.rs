//! Texts to tokens by a model's tokenizer and chat template.
//!
//! Owns what comes behind an answer: whatever the template emits, or the end-of-text token's text. Refuses masks.

use crate::domain::{Message, PromptBody};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;

/// Turns rows' texts into tokens: a model's tokenizer and chat template.
pub trait Encode {
    /// The prompt as the model continues it.
    ///
    /// # Errors
    /// When the template or the tokenizer refuses it.
    fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error>;

    /// Prompt and answer whole, to the answer's end.
    ///
    /// # Errors
    /// When the template or the tokenizer refuses it.
    fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error>;

    /// A conversation whole; with `open` followed by the head of the assistant's turn.
    ///
    /// # Errors
    /// When the template or the tokenizer refuses it.
    fn conversation(&self, messages: &[Message], open: bool) -> Result<Vec<u32>, Error>;

    /// How many of a turn's last tokens only part it from the next one: whitespace behind the token that ends the turn.
    fn separator(&self, turn: &[u32]) -> usize;

    /// Plain text to its end, the end-of-text token too.
    ///
    /// # Errors
    /// When the tokenizer refuses it.
    fn text(&self, text: &str) -> Result<Vec<u32>, Error>;

    /// The most tokens the model was made for.
    fn context(&self) -> usize;
}

impl Encode for LanguageModel {
    fn context(&self) -> usize {
        self.config.context
    }

    fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error> {
        self.encode_prompt(prompt)
    }

    fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error> {
        match prompt {
            PromptBody::Chat(messages) => {
                let mut messages = messages.clone();
                messages.push(Message { role: "assistant".into(), content: answer.into() });
                self.tokenizer.encode(&self.render(&messages, false)?, false)
            }
            PromptBody::Text(text) => self.text(&format!("{text}{answer}")),
        }
    }

    fn conversation(&self, messages: &[Message], open: bool) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode(&self.render(messages, open)?, false)
    }

    fn separator(&self, turn: &[u32]) -> usize {
        let Some(end) = turn.iter().rposition(|id| self.tokenizer.stops().contains(id)) else { return 0 };
        let behind = &turn[end + 1..];
        let blank = self.tokenizer.decode(behind).is_ok_and(|text| text.trim().is_empty());
        if blank { behind.len() } else { 0 }
    }

    fn text(&self, text: &str) -> Result<Vec<u32>, Error> {
        match self.tokenizer.eos_text().filter(|eos| !text.ends_with(eos)) {
            Some(eos) => self.tokenizer.encode(&format!("{text}{eos}"), true),
            None => self.tokenizer.encode(text, true),
        }
    }
}
