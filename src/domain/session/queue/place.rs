//! What a rater's queue is sorted by, so that a verdict moves one pair and the queue need not be computed again.

use std::cmp::Ordering;

/// The part of the queue that a pair is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum QueuePart {
    /// Judged by some of the questions.
    Begun,
    /// New to the rater.
    Fresh,
    /// Put off.
    Skipped,
}

/// What a queue is sorted by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) part: QueuePart,
    /// A score gap, smallest first; 0 where the order has none.
    pub(super) gap: f64,
    /// A random number, or the record in which the pair was put off.
    pub(super) number: u64,
    /// Its place among the session's pairs.
    pub(super) at: u32,
}

impl Place {
    pub(super) fn cmp(&self, other: &Self) -> Ordering {
        let gap = || self.gap.total_cmp(&other.gap);
        let rest = || (self.number, self.at).cmp(&(other.number, other.at));
        self.part.cmp(&other.part).then_with(gap).then_with(rest)
    }
}
