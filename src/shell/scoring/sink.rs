//! Where scores and verdicts go as soon as they are known: the log of a command, or the writer of the workbench.

use super::super::error::Result;
use crate::protocol::SessionRecord;
use serde_json::Value;

/// Takes what scoring gives, one thing after another.
pub trait ScoreSink {
    /// So many `what` (`answers`, `pairs`) follow, scored or judged by `by`.
    fn begin(&mut self, what: &str, total: usize, by: &str);
    /// One of them is done, whatever came of it.
    fn advance(&mut self);
    /// A record for the log, and the same as an object for other programs.
    ///
    /// # Errors
    /// When the record cannot be written; scoring then stops.
    fn record(&mut self, record: SessionRecord, object: Value) -> Result<()>;
    /// Something to know that stops nothing.
    fn note(&mut self, text: &str);
}
