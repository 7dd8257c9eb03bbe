//! A reader that follows a log across its segments, never repairing.
//!
//! Owns the reading positions and what was found wrong. Every whole record is taken, whatever stands beside it, once, and
//! given out in the order of the numbers. Two different records of one number are both kept: both have a right checksum, so
//! both were written by this program. The one that comes first in the log keeps the number; the other one goes by a number
//! made of its content.

use super::super::error::{Error, Result};
use super::scan::{Holds, lines};
use super::seen::{Met, Seen};
use super::{Listing, LogRecord, Segment, header};
use crate::protocol::{Damage, DamagedPlace, Envelope, Integrity, decode, verify};
use std::fs::File;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder that changed less than this ago may change again without its time telling.
const SETTLED: Duration = Duration::from_secs(2);

/// A place in a log. A poll when nothing changed costs two look-ups and reads nothing.
#[derive(Debug)]
pub struct LogTail<T> {
    dir: PathBuf,
    /// When the folder had last changed at the last listing, if it had come to rest by then.
    listed: Option<SystemTime>,
    places: Vec<Place>,
    foreign: Vec<String>,
    book: Book,
    _record: PhantomData<fn() -> T>,
}

/// What was read so far, over all segments.
#[derive(Debug, Default)]
struct Book {
    /// The log's folder as seen from the session's.
    folder: String,
    seen: Seen,
    integrity: Integrity,
    /// Damaged lines that held nothing whole: each accounts for one missing number.
    lost: u64,
}

/// A segment and how far it is read.
#[derive(Debug)]
struct Place {
    segment: Segment,
    path: PathBuf,
    /// As seen from the session's folder.
    name: String,
    file: Option<File>,
    /// Read to its end, and its writer has gone on to the next one.
    done: bool,
    /// End of the last line taken, and that line's number. Repair never cuts before it.
    offset: u64,
    line: u64,
    /// Whether its first line was judged.
    begun: bool,
    /// How many of its next records an earlier segment may hold too, as its header says.
    again: u64,
    /// Length and time of the file when it was last read, so that a torn end is not read again and again.
    looked: Option<(u64, Option<SystemTime>)>,
    /// Damaged lines at the end, which repair may still cut.
    pending: Integrity,
    /// Those of them that hold nothing whole.
    pending_lost: u64,
}

