//! Texts to tokens by a model's tokenizer and chat template.
//!
//! Owns the end of an answer: the template's output, or the EOS token's text. Refuses masks.

use crate::domain::{Message, PromptBody};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;

/// Tokenises rows' texts with a model's tokenizer and chat template.
pub trait Encode {
    /// The prompt, ready for generation.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it.
    fn prompt(&self, prompt: &PromptBody) -> Result<Vec<u32>, Error>;

    /// Prompt and answer, to the answer's end.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it.
    fn answered(&self, prompt: &PromptBody, answer: &str) -> Result<Vec<u32>, Error>;

    /// A conversation; with `open` followed by the generation prompt.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it.
    fn conversation(&self, messages: &[Message], open: bool) -> Result<Vec<u32>, Error>;

    /// The number of trailing tokens that separate a turn from the next: whitespace after the end-of-turn token.
    fn separator(&self, turn: &[u32]) -> usize;

    /// Plain text including the EOS token.
    ///
    /// # Errors
    /// When the tokenizer rejects it.
    fn text(&self, text: &str) -> Result<Vec<u32>, Error>;

    /// The model's context length.
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
        let tail = &turn[end + 1..];
        let blank = self.tokenizer.decode(tail).is_ok_and(|text| text.trim().is_empty());
        if blank { tail.len() } else { 0 }
    }

    fn text(&self, text: &str) -> Result<Vec<u32>, Error> {
        match self.tokenizer.eos_text().filter(|eos| !text.ends_with(eos)) {
            Some(eos) => self.tokenizer.encode(&format!("{text}{eos}"), true),
            None => self.tokenizer.encode(text, true),
        }
    }
}
