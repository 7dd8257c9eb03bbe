//! The numbers a reader has met: which records are new, which are there twice, which contradict each other.

use crate::domain::mix64;
use std::collections::HashMap;

/// Numbers from here on stand for records whose own number another one has. Above every number on disk and below those that
/// a screen gives to records that are on their way there.
const STAND_IN: u64 = 1 << 61;

/// How a record relates to those met before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// Its number is the highest so far.
    New,
    /// Its number is new, and lower than one met before.
    Late,
    /// It was met already.
    Again,
    /// Another record has its number: it goes by this one.
    Conflict(u64),
}

/// The numbers met, each with its record's checksum.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sums: HashMap<u64, u32>,
    /// The stand-in of a number's last conflicting record.
    stand_ins: HashMap<u64, u64>,
    highest: u64,
    conflicts: usize,
}

impl Seen {
    /// Takes a record's number and checksum in.
    pub(super) fn meet(&mut self, n: u64, sum: u32) -> Met {
        match self.sums.get(&n) {
            None => {
                self.sums.insert(n, sum);
                if n < self.highest {
                    return Met::Late;
                }
                self.highest = n;
                Met::New
            }
            Some(known) if *known == sum => Met::Again,
            Some(_) => {
                // Made of the content alone, so that every reading gives the same one and an undo can name it.
                let other = STAND_IN | (mix64(n.rotate_left(32) ^ u64::from(sum)) >> 4);
                if self.sums.insert(other, sum).is_some() {
                    return Met::Again;
                }
                self.conflicts += 1;
                self.stand_ins.insert(n, other);
                Met::Conflict(other)
            }
        }
    }

    /// The record that a conflicting record means by a number: the one written beside it, if there is one.
    pub(super) fn beside(&self, n: u64) -> Option<u64> {
        self.stand_ins.get(&n).copied()
    }

    /// The highest number met; 0 before the first.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// How many numbers from 1 to the highest have no record.
    pub(super) fn missing(&self) -> u64 {
        self.highest.saturating_sub((self.sums.len() - self.conflicts) as u64)
    }

    /// The first number without a record, and the first one after it that has one.
    pub(super) fn first_gap(&self) -> Option<(u64, u64)> {
        if self.missing() == 0 {
            return None;
        }
        let mut known: Vec<u64> = self.sums.keys().copied().filter(|n| *n <= self.highest).collect();
        known.sort_unstable();
        let at = known.iter().zip(1..).find(|(n, want)| **n != *want);
        at.map(|(n, want)| (want, *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_new_late_known_or_in_conflict() {
        let mut seen = Seen::default();
        assert_eq!((seen.meet(1, 10), seen.meet(2, 20), seen.meet(5, 50)), (Met::New, Met::New, Met::New));
        assert_eq!((seen.missing(), seen.first_gap()), (2, Some((3, 5))));
        assert_eq!((seen.meet(4, 40), seen.meet(4, 40), seen.meet(3, 30)), (Met::Late, Met::Again, Met::Late));
        assert_eq!((seen.missing(), seen.first_gap(), seen.highest()), (0, None, 5));
        let Met::Conflict(other) = seen.meet(2, 21) else { panic!("two records of number 2") };
        assert!((STAND_IN..STAND_IN << 1).contains(&other) && seen.beside(2) == Some(other));
        assert_eq!((seen.meet(2, 21), seen.missing(), seen.highest()), (Met::Again, 0, 5));
        let mut again = Seen::default();
        again.meet(2, 20);
        assert_eq!(again.meet(2, 21), Met::Conflict(other), "the same in every reading");
    }
}
