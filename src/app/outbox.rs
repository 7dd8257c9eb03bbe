//! Records on their way to the disk, in the order they were made.
//!
//! A verdict or correction that is not on disk yet has a provisional number. A record that undoes it names that number; whoever writes the
//! log puts the real one in ([`SeqMap`]), so that nothing waits here and the log keeps the order of the keys.

use super::effect::Effect;
use crate::protocol::SessionRecord;
use std::collections::{HashMap, VecDeque};

/// Provisional numbers start here, far above any real one.
const PROVISIONAL: u64 = 1 << 62;

/// Whether everything is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveState {
    /// Yes.
    Saved,
    /// So many records are on their way.
    Saving(usize),
    /// The disk failed; the writer tries again by itself.
    Delayed {
        /// Records not on disk.
        records: usize,
        /// Why, as one sentence.
        error: String,
        /// When it tries again, in milliseconds of the model's steady clock.
        again_ms: u64,
    },
    /// A record was refused for good; the sentence says why.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq)]
enum EntryState {
    Waiting,
    Sent,
    Failed(String),
}

#[derive(Debug, Clone, PartialEq)]
struct OutboxEntry {
    ticket: u64,
    record: SessionRecord,
    state: EntryState,
}

/// A record that has reached the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedRecord {
    /// The number it was folded under until now.
    pub provisional: u64,
    /// The record as it stands in the log.
    pub record: SessionRecord,
}

/// The real numbers of verdicts that were folded under provisional ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeqMap(HashMap<u64, u64>);

impl SeqMap {
    /// Notes the number under which the record of a ticket stands in the log.
    pub fn note(&mut self, ticket: u64, record: &SessionRecord, seq: u64) {
        if matches!(record, SessionRecord::Judged(_) | SessionRecord::Corrected { .. }) {
            self.0.insert(PROVISIONAL + ticket, seq);
        }
    }

    /// Puts the real number into a record that undoes a verdict or correction, or redoes it. False while that is not known.
    pub fn resolve(&self, record: &mut SessionRecord) -> bool {
        match record {
            SessionRecord::Undone { of }
            | SessionRecord::Redone { of }
            | SessionRecord::Withdrawn { of }
            | SessionRecord::Restored { of }
                if *of > PROVISIONAL =>
            {
                let Some(seq) = self.0.get(of) else { return false };
                *of = *seq;
                true
            }
            _ => true,
        }
    }
}

/// The records on their way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outbox {
    last: u64,
    entries: VecDeque<OutboxEntry>,
    numbers: SeqMap,
    /// Why the writer waits, and until when.
    delay: Option<(String, u64)>,
}

impl Outbox {
    /// Takes a record in and gives the provisional number it is folded under.
    pub fn push(&mut self, record: SessionRecord) -> u64 {
        self.last += 1;
        self.entries.push_back(OutboxEntry { ticket: self.last, record, state: EntryState::Waiting });
        PROVISIONAL + self.last
    }

    /// Sends what was not sent yet.
    pub fn flush(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.state == EntryState::Waiting) {
            entry.state = EntryState::Sent;
            out.push(Effect::Append { ticket: entry.ticket, record: entry.record.clone() });
        }
        out
    }

    /// A record is on disk; none when the ticket is unknown.
    pub fn acknowledge(&mut self, ticket: u64, seq: u64) -> Option<SavedRecord> {
        self.delay = None;
        let at = self.entries.iter().position(|entry| entry.ticket == ticket)?;
        let mut entry = self.entries.remove(at)?;
        self.numbers.note(ticket, &entry.record, seq);
        self.numbers.resolve(&mut entry.record);
        Some(SavedRecord { provisional: PROVISIONAL + ticket, record: entry.record })
    }

    /// The disk failed. The writer keeps what it was sent and tries again at `again_ms`.
    pub fn delay(&mut self, error: String, again_ms: u64) {
        self.delay = Some((error, again_ms));
    }

    /// When the writer tries again, where it waits.
    #[must_use]
    pub fn again_ms(&self) -> Option<u64> {
        self.delay.as_ref().map(|(_, at)| *at)
    }

    /// A record was refused. It stays, and goes again on [`Outbox::retry`].
    pub fn fail(&mut self, ticket: u64, error: String) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.ticket == ticket) {
            entry.state = EntryState::Failed(error);
        }
    }

    /// Sends what was refused once more.
    pub fn retry(&mut self) -> Vec<Effect> {
        for entry in &mut self.entries {
            if matches!(entry.state, EntryState::Failed(_)) {
                entry.state = EntryState::Waiting;
            }
        }
        self.flush()
    }

    /// Whether this very record was sent and not acknowledged yet.
    #[must_use]
    pub fn expects(&self, record: &SessionRecord) -> bool {
        self.entries.iter().filter(|entry| entry.state == EntryState::Sent).any(|entry| {
            let mut sent = entry.record.clone();
            // Until the verdict is acknowledged, only the writer knows the number that stands in the log.
            if self.numbers.resolve(&mut sent) {
                sent == *record
            } else {
                std::mem::discriminant(&sent) == std::mem::discriminant(record)
            }
        })
    }

    /// Whether everything is on disk.
    #[must_use]
    pub fn saved(&self) -> SaveState {
        for entry in &self.entries {
            if let EntryState::Failed(error) = &entry.state {
                return SaveState::Failed(error.clone());
            }
        }
        match (self.entries.len(), &self.delay) {
            (0, _) => SaveState::Saved,
            (records, Some((error, again_ms))) => {
                SaveState::Delayed { records, error: error.clone(), again_ms: *again_ms }
            }
            (records, None) => SaveState::Saving(records),
        }
    }
}
