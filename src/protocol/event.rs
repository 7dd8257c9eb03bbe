//! What a run says. The worker appends these to the run's log; live view, re-attach, replay and tests fold the same lines.

use super::command::RunCommand;
use crate::domain::{Completion, Finding, Metrics, Num, Pair, Plan, PromptId};
use serde::{Deserialize, Serialize};

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "k", content = "d", rename_all = "snake_case")]
pub enum RunEvent {
    /// A worker took the run up: the first time (`attempt` 1) or again after it was lost or stopped.
    Started {
        /// 1 for the first worker, 2 for the next …
        attempt: u32,
        /// The worker's process id, for people; liveness is the lock.
        pid: u32,
        /// What computes: `CPU · 2 threads`.
        device: String,
        /// The checkpoint's step it goes on from. Steps after it from earlier attempts no longer count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_step: Option<u64>,
    },
    /// The run's plan.
    Planned(Plan),
    /// Work before (or between) steps: loading, tokenising, reference log-probs.
    Progressed {
        /// What is being done.
        stage: String,
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// An optimizer step was made. `metrics` has TRL's names; `step` counts from 1 after the first update.
    Stepped {
        /// Steps made so far.
        step: u64,
        /// Passes over the data so far.
        epoch: f64,
        /// What was measured.
        metrics: Metrics,
    },
    /// The evaluation rows were measured. Keys start with `eval_`.
    Evaluated {
        /// Steps made so far.
        step: u64,
        /// What was measured.
        metrics: Metrics,
    },
    /// An answer sampled from the model in training, so that a person can look at it.
    Sampled {
        /// Steps made so far.
        step: u64,
        /// The question.
        prompt: String,
        /// The answer.
        text: String,
        /// What it was worth, where answers are scored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        score: Option<Num>,
    },
    /// A candidate was sampled (sampling runs).
    Completed(Completion),
    /// Two candidates were put up for judgement (sampling runs).
    Paired(Pair),
    /// Candidates identical to an earlier one of the same prompt were dropped (sampling runs).
    Deduplicated {
        /// The prompt.
        prompt: PromptId,
        /// How many were dropped.
        count: usize,
    },
    /// A checkpoint is on disk and verified.
    Checkpointed {
        /// Its step.
        step: u64,
        /// Its size.
        bytes: u64,
    },
    /// Something the user should know.
    Found(Finding),
    /// A command was taken.
    Obeyed(RunCommand),
    /// The planned end was reached. `state` hashes the final trainable weights (training) or texts (sampling).
    Finished {
        /// Steps made.
        step: u64,
        /// The hash.
        state: String,
    },
    /// Ended early by command; a checkpoint of this step is on disk.
    Stopped {
        /// Steps made.
        step: u64,
    },
    /// Ended by an error.
    Failed {
        /// Steps made.
        step: u64,
        /// One plain sentence: what happened, where, what to do.
        error: String,
    },
    /// Bytes were cut from the end of the log after a crash.
    Repaired {
        /// Where the cut was made.
        offset: u64,
        /// How many bytes went to quarantine.
        bytes: u64,
        /// How many whole lines were among them: records that had been written completely and were damaged later.
        #[serde(default, skip_serializing_if = "super::is_zero")]
        lines: u64,
    },
}
