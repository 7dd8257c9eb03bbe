//! The lines of a segment, read in bounded memory. Owns where lines begin and end; refuses to interpret records.

use crate::protocol::{MAX_LINE, records_within, verify};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// A line of a segment.
#[derive(Debug)]
pub(super) struct RawLine<'a> {
    /// Its end offset in the file, including its newline.
    pub(super) end: u64,
    /// Its bytes, cut off one byte above the limit of a line.
    pub(super) bytes: &'a [u8],
    /// Whether it ends with a newline.
    pub(super) whole: bool,
}

/// What a line contains.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineContent {
    /// Only white space.
    Blank,
    /// One record.
    Record,
    /// Damage, with whole records at these ranges.
    Damaged(Vec<Range<usize>>),
}

impl RawLine<'_> {
    pub(super) fn content(&self) -> LineContent {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            LineContent::Blank
        } else if verify(self.bytes).is_ok() {
            LineContent::Record
        } else {
            LineContent::Damaged(records_within(self.bytes))
        }
    }
}

/// Calls `each` with every line between two offsets of a file, including a last one without a newline.
pub(super) fn lines(mut file: &File, from: u64, to: u64, mut each: impl FnMut(&RawLine<'_>)) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(BUFFER, file.take(to.saturating_sub(from)));
    let mut line = Vec::new();
    let mut end = from;
    let mut open = false;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        let newline = memchr::memchr(b'\n', chunk);
        let part = newline.map_or(chunk, |at| &chunk[..=at]);
        let room = (MAX_LINE + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len();
        reader.consume(used);
        end += used as u64;
        open = newline.is_none();
        if !open {
            each(&RawLine { end, bytes: &line, whole: true });
            line.clear();
        }
    }
    if open {
        each(&RawLine { end, bytes: &line, whole: false });
    }
    Ok(())
}
