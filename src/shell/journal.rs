//! Writing to a session's log, the same way from the screen and from commands.
//!
//! Owns the session's lock, its log writer and the fold beside it, so that the hash of the state goes into the log every
//! 1,000 records and at the end, for `replay --check`.
//!
//! **Launches.** A run's folder is the truth about a launch; the `Launched` record tells the log's readers about it. Whoever
//! launches while another process holds the session's lock creates the folder only. Whoever holds the lock, or takes it
//! next, adds the missing records: see [`Journal::adopt_runs`].

use super::error::{Error, Result};
use crate::domain::{RunId, Session};
use crate::protocol::{SessionRecord, apply_record};
use crate::storage::{self, Lock, LogTail, LogWriter, SessionDir};

/// Records between two hashes of the state.
const HASH_EVERY: u64 = 1000;

/// The right to write to a session's log, and the state it folds to.
#[derive(Debug)]
pub struct Journal {
    dir: SessionDir,
    _lock: Lock,
    writer: LogWriter<SessionRecord>,
    /// Follows our own writing where it went past [`Journal::append`].
    tail: LogTail<SessionRecord>,
    state: Session,
    since_hash: u64,
    /// The last record that was read from the log …
    read_seq: u64,
    /// … and the last one that was written or read: those between them are known without being read.
    last_seq: u64,
}

impl Journal {
    /// Takes the session's lock, repairs its log and folds it; none when another process holds the lock.
    ///
    /// # Errors
    /// When the log cannot be opened, repaired or read.
    pub fn open(dir: &SessionDir) -> Result<Option<Self>> {
        let Some(lock) = dir.lock()? else { return Ok(None) };
        let writer = dir.writer(&lock)?;
        let (tail, state) = (dir.tail(), Session::default());
        let mut journal =
            Self { dir: dir.clone(), _lock: lock, writer, tail, state, since_hash: 0, read_seq: 0, last_seq: 0 };
        journal.catch_up()?;
        journal.adopt_runs()?;
        Ok(Some(journal))
    }

    /// As [`Journal::open`], with a sentence that names the holder where there is one.
    ///
    /// # Errors
    /// When another process holds the lock, or as [`Journal::open`].
    pub fn require(dir: &SessionDir) -> Result<Self> {
        Self::open(dir)?.ok_or_else(|| Error::Held {
            session: dir.path().to_owned(),
            holder: dir.holder().map_or_else(|| "another process".into(), |h| h.to_string()),
        })
    }

    /// Appends a record and gives back its sequence number. It is on disk for sure only after [`Journal::sync`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, record: &SessionRecord) -> Result<u64> {
        let seq = self.writer.append(record)?;
        self.last_seq = seq;
        self.take_in(seq, record);
        if self.since_hash >= HASH_EVERY {
            // The record is written, whatever becomes of the hash: that one comes after a later record then.
            let _ = self.hash();
        }
        Ok(seq)
    }

    /// The number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Lets `write` append many records by itself, knowing the state, and takes them in afterwards.
    ///
    /// # Errors
    /// What `write` returns, or when the log cannot be read.
    pub fn bulk<T>(
        &mut self,
        write: impl FnOnce(&Session, &mut LogWriter<SessionRecord>) -> storage::Result<T>,
    ) -> Result<T> {
        let done = write(&self.state, &mut self.writer);
        self.catch_up()?;
        if self.since_hash >= HASH_EVERY {
            let _ = self.hash();
        }
        Ok(done?)
    }

    /// Brings everything appended to the disk.
    ///
    /// # Errors
    /// When the disk refuses; nothing since the last success may be called saved then.
    pub fn sync(&mut self) -> Result<()> {
        Ok(self.writer.sync()?)
    }

    /// Adds a `Launched` record for every run whose folder is there but whose launch is not in the log: it was launched
    /// while another process held the lock. Gives back how many.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn adopt_runs(&mut self) -> Result<usize> {
        // A folder whose specification does not read is shown by `runs`; it is not a launch to remember.
        let runs = self.dir.runs()?;
        let specs = runs.iter().filter(|run| !self.knows(&run.id())).filter_map(|run| run.spec().ok());
        let records: Vec<SessionRecord> = specs.map(|spec| SessionRecord::Launched(Box::new(spec))).collect();
        for record in &records {
            self.append(record)?;
        }
        if !records.is_empty() {
            self.sync()?;
        }
        Ok(records.len())
    }

    /// Whether the launch of that run is in the log.
    #[must_use]
    pub fn knows(&self, run: &RunId) -> bool {
        self.state.runs().contains(run)
    }

    /// Writes the hash of the state where records came after the last one, and lets go of the session.
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

    /// Takes in what is in the log beyond what is known.
    fn catch_up(&mut self) -> Result<()> {
        let known = self.read_seq + 1..=self.last_seq;
        for envelope in self.tail.poll()? {
            if known.contains(&envelope.n) {
                continue;
            }
            match envelope.known() {
                Some(record) => self.take_in(envelope.n, record),
                None => self.since_hash += 1,
            }
        }
        self.last_seq = self.writer.last_seq();
        self.read_seq = self.last_seq;
        Ok(())
    }

    fn take_in(&mut self, seq: u64, record: &SessionRecord) {
        apply_record(&mut self.state, seq, record);
        match record {
            SessionRecord::StateHashed { .. } => self.since_hash = 0,
            _ => self.since_hash += 1,
        }
    }
}
