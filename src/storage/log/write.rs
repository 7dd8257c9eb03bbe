//! The writer of a log: repair on opening, one write per record, rotation.

use super::super::error::{Error, Result};
use super::super::fault::pass;
use super::super::files::{
    create_dir, open_file, open_file_with, put, read_tail, sync_dir, ticket, wall_ms, write_new,
};
use super::super::lock::Lock;
use super::scan::{LineContent, lines};
use super::{Cut, HeaderLine, LONGEST_SEGMENT, Listing, LogRecord, MAJOR, SEGMENT_LIMIT, parse_header, segment_path};
use crate::protocol::{Header, MAX_SEQ, encode, verify};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes after which a new segment begins.
const ROTATE_AT: u64 = 64 << 20;
/// Unsaved bytes that trigger an fsync, since they are also kept in memory.
const MAX_UNSAVED: usize = 8 << 20;

/// The only writer of a log.
#[derive(Debug)]
pub struct LogWriter<T> {
    dir: PathBuf,
    path: PathBuf,
    /// The number of the next segment.
    next: u64,
    file: File,
    /// Length up to which all lines are whole.
    len: u64,
    /// The last sequence number assigned.
    seq: u64,
    rotate_at: u64,
    /// Length up to which every byte is fsynced.
    saved: u64,
    /// The lines after that, kept to write them again if the disk fails.
    unsaved: Vec<u8>,
    /// How many records those are.
    unsaved_records: u64,
    /// Whether an error left the file in an unknown state: the log then continues in a new one.
    suspect: bool,
    start: Instant,
    _lock: Lock,
    _record: PhantomData<fn(&T)>,
}

impl<T: LogRecord> LogWriter<T> {
    /// Opens the log in `dir` under its folder's lock and repairs a torn end: those bytes go to `quarantine` and a
    /// `Repaired` record reports it. Damaged lines further up stay. The first new record gets a number above the
    /// highest one of all segments, so that no reader mistakes it for an old one.
    ///
    /// # Errors
    /// When files cannot be read or written, or a newer version of the program made the log.
    pub fn open(dir: &Path, quarantine: &Path, lock: &Lock) -> Result<Self> {
        Self::open_rotating(dir, quarantine, lock, ROTATE_AT)
    }

    /// [`LogWriter::open`] with another segment size.
    ///
    /// # Errors
    /// As [`LogWriter::open`].
    pub fn open_rotating(dir: &Path, quarantine: &Path, lock: &Lock, rotate_at: u64) -> Result<Self> {
        create_dir(dir)?;
        let listing = Listing::of(dir)?;
        let mut seq = 0;
        let mut newest = None;
        for segment in &listing.segments {
            let path = dir.join(&segment.name);
            let end = SegmentInfo::of(&path)?;
            match &end.header {
                Some(header) if header.log != T::LOG => continue,
                Some(header) if header.major > MAJOR => return Err(Error::Newer { path, major: header.major }),
                _ => {}
            }
            seq = seq.max(end.highest);
            newest = Some((segment, path, end)).filter(|(segment, ..)| segment.writable);
        }
        // Never append to a log of another kind, or to a segment whose number leaves none for the next one.
        let (number, path, end) = match newest {
            Some((segment, path, end)) if Some(segment) == listing.segments.last() => (segment.number, path, end),
            _ => {
                let path = segment_path(dir, listing.next);
                let len = begin::<T>(&path, &[], 0)?;
                sync_dir(dir)?;
                (listing.next, path, SegmentInfo { len, good: len, ..SegmentInfo::default() })
            }
        };
        let cut = Cut { offset: end.good, bytes: end.len - end.good, lines: end.lines };
        if cut.bytes > 0 {
            copy_to_quarantine(&path, cut.offset, quarantine)?;
        }
        let file = open_file_with(OpenOptions::new().read(true).append(true), &path)?;
        if cut.bytes > 0 {
            file.set_len(end.good).and_then(|()| file.sync_all()).map_err(|e| Error::io("repair", &path, e))?;
        }
        let mut writer = Self {
            dir: dir.to_owned(),
            path,
            next: listing.next.max(number.saturating_add(1)),
            file,
            len: end.good,
            seq,
            rotate_at,
            saved: end.good,
            unsaved: Vec::new(),
            unsaved_records: 0,
            suspect: false,
            start: Instant::now(),
            _lock: lock.clone(),
            _record: PhantomData,
        };
        writer.complete_last_line()?;
        if writer.len == 0 {
            writer.write_header()?;
        }
        if cut.bytes > 0 {
            writer.append(&T::repaired(cut))?;
            writer.sync()?;
        }
        Ok(writer)
    }

