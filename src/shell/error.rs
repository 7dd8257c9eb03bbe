//! What can go wrong at the rim, each as one sentence that says what to do, with the exit code it ends the process with.

use super::terminal::TerminalError;
use crate::storage;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The result of everything in this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the shell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong usage: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something that was asked for cannot be done: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// A file, a session or a run.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried, as a verb with its object.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// Another process may write to the session.
    #[error("{} is open for writing in {holder}: close it there (`q`) and try again", session.display())]
    Held {
        /// The session's folder.
        session: PathBuf,
        /// Who, in words.
        holder: String,
    },
    /// A worker did not do what it was started for.
    #[error("the worker for {what} {end}")]
    Worker {
        /// What it was started for.
        what: String,
        /// How it ended, with its last words.
        end: String,
    },
    /// A newer question took this one's place; nobody waits for its answer.
    #[error("a newer question took its place")]
    Superseded,
    /// A signal or the end of the terminal ended the workbench: nothing to say, and nobody to say it to.
    #[error("ended from outside")]
    Ended(u8),
    /// Standard output was closed by its reader: nothing more to say, and no failure.
    #[error("the output was closed")]
    Closed,
}

impl Error {
    /// A failure in words.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Wraps an operating system's error about a file.
    pub fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing: format!("{doing} {}", path.display()), source }
    }

    /// 2 for wrong usage, 0 for a closed output, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Terminal(TerminalError::NotATerminal | TerminalError::Dumb) => ExitCode::from(2),
            Self::Closed => ExitCode::SUCCESS,
            Self::Ended(code) => ExitCode::from(*code),
            _ => ExitCode::FAILURE,
        }
    }
}
