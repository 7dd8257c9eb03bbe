//! Records on their way to the disk, in the order they were made.
//!
//! A verdict or correction that is not on disk yet has a provisional number; undoing it must name its real one, so such a record
//! waits until the first one is acknowledged, and everything made after it waits behind it: the log keeps the order of the keys.

use super::effect::Effect;
use crate::protocol::SessionRecord;
use std::collections::{HashMap, VecDeque};

/// Provisional numbers start here, far above any real one.
const PROVISIONAL: u64 = 1 << 62;

/// Whether everything is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// Yes.
    All,
    /// So many records are on their way.
    Saving(usize),
    /// A record could not be written; the sentence says why.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Waiting,
    Sent,
    Failed(String),
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    ticket: u64,
    record: SessionRecord,
    state: State,
}

/// A record that has reached the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// The number it was folded under until now.
    pub provisional: u64,
    /// The record as it stands in the log.
    pub record: SessionRecord,
}

/// The records on their way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outbox {
    last: u64,
    entries: VecDeque<Entry>,
    numbers: HashMap<u64, u64>,
}

impl Outbox {
    /// Takes a record in and gives the provisional number it is folded under.
    pub fn push(&mut self, record: SessionRecord) -> u64 {
        self.last += 1;
        self.entries.push_back(Entry { ticket: self.last, record, state: State::Waiting });
        PROVISIONAL + self.last
    }

    /// The records that can go now.
    pub fn flush(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        for entry in &mut self.entries {
            if entry.state != State::Waiting {
                continue;
            }
            if let SessionRecord::Undone { of }
            | SessionRecord::Redone { of }
            | SessionRecord::Withdrawn { of }
            | SessionRecord::Restored { of } = &mut entry.record
                && *of > PROVISIONAL
            {
                let Some(seq) = self.numbers.get(of) else { break };
                *of = *seq;
            }
            entry.state = State::Sent;
            out.push(Effect::Append { ticket: entry.ticket, record: entry.record.clone() });
        }
        out
    }

    /// A record is on disk; none when the ticket is unknown.
    pub fn acknowledge(&mut self, ticket: u64, seq: u64) -> Option<Sent> {
        let at = self.entries.iter().position(|entry| entry.ticket == ticket)?;
        let entry = self.entries.remove(at)?;
        let provisional = PROVISIONAL + ticket;
        if matches!(entry.record, SessionRecord::Judged(_) | SessionRecord::Corrected { .. }) {
            self.numbers.insert(provisional, seq);
        }
        Some(Sent { provisional, record: entry.record })
    }

    /// A record could not be written. It stays, and goes again on [`Outbox::retry`].
    pub fn fail(&mut self, ticket: u64, error: String) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.ticket == ticket) {
            entry.state = State::Failed(error);
        }
    }

    /// Lets what failed go again.
    pub fn retry(&mut self) -> Vec<Effect> {
        for entry in &mut self.entries {
            if matches!(entry.state, State::Failed(_)) {
                entry.state = State::Waiting;
            }
        }
        self.flush()
    }

    /// Whether this very record was sent and not acknowledged yet.
    #[must_use]
    pub fn expects(&self, record: &SessionRecord) -> bool {
        self.entries.iter().any(|entry| entry.state == State::Sent && entry.record == *record)
    }

    /// Whether everything is on disk.
    #[must_use]
    pub fn saved(&self) -> Saved {
        for entry in &self.entries {
            if let State::Failed(error) = &entry.state {
                return Saved::Failed(error.clone());
            }
        }
        match self.entries.len() {
            0 => Saved::All,
            n => Saved::Saving(n),
        }
    }
}
