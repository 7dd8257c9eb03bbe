//! Messages from the shell to the state machine.

use super::evaluation::{EvalEstimate, SuiteFiles};
use super::key::Key;
use super::requests::{PairPreview, ScoreProgress};
use crate::domain::{Rater, RunId};
use crate::protocol::{
    Envelope, Estimate, Growing, Integrity, LogFold, Masks, ModelCard, RunEvent, RunSpec, SessionMeta, SessionRecord,
};

/// A run with a live worker, for the list of sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRun {
    /// Its name.
    pub run: RunId,
    /// Steps done; 0 if not known yet.
    pub step: u64,
    /// Total steps; 0 if not known yet.
    pub total: u64,
}

/// A session as the list of sessions shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionCard {
    /// The name or path to open it by.
    pub name: String,
    /// Its model.
    pub model: String,
    /// Verdicts not undone, by rater, the most first.
    pub labels: Vec<(Rater, usize)>,
    /// What is wrong with its log.
    pub integrity: Integrity,
    /// Runs of every kind.
    pub runs: usize,
    /// Runs with a live worker.
    pub running: Vec<LiveRun>,
    /// The last change, in milliseconds since 1970.
    pub changed_ms: u64,
    /// The last losses of its last training run, oldest first.
    pub losses: Vec<f64>,
}

impl SessionCard {
    /// The labels of all raters.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.labels.iter().map(|(_, n)| n).sum()
    }
}

/// A session that could not be created: what was asked, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmade {
    /// Its name.
    pub name: String,
    /// Its model's name or path.
    pub model: String,
    /// The file of prompts.
    pub prompts: Option<String>,
    /// Why not, as one sentence.
    pub error: String,
    /// Whether it is the file of prompts; otherwise the model or the name.
    pub at_prompts: bool,
}

/// A session that the shell opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The name or path it was requested by.
    pub name: String,
    /// Its folder.
    pub path: String,
    /// Its description.
    pub meta: SessionMeta,
    /// Who else holds its lock; nothing can be written then.
    pub read_only: Option<String>,
    /// The rater who labels here.
    pub rater: Rater,
}

