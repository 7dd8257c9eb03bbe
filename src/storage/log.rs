//! Append-only logs: folders of `000001.jsonl …`, one writer, any number of tails.

mod tail;
mod write;

#[cfg(test)]
mod tests;

pub use tail::LogTail;
pub use write::LogWriter;

use super::error::Result;
use super::files::names;
use crate::protocol::{Header, RunEvent, SessionRecord};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A kind of record that has its own log.
pub trait LogRecord: Serialize + DeserializeOwned {
    /// The log's name in its header.
    const LOG: &'static str;

    /// The record that says that repair cut bytes from the log's end.
    fn repaired(offset: u64, bytes: u64) -> Self;
}

impl LogRecord for SessionRecord {
    const LOG: &'static str = "session";

    fn repaired(offset: u64, bytes: u64) -> Self {
        Self::Repaired { offset, bytes }
    }
}

impl LogRecord for RunEvent {
    const LOG: &'static str = "run";

    fn repaired(offset: u64, bytes: u64) -> Self {
        Self::Repaired { offset, bytes }
    }
}

/// The header as a line: the kind `header`, number 0.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "k", content = "d", rename_all = "snake_case")]
enum HeaderLine {
    /// The first line of every file.
    Header(Header),
}

/// Format of the logs; a newer one is not written to.
const MAJOR: u32 = 1;

/// A log's file of that number.
fn file_at(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.jsonl"))
}

/// The numbers of a log's files, in order.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u32>> {
    let mut out: Vec<u32> = names(dir)?
        .iter()
        .filter_map(|name| name.strip_suffix(".jsonl"))
        .filter(|stem| stem.len() >= 6 && stem.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|stem| stem.parse().ok())
        .collect();
    out.sort_unstable();
    Ok(out)
}

/// The newest file of a log, and its number.
pub(super) fn newest(dir: &Path) -> Result<Option<(u32, PathBuf)>> {
    Ok(numbers(dir)?.last().map(|n| (*n, file_at(dir, *n))))
}
