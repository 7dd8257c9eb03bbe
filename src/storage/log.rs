//! Append-only logs: folders of segments `000001.jsonl …`, one writer, any number of readers.
//!
//! A log is what its records say, not how they lie: readers take every whole record, in the order of the numbers, whatever
//! stands beside it, and count what is wrong. The writer goes on above the highest number of all segments.

mod scan;
mod seen;
mod tail;
mod write;

#[cfg(test)]
mod tests;

pub use tail::LogTail;
pub use write::LogWriter;

use super::error::Result;
use super::files::names;
use crate::protocol::{Header, RunEvent, SessionRecord, decode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What repair cut from a log's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Where.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many whole lines were among them.
    pub lines: u64,
}

/// A kind of record that has its own log.
pub trait LogRecord: Serialize + DeserializeOwned {
    /// The log's name in its header.
    const LOG: &'static str;

    /// How many folders, the log's own included, lie between the session's folder and the log's files.
    const DEPTH: usize;

    /// The record that says that repair cut bytes from the log's end.
    fn repaired(cut: Cut) -> Self;

    /// What this record says was cut.
    fn cut(&self) -> Option<Cut>;

    /// The number of the record that this one is about.
    fn about(&mut self) -> Option<&mut u64>;
}

impl LogRecord for SessionRecord {
    const LOG: &'static str = "session";
    const DEPTH: usize = 1;

    fn repaired(cut: Cut) -> Self {
        Self::Repaired { offset: cut.offset, bytes: cut.bytes, lines: cut.lines }
    }

    fn cut(&self) -> Option<Cut> {
        match *self {
            Self::Repaired { offset, bytes, lines } => Some(Cut { offset, bytes, lines }),
            _ => None,
        }
    }

    fn about(&mut self) -> Option<&mut u64> {
        match self {
            Self::Undone { of } | Self::Redone { of } | Self::Withdrawn { of } | Self::Restored { of } => Some(of),
            _ => None,
        }
    }
}

impl LogRecord for RunEvent {
    const LOG: &'static str = "run";
    const DEPTH: usize = 3;

    fn repaired(cut: Cut) -> Self {
        Self::Repaired { offset: cut.offset, bytes: cut.bytes, lines: cut.lines }
    }

    fn cut(&self) -> Option<Cut> {
        match *self {
            Self::Repaired { offset, bytes, lines } => Some(Cut { offset, bytes, lines }),
            _ => None,
        }
    }

    fn about(&mut self) -> Option<&mut u64> {
        None
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

/// Segments from this number on are read, but never written to: a writer could not number the next one.
const FAR: u64 = 1_000_000_000_000_000_000;

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Whether a writer can go on here: false sorts first.
    near: bool,
    number: u64,
    pub(super) name: String,
}

/// What lies in a log's folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// The segments in reading order; a writer goes on in the last one.
    pub(super) segments: Vec<Segment>,
    /// Files that look like segments and are none.
    foreign: Vec<String>,
    /// The number that the next segment gets: above every other one that a writer can reach.
    next: u64,
}

impl Listing {
    /// Whether nothing lies among the segments that is none.
    pub(super) fn is_pure(&self) -> bool {
        self.foreign.is_empty()
    }

    pub(super) fn of(dir: &Path) -> Result<Self> {
        let mut found = Self { next: 1, ..Self::default() };
        for name in names(dir)? {
            let Some(stem) = name.strip_suffix(".jsonl").filter(|_| !name.starts_with('.')) else { continue };
            let digits = stem.len() >= 6 && stem.bytes().all(|b| b.is_ascii_digit());
            let number = stem.parse::<u64>().ok().filter(|_| digits);
            if let Some(number) = number.filter(|n| *n < FAR) {
                found.next = found.next.max(number + 1);
            }
            // A pipe, a device or a folder would block or never end.
            match number.filter(|_| dir.join(&name).is_file()) {
                Some(number) => found.segments.push(Segment { near: number < FAR, number, name }),
                None => found.foreign.push(name),
            }
        }
        found.segments.sort();
        Ok(found)
    }
}

/// A log's file of that number.
fn file_at(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.jsonl"))
}

/// The header that a line is, if it is one.
fn header(line: &[u8]) -> Option<Header> {
    match decode::<HeaderLine>(line).ok()?.data.ok()? {
        HeaderLine::Header(header) => Some(header),
    }
}

/// The file of a log that was last written to.
pub(super) fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    Ok(Listing::of(dir)?.segments.last().map(|segment| dir.join(&segment.name)))
}
