//! The queue of records that are not on disk yet, in the order of the keys.
//!
//! An unsaved verdict or correction has a provisional sequence number. A record that undoes it refers to that number.
//! The writer of the log replaces it by the real one ([`SeqMap`]). So no record waits here, and the log keeps the order
//! of the keys.

use super::effect::Effect;
use crate::protocol::SessionRecord;
use std::collections::{HashMap, VecDeque};

/// Provisional numbers start here, far above any real one.
const PROVISIONAL: u64 = 1 << 62;

/// Whether everything is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveState {
    /// Everything is on disk.
    Saved,
    /// This many records are not acknowledged yet.
    Saving(usize),
    /// The disk failed; the writer retries by itself.
    Delayed {
        /// Records not on disk.
        records: usize,
        /// Why, as one sentence.
        error: String,
        /// When it retries, in milliseconds of the model's monotonic clock.
        retry_ms: u64,
    },
    /// A record was rejected and is not retried; the sentence says why.
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

/// A record that is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedRecord {
    /// The provisional number it was folded under.
    pub provisional: u64,
    /// The record as the log has it.
    pub record: SessionRecord,
}

/// Provisional sequence numbers of verdicts and corrections, mapped to the real ones in the log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeqMap(HashMap<u64, u64>);

impl SeqMap {
    /// Notes the log's sequence number of the record with this ticket.
    pub fn note(&mut self, ticket: u64, record: &SessionRecord, seq: u64) {
        if record.can_be_undone() {
            self.0.insert(PROVISIONAL + ticket, seq);
        }
    }

    /// Puts the real number into a record that undoes or redoes a verdict or correction. False if it is not known yet.
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

/// The queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outbox {
    last: u64,
    entries: VecDeque<OutboxEntry>,
    numbers: SeqMap,
    /// The writer's last error, and when it retries.
    delay: Option<(String, u64)>,
    /// Whether nothing may be sent yet.
    held: bool,
}

impl Outbox {
    /// Queues a record; returns the provisional number to fold it under.
    pub fn push(&mut self, record: SessionRecord) -> u64 {
        self.last += 1;
        self.entries.push_back(OutboxEntry { ticket: self.last, record, state: EntryState::Waiting });
        PROVISIONAL + self.last
    }

    /// Keeps all records until [`Outbox::release`]: while the log is being read, so that nothing of it is in both.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Lets [`Outbox::flush`] send records.
    pub fn release(&mut self) {
        self.held = false;
    }

    /// The records that are not on disk, with their provisional numbers, in the order of the keys.
    pub fn unsaved(&self) -> impl Iterator<Item = (u64, &SessionRecord)> {
        self.entries.iter().map(|entry| (PROVISIONAL + entry.ticket, &entry.record))
    }

    /// Sends the records not sent yet.
    pub fn flush(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        if self.held {
            return out;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.state == EntryState::Waiting) {
            entry.state = EntryState::Sent;
            out.push(Effect::Append { ticket: entry.ticket, record: entry.record.clone() });
        }
        out
    }

    /// Removes the record that is now on disk; none for an unknown ticket.
    pub fn acknowledge(&mut self, ticket: u64, seq: u64) -> Option<SavedRecord> {
        self.delay = None;
        let at = self.entries.iter().position(|entry| entry.ticket == ticket)?;
        let mut entry = self.entries.remove(at)?;
        self.numbers.note(ticket, &entry.record, seq);
        self.numbers.resolve(&mut entry.record);
        Some(SavedRecord { provisional: PROVISIONAL + ticket, record: entry.record })
    }

    /// Notes that the disk failed. The writer keeps its records and retries at `retry_ms`.
    pub fn delay(&mut self, error: String, retry_ms: u64) {
        self.delay = Some((error, retry_ms));
    }

    /// When the writer retries, if it waits.
    #[must_use]
    pub fn retry_ms(&self) -> Option<u64> {
        self.delay.as_ref().map(|(_, at)| *at)
    }

    /// Notes that a record was rejected. It stays queued for [`Outbox::retry`].
    pub fn fail(&mut self, ticket: u64, error: String) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.ticket == ticket) {
            entry.state = EntryState::Failed(error);
        }
    }

    /// Sends the rejected records again.
    pub fn retry(&mut self) -> Vec<Effect> {
        for entry in &mut self.entries {
            if matches!(entry.state, EntryState::Failed(_)) {
                entry.state = EntryState::Waiting;
            }
        }
        self.flush()
    }

    /// Whether this record was sent and is not acknowledged yet.
    #[must_use]
    pub fn expects(&self, record: &SessionRecord) -> bool {
        self.entries.iter().filter(|entry| entry.state == EntryState::Sent).any(|entry| {
            let mut sent = entry.record.clone();
            // Until the verdict is acknowledged, only the writer knows its number in the log.
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
            (records, Some((error, retry_ms))) => {
                SaveState::Delayed { records, error: error.clone(), retry_ms: *retry_ms }
            }
            (records, None) => SaveState::Saving(records),
        }
    }
}
