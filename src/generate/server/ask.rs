//! One request for an answer. Owns what it says; refuses to know who sends it.

use crate::domain::{CompletionId, PromptBody, Sampler};

/// One answer to ask for.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// The candidate's name, where an answer may come from another process.
    pub(super) id: CompletionId,
    /// The prompt's number and the candidate's.
    pub(super) place: (usize, usize),
    /// The prompt.
    pub(super) prompt: PromptBody,
    /// How to sample.
    pub(super) sampler: Sampler,
    /// The request's own seed.
    pub(super) seed: u64,
}