/// A message. The shell sends [`Msg::Tick`] before a key, so that the key is handled at the right time.
#[derive(Debug, Clone, PartialEq)]
pub enum Msg {
    /// A key was pressed.
    Key(Key),
    /// The terminal reports that a key is held down and repeats.
    KeyRepeat(Key),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// Time passed.
    Tick {
        /// Now, in milliseconds since 1970.
        now_ms: u64,
        /// Milliseconds of the monotonic clock.
        clock_ms: u64,
    },
    /// No input waits: go on with slow work, one slice.
    Continue,
    /// The sessions under the data root.
    SessionsListed(Vec<SessionCard>),
    /// The models on this machine.
    ModelsListed(Vec<ModelCard>),
    /// The compute device: `CPU 2 cores · 21 GB free`.
    DeviceKnown(String),
    /// A session was opened; its records and its runs' records follow.
    SessionOpened(Opened),
    /// What the open session's own log held when it was opened. Later records come as [`Msg::Records`].
    LogRead(Box<LogFold>),
    /// Records of the open session's own log, in order. Acknowledged records may come again.
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
    /// Every record that the logs held at opening was sent.
    SessionLoaded,
    /// The specification of a run of the open session.
    RunFound(Box<RunSpec>),
    /// New records of a run's log, in order, each once.
    RunRecords {
        /// The run.
        run: RunId,
        /// Its records.
        records: Vec<Envelope<RunEvent>>,
    },
    /// The records of a run's log that were sent were out of order: all of them follow, sorted.
    RunReadAgain(RunId),
    /// What a sampling run is writing now; empty once it writes nothing.
    RunGrowing {
        /// The run.
        run: RunId,
        /// The answers so far.
        growing: Growing,
    },
    /// Whether a process holds the run's lock. Not sent before it is certain: a worker may still be starting.
    RunAlive {
        /// The run.
        run: RunId,
        /// Whether it is held.
        alive: bool,
    },
    /// Whether the run's process is stopped by a signal.
    RunSuspended {
        /// The run.
        run: RunId,
        /// Whether it is.
        suspended: bool,
    },
    /// Whether a process carries out this loop.
    LoopAlive {
        /// The loop.
        name: String,
        /// Whether it is alive.
        alive: bool,
    },
    /// The answer to [`super::Effect::PlanLoop`].
    LoopPlanned {
        /// The request's ticket.
        ticket: u64,
        /// The plan in words, or why there is none.
        answer: Result<Vec<String>, String>,
    },
    /// The last lines of a run's worker.log.
    WorkerLog {
        /// The run.
        run: RunId,
        /// Its lines.
        lines: Vec<String>,
    },
    /// A record is on disk: fsync returned.
    Acknowledged {
        /// The ticket of its [`super::Effect::Append`].
        ticket: u64,
        /// Its sequence number in the session's log.
        seq: u64,
    },
    /// The process that held the open session's lock has ended, and the shell took the lock: from now on it can be written.
    Writable,
    /// The disk failed: records not acknowledged are not saved. The writer keeps them and retries by itself.
    SaveDelayed {
        /// Why, as one sentence.
        error: String,
        /// Milliseconds until it retries.
        in_ms: u64,
    },
    /// A record was rejected: a retry alone does not help.
    AppendFailed {
        /// Its ticket.
        ticket: u64,
        /// Why, as one sentence.
        error: String,
    },
    /// The answer to [`super::Effect::Estimate`].
    EstimateReady {
        /// The request's ticket.
        ticket: u64,
        /// The estimate, or why there is none.
        answer: Result<Estimate, String>,
    },
    /// The answer to [`super::Effect::Agreement`].
    AgreementReady {
        /// The request's ticket.
        ticket: u64,
        /// The figures, or why there are none.
        answer: Result<Box<crate::domain::AgreementReport>, String>,
    },
    /// The answer to [`super::Effect::ReadTimeline`].
    TimelineRead {
        /// The request's ticket.
        ticket: u64,
        /// The logs in one sequence, or why they could not be read.
        answer: Result<Box<super::screen::replay::Timeline>, String>,
    },
    /// The answer to [`super::Effect::PreviewPairs`].
    PairsPreviewed {
        /// The request's ticket.
        ticket: u64,
        /// The counts, or why no pair can be chosen.
        answer: Result<Box<PairPreview>, String>,
    },
    /// The answer to [`super::Effect::Pair`]: what was added, or why nothing was.
    PairsAdded(Result<String, String>),
    /// Scoring goes on.
    ScoreProgressed(ScoreProgress),
    /// Scoring ended: what came of it, or why it ended early.
    ScoreEnded(Result<String, String>),
    /// The answer to [`super::Effect::CompletePath`].
    PathCompleted {
        /// The request's ticket.
        ticket: u64,
        /// What the text may become.
        options: Vec<String>,
    },
    /// The answer to [`super::Effect::ListServer`].
    ServerListed {
        /// The request's ticket.
        ticket: u64,
        /// The names of its models, or why there are none.
        answer: Result<Vec<String>, String>,
    },
    /// The answer to [`super::Effect::EvalReport`].
    EvalReportReady {
        /// The request's ticket.
        ticket: u64,
        /// What it found, or why that cannot be computed.
        answer: Result<Box<crate::domain::EvalReport>, String>,
    },
    /// The answer to [`super::Effect::FindSuites`].
    SuitesFound {
        /// The request's ticket.
        ticket: u64,
        /// Where they are.
        files: SuiteFiles,
    },
    /// The answer to [`super::Effect::PlanEvaluation`].
    EvaluationPlanned {
        /// The request's ticket.
        ticket: u64,
        /// The work, or why it cannot start.
        answer: Result<EvalEstimate, String>,
    },
    /// The answer to [`super::Effect::Masks`].
    MasksReady {
        /// The request's ticket.
        ticket: u64,
        /// The masks, or why there are none.
        answer: Result<Masks, String>,
    },
    /// A run was launched and its worker started.
    Launched {
        /// The run.
        run: RunId,
    },
    /// [`super::Effect::CreateSession`] created a session.
    Created {
        /// Its name.
        name: String,
    },
    /// [`super::Effect::CreateSession`] created none.
    NotCreated(Unmade),
    /// [`super::Effect::Import`] imported a file; one sentence with the result.
    Imported(String),
    /// A notice: what was done, in a few words.
    Note(String),
    /// An effect failed: one plain sentence with its remedy.
    Failed(String),
}
