//! Answers that a sampling run is writing at this moment, and the pairs that they will make.
//!
//! They are not part of any log. The run's log is the truth and holds each answer once, when it is finished; a record for
//! every few tokens would make it grow with the square of an answer's length, and replay would have to skip them all. So
//! the worker keeps one small file, `growing.json` in the run's folder, which it replaces as a whole a few times a second
//! and removes at its end. Who reads it sees the newest state or the one before, never half of one. It may be lost at any
//! time and nothing else changes: a verdict on such a pair holds what it needs to find the finished answers.

use crate::domain::{CompletionId, Pair};
use serde::{Deserialize, Serialize};

/// What a run is writing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Growing {
    /// The pairs under the identity that they will have, in the order in which they will be ready.
    pub pairs: Vec<Pair>,
    /// Their answers so far.
    pub answers: Vec<GrowingAnswer>,
}

impl Growing {
    /// Whether nothing is being written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// An answer so far. Sanitise its text before showing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrowingAnswer {
    /// The completion that it will be.
    pub completion: CompletionId,
    /// The text so far, as the model writes it: the finished text begins with it.
    pub text: String,
    /// Tokens so far; 0 where the server does not say.
    pub tokens: usize,
    /// Whether it has ended, and waits for the rest of its prompt.
    pub ended: bool,
}
