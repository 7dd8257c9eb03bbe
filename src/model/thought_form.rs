//! How a model's answers hold thoughts where control tokens mark them: in channels, or in one channel of thoughts.
//!
//! Owns the choice between the forms, by the tokenizer's control tokens and by the template. Refuses to know a form's own text.

use super::channels::{self, ChannelTokens};
use super::error::Error;
use super::template::Template;
use super::thought_channel::{self, ThoughtTokens};
use crate::domain::Message;

/// A tokenizer's form.
#[derive(Debug, Clone, Copy)]
pub(super) enum ThoughtForm {
    /// Every message in a channel, as GPT-OSS writes them.
    Channels(ChannelTokens),
    /// Thoughts alone in a channel, as Gemma 4 writes them.
    Channel(ThoughtTokens),
}

impl ThoughtForm {
    /// That of a tokenizer with such control tokens.
    pub(super) fn of(id: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        let channels = ChannelTokens::of(&id).map(Self::Channels);
        channels.or_else(|| ThoughtTokens::of(&id).map(Self::Channel))
    }

    /// Whether one of these tokens begins or ends a channel.
    pub(super) fn occurs_in(self, ids: &[u32]) -> bool {
        match self {
            Self::Channels(tokens) => tokens.begin_in(ids),
            Self::Channel(tokens) => tokens.occur_in(ids),
        }
    }

    /// The text of drawn tokens, thoughts as `<think>…</think>`. `plain` decodes tokens without special ones.
    ///
    /// # Errors
    /// Those of `plain`.
    pub(super) fn text(self, ids: &[u32], plain: impl Fn(&[u32]) -> Result<String, Error>) -> Result<String, Error> {
        match self {
            Self::Channels(tokens) => tokens.text(ids, plain),
            Self::Channel(tokens) => tokens.text(ids, plain),
        }
    }
}

/// An answer as an assistant's turn for `template`: its thought in the field from which the template writes it.
pub(crate) fn turn(template: Option<&Template>, answer: &str) -> Message {
    match template {
        Some(template) if template.has_channels() => channels::turn(answer),
        _ => thought_channel::turn(template, answer),
    }
}
