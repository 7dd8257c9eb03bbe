//! What a background job works on.

use crate::storage::SessionDir;

/// The snapshot that a job works on.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The opening its answers belong to.
    pub opening: u64,
    /// The session.
    pub dir: SessionDir,
    /// The last record on disk; none if another process writes.
    pub upto: Option<u64>,
}
