//! The writer of a log: repair on opening, one write a record, rotation.

use super::super::error::{Error, Result};
use super::super::files::{create_dir, create_new, put, sync_dir, ticket, wall_ms, write_new};
use super::super::lock::Lock;
use super::{HeaderLine, LogRecord, MAJOR, file_at, numbers};
use crate::protocol::{Header, MAX_LINE, decode, encode};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes after which a new file is begun.
const ROTATE_AT: u64 = 64 << 20;
/// Bytes that are brought to the disk without being asked, since they are kept in memory until then.
const UNSAVED: usize = 8 << 20;

/// The only writer of a log.
#[derive(Debug)]
pub struct LogWriter<T> {
    dir: PathBuf,
    path: PathBuf,
    number: u32,
    file: File,
    /// Length up to which every byte is a whole line.
    len: u64,
    /// The last sequence number given.
    seq: u64,
    rotate_at: u64,
    /// Length up to which every byte is on the disk.
    saved: u64,
    /// The lines after that, to be written again where the disk failed.
    unsaved: Vec<u8>,
    /// Set when the file could not be brought back to a known state: the log goes on in a new one.
    suspect: bool,
    start: Instant,
    _lock: Lock,
    _record: PhantomData<fn(&T)>,
}

impl<T: LogRecord> LogWriter<T> {
    /// Opens the log in `dir` under its folder's lock, repairing what a crash left at its end: those bytes go to
    /// `quarantine` and a `Repaired` record says so. Bad lines further up stay where they are.
    ///
    /// # Errors
    /// When files cannot be read or written, or a newer version of the program made the log.
    pub fn open(dir: &Path, quarantine: &Path, lock: &Lock) -> Result<Self> {
        Self::open_rotating(dir, quarantine, lock, ROTATE_AT)
    }

    /// [`LogWriter::open`] with files of another size.
    ///
    /// # Errors
    /// As there.
    pub fn open_rotating(dir: &Path, quarantine: &Path, lock: &Lock, rotate_at: u64) -> Result<Self> {
        if !dir.is_dir() {
            create_dir(dir)?;
            sync_dir(dir.parent().unwrap_or(dir))?;
        }
        let numbers = numbers(dir)?;
        let number = numbers.last().copied().unwrap_or(1);
        let path = file_at(dir, number);
        let mut seq = 0;
        let mut cut = None;
        let mut len = 0;
        if numbers.is_empty() {
            create_new(&path)?;
        } else {
            refuse_newer(&path)?;
            let tail = Tail::of(&path)?;
            seq = tail.seq;
            len = tail.good_end;
            if tail.good_end < tail.len {
                let bytes = tail.len - tail.good_end;
                set_aside(&path, tail.good_end, quarantine)?;
                cut = Some((tail.good_end, bytes));
            }
        }
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(|e| Error::io("open", &path, e))?;
        if cut.is_some() {
            file.set_len(len).and_then(|()| file.sync_all()).map_err(|e| Error::io("repair", &path, e))?;
        }
        // A file that holds only its header (just rotated) does not know the last number: the ones before it do.
        for earlier in numbers.iter().rev().skip(1) {
            if seq > 0 {
                break;
            }
            seq = Tail::of(&file_at(dir, *earlier))?.seq;
        }
        let mut writer = Self {
            dir: dir.to_owned(),
            path,
            number,
            file,
            len,
            seq,
            rotate_at,
            saved: len,
            unsaved: Vec::new(),
            suspect: false,
            start: Instant::now(),
            _lock: lock.clone(),
            _record: PhantomData,
        };
        writer.complete_last_line()?;
        if writer.len == 0 {
            writer.write_header()?;
        }
        if let Some((offset, bytes)) = cut {
            writer.append(&T::repaired(offset, bytes))?;
            writer.sync()?;
        }
        Ok(writer)
    }

