//! A run's status, plan and findings.

use super::ids::PairId;
use serde::{Deserialize, Serialize};

/// A run's status, folded from its log; only `Lost` also depends on the lock of its folder, and `Suspended` on the
/// process that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Launched, nothing logged yet.
    Starting,
    /// Logging steps.
    Running,
    /// Waiting between two steps, on command.
    Paused,
    /// Its process is stopped by a signal (SIGSTOP, a shell's Ctrl-Z): it goes on when it gets SIGCONT.
    Suspended,
    /// Reached its planned end.
    Finished,
    /// Ended early on command, with a checkpoint.
    Stopped,
    /// Ended by an error; the sentence names it and what to do.
    Failed(String),
    /// Its log is unfinished and nobody holds its lock: it was killed, or the machine went down. It can be resumed.
    Lost,
}

/// What is known of a run that is [`RunStatus::Lost`], as a clause.
pub const LOST_WORKER: &str = "its worker ended without a word (killed, out of memory, or a power loss)";

impl RunStatus {
    /// Whether its process should be alive.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Suspended)
    }

    /// One word for headers and lists.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
            Self::Lost => "lost",
        }
    }
}

/// Rows left out of a run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRows {
    /// Why, in a few words: `longer than max_length`.
    pub reason: String,
    /// How many.
    pub count: usize,
}

/// What a run will do, known before its first step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Plan {
    /// Total optimizer steps (training) or completions (sampling).
    pub total_steps: u64,
    /// Steps in one epoch; 0 for sampling.
    pub steps_per_epoch: u64,
    /// Rows trained on, or prompts sampled.
    pub train_rows: usize,
    /// Rows held out for evaluation.
    pub eval_rows: usize,
    /// Trainable parameters.
    pub trainable: u64,
    /// All parameters of the model.
    pub parameters: u64,
    /// Rows left out.
    pub dropped: Vec<DroppedRows>,
    /// The resolved objective as a formula; empty for sampling.
    pub objective: String,
    /// Tokens in the longest row.
    pub longest: usize,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Probably spoils the result.
    Warn,
    /// The run stops because of it.
    Stop,
}

/// Something about a run that its user should know: one plain sentence, its evidence and one remedy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule that found it: `step0_self_check`, `non_finite`, …
    pub rule: String,
    /// The step it was found at.
    pub step: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What was observed, with the numbers.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// The pair concerned, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<PairId>,
}

impl Finding {
    /// What was observed and what to do about it, which some findings do not say.
    #[must_use]
    pub fn sentence(&self) -> String {
        let parts = [self.text.trim(), self.remedy.trim()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}
