//! What a run can be told between two steps.

use serde::{Deserialize, Serialize};

/// An order to a running worker. Each is acknowledged by an event in the run's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunCommand {
    /// Wait before the next step.
    Pause,
    /// Go on.
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
