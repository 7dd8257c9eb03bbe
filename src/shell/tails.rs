//! The thread that follows the logs of the open session and its runs, and sends new records to the screen.
//!
//! Owns the read offsets. Refuses to write or repair. A poll without changes costs a few `stat` calls.

use super::journal::FoldedLog;
use super::reply::Replies;
use super::supervisor;
use crate::app::Msg;
use crate::domain::{RunId, sanitise};
use crate::protocol::{Envelope, Integrity, LogFold, RunEvent, RunSpec, SessionRecord};
use crate::storage::{self, GrowingTail, Inbox, LogTail, RunDir, SessionDir, read_tail};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

mod loops;
mod opening;

use loops::LoopsAlive;
use opening::OpeningRead;

/// Time between two polls.
const POLL: Duration = Duration::from_millis(200);
/// Time between two checks of the runs' locks.
const CHECK_ALIVE: Duration = Duration::from_millis(400);
/// Time between two requests to take what waits in the inbox.
const TAKE_INBOX: Duration = Duration::from_millis(500);
/// The most records in a message: a long one would block the screen.
const CHUNK: usize = 2000;
/// Bytes of a run's log that are read before its records are sent.
const PART: u64 = 1 << 20;
/// Bytes shown of the end of worker.log.
const WORKER_LOG: u64 = 32 << 10;

/// A request to the thread.
#[derive(Debug)]
pub enum TailRequest {
    /// Read this session's log: [`TailRequest::Follow`] will most likely come next.
    Read(SessionDir),
    /// Follow this session from its beginning.
    Follow {
        /// The opening that its messages belong to.
        opening: u64,
        /// The session.
        dir: SessionDir,
    },
    /// Follow no session.
    Unfollow,
    /// Poll now: something was written.
    Poll,
    /// Show the end of this run's worker.log.
    WorkerLog(RunId),
}

/// What the thread has for the writer.
#[derive(Debug)]
pub enum ForWriter {
    /// The session's log as it was read at opening.
    Log(Box<FoldedLog>),
    /// The specifications of new runs.
    Runs(Vec<RunSpec>),
}

/// Starts the thread. `to_writer` receives what is for the writer, with the opening that it belongs to.
///
/// # Errors
/// When the thread cannot be started.
pub fn spawn(replies: Replies, to_writer: impl Fn(u64, ForWriter) + Send + 'static) -> io::Result<Sender<TailRequest>> {
    let (requests, inbox) = channel();
    std::thread::Builder::new().name("tails".into()).spawn(move || follow(&inbox, &replies, &to_writer))?;
    Ok(requests)
}

