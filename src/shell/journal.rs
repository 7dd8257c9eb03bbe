//! Writing to a session's log, for the screens and the commands.
//!
//! Owns the session's lock, its log writer and the folded state, so that it can log the state's hash every 1,000
//! records and at the end, for `replay --check`.
//!
//! **Launches.** A run's folder is the truth about a launch; the `Launched` record announces it to readers of the log. A
//! process that launches without the session's lock creates only the folder. The present or next holder of the lock
//! adds the missing records: see [`Journal::adopt_runs`].

#[cfg(test)]
mod tests;

use super::error::{Error, Result};
use crate::domain::{PairId, RunId, Session};
use crate::protocol::{Envelope, LogFold, SessionRecord, apply_record};
use crate::storage::{self, Inbox, Lock, LogTail, LogWriter, SessionDir, wall_ms};
use std::collections::HashSet;

/// Records between two state hashes.
const HASH_EVERY: u64 = 1000;
/// Bytes of a log that are parsed before their records are folded.
const PART: u64 = 4 << 20;

/// A session's log as another reader has folded it: what it holds of the state is shared.
#[derive(Debug)]
pub struct FoldedLog {
    /// A reader at the end of what was folded.
    tail: LogTail<SessionRecord>,
    /// The state without its texts.
    state: Session,
    since_hash: u64,
}

impl FoldedLog {
    /// What `log` holds; `tail` has read it.
    #[must_use]
    pub fn of(log: &LogFold, tail: &LogTail<SessionRecord>) -> Self {
        Self { tail: tail.beside(), state: log.session.without_texts(), since_hash: log.since_hash }
    }
}

/// A session's log, open for writing, and the state it folds to.
#[derive(Debug)]
pub struct Journal {
    dir: SessionDir,
    _lock: Lock,
    writer: LogWriter<SessionRecord>,
    /// Reads what [`Journal::bulk`] wrote.
    tail: LogTail<SessionRecord>,
    state: Session,
    /// Whether `state` holds the log.
    folded: bool,
    /// Whether `state` leaves prompts, completions and pairs out: no hash covers them, and a long session has many.
    lean: bool,
    since_hash: u64,
    /// The last record read from the log …
    read_seq: u64,
    /// … and the last one written or read: the records between them are in `state` already.
    last_seq: u64,
}

impl Journal {
    /// Takes the session's lock, repairs and folds its log. None if another process holds the lock.
    ///
    /// # Errors
    /// When the log cannot be opened, repaired or read.
    pub fn open(dir: &SessionDir) -> Result<Option<Self>> {
        let Some(lock) = dir.lock()? else { return Ok(None) };
        let writer = dir.writer(&lock)?;
        let (tail, state) = (dir.tail(), Session::default());
        let mut journal = Self {
            dir: dir.clone(),
            _lock: lock,
            writer,
            tail,
            state,
            folded: false,
            lean: false,
            since_hash: 0,
            read_seq: 0,
            last_seq: 0,
        };
        journal.fold_log()?;
        journal.adopt_runs()?;
        journal.take_inbox()?;
        Ok(Some(journal))
    }

    /// As [`Journal::open`], but the log is folded only when its state is first needed, and without its texts: reading a long
    /// log takes seconds, and the screens read and hold it too.
    ///
    /// # Errors
    /// When the log cannot be opened or repaired.
    pub fn open_unfolded(dir: &SessionDir) -> Result<Option<Self>> {
        let Some(lock) = dir.lock()? else { return Ok(None) };
        let writer = dir.writer(&lock)?;
        let (tail, state, last_seq) = (dir.tail(), Session::default(), writer.last_seq());
        let dir = dir.clone();
        Ok(Some(Self {
            dir,
            _lock: lock,
            writer,
            tail,
            state,
            folded: false,
            lean: true,
            since_hash: 0,
            read_seq: 0,
            last_seq,
        }))
    }