    /// The number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.seq
    }

    /// Appends a record in one write and gives back its number. It is durable after [`LogWriter::sync`].
    ///
    /// # Errors
    /// When the record is too long or the write fails; the record is not in the log then.
    pub fn append(&mut self, record: &T) -> Result<u64> {
        self.recover()?;
        let n = self.seq + 1;
        let line = encode(n, self.start.elapsed().as_millis() as u64, wall_ms(), record)
            .map_err(|source| Error::Record { path: self.path.clone(), source })?;
        if self.unsaved.len() + line.len() > UNSAVED {
            self.sync()?;
        }
        if self.len > 0 && self.len + line.len() as u64 > self.rotate_at {
            self.rotate()?;
        }
        self.write(line.as_bytes())?;
        self.unsaved.extend_from_slice(line.as_bytes());
        self.seq = n;
        Ok(n)
    }

    /// Brings every record appended so far to the disk.
    ///
    /// # Errors
    /// When the disk fails. The kernel may have dropped the bytes then: the next call writes the records again, under their
    /// numbers, to a new file.
    pub fn sync(&mut self) -> Result<()> {
        self.recover()?;
        sync_data(&self.file).map_err(|e| {
            self.suspect = true;
            Error::io("save", &self.path, e)
        })?;
        self.saved = self.len;
        self.unsaved.clear();
        Ok(())
    }

    /// Goes on in a new file where the disk failed before, with the records that may not have reached it.
    fn recover(&mut self) -> Result<()> {
        if !self.suspect {
            return Ok(());
        }
        // Where the old file cannot be cut, its readers pass over the repeated lines.
        let _ = self.file.set_len(self.saved);
        let lines = self.unsaved.clone();
        self.begin_file(&lines)?;
        self.unsaved.clear();
        Ok(())
    }

    /// One write; anything but the whole of it is taken back.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let error = loop {
            match self.file.write(bytes) {
                Ok(n) if n == bytes.len() => {
                    self.len += n as u64;
                    return Ok(());
                }
                // A regular file takes less than it was given only when there is no more room.
                Ok(_) => break Error::NoSpace { path: self.path.clone() },
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break Error::io("append to", &self.path, e),
            }
        };
        if self.file.set_len(self.len).is_err() {
            self.suspect = true;
        }
        Err(error)
    }

    fn write_header(&mut self) -> Result<()> {
        let line = header_line::<T>(&self.path)?;
        self.write(line.as_bytes())?;
        self.file.sync_all().map_err(|e| Error::io("save", &self.path, e))?;
        self.saved = self.len;
        sync_dir(&self.dir)
    }

    /// A valid last record without its newline is kept: only the newline is added.
    fn complete_last_line(&mut self) -> Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        let mut last = [0];
        self.file
            .seek(SeekFrom::Start(self.len - 1))
            .and_then(|_| self.file.read_exact(&mut last))
            .map_err(|e| Error::io("read", &self.path, e))?;
        if last == *b"\n" { Ok(()) } else { self.write(b"\n") }
    }

    /// Goes on in a new file.
    fn rotate(&mut self) -> Result<()> {
        self.sync()?;
        self.begin_file(&[])
    }

    /// Begins the next file with these lines. It gets its name only when they are on disk: a reader that sees it knows that
    /// this one is complete.
    fn begin_file(&mut self, lines: &[u8]) -> Result<()> {
        let path = file_at(&self.dir, self.number + 1);
        let header = header_line::<T>(&path)?;
        put(&path, &[header.as_bytes(), lines].concat(), true)?;
        // Readers may be in the new file already: should anything below fail, the log goes on in yet another one.
        self.suspect = true;
        self.file = OpenOptions::new().read(true).append(true).open(&path).map_err(|e| Error::io("open", &path, e))?;
        self.path = path;
        self.number += 1;
        self.saved = header.len() as u64;
        self.len = self.saved + lines.len() as u64;
        sync_dir(&self.dir)?;
        self.saved = self.len;
        self.suspect = false;
        Ok(())
    }
}

#[cfg(not(test))]
fn sync_data(file: &File) -> std::io::Result<()> {
    file.sync_data()
}

/// The disk of the tests fails on demand.
#[cfg(test)]
fn sync_data(file: &File) -> std::io::Result<()> {
    match super::tests::FAULTS.get() {
        0 => file.sync_data(),
        n => {
            super::tests::FAULTS.set(n - 1);
            Err(std::io::Error::from_raw_os_error(5))
        }
    }
}

fn header_line<T: LogRecord>(path: &Path) -> Result<String> {
    let header = HeaderLine::Header(Header { magic: "tiebreak".into(), major: MAJOR, minor: 0, log: T::LOG.into() });
    encode(0, 0, wall_ms(), &header).map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// Where a file's trustworthy part ends.
struct Tail {
    /// The file's length.
    len: u64,
    /// End of the last whole record, its newline included where it has one.
    good_end: u64,
    /// That record's number; 0 for the header or none.
    seq: u64,
}

impl Tail {
    /// Looks from the end of the file backwards for a line whose checksum is right.
    fn of(path: &Path) -> Result<Self> {
        let read = |e| Error::io("read", path, e);
        let mut file = File::open(path).map_err(read)?;
        let len = file.metadata().map_err(read)?.len();
        // Two longest lines hold at least one whole one; only damage longer than that makes the rest worth reading.
        let mut from = len.saturating_sub(2 * MAX_LINE as u64);
        loop {
            file.seek(SeekFrom::Start(from)).map_err(read)?;
            let mut bytes = Vec::new();
            (&file).take(len - from).read_to_end(&mut bytes).map_err(read)?;
            let mut end = bytes.len();
            while end > 0 {
                let body = if bytes[end - 1] == b'\n' { end - 1 } else { end };
                let start = bytes[..body].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
                if let Ok(envelope) = decode::<Value>(&bytes[start..end]) {
                    return Ok(Self { len, good_end: from + end as u64, seq: envelope.n });
                }
                end = start;
            }
            if from == 0 {
                return Ok(Self { len, good_end: 0, seq: 0 });
            }
            from = 0;
        }
    }
}

/// Copies the bytes from `offset` on into the quarantine, durably, before anybody cuts them.
fn set_aside(path: &Path, offset: u64, quarantine: &Path) -> Result<()> {
    create_dir(quarantine)?;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut f| f.seek(SeekFrom::Start(offset)).map(|_| f))
        .and_then(|mut f| f.read_to_end(&mut bytes))
        .map_err(|e| Error::io("read", path, e))?;
    let log: Vec<_> = path.components().rev().take(3).map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    let name = log.into_iter().rev().collect::<Vec<_>>().join("-");
    write_new(&quarantine.join(format!("{name}-at-{offset}-{}-{}", wall_ms(), ticket())), &bytes)?;
    sync_dir(quarantine)
}

fn refuse_newer(path: &Path) -> Result<()> {
    let mut first = Vec::new();
    let file = File::open(path).map_err(|e| Error::io("read", path, e))?;
    std::io::BufRead::read_until(&mut std::io::BufReader::new(file.take(MAX_LINE as u64)), b'\n', &mut first)
        .map_err(|e| Error::io("read", path, e))?;
    match decode::<HeaderLine>(&first).ok().and_then(|e| e.data.ok()) {
        Some(HeaderLine::Header(header)) if header.major > MAJOR => {
            Err(Error::Newer { path: path.to_owned(), major: header.major })
        }
        _ => Ok(()),
    }
}
