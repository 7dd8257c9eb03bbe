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

/// What is said of a pickle.
pub(super) const PICKLE: &str = "is a Python pickle: write it as JSON lines";

/// What is said of text in two bytes a character.
const UTF_16: &str = "is UTF-16 text: save it as UTF-8";

/// What is said of a workbook in Excel's own form before 2007.
const OLD_EXCEL: &str = "is an old Excel workbook (or another old Office file): save it as CSV";

/// What a file is that cannot be read, by its first bytes, with the remedy.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"ARROW1", "is an Arrow file: write it as Parquet or JSON lines (`dataset.to_parquet`, `to_json`)"),
    (b"\xff\xff\xff\xff", "is an Arrow stream: write it as Parquet or JSON lines (`dataset.to_parquet`, `to_json`)"),
    (b"PK\x05\x06", "is an empty zip archive"),
    (b"\xd0\xcf\x11\xe0", OLD_EXCEL),
    (b"Rar!\x1a\x07", "is a RAR archive: unpack it"),
    (b"LZIP\x01", "is compressed by lzip: unpack it"),
    (b"\x1f\x9d", "is compressed by `compress`: unpack it with `uncompress`"),
    (b"\xff\x06\0\0sNaPpY", "is compressed by Snappy: unpack it"),
    (b"PK\x03\x04", "is a zip archive (or a spreadsheet): unpack it, or save it as CSV"),
    (b"\xfd7zXZ\0", "is compressed by xz: unpack it with `unxz`"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive: unpack it"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4: unpack it with `unlz4`"),
    (b"SQLite format 3\0", "is an SQLite database: export the table as CSV"),
    (b"Obj\x01", "is an Avro file: convert it to JSON lines"),
    (b"FEA1", "is a Feather file: write it as Parquet or JSON lines"),
    (b"ORC", "is an ORC file: convert it to JSON lines"),
    (b"GGUF", "is a model in GGUF, not a file of data"),
    (b"%PDF-", "is a PDF"),
    (b"\x89HDF", "is an HDF5 file: convert it to JSON lines"),
    (b"\x93NUMPY", "is a NumPy array: convert it to JSON lines"),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
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
    if head.starts_with(b"BZh") && head.get(4..10) == Some(b"1AY&SY".as_slice()) {
        return refuse("is compressed by bzip2: unpack it with `bunzip2`");
    }
    // A text may begin with the letters of a kind: `ORCHESTRATE …`.
    let letters = |magic: &[u8]| magic.iter().all(u8::is_ascii_alphanumeric);
    let found = |magic: &[u8]| head.starts_with(magic) && (!letters(magic) || !is_text(&head));
    if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| found(magic)) {
        return refuse(what);
    }
    if head.starts_with(b"PAR1") {
        return refuse("is a Parquet file in another compression: unpack it first");
    }
    if head.len() >= 262 && head[257..].starts_with(b"ustar") {
        return refuse("is a tar archive: unpack it");
    }
    // Every second byte of Latin letters is 0.
    let zeros = |at: usize| head.iter().take(8).enumerate().all(|(i, byte)| (*byte == 0) == (i % 2 == at));
    if head.len() > 3 && (zeros(0) || zeros(1)) {
        return refuse(UTF_16);
    }
    if head.contains(&0) {
        return refuse("holds binary data: expected text, JSON, CSV or Parquet");
    }
    Ok(Content::Text(head.clone(), Box::new(io::Cursor::new(head).chain(reader))))
}

/// Whether bytes are text, but for a character that is cut at their end.
fn is_text(bytes: &[u8]) -> bool {
    let whole = std::str::from_utf8(bytes).err().is_none_or(|e| e.error_len().is_none());
    whole && !bytes.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
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
