//! The pairs that came before one of their answers: only of those a queue has to look the answers up.
//!
//! Owns no truth: an answer that came later is found where answers are. So two sessions with the same pairs are equal, whatever
//! came first.

use std::collections::HashSet;

/// Places of pairs that lacked an answer when they came.
#[derive(Debug, Clone, Default)]
pub(super) struct LackingSides(HashSet<usize>);

impl LackingSides {
    pub(super) fn add(&mut self, at: usize) {
        self.0.insert(at);
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        !self.0.is_empty() && self.0.contains(&at)
    }
}

impl PartialEq for LackingSides {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
