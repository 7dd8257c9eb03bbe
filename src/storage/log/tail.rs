//! A reader that follows a log: whole lines only, across files, never repairing.

use super::super::error::{Error, Result};
use super::{LogRecord, file_at, numbers};
use crate::protocol::{Envelope, decode};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A place in a log. A poll when nothing changed costs two look-ups and reads nothing.
#[derive(Debug)]
pub struct LogTail<T> {
    dir: PathBuf,
    open: Option<(u32, PathBuf, File)>,
    /// End of the last whole record taken. Repair never cuts before it.
    offset: u64,
    /// Length and time of the file when it was last read, so that a torn end is not read again and again.
    looked: Option<(u64, Option<SystemTime>)>,
    last_n: u64,
    skipped: usize,
    _record: PhantomData<fn() -> T>,
}

impl<T: LogRecord> LogTail<T> {
    /// A reader at the beginning of the log in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: None, offset: 0, looked: None, last_n: 0, skipped: 0, _record: PhantomData }
    }

    /// Damaged or repeated lines passed over so far.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The number of the last record given out; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_n
    }

    /// The records that were added since the last poll, in order. A line that is not whole yet, or a damaged one at the
    /// very end that its writer may still repair, is left for a later poll.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn poll(&mut self) -> Result<Vec<Envelope<T>>> {
        let mut out = Vec::new();
        loop {
            if self.open.is_none() {
                let Some(first) = numbers(&self.dir)?.first().copied() else { return Ok(out) };
                if !self.go_to(first)? {
                    return Ok(out);
                }
            }
            let Some((number, ..)) = &self.open else { return Ok(out) };
            // Asked before reading: a writer begins the next file only after the last byte of this one.
            let next = number + 1;
            let more = file_at(&self.dir, next).exists();
            self.read(more, &mut out)?;
            if !more || !self.go_to(next)? {
                return Ok(out);
            }
        }
    }

    fn go_to(&mut self, number: u32) -> Result<bool> {
        let path = file_at(&self.dir, number);
        match File::open(&path) {
            Ok(file) => {
                self.open = Some((number, path, file));
                self.offset = 0;
                self.looked = None;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("open", &path, e)),
        }
    }

    /// Takes what is new in the open file. `closed`: its writer has gone on to the next one.
    fn read(&mut self, closed: bool, out: &mut Vec<Envelope<T>>) -> Result<()> {
        let Some((_, path, file)) = &mut self.open else { return Ok(()) };
        let io = |e| Error::io("read", path, e);
        let meta = file.metadata().map_err(io)?;
        let look = (meta.len(), meta.modified().ok());
        if meta.len() <= self.offset || (self.looked == Some(look) && !closed) {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity((meta.len() - self.offset) as usize);
        file.seek(SeekFrom::Start(self.offset)).map_err(io)?;
        file.take(meta.len() - self.offset).read_to_end(&mut bytes).map_err(io)?;
        self.looked = Some(look);
        let mut start = 0;
        let mut taken = 0;
        // Bad lines count only once a good one follows: at the very end they may be a crash's, and be cut by repair.
        let mut bad = 0;
        while start < bytes.len() {
            let newline = bytes[start..].iter().position(|b| *b == b'\n');
            let end = match newline {
                Some(i) => start + i + 1,
                None if closed => bytes.len(),
                None => break,
            };
            let line = &bytes[start..end];
            start = end;
            match decode::<T>(line) {
                Ok(envelope) => {
                    self.skipped += std::mem::take(&mut bad);
                    taken = end;
                    let header = envelope.n == 0;
                    if envelope.n > self.last_n {
                        self.last_n = envelope.n;
                        out.push(envelope);
                    } else if !header {
                        self.skipped += 1;
                    }
                }
                Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
                Err(_) => bad += 1,
            }
        }
        if closed {
            self.skipped += bad;
            taken = bytes.len();
        }
        self.offset += taken as u64;
        Ok(())
    }
}
