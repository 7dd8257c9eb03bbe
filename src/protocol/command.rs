//! Commands that a run accepts between two steps.

use serde::{Deserialize, Serialize};

/// A command to a running worker, acknowledged by an event in the run's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCommand {
    /// Wait before the next step.
    Pause,
    /// Continue.
    Resume,
    /// Write a checkpoint now.
    Checkpoint,
    /// Write a checkpoint and end.
    Stop,
}

impl RunCommand {
    /// The word on the command line and in the control file's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Checkpoint => "checkpoint",
            Self::Stop => "stop",
        }
    }
}
