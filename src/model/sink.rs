//! The one way by which the engine speaks while it works.

use super::error::Error;
use crate::protocol::RunEvent;

/// Takes run events. The worker's sink appends them to the run's log.
pub trait Sink {
    /// Takes one event.
    ///
    /// # Errors
    /// When the event could not be kept; the engine then stops.
    fn emit(&mut self, event: RunEvent) -> Result<(), Error>;
}

/// Collects events in memory: for callers that look at them afterwards.
impl Sink for Vec<RunEvent> {
    fn emit(&mut self, event: RunEvent) -> Result<(), Error> {
        self.push(event);
        Ok(())
    }
}
