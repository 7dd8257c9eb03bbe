//! A file's bytes, unpacked: what its first bytes say it is.
//!
//! Owns magic numbers and decompression, streaming and with a bound on memory. Refuses what is no text and no Parquet, by its
//! kind.

use super::super::error::{Error, Result};
use crate::foreign;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

/// How much of a file is looked at before it is read.
pub(super) const HEAD: usize = 64 << 10;

/// The largest window of a zstd frame, as a power of two: 128 MiB, what the command line tool allows by default.
const ZSTD_WINDOW: u32 = 27;

/// A file's content.
pub(super) enum Content {
    /// Text: its beginning, and a reader from the start on.
    Text(Vec<u8>, Box<dyn BufRead>),
    /// A Parquet file.
    Parquet(File),
}

/// What a file is that cannot be read, by its first bytes, with the remedy.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"ARROW1", "is an Arrow file: write it as Parquet or JSON lines (`dataset.to_parquet`, `to_json`)"),
    (b"\xff\xff\xff\xff", "is an Arrow stream: write it as Parquet or JSON lines (`dataset.to_parquet`, `to_json`)"),
    (b"PK\x03\x04", "is a zip archive (or a spreadsheet): unpack it, or save it as CSV"),
    (b"BZh", "is compressed by bzip2: unpack it with `bunzip2`"),
    (b"\xfd7zXZ\0", "is compressed by xz: unpack it with `unxz`"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive: unpack it"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4: unpack it with `unlz4`"),
    (b"SQLite format 3\0", "is an SQLite database: export the table as CSV"),
    (b"Obj\x01", "is an Avro file: convert it to JSON lines"),
    (b"ORC", "is an ORC file: convert it to JSON lines"),
    (b"GGUF", "is a model in GGUF, not a file of data"),
    (b"%PDF-", "is a PDF"),
    (b"\x89HDF", "is an HDF5 file: convert it to JSON lines"),
    (b"\x93NUMPY", "is a NumPy array: convert it to JSON lines"),
    (b"\x80\x04\x95", "is a Python pickle: write it as JSON lines"),
    (b"\xff\xfe", "is UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text: save it as UTF-8"),
];

/// Opens a file and unpacks it.
///
/// # Errors
/// When it cannot be read, or is of a kind that is not read.
pub(super) fn open(path: &Path) -> Result<Content> {
    let read = |e| Error::io("read", path, e);
    let mut file = foreign::open(path).map_err(read)?;
    let begins = head(&mut file, 16).map_err(read)?;
    if begins.starts_with(b"PAR1") {
        return Ok(Content::Parquet(file));
    }
    let whole = io::Cursor::new(begins.clone()).chain(file);
    let unpacked: Box<dyn Read> = match begins.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole))),
        // A frame, or a frame to skip in front of one.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::new(whole).map_err(read)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(read)?;
            Box::new(decoder)
        }
        _ => Box::new(whole),
    };
    let mut reader = BufReader::with_capacity(1 << 16, unpacked);
    let head = head(&mut reader, HEAD).map_err(read)?;
    let refuse = |what: &str| Err(Error::Import { path: path.to_owned(), reason: what.to_owned() });
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return refuse(what);
    }
    if head.starts_with(b"PAR1") {
        return refuse("is a Parquet file in another compression: unpack it first");
    }
    if head.len() >= 262 && head[257..].starts_with(b"ustar") {
        return refuse("is a tar archive: unpack it");
    }
    if head.contains(&0) {
        return refuse("holds binary data: expected text, JSON, CSV or Parquet");
    }
    Ok(Content::Text(head.clone(), Box::new(io::Cursor::new(head).chain(reader))))
}

/// Up to `n` bytes.
fn head(reader: &mut impl Read, n: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(n);
    reader.take(n as u64).read_to_end(&mut out)?;
    Ok(out)
}

/// Where a reader is, and how much it read since it was last asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    lines: Rc<Cell<usize>>,
    since: Rc<Cell<usize>>,
}

impl Progress {
    /// Newlines read so far.
    pub(super) fn lines(&self) -> usize {
        self.lines.get()
    }

    /// Begins another entry.
    pub(super) fn next(&self) {
        self.since.set(0);
    }
}

/// Counts what is read, and fails where one entry is longer than `longest` bytes: it would be held in memory.
pub(super) struct Counting<R> {
    inner: R,
    longest: usize,
    progress: Progress,
}

impl<R: BufRead> Counting<R> {
    pub(super) fn new(inner: R, longest: usize) -> (Self, Progress) {
        let progress = Progress::default();
        (Self { inner, longest, progress: progress.clone() }, progress)
    }
}

impl<R: BufRead> Read for Counting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        let since = self.progress.since.get() + n;
        if since > self.longest {
            let limit = self.longest >> 20;
            return Err(io::Error::other(format!("an entry longer than the limit of {limit} MiB")));
        }
        self.progress.since.set(since);
        self.progress.lines.set(self.progress.lines.get() + memchr::memchr_iter(b'\n', &out[..n]).count());
        Ok(n)
    }
}
