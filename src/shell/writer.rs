//! The writer: the thread that owns the open session's log. It appends, syncs, and does nothing else.
//!
//! A record is acknowledged only after fsync; queued records share one fsync. When the disk fails, they stay queued in
//! order and are retried until they are saved or the program ends. Reading whole logs, planning a run and asking a
//! worker are jobs: they run elsewhere and get the number of the last record on disk.

use super::error::{Error, Result};
use super::intake;
use super::jobs::{ForLog, Job, JobContext, Jobs};
use super::journal::{FoldedLog, Journal};
use super::reply::Replies;
use super::tails;
use crate::app::{Msg, Opened, READ_ONLY_DISK, SeqMap};
use crate::domain::{Rater, counted};
use crate::protocol::{RunSpec, SessionRecord};
use crate::storage::import::Imported;
use crate::storage::{self, Home, SessionDir};
use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a session that is open for reading only is tried again: its holder may have ended.
const TAKE_OVER: Duration = Duration::from_secs(1);
/// The wait before the first retry; each further failure doubles it.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait between two retries.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The longest wait for the disk at shutdown.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Time between two retries at shutdown.
const SHUTDOWN_RETRY: Duration = Duration::from_millis(200);
/// How long the event loop has to send its last records before the writer shuts down without it.
const HAND_OVER: Duration = Duration::from_millis(500);

/// A request to the writer.
#[derive(Debug)]
pub enum WriterRequest {
    /// Close the open session and open this one.
    Open {
        /// The number of this opening: answers to an earlier one are dropped.
        opening: u64,
        /// The session's name or path.
        name: String,
    },
    /// Close the open session.
    Close,
    /// Append a record.
    Append {
        /// Identifies the record in the answer.
        ticket: u64,
        /// The record.
        record: Box<SessionRecord>,
    },
    /// Retry now instead of waiting.
    SaveNow,
    /// Append the rows of an imported file.
    Import {
        /// The opening that asked for the import.
        opening: u64,
        /// The rows.
        rows: Box<Imported>,
    },
    /// Append the records of a job.
    Add {
        /// The opening that the job belongs to.
        opening: u64,
        /// The records.
        records: Vec<SessionRecord>,
        /// What to say once they are on disk.
        said: Option<Msg>,
    },
    /// End scoring.
    StopScoring,
    /// Take over the log as it was read for the screen.
    TakeFold {
        /// The opening that it was read for.
        opening: u64,
        /// What was read.
        read: Box<FoldedLog>,
    },
    /// Append a launch record for each of these runs that has none.
    RecordLaunches {
        /// The opening that the runs belong to.
        opening: u64,
        /// The specifications of the runs.
        specs: Vec<RunSpec>,
    },
    /// Start a job on a snapshot of what is on disk now.
    Start(Job),
    /// Close the open session and end.
    Shutdown,
}

/// Sends requests to the writer thread.
#[derive(Debug, Clone)]
pub struct WriterHandle {
    requests: Sender<WriterRequest>,
    /// What the disk refused, once the writer has ended.
    ended: Arc<(Mutex<Option<WriterEnd>>, Condvar)>,
}

