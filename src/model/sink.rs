//! The only channel for run events.

use super::error::Error;
use crate::protocol::RunEvent;

/// Takes run events. The worker's sink appends them to the run's log.
pub trait Sink {
    /// Takes one event.
    ///
    /// # Errors
    /// When the event could not be recorded; the run then stops.
    fn emit(&mut self, event: RunEvent) -> Result<(), Error>;
}

/// Collects events in memory.
impl Sink for Vec<RunEvent> {
    fn emit(&mut self, event: RunEvent) -> Result<(), Error> {
        self.push(event);
        Ok(())
    }
}
