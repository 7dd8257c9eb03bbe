//! What a run reads: a model on this machine, a frozen file of data. Owns their records; refuses to open them.

use serde::{Deserialize, Serialize};

/// An adapter made elsewhere that a run starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterRef {
    /// Its folder.
    pub path: String,
    /// The base model that it names; empty if it names none.
    pub base: String,
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// As the user named it.
    pub name: String,
    /// Its folder or `.gguf` file. A relative path starts at the session's data folder, so that a data folder can move
    /// to another machine with its models.
    pub path: String,
}

/// A snapshot of a run's data, written beside its specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSnapshot {
    /// File name within the run's folder.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its rows.
    pub rows: usize,
    /// The session log's last sequence number when it was taken.
    pub session_seq: u64,
}