impl WriterHandle {
    /// Starts the writer. `tails` follows the session that the writer opens.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn spawn(home: Home, rater: Rater, replies: Replies, tails: Sender<tails::TailRequest>) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let handle = Self { requests, ended: Arc::default() };
        let jobs = {
            let handle = handle.clone();
            Jobs::start(home.clone(), replies.clone(), tails.clone(), move |for_log| {
                handle.send(match for_log {
                    ForLog::Imported(opening, rows) => WriterRequest::Import { opening, rows },
                    ForLog::Records(opening, records, said) => WriterRequest::Add { opening, records, said },
                });
            })?
        };
        // A stuck screen must not block the writer: its answers wait in an unbounded queue.
        let (answers, queued) = channel::<Outgoing>();
        let follower = tails.clone();
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            queued.iter().all(|answer| match answer {
                Outgoing::ForOpening(opening, msg) => replies.of(opening, msg),
                Outgoing::Global(msg) => replies.send(msg),
                Outgoing::Tails(request) => follower.send(request).is_ok(),
            })
        })?;
        let ended = Arc::clone(&handle.ended);
        let writer = Writer {
            home,
            rater,
            answers,
            tails,
            jobs,
            open: None,
            queue: Unsaved::default(),
            deferred: VecDeque::new(),
        };
        std::thread::Builder::new().name("writer".into()).spawn(move || {
            let end = writer.work(&inbox);
            *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
            ended.1.notify_all();
        })?;
        Ok(handle)
    }

    /// Sends a request. The writer ends only on [`WriterRequest::Shutdown`].
    pub fn send(&self, request: WriterRequest) {
        let _ = self.requests.send(request);
    }

    /// Shuts the writer down and waits for it. Returns what the disk refused; none if the writer did not end in time.
    #[must_use]
    pub fn end(&self) -> Option<WriterEnd> {
        self.send(WriterRequest::Shutdown);
        self.wait(SHUTDOWN)
    }

    /// The same while the event loop is ending: it may still send records, or be stuck.
    pub fn end_after_loop(&self) {
        if self.wait(HAND_OVER).is_none() {
            self.send(WriterRequest::Shutdown);
            let _ = self.wait(SHUTDOWN.saturating_sub(HAND_OVER));
        }
    }

    fn wait(&self, limit: Duration) -> Option<WriterEnd> {
        let ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ended.1.wait_timeout_while(ended, limit, |ended| ended.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// What the disk refused until the writer ended.
#[derive(Debug, Clone)]
pub struct WriterEnd {
    /// How many records are lost.
    pub unsaved: usize,
    /// Why the hash of the session's state could not be saved; every other record is in the log.
    pub unclosed: Option<String>,
}

/// Unacknowledged records, in order.
#[derive(Default)]
struct Unsaved {
    /// Not in the log yet.
    waiting: VecDeque<(u64, SessionRecord)>,
    /// Appended under these numbers but not synced.
    written: Vec<(u64, u64)>,
    numbers: SeqMap,
    /// Failures in a row.
    failures: u32,
    /// When to retry after a failure of the disk.
    retry_at: Option<Instant>,
}

impl Unsaved {
    fn len(&self) -> usize {
        self.waiting.len() + self.written.len()
    }

    /// Appends and syncs as many waiting records as the disk takes. Calls `refuse` for records that no retry can save
    /// and `saved` for those on disk.
    fn save(
        &mut self,
        journal: &mut Journal,
        mut refuse: impl FnMut(u64, String),
        mut saved: impl FnMut(u64, u64),
    ) -> Result<()> {
        let mut failed = None;
        while let Some((ticket, record)) = self.waiting.front_mut() {
            if !self.numbers.resolve(record) {
                refuse(*ticket, "it undoes a verdict that is not in the log".into());
                self.waiting.pop_front();
                continue;
            }
            match journal.append(record) {
                Ok(seq) => {
                    self.numbers.note(*ticket, record, seq);
                    self.written.push((*ticket, seq));
                }
                Err(error) if error.is_record_fault() => refuse(*ticket, error.to_string()),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            self.waiting.pop_front();
        }
        if !self.written.is_empty() {
            journal.sync()?;
            self.written.drain(..).for_each(|(ticket, seq)| saved(ticket, seq));
        }
        failed.map_or(Ok(()), Err)
    }

    /// Schedules the next retry after a failure. Returns the time until then.
    fn back_off(&mut self) -> Duration {
        let now = Instant::now();
        match self.retry_at {
            // A key may trigger a retry before that time; it does not postpone the scheduled one.
            Some(at) if at > now => at - now,
            _ => {
                let wait = RETRY.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
                self.failures += 1;
                self.retry_at = Some(now + wait);
                wait
            }
        }
    }
}

/// What the writer sends, in order.
enum Outgoing {
    /// To the screen, for this opening.
    ForOpening(u64, Msg),
    /// To the screen, for any opening.
    Global(Msg),
    /// To the thread that follows logs. Sent in order, so that the session is open on the screen before its records
    /// arrive.
    Tails(tails::TailRequest),
}

struct OpenJournal {
    opening: u64,
    dir: SessionDir,
    journal: Option<Journal>,
}

struct Writer {
    home: Home,
    rater: Rater,
    answers: Sender<Outgoing>,
    tails: Sender<tails::TailRequest>,
    jobs: Jobs,
    open: Option<OpenJournal>,
    queue: Unsaved,
    /// Requests that arrived during an import.
    deferred: VecDeque<WriterRequest>,
}

impl Writer {
    /// Handles requests until shutdown. Returns the number of unsaved records.
    fn work(mut self, inbox: &Receiver<WriterRequest>) -> WriterEnd {
        loop {
            let first = match (self.deferred.pop_front(), self.queue.retry_at) {
                (Some(request), _) => Ok(request),
                (None, Some(at)) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
                (None, None) if self.reads_only() => inbox.recv_timeout(TAKE_OVER),
                (None, None) => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut next = match first {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => {
                    self.take_over();
                    Some(WriterRequest::SaveNow)
                }
                Err(RecvTimeoutError::Disconnected) => return self.shut_down(inbox),
            };
            while let Some(request) = next {
                match request {
                    WriterRequest::Append { ticket, record } => self.queue.waiting.push_back((ticket, *record)),
                    WriterRequest::Shutdown => return self.shut_down(inbox),
                    request => {
                        self.save();
                        self.handle(request, inbox);
                    }
                }
                next = self.deferred.pop_front().or_else(|| inbox.try_recv().ok());
            }
            self.save();
        }
    }

    fn handle(&mut self, request: WriterRequest, inbox: &Receiver<WriterRequest>) {
        let done = match request {
            WriterRequest::Open { opening, name } => self.open(opening, name),
            WriterRequest::Close => {
                self.close();
                Ok(())
            }
            WriterRequest::Append { .. } | WriterRequest::SaveNow | WriterRequest::Shutdown => Ok(()),
            WriterRequest::Import { opening, rows } => self.import(opening, *rows, inbox),
            WriterRequest::Add { opening, records, said } => self.add(opening, &records, said),
            WriterRequest::StopScoring => {
                self.jobs.stop_scoring();
                Ok(())
            }
            WriterRequest::TakeFold { opening, read } => self.take_fold(opening, *read),
            WriterRequest::RecordLaunches { opening, specs } => self.record_launches(opening, specs),
            WriterRequest::Start(job) => {
                self.start_job(job);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.answer(Msg::Failed(error.to_string()));
        }
    }

    fn answer(&self, msg: Msg) {
        let _ = self.answers.send(Outgoing::Global(msg));
    }

    fn open(&mut self, opening: u64, name: String) -> Result<()> {
        self.close();
        let dir = SessionDir::find(&self.home, &name)?;
        let meta = dir.meta()?;
        // The reader of the log works while the writer looks for a torn end: neither needs what the other does.
        let _ = self.answers.send(Outgoing::Tails(tails::TailRequest::Read(dir.clone())));
        let (journal, on_disk) = match Journal::open_unfolded(&dir) {
            Ok(journal) => (journal, false),
            // It can be read all the same: watched, replayed, exported.
            Err(Error::Storage(error)) if error.is_read_only() => (None, true),
            Err(error) => return Err(error),
        };
        let read_only = match &journal {
            Some(_) => None,
            None if on_disk => Some(READ_ONLY_DISK.to_owned()),
            None => Some(dir.holder().map_or_else(|| "another process".into(), |h| h.to_string())),
        };
        let path = dir.path().display().to_string();
        let opened = Opened { name, path, meta, read_only, rater: self.rater.clone() };
        let _ = self.answers.send(Outgoing::ForOpening(opening, Msg::SessionOpened(opened)));
        let _ = self.answers.send(Outgoing::Tails(tails::TailRequest::Follow { opening, dir: dir.clone() }));
        self.open = Some(OpenJournal { opening, dir, journal });
        Ok(())
    }

    /// Whether the open session's lock is another process's.
    fn reads_only(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.journal.is_none())
    }

    /// Opens the session for writing if the process that held it has ended.
    fn take_over(&mut self) {
        let Some(OpenJournal { opening, dir, journal: journal @ None }) = &mut self.open else { return };
        // A failure is said when the session is opened again; it stays open for reading.
        if let Ok(Some(taken)) = Journal::open_unfolded(dir) {
            *journal = Some(taken);
            // The last records of the other process come first.
            let _ = self.answers.send(Outgoing::Tails(tails::TailRequest::Poll));
            let _ = self.answers.send(Outgoing::ForOpening(*opening, Msg::Writable));
        }
    }

    /// Closes the session and appends the hash of its state.
    /// Closes the session. Returns why its last record, the hash of its state, could not be saved.
    fn close(&mut self) -> Option<String> {
        let _ = self.answers.send(Outgoing::Tails(tails::TailRequest::Unfollow));
        self.jobs.stop_scoring();
        let queue = std::mem::take(&mut self.queue);
        let Some(OpenJournal { dir, journal: Some(journal), .. }) = self.open.take() else { return None };
        if queue.len() > 0 {
            let records = counted(queue.len(), "record");
            self.answer(Msg::Failed(format!("{records} of session {} could not be saved and are lost", dir.name())));
        }
        let error = journal.close().err()?.to_string();
        self.answer(Msg::Failed(error.clone()));
        Some(error)
    }

    /// Saves the queue. When the disk fails, reports the error and the time of the retry.
    fn save(&mut self) {
        if self.queue.len() == 0 {
            return;
        }
        let opening = self.open.as_ref().map(|open| open.opening);
        let answers = &self.answers;
        let say = |msg: Msg| {
            let _ = answers.send(match opening {
                Some(opening) => Outgoing::ForOpening(opening, msg),
                None => Outgoing::Global(msg),
            });
        };
        let refuse = |ticket, error| say(Msg::AppendFailed { ticket, error });
        let Some(OpenJournal { journal: Some(journal), .. }) = &mut self.open else {
            let why = match opening {
                None => "no session is open: open one and try again",
                Some(_) => {
                    "this session is open for reading only: close it where it is open for writing, then reopen it"
                }
            };
            return self.queue.waiting.drain(..).for_each(|(ticket, _)| refuse(ticket, why.into()));
        };
        let saved = |ticket, seq| say(Msg::Acknowledged { ticket, seq });
        match self.queue.save(journal, refuse, saved) {
            Ok(()) => (self.queue.failures, self.queue.retry_at) = (0, None),
            Err(error) => {
                let in_ms = self.queue.back_off().as_millis() as u64;
                say(Msg::SaveDelayed { error: error.to_string(), in_ms });
            }
        }
    }

    /// Saves the queue, with retries until the time for shutdown is over.
    fn shut_down(mut self, inbox: &Receiver<WriterRequest>) -> WriterEnd {
        let until = Instant::now() + SHUTDOWN;
        loop {
            for request in self.deferred.drain(..).chain(inbox.try_iter()) {
                if let WriterRequest::Append { ticket, record } = request {
                    self.queue.waiting.push_back((ticket, *record));
                }
            }
            self.save();
            if self.queue.len() == 0 || Instant::now() + SHUTDOWN_RETRY > until {
                break;
            }
            std::thread::sleep(SHUTDOWN_RETRY);
        }
        let unsaved = self.queue.len();
        WriterEnd { unsaved, unclosed: self.close() }
    }

    /// Appends rows in parts; after each part it saves the records that arrived meanwhile.
    fn import(&mut self, opening: u64, rows: Imported, inbox: &Receiver<WriterRequest>) -> Result<()> {
        let mut intake = None;
        for part in rows.parts() {
            let Some(OpenJournal { journal: Some(journal), opening: open, .. }) = &mut self.open else { break };
            if *open != opening {
                break;
            }
            let added = intake::add(&part, journal).map_err(|error| {
                Error::failed(format!("{error}; then import the file again: only what is missing is added"))
            })?;
            intake = Some(added.merge(intake));
            for request in inbox.try_iter() {
                match request {
                    WriterRequest::Append { ticket, record } => self.queue.waiting.push_back((ticket, *record)),
                    request => self.deferred.push_back(request),
                }
            }
            self.save();
            if self.deferred.iter().any(|request| matches!(request, WriterRequest::Shutdown)) {
                break;
            }
        }
        let _ = self.tails.send(tails::TailRequest::Poll);
        if let Some(intake) = intake {
            let said = [Some(intake.text()), intake.left_out].into_iter().flatten().chain(intake.notes);
            let text = said.collect::<Vec<_>>().join("; ");
            let _ = self.answers.send(Outgoing::ForOpening(opening, Msg::Imported(text)));
        }
        Ok(())
    }

    /// Appends the records of a job.
    fn add(&mut self, opening: u64, records: &[SessionRecord], said: Option<Msg>) -> Result<()> {
        let Some(OpenJournal { journal: Some(journal), opening: open, .. }) = &mut self.open else { return Ok(()) };
        if *open != opening {
            return Ok(());
        }
        let saved =
            records.iter().try_for_each(|record| journal.append(record).map(drop)).and_then(|()| journal.sync());
        let _ = self.tails.send(tails::TailRequest::Poll);
        if let Err(error) = saved {
            // The job would go on in vain.
            self.jobs.stop_scoring();
            return Err(error);
        }
        if let Some(said) = said {
            let _ = self.answers.send(Outgoing::ForOpening(opening, said));
        }
        Ok(())
    }

    fn take_fold(&mut self, opening: u64, read: FoldedLog) -> Result<()> {
        match &mut self.open {
            Some(OpenJournal { journal: Some(journal), opening: open, .. }) if *open == opening => {
                journal.take_fold(read)
            }
            _ => Ok(()),
        }
    }

    fn record_launches(&mut self, opening: u64, specs: Vec<RunSpec>) -> Result<()> {
        let Some(OpenJournal { journal: Some(journal), opening: open, .. }) = &mut self.open else { return Ok(()) };
        if *open != opening {
            return Ok(());
        }
        let mut appended = false;
        journal.fold_log()?;
        for spec in specs {
            if journal.knows(&spec.id)? {
                continue;
            }
            journal.append(&SessionRecord::Launched(Box::new(spec)))?;
            appended = true;
        }
        if appended {
            journal.sync()?;
        }
        journal.take_inbox().map(drop)
    }

    /// Starts a job. A job that freezes the log needs every record on disk.
    fn start_job(&mut self, job: Job) {
        let Some(open) = &mut self.open else { return };
        if self.queue.len() > 0 && job.freezes() {
            let records = counted(self.queue.len(), "record");
            return self.answer(Msg::Failed(format!(
                "{records} are not on disk yet and would be missing from the run: free some space, wait for ✓ saved, then \
                 launch it"
            )));
        }
        if job.writes() && open.journal.is_none() {
            // Its error names the process that holds the session.
            if let Err(error) = Journal::require(&open.dir) {
                self.answer(Msg::Failed(error.to_string()));
            }
            return;
        }
        let upto = open.journal.as_ref().map(Journal::last_seq);
        self.jobs.start_job(JobContext { opening: open.opening, dir: open.dir.clone(), upto }, job);
    }
}

impl Error {
    /// Whether the record itself is at fault, so that a retry cannot save it.
    fn is_record_fault(&self) -> bool {
        matches!(self, Self::Storage(storage::Error::Record { .. }))
    }
}
