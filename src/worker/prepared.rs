//! A run's work before it is opened, and what earlier workers left of it: what the life of a run and its task agree on.

use super::drive::Work;
use super::error::Error;
use super::log::Log;
use crate::protocol::{Envelope, RunEvent, RunSpec};
use crate::storage::{self, Checkpoint, RunDir};

/// What an earlier worker left behind.
#[derive(Debug, Default)]
pub(super) struct PastAttempts {
    /// Workers so far.
    pub(super) attempts: u32,
    /// The planned end was reached.
    pub(super) finished: bool,
    /// The last step logged, for runs that go on from their log.
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

/// Opens a run's work; the checkpoint is the one to go on from.
pub(super) type OpenWork<'a> =
    Box<dyn FnOnce(&PastAttempts, Option<&Checkpoint>, &mut Log) -> Result<Box<dyn Work>, Error> + 'a>;

/// A run's work before it is opened.
pub(super) struct Prepared<'a> {
    /// What computes: `CPU · 2 threads`.
    pub(super) device: String,
    /// Loads and tokenises, telling the log how far it is.
    pub(super) open: OpenWork<'a>,
}

/// How a run's work is prepared.
pub(super) type Prepare = dyn for<'a> Fn(&'a RunDir, &'a RunSpec) -> Prepared<'a>;