impl<T: LogRecord> LogTail<T> {
    /// A reader at the beginning of the log in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let parts: Vec<_> = dir.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        let folder = parts[parts.len().saturating_sub(T::DEPTH)..].join("/");
        Self {
            dir: dir.to_owned(),
            listed: None,
            places: Vec::new(),
            foreign: Vec::new(),
            book: Book { folder, ..Book::default() },
            _record: PhantomData,
        }
    }

    /// What is wrong with the log as far as it was read.
    #[must_use]
    pub fn integrity(&self) -> Integrity {
        let mut found = self.book.integrity.clone();
        for place in &self.places {
            found.merge(&place.pending);
        }
        let whole = |damage, file: String, what: String| DamagedPlace { damage, file, line: 0, what };
        for name in &self.foreign {
            let file = format!("{}/{name}", self.book.folder);
            found.note(1, whole(Damage::File, file, "not a segment of this log, so it was not read".into()));
        }
        // A damaged line is said as such; what is missing beyond it is said here.
        let lost = self.book.lost + self.places.iter().map(|place| place.pending_lost).sum::<u64>();
        let missing = self.book.seen.missing().saturating_sub(lost);
        if let Some((first, next)) = self.book.seen.first_gap().filter(|_| missing > 0) {
            let what = match next - 1 {
                last if last == first => format!("record {first} is missing"),
                last => format!("records {first} to {last} are missing"),
            };
            found.note(missing, whole(Damage::Missing, self.book.folder.clone(), what));
        }
        found
    }

    /// Places of damage so far.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.integrity().damage() as usize
    }

    /// The highest number of a record given out; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.book.seen.highest()
    }

    /// The records that were added since the last poll, in the order of their numbers. A line that is not whole yet is left
    /// for a later poll.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn poll(&mut self) -> Result<Vec<Envelope<T>>> {
        self.read(false)
    }

    /// As [`LogTail::poll`], and a last record without its newline is taken too. For reading a log once.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn finish(&mut self) -> Result<Vec<Envelope<T>>> {
        self.read(true)
    }

    fn read(&mut self, finish: bool) -> Result<Vec<Envelope<T>>> {
        // Listed before reading: a writer begins the next segment only after the last byte of this one.
        self.list()?;
        let mut taken = Vec::new();
        let last = self.places.len().saturating_sub(1);
        for (at, place) in self.places.iter_mut().enumerate() {
            place.read(at < last, finish, &mut self.book, &mut taken)?;
        }
        taken.sort_by_key(|(order, _)| *order);
        Ok(taken.into_iter().map(|(_, envelope)| envelope).collect())
    }

    fn list(&mut self) -> Result<()> {
        let changed = std::fs::metadata(&self.dir).and_then(|m| m.modified()).ok();
        if changed.is_some() && changed == self.listed {
            return Ok(());
        }
        self.listed = changed.filter(|at| at.elapsed().is_ok_and(|age| age > SETTLED));
        let listing = Listing::of(&self.dir)?;
        self.foreign = listing.foreign;
        for segment in listing.segments {
            if let Err(at) = self.places.binary_search_by(|place| place.segment.cmp(&segment)) {
                let name = format!("{}/{}", self.book.folder, segment.name);
                self.places.insert(at, Place::new(&self.dir, name, segment));
            }
        }
        Ok(())
    }
}

impl Place {
    fn new(dir: &Path, name: String, segment: Segment) -> Self {
        Self {
            path: dir.join(&segment.name),
            segment,
            name,
            file: None,
            done: false,
            offset: 0,
            line: 0,
            begun: false,
            again: 0,
            looked: None,
            pending: Integrity::default(),
            pending_lost: 0,
        }
    }

