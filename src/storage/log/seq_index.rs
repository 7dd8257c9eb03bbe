//! The sequence numbers a reader has read: which records are new, duplicates or in conflict.

use crate::domain::{PartList, mix64};
use std::collections::HashMap;

/// Substitute numbers start here, for records whose number is taken: above every number on disk, below the provisional
/// ones that a screen gives to records not yet written.
const SUBSTITUTES: u64 = 1 << 61;

/// How a record relates to those read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Its number is the highest so far.
    New,
    /// Its number is new, and lower than an earlier one.
    Late,
    /// It was read already.
    Duplicate,
    /// Another record has its number: it gets this substitute.
    Conflict(u64),
}

/// The numbers read, each with its record's checksum.
#[derive(Debug, Clone, Default)]
pub(super) struct SeqIndex {
    /// The checksums of the numbers from 1 on, as far as there is no gap: nearly always of all. Copies share them.
    dense: PartList<u32>,
    /// Those of the numbers after a gap, and of substitutes.
    sparse: HashMap<u64, u32>,
    /// The substitute of a number's last conflicting record.
    substitutes: HashMap<u64, u64>,
    highest: u64,
    conflicts: usize,
}

impl SeqIndex {
    /// Adds a record's number and checksum.
    pub(super) fn insert(&mut self, n: u64, checksum: u32) -> Relation {
        match self.checksum(n) {
            None => {
                self.put(n, checksum);
                if n < self.highest {
                    return Relation::Late;
                }
                self.highest = n;
                Relation::New
            }
            Some(known) if known == checksum => Relation::Duplicate,
            Some(_) => {
                // Derived from the content alone, so that every reader gets the same one and an undo can name it.
                let substitute = SUBSTITUTES | (mix64(n.rotate_left(32) ^ u64::from(checksum)) >> 4);
                if self.sparse.insert(substitute, checksum).is_some() {
                    return Relation::Duplicate;
                }
                self.conflicts += 1;
                self.substitutes.insert(n, substitute);
                Relation::Conflict(substitute)
            }
        }
    }

    fn checksum(&self, n: u64) -> Option<u32> {
        let at = usize::try_from(n).ok()?.checked_sub(1)?;
        self.dense.get(at).or_else(|| self.sparse.get(&n)).copied()
    }

    fn put(&mut self, n: u64, checksum: u32) {
        if n != self.dense.len() as u64 + 1 {
            self.sparse.insert(n, checksum);
            return;
        }
        self.dense.push(checksum);
        // The gap is closed: what comes after it is dense too.
        while !self.sparse.is_empty()
            && let Some(next) = self.sparse.remove(&(self.dense.len() as u64 + 1))
        {
            self.dense.push(next);
        }
    }

    /// The record that a conflicting record means by `n`: the conflicting one written beside it, if any.
    pub(super) fn substitute_of(&self, n: u64) -> Option<u64> {
        self.substitutes.get(&n).copied()
    }

    /// The highest number; 0 before the first.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// How many numbers from 1 to the highest have no record.
    pub(super) fn missing(&self) -> u64 {
        self.highest.saturating_sub((self.dense.len() + self.sparse.len() - self.conflicts) as u64)
    }

    /// The first number without a record, and the first one after it that has one.
    pub(super) fn first_gap(&self) -> Option<(u64, u64)> {
        if self.missing() == 0 {
            return None;
        }
        let next = self.sparse.keys().copied().filter(|n| *n <= self.highest).min()?;
        Some((self.dense.len() as u64 + 1, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_new_late_duplicate_or_in_conflict() {
        let mut index = SeqIndex::default();
        assert_eq!(
            (index.insert(1, 10), index.insert(2, 20), index.insert(5, 50)),
            (Relation::New, Relation::New, Relation::New)
        );
        assert_eq!((index.missing(), index.first_gap()), (2, Some((3, 5))));
        assert_eq!(
            (index.insert(4, 40), index.insert(4, 40), index.insert(3, 30)),
            (Relation::Late, Relation::Duplicate, Relation::Late)
        );
        assert_eq!((index.missing(), index.first_gap(), index.highest()), (0, None, 5));
        let Relation::Conflict(substitute) = index.insert(2, 21) else { panic!("two records of number 2") };
        assert!((SUBSTITUTES..SUBSTITUTES << 1).contains(&substitute) && index.substitute_of(2) == Some(substitute));
        assert_eq!((index.insert(2, 21), index.missing(), index.highest()), (Relation::Duplicate, 0, 5));
        let mut again = SeqIndex::default();
        again.insert(2, 20);
        assert_eq!(again.insert(2, 21), Relation::Conflict(substitute), "the same in every reading");
    }
}
