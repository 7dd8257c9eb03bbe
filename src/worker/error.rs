//! Errors that end a worker. Owns their messages.

use crate::{model, storage};
use std::path::PathBuf;

/// A failure of the worker room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Models and mathematics.
    #[error(transparent)]
    Engine(#[from] model::Error),
    /// The data snapshot does not match the specification.
    #[error("{} {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// The problem, beginning with a verb, and the remedy.
        reason: String,
    },
    /// A needed run has no checkpoint.
    #[error("run `{run}` has no usable checkpoint{why}: train it to its first checkpoint, or name another run")]
    NoAdapter {
        /// The run.
        run: String,
        /// The reason in parentheses, or empty.
        why: String,
    },
    /// Files of a model have changed.
    #[error("{what} since {since}: restore the old files, or launch a new run")]
    Changed {
        /// The files and their changes.
        what: String,
        /// Since when, as a clause.
        since: String,
    },
    /// The checkpoint of another run that this run started from is no longer available.
    #[error("run {run} started from step {step} of {parent}, but {why}: restore that checkpoint, or launch a new run")]
    Parent {
        /// The run.
        run: String,
        /// The checkpoint's step.
        step: u64,
        /// The run that wrote it.
        parent: String,
        /// The reason, as a clause.
        why: String,
    },
    /// A sampling run where a training run is needed.
    #[error("run `{0}` is a sampling run: name a training run")]
    NotTraining(String),
    /// The run failed; also in its log.
    #[error("{0}")]
    Failed(String),
    /// Stopped while waiting for disk space.
    #[error("stopped while the disk was full: the run resumes from its last checkpoint")]
    StoppedOnFullDisk,
}

impl Error {
    /// Whether the cause is a full disk.
    pub(super) fn is_no_space(&self) -> bool {
        match self {
            Self::Storage(e) => e.is_no_space(),
            Self::Engine(e) => matches!(e, model::Error::NoSpace { .. }),
            _ => false,
        }
    }
}
