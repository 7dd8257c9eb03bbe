//! The file beside a snapshot that a download has not finished: what all of it is, and how to get the rest.

use serde::{Deserialize, Serialize};

/// A download into the cache of models that was not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedDownload {
    /// The commit that is downloaded.
    pub commit: String,
    /// Names of all its files.
    pub files: Vec<String>,
    /// The command that gets the rest.
    pub command: String,
}

impl UnfinishedDownload {
    /// The file's name in the repository's folder of the cache.
    pub const FILE: &'static str = "unfinished.json";
}
