//! The hash of a sampling run's answers.

use super::hash::Fold64;
use super::text::Completion;
use std::collections::HashSet;

/// The hash of a finished sampling run: ids and texts in the log's order, over all attempts. An answer that was sampled again
/// after a crash counts once.
#[derive(Debug, Clone, Default)]
pub struct SampledHash {
    seen: HashSet<String>,
    fold: Fold64,
}

impl SampledHash {
    /// Adds a logged answer.
    pub fn add(&mut self, completion: &Completion) {
        if self.seen.insert(completion.id.to_string()) {
            self.fold.add(completion.id.as_str().as_bytes());
            self.fold.add(completion.text.as_bytes());
        }
    }

    /// The hash so far as 16 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.fold.hex()
    }
}
