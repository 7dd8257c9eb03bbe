//! The only channel for run events, and for answers before they are events.

use super::error::Error;
use crate::protocol::{Growing, RunEvent};

/// Takes run events. The worker's sink appends them to the run's log.
pub trait Sink {
    /// Takes one event.
    ///
    /// # Errors
    /// When the event could not be recorded; the run then stops.
    fn emit(&mut self, event: RunEvent) -> Result<(), Error>;

    /// Shows answers that are being written, or not: `answers` puts them together only where somebody could look now.
    fn show(&mut self, answers: &mut dyn FnMut() -> Growing) {
        let _ = answers;
    }
}

/// Collects events in memory.
impl Sink for Vec<RunEvent> {
    fn emit(&mut self, event: RunEvent) -> Result<(), Error> {
        self.push(event);
        Ok(())
    }
}
