//! Answers that say nothing: empty ones, and those that end inside a thought.
//!
//! Owns the rule and its words. An answer that ends inside its thought never began: it is left out and counted, never learned as
//! one. Refuses to look for thoughts in plain texts, which may hold anything.

use super::encode::Encode;
use crate::domain::{Conversation, PromptBody, ReplyRef, answer_after_thoughts, ends_inside_thought};
use crate::model::error::Error;

/// The reason of an answer without a text.
pub(super) const EMPTY: &str = "an empty answer";

/// The reason of an answer that ends inside its thought.
pub(super) const UNFINISHED: &str = "an answer that ends inside its thought";

/// Why one of a prompt's answers says nothing; none where all say something. Behind a template that opens a thought itself, an answer without
/// the thought's end is one thought.
///
/// # Errors
/// When the template refuses the prompt.
pub(super) fn said_of(
    encode: &dyn Encode,
    prompt: &PromptBody,
    answers: &[ReplyRef<'_>],
) -> Result<Option<&'static str>, Error> {
    if answers.iter().any(|answer| answer.turns.is_empty() && answer.text.trim().is_empty()) {
        return Ok(Some(EMPTY));
    }
    let opened = encode.opens_thought(prompt)?;
    Ok(answers.iter().find_map(|answer| unsaid(*answer, opened)))
}

fn unsaid(answer: ReplyRef<'_>, opened: bool) -> Option<&'static str> {
    if !answer.turns.is_empty() {
        return unfinished_turn(&answer.turns.to_vec().into());
    }
    if ends_inside_thought(answer.text, opened) {
        Some(UNFINISHED)
    } else if answer_after_thoughts(answer.text, opened).trim().is_empty() {
        Some(EMPTY)
    } else {
        None
    }
}

/// Whether one of the assistant's turns that are learned ends inside a thought.
pub(super) fn unfinished_turn(talk: &Conversation) -> Option<&'static str> {
    let learned = talk.iter().filter(|turn| turn.role == "assistant" && turn.trains() != Some(false));
    let mut texts = learned.map(|turn| turn.content.as_str());
    texts.any(|text| ends_inside_thought(text, false)).then_some(UNFINISHED)
}
