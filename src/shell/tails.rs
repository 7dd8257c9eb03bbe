//! The thread that follows the open session's logs and its runs' logs and tells the screen what is new.
//!
//! Owns reading positions. Refuses to write or to repair. A poll when nothing changed costs a few look-ups.

use super::reply::Replies;
use super::supervisor;
use crate::app::Msg;
use crate::domain::{RunId, sanitise};
use crate::protocol::{Envelope, Integrity, RunEvent, RunSpec, SessionRecord};
use crate::storage::{LogTail, RunDir, SessionDir};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Time between two looks at the locks of runs.
const ALIVE: Duration = Duration::from_millis(400);
/// Records in one message, so that the screen is never busy for long with one.
const CHUNK: usize = 2000;
/// Bytes of a worker's log that are shown.
const WORKER_LOG: u64 = 32 << 10;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// Follow this session from its beginning.
    Follow {
        /// The opening its messages belong to.
        opening: u64,
        /// The session.
        dir: SessionDir,
    },
    /// Follow nothing.
    Leave,
    /// Look now: something was written.
    Look,
    /// Show the end of this run's worker.log.
    WorkerLog(RunId),
}

/// Starts the thread. `adopt` is given the specifications of runs that were found.
///
/// # Errors
/// When the thread cannot be made.
pub fn spawn(replies: Replies, adopt: impl Fn(u64, Vec<RunSpec>) + Send + 'static) -> io::Result<Sender<Order>> {
    let (orders, inbox) = channel();
    std::thread::Builder::new().name("tails".into()).spawn(move || follow(&inbox, &replies, &adopt))?;
    Ok(orders)
}

