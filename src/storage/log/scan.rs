//! The lines of a segment, read in bounded memory, and what they contain. Owns where lines begin and end, and the order of
//! work: lines of one block are parsed in parallel. Refuses to interpret records.

use crate::protocol::{Envelope, LineError, MAX_LINE, parse_verified, records_within, verify};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bytes read at once.
const BLOCK: u64 = 1 << 18;
/// Lines that one thread parses at least.
const LINES_A_THREAD: usize = 64;

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
#[derive(Debug, PartialEq)]
pub(super) enum LineContent<T> {
    /// Only white space.
    Blank,
    /// One record, as it was parsed.
    Record(T),
    /// Damage, with whole records at these ranges.
    Damaged(Vec<Range<usize>>),
}

/// A record with its checksum, or why a line whose checksum matches is none.
pub(super) type ParsedRecord<T> = Result<(u32, Envelope<T>), LineError>;

impl RawLine<'_> {
    /// The number of its record.
    pub(super) fn content(&self) -> LineContent<u64> {
        self.content_by(|n, _| n)
    }

    /// Its record.
    pub(super) fn parsed<T: DeserializeOwned>(&self) -> LineContent<ParsedRecord<T>> {
        self.content_by(|_, checksum| parse_verified(self.bytes).map(|envelope| (checksum, envelope)))
    }

    fn content_by<R>(&self, read: impl FnOnce(u64, u32) -> R) -> LineContent<R> {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            LineContent::Blank
        } else if let Ok((n, checksum)) = verify(self.bytes) {
            LineContent::Record(read(n, checksum))
        } else {
            LineContent::Damaged(records_within(self.bytes))
        }
    }
}

/// Calls `each` with every line between two offsets of a file, including a last one without a newline.
pub(super) fn lines(file: &File, from: u64, to: u64, mut each: impl FnMut(&RawLine<'_>)) -> io::Result<()> {
    blocks(file, from, to, |lines| lines.iter().for_each(&mut each))
}

/// As [`lines`], with what each line contains.
pub(super) fn parsed_lines<T: DeserializeOwned + Send>(
    file: &File,
    from: u64,
    to: u64,
    mut each: impl FnMut(&RawLine<'_>, LineContent<ParsedRecord<T>>),
) -> io::Result<()> {
    let mut contents = Vec::new();
    blocks(file, from, to, |lines| {
        // A few lines are not worth waking a thread.
        if lines.len() <= LINES_A_THREAD {
            return lines.iter().for_each(|line| each(line, line.parsed()));
        }
        lines.par_iter().with_min_len(LINES_A_THREAD).map(RawLine::parsed).collect_into_vec(&mut contents);
        lines.iter().zip(contents.drain(..)).for_each(|(line, content)| each(line, content));
    })
}

/// Calls `each` with the lines of one block of bytes after another.
fn blocks(mut file: &File, from: u64, to: u64, mut each: impl FnMut(&[RawLine<'_>])) -> io::Result<()> {
    file.seek(SeekFrom::Start(from))?;
    let mut left = to.saturating_sub(from);
    // The bytes of a line begun in the block before come first.
    let mut block: Vec<u8> = Vec::new();
    let mut end = from;
    // Bytes of the open line that are beyond the limit of a line, and were dropped.
    let mut dropped = 0_u64;
    loop {
        let begun = block.len();
        let read = file.take(left.min(BLOCK)).read_to_end(&mut block)? as u64;
        left -= read;
        let (mut lines, mut start) = (Vec::new(), 0);
        for newline in memchr::memchr_iter(b'\n', &block[begun..]) {
            let stop = begun + newline + 1;
            end += (stop - start) as u64 + std::mem::take(&mut dropped);
            lines.push(RawLine { end, bytes: cut(&block[start..stop]), whole: true });
            start = stop;
        }
        let over = read == 0 || left == 0;
        if over && (start < block.len() || dropped > 0) {
            end += (block.len() - start) as u64 + dropped;
            lines.push(RawLine { end, bytes: cut(&block[start..]), whole: false });
        }
        if !lines.is_empty() {
            each(&lines);
        }
        if over {
            return Ok(());
        }
        block.drain(..start);
        // Of a line that never ends only its beginning is kept.
        dropped += block.len().saturating_sub(MAX_LINE + 1) as u64;
        block.truncate(MAX_LINE + 1);
    }
}

fn cut(line: &[u8]) -> &[u8] {
    &line[..line.len().min(MAX_LINE + 1)]
}
