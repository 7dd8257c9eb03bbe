//! A session's own log as far as it was read: the state that its records fold to, and their numbers.
//!
//! Owns the fold of many records, so that a thread beside the screen can do it. Refuses to read files and to judge damage.

use super::fold::apply_record;
use super::line::Envelope;
use super::record::SessionRecord;
use super::spec::RunSpec;
use crate::domain::Session;
use std::collections::HashSet;

/// A set of record numbers. Numbers without a gap from 1 on take no room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumberSet {
    /// Every number from 1 to this one.
    upto: u64,
    beyond: HashSet<u64>,
}

impl NumberSet {
    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, n: u64) -> bool {
        (1..=self.upto).contains(&n) || self.beyond.contains(&n)
    }

    /// Adds a number; false if it was there.
    pub fn insert(&mut self, n: u64) -> bool {
        if self.contains(n) {
            return false;
        }
        if n != self.upto + 1 {
            return self.beyond.insert(n);
        }
        self.upto = n;
        while !self.beyond.is_empty() && self.beyond.remove(&(self.upto + 1)) {
            self.upto += 1;
        }
        true
    }
}

/// What a session's own log holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogFold {
    /// The state its records fold to.
    pub session: Session,
    /// Their numbers.
    pub numbers: NumberSet,
    /// The runs launched in it, in order.
    pub launched: Vec<RunSpec>,
    /// How many records follow the last hash of the state, those of unknown kinds too.
    pub since_hash: u64,
}

impl LogFold {
    /// Folds the records that come next, each of which the reader returns once.
    pub fn add(&mut self, records: Vec<Envelope<SessionRecord>>) {
        for envelope in records {
            self.since_hash += 1;
            if let Some(record) = envelope.known() {
                apply_record(&mut self.session, envelope.n, envelope.w, record);
                if let SessionRecord::Launched(spec) = record {
                    self.launched.push((**spec).clone());
                }
                if matches!(record, SessionRecord::StateHashed { .. }) {
                    self.since_hash = 0;
                }
            }
            self.numbers.insert(envelope.n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_once_in_any_order() {
        let mut set = NumberSet::default();
        for (n, new) in [(1, true), (3, true), (3, false), (5, true), (2, true), (1, false), (4, true), (0, true)] {
            assert_eq!(set.insert(n), new, "{n}");
        }
        assert!((0..=5).all(|n| set.contains(n)) && !set.contains(6));
        assert_eq!((set.upto, set.beyond.len()), (5, 1));
    }
}