    /// Takes what is new. `closed`: its writer has gone on to the next segment. `finish`: nothing more is expected.
    fn read<T: LogRecord>(
        &mut self,
        closed: bool,
        finish: bool,
        book: &mut Book,
        taken: &mut Vec<(u64, Envelope<T>)>,
    ) -> Result<()> {
        if self.done {
            return Ok(());
        }
        let file = match self.file.take().map_or_else(|| File::open(&self.path), Ok) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io("open", &self.path, e)),
        };
        let meta = file.metadata().map_err(|e| Error::io("read", &self.path, e))?;
        let look = (meta.len(), meta.modified().ok());
        if self.looked != Some(look) || closed || finish {
            self.looked = Some(look);
            self.take_new(&file, meta.len(), closed, finish, book, taken)?;
        }
        self.done |= closed;
        if !self.done {
            self.file = Some(file);
        }
        Ok(())
    }

    fn take_new<T: LogRecord>(
        &mut self,
        file: &File,
        len: u64,
        closed: bool,
        finish: bool,
        book: &mut Book,
        taken: &mut Vec<(u64, Envelope<T>)>,
    ) -> Result<()> {
        (self.pending, self.pending_lost) = (Integrity::default(), 0);
        let (mut number, mut end) = (self.line, self.offset);
        let path = self.path.clone();
        let read = lines(file, self.offset, len, |line| {
            let bytes = line.end - end;
            (number, end) = (number + 1, line.end);
            if self.done {
                return;
            }
            let ended = line.whole || closed;
            match line.holds() {
                Holds::Nothing => {}
                Holds::Record if ended || finish => {
                    self.settle(number, end, book);
                    self.take(line.bytes, book, taken);
                }
                Holds::Damage(records) if ended || (finish && !records.is_empty()) => {
                    let what = "not a complete record: the checksum does not match";
                    self.pending.note(1, self.damaged(Damage::Line, number, what));
                    // The header has no number to be missed.
                    self.pending_lost += u64::from(records.is_empty() && number > 1);
                    if closed || !records.is_empty() {
                        self.settle(number, end, book);
                        for range in records {
                            self.take(&line.bytes[range], book, taken);
                        }
                    }
                }
                Holds::Record | Holds::Damage(_) => self.pending.unfinished_bytes += bytes,
            }
        });
        read.map_err(|e| Error::io("read", &path, e))
    }

    fn damaged(&self, damage: Damage, line: u64, what: &str) -> DamagedPlace {
        DamagedPlace { damage, file: self.name.clone(), line, what: what.into() }
    }

    /// What was read up to here stays as it is: what is damaged before a good line is never cut.
    fn settle(&mut self, line: u64, end: u64, book: &mut Book) {
        let pending = std::mem::take(&mut self.pending);
        self.begun |= !pending.is_intact();
        book.integrity.merge(&pending);
        book.lost += std::mem::take(&mut self.pending_lost);
        (self.line, self.offset) = (line, end);
    }

    /// Takes a whole record, which ends in the line that was settled last.
    fn take<T: LogRecord>(&mut self, record: &[u8], book: &mut Book, taken: &mut Vec<(u64, Envelope<T>)>) {
        let decoded = verify(record).and_then(|(_, sum)| Ok((sum, decode::<T>(record)?)));
        let (sum, mut envelope) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                book.integrity.note(1, self.damaged(Damage::Line, self.line, &error.to_string()));
                return;
            }
        };
        let first = !std::mem::replace(&mut self.begun, true);
        if envelope.n == 0 {
            match header(record) {
                Some(header) if first && header.log != T::LOG => {
                    let what = format!("a log of the kind `{}`, so it was not read", header.log);
                    book.integrity.note(1, self.damaged(Damage::File, 0, &what));
                    self.done = true;
                }
                Some(header) if first => self.again = header.again,
                _ => book.integrity.note(1, self.damaged(Damage::Repeated, self.line, "the header is repeated here")),
            }
            return;
        }
        if first {
            book.integrity.note(1, self.damaged(Damage::Line, self.line, "the file does not begin with its header"));
        }
        let n = envelope.n;
        let written_again = self.again > 0;
        self.again = self.again.saturating_sub(1);
        match book.seen.meet(n, sum) {
            Met::New => {}
            Met::Late => {
                let what = format!("record {n} comes after record {}", book.seen.highest());
                book.integrity.note(1, self.damaged(Damage::Order, self.line, &what));
            }
            Met::Again if written_again => return,
            Met::Again => {
                let what = format!("record {n} is repeated here");
                book.integrity.note(1, self.damaged(Damage::Repeated, self.line, &what));
                return;
            }
            Met::Conflict(other) => {
                let what = format!("another record already has number {n}");
                book.integrity.note(1, self.damaged(Damage::Conflict, self.line, &what));
                envelope.n = other;
                // It was written beside others of its kind: what it is about is one of them.
                if let Ok(record) = &mut envelope.data
                    && let Some(about) = record.about()
                {
                    *about = book.seen.beside(*about).unwrap_or(*about);
                }
            }
        }
        if let Some(cut) = envelope.known().and_then(LogRecord::cut) {
            book.integrity.quarantined_bytes += cut.bytes;
            let what = format!("{} damaged bytes from here are in the quarantine", cut.bytes);
            book.integrity.note(cut.lines, self.damaged(Damage::Quarantined, self.line, &what));
        }
        book.integrity.opaque += u64::from(envelope.data.is_err());
        // A record that goes by another number stays where it was written: behind the highest before it.
        let order = if envelope.n == n { n } else { book.seen.highest() };
        taken.push((order, envelope));
    }
}
