//! The state hash of a sampling run. Owns which answers count once; refuses files.

use super::hash::Fold64;
use super::text::Completion;
use std::collections::HashSet;

/// The hash that a sampling run ends with: ids and texts in its log's order, whichever attempt sampled them. An answer that
/// a crash made an attempt repeat counts once.
#[derive(Debug, Clone, Default)]
pub struct SampledHash {
    seen: HashSet<String>,
    fold: Fold64,
}

impl SampledHash {
    /// Adds an answer as the log tells it.
    pub fn add(&mut self, completion: &Completion) {
        if self.seen.insert(completion.id.0.clone()) {
            self.fold.add(completion.id.0.as_bytes());
            self.fold.add(completion.text.as_bytes());
        }
    }

    /// The hash so far as 16 hex digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.fold.hex()
    }
}