    /// Folds the log if that was not done yet.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn fold_log(&mut self) -> Result<()> {
        if !self.folded {
            self.last_seq = 0;
            self.read_log()?;
            self.folded = true;
        }
        Ok(())
    }

    /// As [`Journal::open`], with an error that names the holder of the lock.
    ///
    /// # Errors
    /// When another process holds the lock, or as [`Journal::open`].
    pub fn require(dir: &SessionDir) -> Result<Self> {
        Self::open(dir)?.ok_or_else(|| Error::Held {
            session: dir.path().to_owned(),
            holder: dir.holder().map_or_else(|| "another process".into(), |h| h.to_string()),
        })
    }

    /// Takes over the log as another reader has folded it, unless it was folded here already.
    ///
    /// # Errors
    /// When what follows cannot be read.
    pub fn take_fold(&mut self, read: FoldedLog) -> Result<()> {
        if self.folded {
            return Ok(());
        }
        (self.tail, self.state, self.since_hash) = (read.tail, read.state, read.since_hash);
        (self.read_seq, self.last_seq) = (0, 0);
        self.catch_up()?;
        self.folded = true;
        Ok(())
    }

    /// As [`Journal::require`], for a command that an open workbench can do too: the error names the key there.
    ///
    /// # Errors
    /// As [`Journal::require`].
    pub fn require_for(dir: &SessionDir, action: &str) -> Result<Self> {
        Self::require(dir).map_err(|error| match error {
            Error::Held { session, holder } => Error::HeldFor { session, holder, action: action.to_owned() },
            other => other,
        })
    }

    /// Appends a record and returns its sequence number. It is durable only after [`Journal::sync`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, record: &SessionRecord) -> Result<u64> {
        self.fold_log()?;
        let seq = self.writer.append(record)?;
        self.last_seq = seq;
        self.fold(seq, wall_ms(), record);
        if self.since_hash >= HASH_EVERY {
            // The record is appended even if the hash fails; the next record retries the hash.
            let _ = self.hash();
        }
        Ok(seq)
    }

    /// The sequence number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Lets `write` append many records directly, then folds them.
    ///
    /// # Errors
    /// What `write` returns, or when the log cannot be read.
    pub fn bulk<T>(
        &mut self,
        write: impl FnOnce(&Session, &mut LogWriter<SessionRecord>) -> storage::Result<T>,
    ) -> Result<T> {
        self.fold_log()?;
        let done = if self.lean {
            write(&self.whole_state()?, &mut self.writer)
        } else {
            write(&self.state, &mut self.writer)
        };
        self.catch_up()?;
        if self.since_hash >= HASH_EVERY {
            let _ = self.hash();
        }
        Ok(done?)
    }

    /// Syncs everything appended to the disk.
    ///
    /// # Errors
    /// When the disk fails; nothing since the last success counts as saved.
    pub fn sync(&mut self) -> Result<()> {
        Ok(self.writer.sync()?)
    }

    /// Appends a `Launched` record for every run folder without one: it was launched while another process held the
    /// lock. Returns their number.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn adopt_runs(&mut self) -> Result<usize> {
        self.fold_log()?;
        // `runs` shows a folder whose specification cannot be parsed; it gets no record.
        let runs = self.dir.runs()?;
        let specs = runs.iter().filter(|run| !self.has_launch(&run.id())).filter_map(|run| run.spec().ok());
        let records: Vec<SessionRecord> = specs.map(|spec| SessionRecord::Launched(Box::new(spec))).collect();
        for record in &records {
            self.append(record)?;
        }
        if !records.is_empty() {
            self.sync()?;
        }
        Ok(records.len())
    }

    /// Appends what waits in the session's inbox and is not in the log yet. Returns the number of records.
    ///
    /// # Errors
    /// When the inbox cannot be read or the log cannot be written; the batch stays.
    pub fn take_inbox(&mut self) -> Result<usize> {
        let inbox = Inbox::of(&self.dir);
        let mut taken = 0;
        for batch in inbox.waiting()? {
            let Some(records) = inbox.read(&batch)? else { continue };
            self.fold_log()?;
            let mut pairs = self.pairs_among(&records)?;
            for record in records.iter().filter(|record| may_wait(record)) {
                let known = match record {
                    SessionRecord::Paired(pair) => !pairs.insert(pair.id.clone()),
                    _ => self.has(record),
                };
                if !known {
                    self.append(record)?;
                    taken += 1;
                }
            }
            self.sync()?;
            inbox.remove(&batch)?;
        }
        Ok(taken)
    }

    /// The pairs of the log, where these records bring some that may be among them.
    fn pairs_among(&self, records: &[SessionRecord]) -> Result<HashSet<PairId>> {
        let mut known = HashSet::new();
        if !records.iter().any(|record| matches!(record, SessionRecord::Paired(_))) {
            return Ok(known);
        }
        let mut tail = self.dir.tail();
        loop {
            let part = tail.poll_part(PART)?;
            known.extend(part.records.iter().filter_map(|envelope| match envelope.known()? {
                SessionRecord::Paired(pair) => Some(pair.id.clone()),
                _ => None,
            }));
            if !part.more {
                return Ok(known);
            }
        }
    }

    /// Whether the log has what a record of the inbox says.
    fn has(&self, record: &SessionRecord) -> bool {
        let state = &self.state;
        match record {
            SessionRecord::LoopPlanned(spec) => state.planned_loop(&spec.name).is_some(),
            SessionRecord::Judged(verdict) => {
                let mut given = state.verdicts_on(&verdict.pair).filter(|judged| !judged.undone);
                given.any(|judged| judged.verdict.rater == verdict.rater)
            }
            SessionRecord::Scored { completion, run, score } => {
                state.score_by(run, completion).is_some_and(|known| known.to_bits() == score.0.to_bits())
            }
            _ => false,
        }
    }

    /// Whether the log has the launch of this run.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn knows(&mut self, run: &RunId) -> Result<bool> {
        self.fold_log()?;
        Ok(self.has_launch(run))
    }

    fn has_launch(&self, run: &RunId) -> bool {
        self.state.runs().contains(run)
    }

    /// Appends the state's hash if there are records after the last one, and releases the session.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn close(mut self) -> Result<()> {
        if self.since_hash > 0 {
            self.hash()?;
        }
        self.sync()
    }

    fn hash(&mut self) -> Result<()> {
        let record = SessionRecord::StateHashed { state: self.state.state_hash() };
        self.last_seq = self.writer.append(&record)?;
        self.since_hash = 0;
        Ok(())
    }

    /// Folds the log from its beginning, part by part.
    fn read_log(&mut self) -> Result<()> {
        loop {
            let part = self.tail.poll_part(PART)?;
            if !part.in_order {
                // An undo may have come before what it undoes: the log is sorted as a whole first.
                (self.tail, self.state, self.since_hash) = (self.dir.tail(), Session::default(), 0);
                return self.catch_up();
            }
            part.records.iter().for_each(|envelope| self.take(envelope));
            if !part.more {
                return self.catch_up();
            }
        }
    }

    /// The state with all texts, which `state` leaves out.
    fn whole_state(&self) -> Result<Session> {
        let mut state = Session::default();
        for envelope in self.dir.tail().poll()? {
            if let Some(record) = envelope.known() {
                apply_record(&mut state, envelope.n, envelope.w, record);
            }
        }
        Ok(state)
    }

    /// Folds new records of the log.
    fn catch_up(&mut self) -> Result<()> {
        let known = self.read_seq + 1..=self.last_seq;
        for envelope in self.tail.poll()? {
            if known.contains(&envelope.n) {
                continue;
            }
            self.take(&envelope);
        }
        self.last_seq = self.writer.last_seq();
        self.read_seq = self.last_seq;
        Ok(())
    }

    fn take(&mut self, envelope: &Envelope<SessionRecord>) {
        match envelope.known() {
            Some(record) => self.fold(envelope.n, envelope.w, record),
            None => self.since_hash += 1,
        }
    }

    fn fold(&mut self, seq: u64, wall_ms: u64, record: &SessionRecord) {
        use SessionRecord::{Completed, Paired, Prompted};
        if !(self.lean && matches!(record, Prompted(_) | Completed(_) | Paired(_))) {
            apply_record(&mut self.state, seq, wall_ms, record);
        }
        match record {
            SessionRecord::StateHashed { .. } => self.since_hash = 0,
            _ => self.since_hash += 1,
        }
    }
}

/// Whether a record may come by the inbox: what a loop does, and nothing that a person does.
fn may_wait(record: &SessionRecord) -> bool {
    match record {
        SessionRecord::Judged(verdict) => verdict.rater.is_model(),
        SessionRecord::LoopPlanned(_)
        | SessionRecord::Paired(_)
        | SessionRecord::Scored { .. }
        | SessionRecord::JudgeRecorded { .. } => true,
        _ => false,
    }
}
