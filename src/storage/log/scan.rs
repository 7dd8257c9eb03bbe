//! The lines of a segment, read in bounded memory. Owns where lines begin and end; refuses to interpret records.

use crate::protocol::{MAX_LINE, records_within, verify};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// A line of a segment.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Where it ends in the file, its newline included.
    pub(super) end: u64,
    /// Its bytes, at most one more than a line may have.
    pub(super) bytes: &'a [u8],
    /// Whether it has its newline.
    pub(super) whole: bool,
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing but white space.
    Nothing,
    /// One record.
    Record,
    /// Something damaged, with whole records at these places of it.
    Damage(Vec<Range<usize>>),
}

impl Line<'_> {
    pub(super) fn holds(&self) -> Holds {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            Holds::Nothing
        } else if verify(self.bytes).is_ok() {
            Holds::Record
        } else {
            Holds::Damage(records_within(self.bytes))
        }
    }
}

/// Gives every line between two places of a file to `each`, the last one even without its newline.
pub(super) fn lines(mut file: &File, from: u64, to: u64, mut each: impl FnMut(&Line<'_>)) -> io::Result<()> {
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
        let newline = chunk.iter().position(|b| *b == b'\n');
        let part = newline.map_or(chunk, |at| &chunk[..=at]);
        let room = (MAX_LINE + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len();
        reader.consume(used);
        end += used as u64;
        open = newline.is_none();
        if !open {
            each(&Line { end, bytes: &line, whole: true });
            line.clear();
        }
    }
    if open {
        each(&Line { end, bytes: &line, whole: false });
    }
    Ok(())
}
