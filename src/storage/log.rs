//! Append-only logs: folders of segments `000001.jsonl …`, one writer, any number of readers.
//!
//! Readers return every whole record in numeric order, whatever damage surrounds it, and count the damage. The writer
//! continues above the highest number of all segments.

mod scan;
mod seq_index;
mod tail;
mod write;

#[cfg(test)]
mod tests;

pub use tail::{LogPart, LogTail};
pub use write::LogWriter;

use super::error::Result;
use super::files::{below_session, names};
use crate::foreign::reason;
use crate::protocol::{Header, RunEvent, SessionRecord, decode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What repair cut from a log's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Byte offset.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How many whole lines were among them.
    pub lines: u64,
}

/// The two methods that are the same for every record type with a `Repaired` variant.
macro_rules! repair_records {
    () => {
        fn repaired(cut: Cut) -> Self {
            Self::Repaired { offset: cut.offset, bytes: cut.bytes, lines: cut.lines }
        }

        fn cut(&self) -> Option<Cut> {
            match *self {
                Self::Repaired { offset, bytes, lines } => Some(Cut { offset, bytes, lines }),
                _ => None,
            }
        }
    };
}

/// A kind of record that has its own log.
pub trait LogRecord: Serialize + DeserializeOwned + Send {
    /// The log's name in its header.
    const LOG: &'static str;

    /// How many folders, including the log's own, separate the session's folder from the log's files.
    const DEPTH: usize;

    /// The record that reports a cut by repair.
    fn repaired(cut: Cut) -> Self;

    /// The cut that this record reports, if any.
    fn cut(&self) -> Option<Cut>;

    /// The number of the record that this one refers to, if any.
    fn target(&mut self) -> Option<&mut u64>;
}

impl LogRecord for SessionRecord {
    const LOG: &'static str = "session";
    const DEPTH: usize = 1;

    repair_records!();

    fn target(&mut self) -> Option<&mut u64> {
        match self {
            Self::Undone { of } | Self::Redone { of } | Self::Withdrawn { of } | Self::Restored { of } => Some(of),
            _ => None,
        }
    }
}

impl LogRecord for RunEvent {
    const LOG: &'static str = "run";
    const DEPTH: usize = 3;

    repair_records!();

    fn target(&mut self) -> Option<&mut u64> {
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

/// Major format version of the logs; a newer one is read-only.
const MAJOR: u32 = 1;

/// The longest segment that is read: four times what a writer begins the next one at.
const LONGEST_SEGMENT: u64 = 256 << 20;

/// Segments from this number on are read-only: a writer could not number the next one.
const SEGMENT_LIMIT: u64 = 1_000_000_000_000_000_000;

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogSegment {
    /// Whether its number is below [`SEGMENT_LIMIT`]; false sorts first.
    writable: bool,
    number: u64,
    pub(super) name: String,
}

/// The contents of a log's folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// The segments in reading order; a writer appends to the last one.
    pub(super) segments: Vec<LogSegment>,
    /// Files named like segments that are not read, and why.
    foreign: Vec<(String, String)>,
    /// The number of the next segment: above every one below [`SEGMENT_LIMIT`].
    next: u64,
}

impl Listing {
    /// Whether every `.jsonl` file is a segment.
    pub(super) fn is_pure(&self) -> bool {
        self.foreign.is_empty()
    }

    pub(super) fn of(dir: &Path) -> Result<Self> {
        let mut listing = Self { next: 1, ..Self::default() };
        for name in names(dir)? {
            let Some(stem) = name.strip_suffix(".jsonl").filter(|_| !name.starts_with('.')) else { continue };
            let digits = stem.len() >= 6 && stem.bytes().all(|b| b.is_ascii_digit());
            let number = stem.parse::<u64>().ok().filter(|_| digits);
            if let Some(number) = number.filter(|n| *n < SEGMENT_LIMIT) {
                listing.next = listing.next.max(number + 1);
            }
            let readable = match number {
                Some(number) => segment_is_readable(&dir.join(&name)).map(|()| number),
                None => Err("not a segment of this log, so it was not read".to_owned()),
            };
            match readable {
                Ok(number) => listing.segments.push(LogSegment { writable: number < SEGMENT_LIMIT, number, name }),
                Err(why) => listing.foreign.push((name, why)),
            }
        }
        listing.segments.sort();
        Ok(listing)
    }
}

/// Whether a segment can be read to its end, and soon: a pipe, a device or a link to one would block or never end.
fn segment_is_readable(path: &Path) -> std::result::Result<(), String> {
    let not_read = |why: &dyn std::fmt::Display| format!("{why}, so it was not read");
    let meta = below_session(path).and_then(|()| std::fs::metadata(path)).map_err(|e| not_read(&reason(&e)))?;
    match meta.len() {
        _ if !meta.is_file() => Err(not_read(&"not a regular file")),
        len if len > LONGEST_SEGMENT => {
            let limit = LONGEST_SEGMENT >> 20;
            Err(not_read(&format!("{} MiB long, and a segment has at most {limit}", len >> 20)))
        }
        _ => Ok(()),
    }
}

/// The path of the segment with that number.
fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.jsonl"))
}

/// Parses a line as a header.
fn parse_header(line: &[u8]) -> Option<Header> {
    match decode::<HeaderLine>(line).ok()?.data.ok()? {
        HeaderLine::Header(header) => Some(header),
    }
}

/// The segment that was last written to.
pub(super) fn newest(dir: &Path) -> Result<Option<PathBuf>> {
    Ok(Listing::of(dir)?.segments.last().map(|segment| dir.join(&segment.name)))
}
