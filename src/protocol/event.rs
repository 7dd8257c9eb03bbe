//! Events of a run. The worker appends them to the run's log; live view, re-attach, replay and tests fold the same
//! lines.

use super::command::RunCommand;
use super::server::ServerAnswer;
use crate::domain::{
    Comparison, Completion, CompletionId, EvalAnswer, Finding, Measurement, Metrics, Num, Pair, Plan, PosedPair,
    PromptId,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "k", content = "d", rename_all = "snake_case")]
pub enum RunEvent {
    /// A worker started the run (`attempt` 1), or resumed it after it was lost or stopped.
    Started {
        /// 1 for the first worker, 2 for the next …
        attempt: u32,
        /// The worker's process id, for people only; the lock tells whether it is alive.
        pid: u32,
        /// The device: `CPU · 2 threads`.
        device: String,
        /// Step of the checkpoint it resumes from. Later steps of earlier attempts no longer count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_step: Option<u64>,
    },
    /// The run's plan.
    Planned(Plan),
    /// Work before (or between) steps: loading, tokenising, reference log-probs.
    Progressed {
        /// The current stage.
        stage: String,
        /// Units done.
        done: u64,
        /// Total units.
        total: u64,
    },
    /// An optimizer step completed. `metrics` has TRL's names; `step` counts from 1 after the first update.
    Stepped {
        /// Steps so far.
        step: u64,
        /// Passes over the data so far.
        epoch: f64,
        /// The measured values.
        metrics: Metrics,
    },
    /// The evaluation rows were evaluated. Keys start with `eval_`.
    Evaluated {
        /// Steps so far.
        step: u64,
        /// The measured values.
        metrics: Metrics,
    },
    /// An answer sampled from the model in training, for people to read.
    Sampled {
        /// Steps so far.
        step: u64,
        /// The prompt.
        prompt: String,
        /// The answer.
        text: String,
        /// Its score, if answers are scored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        score: Option<Num>,
    },
    /// A candidate was sampled (sampling runs).
    Completed(Arc<Completion>),
    /// Two candidates were paired for labelling (sampling runs).
    Paired(Arc<Pair>),
    /// Candidates identical to an earlier one of the same prompt were dropped (sampling runs).
    Deduplicated {
        /// The prompt.
        prompt: PromptId,
        /// How many were dropped.
        count: usize,
    },
    /// A server is about to be asked for an answer (sampling runs). What was asked and has neither answer nor reason was under
    /// way when its worker ended: a resumed run asks for it again, and says so.
    Requested {
        /// The candidate.
        completion: CompletionId,
    },
    /// A server gave an answer (sampling runs). A resumed run does not ask for it again.
    Answered(ServerAnswer),
    /// A server did not give an answer, after all retries (sampling runs).
    Unanswered {
        /// The candidate that is missing.
        completion: CompletionId,
        /// Why, in a few words.
        reason: String,
    },
    /// A contestant answered an item (evaluation runs).
    EvalAnswered(Box<EvalAnswer>),
    /// An item was measured for a contestant (evaluation runs).
    Measured(Measurement),
    /// A judge compared two answers (evaluation runs).
    Compared(Comparison),
    /// Two answers were put up for people to compare (evaluation runs).
    Posed(Box<PosedPair>),
    /// A checkpoint is on disk and verified.
    Checkpointed {
        /// Its step.
        step: u64,
        /// Its size.
        bytes: u64,
    },
    /// Something the user should know.
    Found(Finding),
    /// A command was acknowledged.
    Obeyed(RunCommand),
    /// The planned end was reached. `state` hashes the final trainable weights (training) or texts (sampling).
    Finished {
        /// Steps completed.
        step: u64,
        /// The hash.
        state: String,
    },
    /// Stopped early by a command; a checkpoint of this step is on disk.
    Stopped {
        /// Steps completed.
        step: u64,
    },
    /// Ended by an error.
    Failed {
        /// Steps completed.
        step: u64,
        /// One plain sentence: what happened, where, what to do.
        error: String,
    },
    /// Bytes were cut from the end of the log after a crash.
    Repaired {
        /// Byte offset of the cut.
        offset: u64,
        /// How many bytes went to quarantine.
        bytes: u64,
        /// How many whole lines were among them: records that were written completely and damaged later.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        lines: u64,
    },
}
