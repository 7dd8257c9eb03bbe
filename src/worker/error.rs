//! Why a worker ends before its work does.

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
    /// The frozen data is not what the specification says.
    #[error("{} {reason}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is the case, beginning with a verb, and what to do.
        reason: String,
    },
    /// A run whose adapter is needed has none.
    #[error("run `{run}` has no usable checkpoint{why}: let it train to a checkpoint, or name another run")]
    NoAdapter {
        /// The run.
        run: String,
        /// Why not, in parentheses, or nothing.
        why: String,
    },
    /// Files of a model are not what they were.
    #[error("{what} since {since}: put back what was there, or launch a new run")]
    Changed {
        /// The files, each with what happened to it.
        what: String,
        /// Since when, as a clause.
        since: String,
    },
    /// The checkpoint of another run that a run began with cannot be had any more.
    #[error("run {run} began with step {step} of {parent}, and {why}: bring that checkpoint back, or launch a new run")]
    Parent {
        /// The run.
        run: String,
        /// The checkpoint's step.
        step: u64,
        /// The run that wrote it.
        parent: String,
        /// Why not, as a clause.
        why: String,
    },
    /// Asked of a sampling run what only a training run has.
    #[error("run `{0}` samples and has nothing trained: name a training run")]
    NotTraining(String),
    /// The run failed; its log says so too.
    #[error("{0}")]
    Failed(String),
    /// Told to end while waiting for space on the disk.
    #[error("stopped while the disk was full: the run resumes from its last checkpoint")]
    StoppedOnFullDisk,
}

impl Error {
    /// Whether freeing disk space mends it.
    pub(super) fn is_no_space(&self) -> bool {
        match self {
            Self::Storage(e) => e.is_no_space(),
            Self::Engine(e) => matches!(e, model::Error::NoSpace { .. }),
            _ => false,
        }
    }
}
