//! What the state machine asks the shell to do. The shell answers with messages, never by a return value.

use crate::domain::{Params, RunId, Sampler};
use crate::protocol::{RunCommand, SessionRecord};

/// A sampling run to launch on the open session.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// Candidates a prompt.
    pub per_prompt: usize,
    /// How tokens are drawn.
    pub sampler: Sampler,
}

/// A training run to launch on the open session's verdicts.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainRequest {
    /// Name in the method table.
    pub method: String,
    /// Every hyper-parameter.
    pub params: Params,
    /// A run whose adapter it starts from.
    pub init: Option<RunId>,
    /// Whether it may train on what a damaged log still holds.
    pub allow_damaged: bool,
}

/// A wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer with [`super::Msg::SessionsListed`].
    ListSessions,
    /// Answer with [`super::Msg::ModelsListed`].
    ListModels,
    /// Answer with [`super::Msg::DeviceKnown`].
    QueryDevice,
    /// Close what is open, lock and open this session, answer with [`super::Msg::SessionOpened`], then send its records and
    /// every run's specification and records, then [`super::Msg::SessionLoaded`], and go on sending what is new.
    OpenSession {
        /// Name or path.
        name: String,
    },
    /// Give up the lock and stop sending.
    CloseSession,
    /// Make a session, import the prompts, answer with [`super::Msg::Created`].
    CreateSession {
        /// Its name.
        name: String,
        /// Its model, as named.
        model: String,
        /// A file of prompts.
        prompts: Option<String>,
    },
    /// Import a file into the open session: prompts or pairs, found out from its content. Answer with
    /// [`super::Msg::Imported`]; the records come by [`super::Msg::Records`].
    Import {
        /// The file.
        path: String,
    },
    /// Append a record to the open session's log, in the order asked, and sync it. The number in a record that undoes a
    /// verdict may be provisional: [`super::SeqMap`] gives the real one. Where the disk fails, keep the record, try again
    /// by itself and answer with [`super::Msg::SaveDelayed`].
    Append {
        /// Names it in the answer.
        ticket: u64,
        /// The record.
        record: SessionRecord,
    },
    /// Try now to save what the disk refused.
    SaveNow,
    /// Launch a sampling run.
    Sample(SampleRequest),
    /// Launch a training run.
    Launch(TrainRequest),
    /// Take a lost or stopped run up again from its last checkpoint.
    ResumeRun {
        /// The run.
        run: RunId,
    },
    /// Tell a run's worker something.
    Command {
        /// The run.
        run: RunId,
        /// What.
        command: RunCommand,
    },
    /// What would this run take? Answer with [`super::Msg::EstimateReady`]; a newer question replaces an older one.
    Estimate {
        /// Names it in the answer.
        ticket: u64,
        /// The run.
        request: TrainRequest,
    },
    /// What would this run read and learn of its first rows? Answer with [`super::Msg::MasksReady`].
    Masks {
        /// Names it in the answer.
        ticket: u64,
        /// The run.
        request: TrainRequest,
    },
    /// Send the last lines of a run's worker.log, and again when they change, until asked for another run.
    ReadWorkerLog {
        /// The run.
        run: RunId,
    },
    /// Paint everything again.
    Redraw,
    /// Stop the process as ctrl-z does.
    Suspend,
    /// Leave the program.
    Quit,
}