fn follow(inbox: &Receiver<TailRequest>, replies: &Replies, to_writer: &dyn Fn(u64, ForWriter)) {
    let mut following: Option<Following> = None;
    let mut ahead: Option<(SessionDir, OpeningRead)> = None;
    loop {
        let request = match &following {
            Some(_) => inbox.recv_timeout(POLL),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match request {
            Ok(TailRequest::Read(dir)) => {
                let read = OpeningRead::of(&dir);
                ahead = Some((dir, read));
            }
            Ok(TailRequest::Follow { opening, dir }) => {
                let read = ahead.take().filter(|(read, _)| *read == dir).map(|(_, read)| read);
                let read = read.unwrap_or_else(|| OpeningRead::of(&dir));
                following = Some(Following::new(opening, dir, read));
            }
            Ok(TailRequest::Unfollow) => (following, ahead) = (None, None),
            Ok(TailRequest::WorkerLog(run)) => {
                if let Some(f) = &mut following {
                    f.worker_log =
                        f.dir.run(&run).ok().map(|dir| WorkerLog { run, path: dir.worker_log(), version: None });
                }
            }
            Ok(TailRequest::Poll) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(f) = &mut following
            && !f.poll(replies, to_writer)
        {
            return;
        }
    }
}

struct Run {
    dir: RunDir,
    id: RunId,
    tail: LogTail<RunEvent>,
    growing: GrowingTail,
    alive: Option<bool>,
    /// Whether its process is stopped by a signal, as last told.
    suspended: bool,
    /// Whether its log was read to its end.
    is_read: bool,
    /// Whether its log has a record.
    has_records: bool,
    /// The integrity of its log as last sent.
    integrity: Integrity,
}

impl Run {
    /// Sends what is new in its log: whether the receiver is there, and whether anything is new. A long log is first read in
    /// parts.
    fn read(&mut self, replies: &Replies, opening: u64) -> storage::Result<(bool, bool)> {
        let (mut ok, mut new) = (true, false);
        loop {
            let (mut records, mut more) = (Vec::new(), false);
            if !self.is_read {
                let part = self.tail.poll_part(PART)?;
                (records, more) = (part.records, part.more);
                if !part.in_order && self.has_records {
                    // What was sent was folded in another order than that of the numbers.
                    self.tail = self.dir.tail();
                    ok &= replies.of(opening, Msg::RunReadAgain(self.id.clone()));
                    (records, more) = (Vec::new(), false);
                }
            }
            if !more {
                self.is_read = true;
                records.extend(self.tail.poll()?);
            }
            new |= !records.is_empty();
            self.has_records |= !records.is_empty();
            for records in chunks(records) {
                ok &= replies.of(opening, Msg::RunRecords { run: self.id.clone(), records });
            }
            if !more || !ok {
                return Ok((ok, new));
            }
        }
    }
}

struct WorkerLog {
    run: RunId,
    path: PathBuf,
    /// Its length and modification time at the last read.
    version: Option<(u64, Option<SystemTime>)>,
}

struct Following {
    opening: u64,
    dir: SessionDir,
    tail: LogTail<SessionRecord>,
    /// How far its log was counted before it was read.
    counted: u64,
    /// What the log held at opening, until it is sent …
    log: Option<LogFold>,
    /// … and why it could not be read to its end.
    unread: Option<String>,
    runs: Vec<Run>,
    runs_changed: Option<SystemTime>,
    /// When the runs' locks were last checked.
    checked_alive: Option<Instant>,
    worker_log: Option<WorkerLog>,
    /// Launches in the log whose folders have not been checked yet.
    launched: Vec<RunId>,
    loaded: bool,
    /// The damage that was last sent.
    integrity: Integrity,
    /// The last error, so that a poll does not repeat it.
    last_error: String,
    /// The loops' processes.
    loops: LoopsAlive,
    /// When the writer was last told that something waits in the inbox.
    inbox_taken: Option<Instant>,
}

impl Following {
    fn new(opening: u64, dir: SessionDir, read: OpeningRead) -> Self {
        let OpeningRead { counted, tail, log, error } = read;
        Self {
            opening,
            tail,
            counted,
            log: Some(log),
            unread: error.map(|error| error.to_string()),
            dir,
            runs: Vec::new(),
            runs_changed: None,
            checked_alive: None,
            worker_log: None,
            launched: Vec::new(),
            loaded: false,
            integrity: Integrity::default(),
            last_error: String::new(),
            loops: LoopsAlive::default(),
            inbox_taken: None,
        }
    }

    /// Reads everything once. False when the receiver is gone.
    fn poll(&mut self, replies: &Replies, to_writer: &dyn Fn(u64, ForWriter)) -> bool {
        let opening = self.opening;
        let mut ok = true;
        if let Some(log) = self.log.take() {
            self.launched.extend(log.launched.iter().map(|spec| spec.id.clone()));
            if self.unread.is_none() {
                to_writer(opening, ForWriter::Log(Box::new(FoldedLog::of(&log, &self.tail))));
            }
            ok &= replies.of(opening, Msg::LogRead(Box::new(log)));
        }
        if let Some(error) = self.unread.take() {
            self.report(replies, error);
        }
        match self.tail.poll() {
            Ok(records) => {
                self.launched.extend(records.iter().filter_map(|e| match e.known()? {
                    SessionRecord::Launched(spec) => Some(spec.id.clone()),
                    _ => None,
                }));
                for chunk in chunks(records) {
                    ok &= replies.of(opening, Msg::Records(chunk));
                }
            }
            Err(e) => self.report(replies, e.to_string()),
        }
        // A launch is logged after its folder is created: without a folder there is no worker.
        for run in std::mem::take(&mut self.launched) {
            if self.dir.run(&run).is_err() {
                ok &= replies.of(opening, Msg::RunAlive { run, alive: false });
            }
        }
        ok &= self.find_runs(replies, to_writer);
        ok &= self.loops.poll(self.opening, &self.dir, replies);
        if self.inbox_taken.is_none_or(|at| at.elapsed() >= TAKE_INBOX)
            && Inbox::of(&self.dir).waiting().is_ok_and(|batches| !batches.is_empty())
        {
            self.inbox_taken = Some(Instant::now());
            // The writer takes what waits whenever it is told of runs.
            to_writer(self.opening, ForWriter::Runs(Vec::new()));
        }
        let check_alive = self.checked_alive.is_none_or(|at| at.elapsed() >= CHECK_ALIVE);
        if check_alive {
            self.checked_alive = Some(Instant::now());
        }
        let mut error = None;
        for run in &mut self.runs {
            // The lock before the log: a worker that ends in between has logged its end and does not count as lost.
            let mut alive = check_alive.then(|| supervisor::liveness(&run.dir, run.has_records)).flatten();
            if alive == Some(false) && run.alive != alive {
                // The reason comes with the records below.
                supervisor::explain_loss(&run.dir);
            }
            // Before the log: a pair that is gone from this file is in the log already.
            let growing = run.growing.poll();
            match run.read(replies, opening) {
                Ok((sent, new)) => {
                    // The lock was free before these records were written: check it again at the next poll.
                    if new && alive == Some(false) && run.alive != Some(false) {
                        alive = None;
                        self.checked_alive = None;
                    }
                    ok &= sent;
                }
                Err(e) => error = Some(e.to_string()),
            }
            if let Some(growing) = growing {
                ok &= replies.of(opening, Msg::RunGrowing { run: run.id.clone(), growing });
            }
            if let Some(alive) = alive
                && run.alive != Some(alive)
            {
                run.alive = Some(alive);
                ok &= replies.of(opening, Msg::RunAlive { run: run.id.clone(), alive });
            }
            if check_alive {
                let suspended = run.alive == Some(true) && supervisor::is_suspended(&run.dir);
                if suspended != run.suspended {
                    run.suspended = suspended;
                    ok &= replies.of(opening, Msg::RunSuspended { run: run.id.clone(), suspended });
                }
            }
        }
        if let Some(text) = error {
            self.report(replies, text);
        }
        let mut integrity = settled(self.tail.integrity());
        SessionDir::note_cut(&mut integrity, self.tail.last_seq(), self.counted);
        for run in &mut self.runs {
            let found = settled(run.tail.integrity());
            integrity.merge(&found);
            if found != run.integrity {
                run.integrity = found.clone();
                ok &= replies.of(opening, Msg::RunIntegrity { run: run.id.clone(), integrity: found });
            }
        }
        if integrity != self.integrity {
            self.integrity = integrity.clone();
            ok &= replies.of(opening, Msg::Integrity(integrity));
        }
        if !self.loaded {
            self.loaded = true;
            ok &= replies.of(opening, Msg::SessionLoaded);
        }
        ok & self.read_worker_log(replies)
    }

    /// Finds runs launched since the last poll, here or by a command.
    fn find_runs(&mut self, replies: &Replies, to_writer: &dyn Fn(u64, ForWriter)) -> bool {
        let changed = std::fs::metadata(self.dir.path().join("runs")).and_then(|m| m.modified()).ok();
        if changed == self.runs_changed && self.loaded {
            return true;
        }
        let runs = match self.dir.runs_with_specs() {
            Ok(runs) => runs,
            Err(e) => {
                self.report(replies, e.to_string());
                return true;
            }
        };
        self.runs_changed = changed;
        let mut ok = true;
        let mut found = Vec::new();
        let known: HashSet<RunId> = self.runs.iter().map(|run| run.id.clone()).collect();
        for (dir, spec) in runs {
            let id = dir.id();
            if known.contains(&id) {
                continue;
            }
            match spec {
                Ok(spec) => {
                    ok &= replies.of(self.opening, Msg::RunFound(Box::new(spec.clone())));
                    found.push(spec);
                    self.runs.push(Run {
                        tail: dir.tail(),
                        growing: dir.growing(),
                        alive: None,
                        suspended: false,
                        is_read: false,
                        has_records: false,
                        integrity: Integrity::default(),
                        id,
                        dir,
                    });
                }
                Err(e) => self.report(replies, e.to_string()),
            }
        }
        // Also without new runs: a writer that was not handed the log folds it now, when the screen has it.
        to_writer(self.opening, ForWriter::Runs(found));
        self.checked_alive = None;
        ok
    }

    fn read_worker_log(&mut self, replies: &Replies) -> bool {
        let Some(log) = &mut self.worker_log else { return true };
        let version = std::fs::metadata(&log.path).map_or((0, None), |m| (m.len(), m.modified().ok()));
        if log.version == Some(version) {
            return true;
        }
        log.version = Some(version);
        // A missing log shows as empty.
        let bytes = read_tail(&log.path, 0, WORKER_LOG).unwrap_or_default();
        let lines = String::from_utf8_lossy(&bytes).lines().map(sanitise).collect();
        replies.of(self.opening, Msg::WorkerLog { run: log.run.clone(), lines })
    }

    fn report(&mut self, replies: &Replies, text: String) {
        if self.last_error != text {
            self.last_error.clone_from(&text);
            let _ = replies.of(self.opening, Msg::Failed(text));
        }
    }
}

/// Without the unfinished line, which is no damage and changes with every read of a log that is being written.
fn settled(found: Integrity) -> Integrity {
    Integrity { unfinished_bytes: 0, ..found }
}

/// Splits records into chunks of at most [`CHUNK`].
fn chunks<T>(records: Vec<Envelope<T>>) -> Vec<Vec<Envelope<T>>> {
    if records.len() <= CHUNK {
        return if records.is_empty() { Vec::new() } else { vec![records] };
    }
    let mut out = Vec::new();
    let mut records = records.into_iter();
    loop {
        let chunk: Vec<_> = records.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return out;
        }
        out.push(chunk);
    }
}

/// An active run, for the list of sessions.
pub fn running(dir: &SessionDir, run: &RunId) -> crate::app::LiveRun {
    let state = dir.run(run).ok().and_then(|run| supervisor::state_of(&run).ok());
    let (step, total) = state.map_or((0, 0), |(s, _)| (s.step, s.plan.map_or(0, |p| p.total_steps)));
    crate::app::LiveRun { run: run.clone(), step, total }
}
