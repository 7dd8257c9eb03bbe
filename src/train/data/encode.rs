//! Texts to tokens by a model's tokenizer and chat template.
//!
//! Owns the end of an answer: the template's output, or the EOS token's text. Refuses masks.

use crate::domain::{Conversation, PromptBody, ReplyRef};
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::thought_channel;

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
    fn conversation(&self, talk: &Conversation, open: bool) -> Result<Vec<u32>, Error>;

    /// Prompt and answer, where the answer may be turns.
    ///
    /// # Errors
    /// When the template or the tokenizer rejects it, or the prompt of an answer of turns is plain text.
    fn replied(&self, prompt: &PromptBody, answer: ReplyRef<'_>) -> Result<Vec<u32>, Error> {
        match prompt {
            _ if answer.turns.is_empty() => self.answered(prompt, answer.text),
            PromptBody::Chat(talk) => self.conversation(&talk.followed_by(answer.turns), false),
            PromptBody::Text(_) => Err(Error::Invalid("an answer of messages needs a prompt of messages".into())),
        }
    }

    /// The number of trailing tokens that separate a turn from the next: whitespace after the end-of-turn token.
    fn separator(&self, turn: &[u32]) -> usize;

    /// The number of trailing tokens that end a turn: its end token with what separates it from the next turn; 0 where nothing
    /// ends it.
    fn ending(&self, turn: &[u32]) -> usize;

    /// Whether the chat template opens a thought in front of the answer to this prompt.
    ///
    /// # Errors
    /// When the template rejects it.
    fn opens_thought(&self, prompt: &PromptBody) -> Result<bool, Error>;

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
            PromptBody::Chat(talk) => {
                let turn = thought_channel::turn(self.template.as_ref(), answer);
                self.conversation(&talk.followed_by(&[turn]), false)
            }
            PromptBody::Text(text) => self.text(&format!("{text}{answer}")),
        }
    }

    fn conversation(&self, talk: &Conversation, open: bool) -> Result<Vec<u32>, Error> {
        self.tokenizer.encode(&self.render_conversation(talk, open)?, false)
    }

    fn separator(&self, turn: &[u32]) -> usize {
        let Some(end) = turn.iter().rposition(|id| self.tokenizer.stops().contains(id)) else { return 0 };
        let tail = &turn[end + 1..];
        let blank = self.tokenizer.decode(tail).is_ok_and(|text| text.trim().is_empty());
        if blank { tail.len() } else { 0 }
    }

    fn ending(&self, turn: &[u32]) -> usize {
        let separator = self.separator(turn);
        let ends =
            turn.get(turn.len().wrapping_sub(separator + 1)).is_some_and(|id| self.tokenizer.stops().contains(id));
        if ends { separator + 1 } else { 0 }
    }

    fn opens_thought(&self, prompt: &PromptBody) -> Result<bool, Error> {
        LanguageModel::opens_thought(self, prompt)
    }

    fn text(&self, text: &str) -> Result<Vec<u32>, Error> {
        match self.tokenizer.eos_text().filter(|eos| !text.ends_with(eos)) {
            Some(eos) => self.tokenizer.encode(&format!("{text}{eos}"), true),
            None => self.tokenizer.encode(text, true),
        }
    }
}
