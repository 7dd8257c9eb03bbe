//! What the shell tells the state machine.

use super::key::Key;
use crate::domain::{Rater, RunId};
use crate::protocol::{Envelope, Estimate, Integrity, Masks, ModelCard, RunEvent, RunSpec, SessionMeta, SessionRecord};

/// A run with a living worker, for the list of sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRun {
    /// Its name.
    pub run: RunId,
    /// Steps made, 0 when not known yet.
    pub step: u64,
    /// Steps in all, 0 when not known yet.
    pub total: u64,
}

/// A session as the list of sessions shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionCard {
    /// The name or path it is opened by.
    pub name: String,
    /// Its model.
    pub model: String,
    /// Verdicts that count.
    pub labels: usize,
    /// What is wrong with its log.
    pub integrity: Integrity,
    /// Runs of every kind.
    pub runs: usize,
    /// Runs with a living worker.
    pub running: Vec<LiveRun>,
    /// Last change on the wall clock in milliseconds since 1970.
    pub changed_ms: u64,
    /// Last losses of its last training run, oldest first.
    pub losses: Vec<f64>,
}

/// A session that was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The name or path it was asked for by.
    pub name: String,
    /// Its folder.
    pub path: String,
    /// Its description.
    pub meta: SessionMeta,
    /// Who holds its lock, when that is not us: nothing can be written then.
    pub read_only: Option<String>,
    /// Whose verdicts are given here.
    pub rater: Rater,
}

/// A message. The shell sends [`Msg::Tick`] before keys, so that time is right when they are handled.
#[derive(Debug, Clone, PartialEq)]
pub enum Msg {
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// Time passed.
    Tick {
        /// Now, in milliseconds since 1970.
        now_ms: u64,
        /// Milliseconds of a clock that never goes back.
        clock_ms: u64,
    },
    /// The sessions under the data root.
    SessionsListed(Vec<SessionCard>),
    /// The models on this machine.
    ModelsListed(Vec<ModelCard>),
    /// What computes here: `CPU 2 cores · 21 GB free`.
    DeviceKnown(String),
    /// A session was opened; its records and its runs' records follow.
    SessionOpened(Opened),
    /// Records of the open session's own log, in order. Records already acknowledged may come again.
    Records(Vec<Envelope<SessionRecord>>),
    /// What is wrong with the open session's log and its runs' logs, merged. Sent when it changes.
    Integrity(Integrity),
    /// What is wrong with one run's log. Sent when it changes.
    RunIntegrity {
        /// The run.
        run: RunId,
        /// The damage and the unknown records of its log.
        integrity: Integrity,
    },
    /// Everything that was in the logs when the session was opened has been sent.
    SessionLoaded,
    /// The specification of a run of the open session.
    RunFound(Box<RunSpec>),
    /// New records of a run's log, in order and without repetition.
    RunRecords {
        /// The run.
        run: RunId,
        /// Its records.
        records: Vec<Envelope<RunEvent>>,
    },
    /// Whether somebody holds the run's lock. Not told before it is certain: a worker may still be coming up.
    RunAlive {
        /// The run.
        run: RunId,
        /// Held.
        alive: bool,
    },
    /// The last lines of a run's worker.log, as they stand.
    WorkerLog {
        /// The run.
        run: RunId,
        /// Its lines.
        lines: Vec<String>,
    },
    /// A record is on disk (fsync returned).
    Acknowledged {
        /// The ticket of its [`super::Effect::Append`].
        ticket: u64,
        /// Its sequence number in the session's log.
        seq: u64,
    },
    /// The disk failed: what was not acknowledged is not saved. The writer keeps it and tries again by itself.
    SaveDelayed {
        /// Why, as one sentence.
        error: String,
        /// Milliseconds until it tries again.
        in_ms: u64,
    },
    /// A record was refused: trying again alone does not help.
    AppendFailed {
        /// Its ticket.
        ticket: u64,
        /// Why, as one sentence.
        error: String,
    },
    /// The answer to [`super::Effect::Estimate`].
    EstimateReady {
        /// The question's number.
        ticket: u64,
        /// The estimate, or why there is none.
        answer: Result<Estimate, String>,
    },
    /// The answer to [`super::Effect::Masks`].
    MasksReady {
        /// The question's number.
        ticket: u64,
        /// What is read and learned, or why that cannot be told.
        answer: Result<Masks, String>,
    },
    /// A run was launched and its worker started.
    Launched {
        /// The run.
        run: RunId,
    },
    /// A session was made by [`super::Effect::CreateSession`].
    Created {
        /// Its name.
        name: String,
    },
    /// A file was imported by [`super::Effect::Import`]; one sentence says what came of it.
    Imported(String),
    /// Something worth a line at the bottom: what was done, in a few words.
    Note(String),
    /// An effect failed: one plain sentence with its remedy.
    Failed(String),
}
