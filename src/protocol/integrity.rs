//! Damage that a log reader found: counts by kind, the first places, and messages.
//!
//! Owns the kinds of damage. Refuses to judge it: the caller decides whether to continue.

use crate::domain::counted;
use serde::{Deserialize, Serialize};

/// Maximum number of places kept; the others are only counted.
const MAX_PLACES: usize = 8;

/// A kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// A line that is not a record: its checksum or its shape is wrong.
    Line,
    /// A sequence number below the highest one without a record, unless a damaged line explains it.
    Missing,
    /// Two different records with the same number. Both are kept.
    Conflict,
    /// Whole lines that repair moved to quarantine: they were written completely.
    Quarantined,
    /// A file in the log's folder that is not part of the log. It is not read.
    File,
    /// A duplicate record or header. It counts once.
    Repeated,
    /// A record after one with a higher number. It is read in numeric order.
    Order,
}

/// Where damage was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPlace {
    /// The kind.
    pub damage: Damage,
    /// The file, relative to the session's folder.
    pub file: String,
    /// The line in it, from 1; 0 for the whole file.
    pub line: u64,
    /// What is wrong there, as a clause.
    pub what: String,
}

impl std::fmt::Display for DamagedPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{} line {line}: {}", self.file, self.what),
        }
    }
}

/// The integrity of one log or of several merged ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Integrity {
    /// See [`Damage::Line`].
    pub damaged_lines: u64,
    /// See [`Damage::Missing`].
    pub missing_records: u64,
    /// See [`Damage::Conflict`].
    pub conflicts: u64,
    /// See [`Damage::Quarantined`].
    pub quarantined_lines: u64,
    /// See [`Damage::File`].
    pub unread_files: u64,
    /// See [`Damage::Repeated`].
    pub repeated_lines: u64,
    /// See [`Damage::Order`].
    pub out_of_order: u64,
    /// Bytes that repair moved to quarantine: mostly lines torn by a crash, which is not damage.
    pub quarantined_bytes: u64,
    /// Bytes of an unfinished line at the end of the log, which the next writer repairs.
    pub unfinished_bytes: u64,
    /// Records of a kind that this version does not know. They are kept; this is not damage.
    pub opaque: u64,
    /// The first places of damage.
    pub first: Vec<DamagedPlace>,
}

impl Integrity {
    /// Counts damage of one kind and keeps its place.
    pub fn note(&mut self, count: u64, place: DamagedPlace) {
        *self.count_mut(place.damage) += count;
        if count > 0 && self.first.len() < MAX_PLACES {
            self.first.push(place);
        }
    }

    fn count_mut(&mut self, damage: Damage) -> &mut u64 {
        match damage {
            Damage::Line => &mut self.damaged_lines,
            Damage::Missing => &mut self.missing_records,
            Damage::Conflict => &mut self.conflicts,
            Damage::Quarantined => &mut self.quarantined_lines,
            Damage::File => &mut self.unread_files,
            Damage::Repeated => &mut self.repeated_lines,
            Damage::Order => &mut self.out_of_order,
        }
    }

    /// Adds the damage of another log.
    pub fn merge(&mut self, other: &Self) {
        self.damaged_lines += other.damaged_lines;
        self.missing_records += other.missing_records;
        self.conflicts += other.conflicts;
        self.quarantined_lines += other.quarantined_lines;
        self.unread_files += other.unread_files;
        self.repeated_lines += other.repeated_lines;
        self.out_of_order += other.out_of_order;
        self.quarantined_bytes += other.quarantined_bytes;
        self.unfinished_bytes += other.unfinished_bytes;
        self.opaque += other.opaque;
        let room = MAX_PLACES.saturating_sub(self.first.len());
        self.first.extend(other.first.iter().take(room).cloned());
    }

    /// Total damage of all kinds.
    #[must_use]
    pub fn damage(&self) -> u64 {
        self.counts().iter().map(|(n, _)| n).sum()
    }

    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.damage() == 0
    }

    fn counts(&self) -> [(u64, String); 7] {
        let lines = |n: u64, what: &str| (n, format!("{} {what}", counted(n, "line")));
        [
            (self.damaged_lines, counted(self.damaged_lines, "damaged line")),
            (self.missing_records, counted(self.missing_records, "missing record")),
            (self.conflicts, counted(self.conflicts, "conflicting record")),
            (self.quarantined_lines, counted(self.quarantined_lines, "quarantined line")),
            (self.unread_files, counted(self.unread_files, "unread file")),
            (self.repeated_lines, counted(self.repeated_lines, "repeated line")),
            lines(self.out_of_order, "out of order"),
        ]
    }

    /// The damage in a few words, worst first: `3 damaged lines, 1 missing record`; empty when intact.
    #[must_use]
    pub fn words(&self) -> String {
        let words: Vec<String> = self.counts().into_iter().filter(|(n, _)| *n > 0).map(|(_, words)| words).collect();
        words.join(", ")
    }

    /// The damage with its first place, as one clause; empty when intact.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self.first.first() {
            Some(place) if self.damage() == 1 => format!("{} ({place})", self.words()),
            Some(place) => format!("{} (the first: {place})", self.words()),
            None => self.words(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(damage: Damage, line: u64) -> DamagedPlace {
        DamagedPlace { damage, file: "events/000001.jsonl".into(), line, what: "the checksum does not match".into() }
    }

    #[test]
    fn damage_is_counted_and_reported_with_its_first_place() {
        let mut integrity = Integrity { opaque: 2, quarantined_bytes: 40, unfinished_bytes: 3, ..Integrity::default() };
        assert!(integrity.is_intact() && integrity.sentence().is_empty());
        integrity.note(1, place(Damage::Line, 7));
        assert_eq!(integrity.sentence(), "1 damaged line (events/000001.jsonl line 7: the checksum does not match)");
        integrity.note(1, place(Damage::Line, 9));
        integrity.note(1, place(Damage::Order, 12));
        assert_eq!(integrity.words(), "2 damaged lines, 1 line out of order");
        assert!(integrity.sentence().contains("(the first: events/000001.jsonl line 7: "));
        let mut both = integrity.clone();
        both.merge(&integrity);
        assert_eq!((both.damage(), both.first.len(), both.opaque), (6, 6, 4));
        for line in 0..100 {
            both.note(1, place(Damage::Line, line));
        }
        assert_eq!((both.damaged_lines, both.first.len()), (104, MAX_PLACES));
    }
}
