//! Requests from the state machine to the shell, which answers with messages, never by a return value.

use super::evaluation::EvalRequest;
use super::loop_request::LoopRequest;
use super::requests::{PairRequest, SampleRequest, ScoreRequest};
use crate::domain::{Params, RowChoice, RunId, Session};
use crate::protocol::{RunCommand, ServerOptions, SessionRecord};

/// A training run to launch in the open session.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainRequest {
    /// Name in the method table.
    pub method: String,
    /// Every hyper-parameter.
    pub params: Params,
    /// Which rows it trains on.
    pub choice: RowChoice,
    /// The run whose adapter it starts from, or the folder of one; none for the session's model.
    pub init: Option<String>,
    /// Whether it may train on the readable part of a damaged log.
    pub allow_damaged: bool,
}

/// A request to the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer with [`super::Msg::SessionsListed`].
    ListSessions,
    /// Answer with [`super::Msg::ModelsListed`].
    ListModels,
    /// Answer with [`super::Msg::DeviceKnown`].
    QueryDevice,
    /// Close the open session, lock and open this one, and answer with [`super::Msg::SessionOpened`]. Then send its
    /// records and every run's specification and records, then [`super::Msg::SessionLoaded`], then new records as they
    /// appear.
    OpenSession {
        /// Name or path.
        name: String,
    },
    /// Release the lock and stop sending records.
    CloseSession,
    /// Create a session, import its prompts, and answer with [`super::Msg::Created`] or [`super::Msg::NotCreated`].
    CreateSession {
        /// Its name.
        name: String,
        /// Its model's name or path.
        model: String,
        /// A file of prompts.
        prompts: Option<String>,
    },
    /// Import a file into the open session; its content decides the format. Answer with [`super::Msg::Imported`]; the
    /// records arrive as [`super::Msg::Records`].
    Import {
        /// The file.
        path: String,
    },
    /// Append a record to the open session's log, in the order of requests, and fsync it. A record that undoes a
    /// verdict may hold a provisional number: [`super::SeqMap`] gives the real one. If the disk fails, keep the record,
    /// retry, and answer with [`super::Msg::SaveDelayed`].
    Append {
        /// Identifies it in the answer.
        ticket: u64,
        /// The record.
        record: SessionRecord,
    },
    /// Retry now to save what the disk refused.
    SaveNow,
    /// Launch a sampling run.
    Sample(SampleRequest),
    /// Count the pairs that this request chooses. Answer with [`super::Msg::PairsPreviewed`]; a newer request replaces an older
    /// one.
    PreviewPairs {
        /// Identifies it in the answer.
        ticket: u64,
        /// The request.
        request: PairRequest,
    },
    /// Choose pairs and add them to the open session. Answer with [`super::Msg::PairsAdded`].
    Pair(PairRequest),
    /// Score answers or judge pairs of the open session. Answer with [`super::Msg::ScoreProgressed`] and at the end with
    /// [`super::Msg::ScoreEnded`].
    Score(ScoreRequest),
    /// End scoring; what was scored is kept.
    StopScoring,
    /// Complete the path of a model. Answer with [`super::Msg::PathCompleted`].
    CompletePath {
        /// Identifies it in the answer.
        ticket: u64,
        /// The typed text.
        text: String,
    },
    /// Ask a server for its models. Answer with [`super::Msg::ServerListed`].
    ListServer {
        /// Identifies it in the answer.
        ticket: u64,
        /// Its address, without a model.
        url: String,
        /// How it is asked.
        servers: ServerOptions,
    },
    /// Launch a training run.
    Launch(TrainRequest),
    /// Resume a lost or stopped run from its last checkpoint.
    ResumeRun {
        /// The run.
        run: RunId,
    },
    /// Send a command to a run's worker.
    Command {
        /// The run.
        run: RunId,
        /// The command.
        command: RunCommand,
    },
    /// Estimate this run's steps, time and memory. Answer with [`super::Msg::EstimateReady`]; a newer request replaces
    /// an older one.
    Estimate {
        /// Identifies it in the answer.
        ticket: u64,
        /// The run.
        request: TrainRequest,
    },
    /// Compute how far the raters agree. Answer with [`super::Msg::AgreementReady`].
    Agreement {
        /// Identifies it in the answer.
        ticket: u64,
        /// The session as the screen has it, whose contents it shares.
        session: Box<Session>,
    },
    /// Read the open session's log and those of these runs for a replay. Answer with [`super::Msg::TimelineRead`].
    ReadTimeline {
        /// Identifies it in the answer.
        ticket: u64,
        /// The runs, in the order of the screens.
        runs: Vec<RunId>,
        /// What the screen holds of the session: the replay shares its texts.
        known: Box<Session>,
    },
    /// Compute what an evaluation found, on its log up to record `upto`. Answer with [`super::Msg::EvalReportReady`]; a newer
    /// request replaces an older one.
    EvalReport {
        /// Identifies it in the answer.
        ticket: u64,
        /// The evaluation.
        run: RunId,
        /// The last record that counts; none takes all.
        upto: Option<u64>,
    },
    /// Look for the suites' files in this folder, or in the default one. Answer with [`super::Msg::SuitesFound`].
    FindSuites {
        /// Identifies it in the answer.
        ticket: u64,
        /// The folder as typed; none for the default one.
        folder: Option<String>,
    },
    /// Plan this evaluation without starting it. Answer with [`super::Msg::EvaluationPlanned`]; a newer request replaces an
    /// older one.
    PlanEvaluation {
        /// Identifies it in the answer.
        ticket: u64,
        /// The evaluation.
        request: EvalRequest,
    },
    /// Launch an evaluation.
    Evaluate(EvalRequest),
    /// Check this loop without starting it. Answer with [`super::Msg::LoopPlanned`]; a newer request replaces an older one.
    PlanLoop {
        /// Identifies it in the answer.
        ticket: u64,
        /// The loop.
        request: Box<LoopRequest>,
    },
    /// Plan this loop and start its process. Answer with [`super::Msg::Note`].
    StartLoop(Box<LoopRequest>),
    /// Start the process of a planned loop where it broke off. Answer with [`super::Msg::Note`].
    ResumeLoop {
        /// Its name.
        name: String,
    },
    /// Stop the process of a loop, after a checkpoint of its run.
    StopLoop {
        /// Its name.
        name: String,
    },
    /// Compute the masks of this run's first rows. Answer with [`super::Msg::MasksReady`].
    Masks {
        /// Identifies it in the answer.
        ticket: u64,
        /// The run.
        request: TrainRequest,
    },
    /// Send the last lines of a run's worker.log, and again when they change, until another run is requested.
    ReadWorkerLog {
        /// The run.
        run: RunId,
    },
    /// Copy a text to the clipboard through the terminal, and answer with [`super::Msg::Note`].
    Copy {
        /// What it is, for the answer: `answer 1`.
        what: String,
        /// The text, exactly as it is copied.
        text: String,
    },
    /// Answer with [`super::Msg::Continue`] once no input waits.
    Continue,
    /// Redraw the screen.
    Redraw,
    /// Suspend the process as ctrl-z does.
    Suspend,
    /// Quit.
    Quit,
}
