//! A run's work before it is opened, and the state left by earlier workers. Owns the types shared by `run` and `task`.

use super::drive::Work;
use super::error::Error;
use super::log::Log;
use crate::protocol::{Envelope, RunEvent, RunSpec};
use crate::storage::{self, CheckpointDir, RunDir};

/// The state left by earlier workers.
#[derive(Debug, Default)]
pub(super) struct PastAttempts {
    /// Workers so far.
    pub(super) attempts: u32,
    /// The run has finished.
    pub(super) finished: bool,
    /// The last logged step, for runs that resume from their log.
    pub(super) steps: u64,
}

impl PastAttempts {
    pub(super) fn of(run: &RunDir) -> Result<Self, storage::Error> {
        let mut past = Self::default();
        let events = run.tail().poll()?;
        for event in events.into_iter().filter_map(|Envelope { data, .. }| data.ok()) {
            match event {
                RunEvent::Started { attempt, .. } => {
                    past.attempts = past.attempts.max(attempt);
                    past.finished = false;
                }
                RunEvent::Finished { .. } => past.finished = true,
                RunEvent::Stepped { step, .. } => past.steps = step,
                _ => {}
            }
        }
        Ok(past)
    }
}

/// Opens a run's work, from a checkpoint if there is one.
pub(super) type OpenWork<'a> =
    Box<dyn FnOnce(&PastAttempts, Option<&CheckpointDir>, &mut Log) -> Result<Box<dyn Work>, Error> + 'a>;

/// A run's work before it is opened.
pub(super) struct Prepared<'a> {
    /// The device: `CPU · 2 threads`.
    pub(super) device: String,
    /// Loads and tokenises, logging progress.
    pub(super) open: OpenWork<'a>,
}

/// Prepares a run's work.
pub(super) type Prepare = dyn for<'a> Fn(&'a RunDir, &'a RunSpec) -> Prepared<'a>;