    /// The number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.seq
    }

    /// Appends a record in one write and returns its number. It is durable after [`LogWriter::sync`].
    ///
    /// # Errors
    /// When the record is too long, no number is left or the write fails; then the record is not in the log.
    pub fn append(&mut self, record: &T) -> Result<u64> {
        self.recover()?;
        let n = self.seq + 1;
        if n > MAX_SEQ {
            return Err(Error::NumbersExhausted(self.path.clone()));
        }
        let line = encode(n, self.start.elapsed().as_millis() as u64, wall_ms(), record)
            .map_err(|source| Error::Record { path: self.path.clone(), source })?;
        if self.unsaved.len() + line.len() > MAX_UNSAVED {
            self.sync()?;
        }
        if self.len > 0 && self.len + line.len() as u64 > self.rotate_at {
            self.rotate()?;
        }
        self.write(line.as_bytes())?;
        self.unsaved.extend_from_slice(line.as_bytes());
        self.unsaved_records += 1;
        self.seq = n;
        Ok(n)
    }

    /// Fsyncs every record appended so far.
    ///
    /// # Errors
    /// When the disk fails. The kernel may have dropped the bytes: the next call writes the records again, with the
    /// same numbers, to a new file.
    pub fn sync(&mut self) -> Result<()> {
        self.recover()?;
        pass("sync").and_then(|()| sync_data(&self.file)).map_err(|e| {
            self.suspect = true;
            Error::io("save", &self.path, e)
        })?;
        self.mark_saved();
        Ok(())
    }

    /// Notes that everything appended is on disk.
    fn mark_saved(&mut self) {
        self.saved = self.len;
        self.unsaved.clear();
        self.unsaved_records = 0;
    }

    /// After a disk failure, continues in a new file with the records that may not have reached the disk.
    fn recover(&mut self) -> Result<()> {
        if !self.suspect {
            return Ok(());
        }
        // If the old file cannot be cut, or a reader was faster, the new file's header says how much it repeats.
        let _ = self.file.set_len(self.saved);
        let (lines, records) = (self.unsaved.clone(), self.unsaved_records);
        self.begin_file(&lines, records)?;
        self.mark_saved();
        Ok(())
    }

    /// One write; a partial one is truncated.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let error = loop {
            match pass("append").and_then(|()| self.file.write(bytes)) {
                Ok(n) if n == bytes.len() => {
                    self.len += n as u64;
                    return Ok(());
                }
                // A short write to a regular file means that the disk is full or the file too large: writing on says which.
                Ok(n) => {
                    break match self.file.write(bytes.get(n..).unwrap_or_default()) {
                        Err(e) if e.kind() != ErrorKind::Interrupted => Error::io("append to", &self.path, e),
                        _ => Error::NoSpace { path: self.path.clone() },
                    };
                }
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
        let line = header_line::<T>(&self.path, 0)?;
        self.write(line.as_bytes())?;
        self.file.sync_all().map_err(|e| Error::io("save", &self.path, e))?;
        self.saved = self.len;
        sync_dir(&self.dir)
    }

    /// Adds the newline that a valid last record may lack.
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

    /// Continues in a new segment.
    fn rotate(&mut self) -> Result<()> {
        self.sync()?;
        self.begin_file(&[], 0)
    }

    /// Begins the next segment with `lines`, which hold `records` records.
    fn begin_file(&mut self, lines: &[u8], records: u64) -> Result<()> {
        let path = segment_path(&self.dir, self.next);
        if self.next >= SEGMENT_LIMIT {
            return Err(Error::NumbersExhausted(path));
        }
        let len = begin::<T>(&path, lines, records)?;
        // Readers may already see the new file: if anything below fails, the log continues in yet another one.
        self.suspect = true;
        self.next += 1;
        self.file = open_file_with(OpenOptions::new().read(true).append(true), &path)?;
        self.path = path;
        self.len = len;
        self.saved = len - lines.len() as u64;
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

/// In tests the disk fails on demand.
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

/// Creates a segment with its header and `lines`, and returns its length. It gets its name only after the fsync: a
/// reader that sees it knows that the one before is complete.
fn begin<T: LogRecord>(path: &Path, lines: &[u8], records: u64) -> Result<u64> {
    let header = header_line::<T>(path, records)?;
    let bytes = [header.as_bytes(), lines].concat();
    put(path, &bytes, true)?;
    Ok(bytes.len() as u64)
}

fn header_line<T: LogRecord>(path: &Path, again: u64) -> Result<String> {
    let header = Header { magic: "tiebreak".into(), major: MAJOR, minor: 0, log: T::LOG.into(), again };
    encode(0, 0, wall_ms(), &HeaderLine::Header(header))
        .map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// What a writer needs to know about a segment.
#[derive(Debug, Default)]
struct SegmentInfo {
    /// The file's length.
    len: u64,
    /// End of the last line that holds a whole record, its newline included where it has one.
    good: u64,
    /// Whole lines after it that are not blank.
    lines: u64,
    /// The highest sequence number.
    highest: u64,
    /// The header, if the first line is one.
    header: Option<Header>,
}

impl SegmentInfo {
    fn of(path: &Path) -> Result<Self> {
        let read = |e| Error::io("read", path, e);
        let file = open_file(path)?;
        let mut end = Self { len: file.metadata().map_err(read)?.len(), ..Self::default() };
        let len = end.len;
        let mut first = true;
        lines(&file, 0, len, |line| {
            let good = match line.content() {
                LineContent::Blank => {
                    if line.whole && end.lines == 0 && end.good > 0 {
                        end.good = line.end;
                    }
                    return;
                }
                LineContent::Record(n) => {
                    end.highest = end.highest.max(n);
                    true
                }
                LineContent::Damaged(records) => {
                    for range in &records {
                        let n = verify(&line.bytes[range.clone()]).map_or(0, |(n, _)| n);
                        end.highest = end.highest.max(n);
                    }
                    !records.is_empty()
                }
            };
            if std::mem::take(&mut first) {
                end.header = parse_header(line.bytes);
            }
            if good {
                (end.good, end.lines) = (line.end, 0);
            } else {
                end.lines += u64::from(line.whole);
            }
        })
        .map_err(read)?;
        Ok(end)
    }
}

/// Copies the bytes from `offset` on into the quarantine, durably, before they are cut.
fn copy_to_quarantine(path: &Path, offset: u64, quarantine: &Path) -> Result<()> {
    create_dir(quarantine)?;
    let bytes = read_tail(path, offset, LONGEST_SEGMENT)?;
    let log: Vec<_> = path.components().rev().take(3).map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    let name = log.into_iter().rev().collect::<Vec<_>>().join("-");
    write_new(&quarantine.join(format!("{name}-at-{offset}-{}-{}", wall_ms(), ticket())), &bytes)?;
    sync_dir(quarantine)
}
