//! Errors of the shell: one sentence each that says what to do, and an exit code.

use super::terminal::TerminalError;
use crate::foreign::reason;
use crate::storage;
use color_eyre::Section;
use color_eyre::eyre::Report;
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
    /// A command failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// An error about a file, a session or a run.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// An error about the terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// A system call failed.
    #[error("cannot {doing}: {}", reason(source))]
    Io {
        /// The action, as a verb with its object.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// Another process holds the session's lock, and its screens can do the same.
    #[error(
        "{} is open for writing in {holder}: if that is the workbench, do it there (`:` {action}); else close it there (`q`) and try \
         again",
        session.display()
    )]
    HeldFor {
        /// The session's folder.
        session: PathBuf,
        /// The holder of the lock, in words.
        holder: String,
        /// What the workbench's palette finds it by.
        action: String,
    },
    /// Another process holds the session's lock.
    #[error("{} is open for writing in {holder}: close it there (`q`) and try again", session.display())]
    Held {
        /// The session's folder.
        session: PathBuf,
        /// The holder of the lock, in words.
        holder: String,
    },
    /// A worker failed.
    #[error("the worker for {what} {end}")]
    Worker {
        /// The worker's task.
        what: String,
        /// How it ended, with the end of its log.
        end: String,
    },
    /// A newer question replaced this one.
    #[error("a newer question took its place")]
    Superseded,
    /// A bug of this program, with a full report.
    #[error("{0}")]
    Bug(Report),
    /// A signal or a hang-up ended the workbench: no message.
    #[error("ended from outside")]
    Ended(u8),
    /// The reader closed standard output: no message and no failure.
    #[error("the output was closed")]
    Closed,
}

impl Error {
    /// A failure with this message.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// A failure that only a bug can cause; `doing` is a verb with its object.
    pub fn bug(doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Bug(Report::new(source).wrap_err(format!("cannot {doing}")).note(super::reports::SECTION))
    }

    /// A system error about a file.
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