fn follow(inbox: &Receiver<Order>, replies: &Replies, adopt: &dyn Fn(u64, Vec<RunSpec>)) {
    let mut following: Option<Following> = None;
    loop {
        let order = match &following {
            Some(_) => inbox.recv_timeout(LOOK),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(Order::Follow { opening, dir }) => following = Some(Following::new(opening, dir)),
            Ok(Order::Leave) => following = None,
            Ok(Order::WorkerLog(run)) => {
                if let Some(f) = &mut following {
                    f.worker_log =
                        f.dir.run(&run).ok().map(|dir| WorkerLog { run, path: dir.worker_log(), seen: None });
                }
            }
            Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(f) = &mut following
            && !f.look(replies, adopt)
        {
            return;
        }
    }
}

struct Run {
    dir: RunDir,
    id: RunId,
    tail: LogTail<RunEvent>,
    alive: Option<bool>,
    /// Whether its log has a record.
    began: bool,
    /// The integrity of its log as last sent.
    integrity: Integrity,
}

struct WorkerLog {
    run: RunId,
    path: PathBuf,
    seen: Option<(u64, Option<SystemTime>)>,
}

struct Following {
    opening: u64,
    dir: SessionDir,
    tail: LogTail<SessionRecord>,
    runs: Vec<Run>,
    runs_changed: Option<SystemTime>,
    looked_alive: Option<Instant>,
    worker_log: Option<WorkerLog>,
    /// Launches noted in the log, not yet compared with the folders.
    noted: Vec<RunId>,
    loaded: bool,
    /// What was last said to be wrong with the logs.
    integrity: Integrity,
    /// The last complaint, so that the same one is not made at every look.
    complaint: String,
}

impl Following {
    fn new(opening: u64, dir: SessionDir) -> Self {
        Self {
            opening,
            tail: dir.tail(),
            dir,
            runs: Vec::new(),
            runs_changed: None,
            looked_alive: None,
            worker_log: None,
            noted: Vec::new(),
            loaded: false,
            integrity: Integrity::default(),
            complaint: String::new(),
        }
    }

    /// Looks at everything once. False when nobody listens any more.
    fn look(&mut self, replies: &Replies, adopt: &dyn Fn(u64, Vec<RunSpec>)) -> bool {
        let opening = self.opening;
        let mut ok = true;
        match self.tail.poll() {
            Ok(records) => {
                self.noted.extend(records.iter().filter_map(|e| match e.known()? {
                    SessionRecord::Launched(spec) => Some(spec.id.clone()),
                    _ => None,
                }));
                for chunk in chunks(records) {
                    ok &= replies.of(opening, Msg::Records(chunk));
                }
            }
            Err(e) => self.complain(replies, e.to_string()),
        }
        // A folder is made before its launch is noted: one that is not there any more holds no worker.
        for run in std::mem::take(&mut self.noted) {
            if self.dir.run(&run).is_err() {
                ok &= replies.of(opening, Msg::RunAlive { run, alive: false });
            }
        }
        ok &= self.find_runs(replies, adopt);
        let look_alive = self.looked_alive.is_none_or(|at| at.elapsed() >= ALIVE);
        if look_alive {
            self.looked_alive = Some(Instant::now());
        }
        let mut complaint = None;
        for run in &mut self.runs {
            // The lock first: a worker that ends in between has then written its end, and is not called lost.
            let mut alive = look_alive.then(|| supervisor::liveness(&run.dir, run.began)).flatten();
            match run.tail.poll() {
                Ok(records) => {
                    // A free lock from before these records says nothing of who wrote them: the next look tells.
                    if !records.is_empty() && alive == Some(false) && run.alive != Some(false) {
                        alive = None;
                        self.looked_alive = None;
                    }
                    run.began |= !records.is_empty();
                    for records in chunks(records) {
                        ok &= replies.of(opening, Msg::RunRecords { run: run.id.clone(), records });
                    }
                }
                Err(e) => complaint = Some(e.to_string()),
            }
            if let Some(alive) = alive
                && run.alive != Some(alive)
            {
                run.alive = Some(alive);
                ok &= replies.of(opening, Msg::RunAlive { run: run.id.clone(), alive });
            }
        }
        if let Some(text) = complaint {
            self.complain(replies, text);
        }
        let mut integrity = settled(self.tail.integrity());
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

    /// Finds runs that were launched since the last look, here or by a command.
    fn find_runs(&mut self, replies: &Replies, adopt: &dyn Fn(u64, Vec<RunSpec>)) -> bool {
        let changed = std::fs::metadata(self.dir.path().join("runs")).and_then(|m| m.modified()).ok();
        if changed == self.runs_changed && self.loaded {
            return true;
        }
        let runs = match self.dir.runs() {
            Ok(runs) => runs,
            Err(e) => {
                self.complain(replies, e.to_string());
                return true;
            }
        };
        self.runs_changed = changed;
        let mut ok = true;
        let mut found = Vec::new();
        for dir in runs {
            let id = dir.id();
            if self.runs.iter().any(|run| run.id == id) {
                continue;
            }
            match dir.spec() {
                Ok(spec) => {
                    ok &= replies.of(self.opening, Msg::RunFound(Box::new(spec.clone())));
                    found.push(spec);
                    self.runs.push(Run {
                        tail: dir.tail(),
                        alive: None,
                        began: false,
                        integrity: Integrity::default(),
                        id,
                        dir,
                    });
                }
                Err(e) => self.complain(replies, e.to_string()),
            }
        }
        adopt(self.opening, found);
        self.looked_alive = None;
        ok
    }

    fn read_worker_log(&mut self, replies: &Replies) -> bool {
        let Some(log) = &mut self.worker_log else { return true };
        let seen = std::fs::metadata(&log.path).map_or((0, None), |m| (m.len(), m.modified().ok()));
        if log.seen == Some(seen) {
            return true;
        }
        log.seen = Some(seen);
        let mut bytes = Vec::new();
        // A log that is not there yet shows as empty.
        let _ = std::fs::File::open(&log.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(seen.0.saturating_sub(WORKER_LOG)))?;
            file.read_to_end(&mut bytes)
        });
        let lines = String::from_utf8_lossy(&bytes).lines().map(sanitise).collect();
        replies.of(self.opening, Msg::WorkerLog { run: log.run.clone(), lines })
    }

    fn complain(&mut self, replies: &Replies, text: String) {
        if self.complaint != text {
            self.complaint.clone_from(&text);
            let _ = replies.of(self.opening, Msg::Failed(text));
        }
    }
}

/// Without the unfinished line, which is no damage and changes at every look at a log that is being written.
fn settled(found: Integrity) -> Integrity {
    Integrity { unfinished_bytes: 0, ..found }
}

/// Records in messages of at most [`CHUNK`].
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

/// A run with a living worker, for the list of sessions.
pub fn running(dir: &SessionDir, run: &RunId) -> crate::app::LiveRun {
    let look = dir.run(run).ok().and_then(|run| supervisor::look(&run).ok());
    let (step, total) = look.map_or((0, 0), |(s, _)| (s.step, s.plan.map_or(0, |p| p.total_steps)));
    crate::app::LiveRun { run: run.clone(), step, total }
}
