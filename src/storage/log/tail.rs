//! A reader that follows a log across its segments and never repairs it.
//!
//! Owns the read positions and the damage found. Every whole record is returned once, in numeric order, whatever damage
//! surrounds it. Two different records with one number are both kept: both checksums match, so this program wrote both.
//! The first one in the log keeps the number; the other gets a substitute derived from its content.

use super::super::error::{Error, Result};
use super::super::files::open_file;
use super::scan::{LineContent, ParsedRecord, parsed_lines};
use super::seq_index::{Relation, SeqIndex};
use super::{Listing, LogRecord, LogSegment, parse_header};
use crate::protocol::{Damage, DamagedPlace, Envelope, Integrity, parse_verified, verify};
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder modified more recently than this may change again without a new mtime.
const SETTLED: Duration = Duration::from_secs(2);

/// A cursor in a log. Polling an unchanged log costs two metadata look-ups and reads nothing.
#[derive(Debug)]
pub struct LogTail<T> {
    dir: PathBuf,
    /// The folder's mtime at the last listing, if it had settled by then.
    listed: Option<SystemTime>,
    cursors: Vec<SegmentCursor>,
    foreign: Vec<(String, String)>,
    state: ReadState,
    _record: PhantomData<fn() -> T>,
}

/// A part of a log.
#[derive(Debug)]
pub struct LogPart<T> {
    /// Its records, in numeric order.
    pub records: Vec<Envelope<T>>,
    /// Whether there may be more.
    pub more: bool,
    /// Whether all of them come after the parts before. Else an undo may have come before what it undoes: what was made of
    /// the parts is wrong, and the log must be read again as a whole.
    pub in_order: bool,
}

/// What was read so far from all segments.
#[derive(Debug, Clone, Default)]
struct ReadState {
    /// The log's folder, relative to the session's.
    folder: String,
    index: SeqIndex,
    integrity: Integrity,
    /// Damaged lines without a whole record: each explains one missing number.
    lost: u64,
}

/// A segment and the read position in it.
#[derive(Debug)]
struct SegmentCursor {
    segment: LogSegment,
    path: PathBuf,
    /// Relative to the session's folder.
    name: String,
    file: Option<File>,
    /// Read to its end, and the writer has moved to the next one.
    done: bool,
    /// End of the last line read, and that line's number. Repair never cuts before it.
    offset: u64,
    line: u64,
    /// Whether its first line was checked for the header.
    header_checked: bool,
    /// How many of its next records may also be in an earlier segment, as its header says.
    may_repeat: u64,
    /// Length and mtime of the file when it was last read, so that a torn end is not reread at every poll.
    last_stat: Option<(u64, Option<SystemTime>)>,
    /// Damaged lines at the end, which repair may still cut.
    pending: Integrity,
    /// How many of those contain no whole record.
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
            cursors: Vec::new(),
            foreign: Vec::new(),
            state: ReadState { folder, ..ReadState::default() },
            _record: PhantomData,
        }
    }

    /// Another reader that goes on from the same place.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            listed: self.listed,
            cursors: self.cursors.iter().map(SegmentCursor::beside).collect(),
            foreign: self.foreign.clone(),
            state: self.state.clone(),
            _record: PhantomData,
        }
    }

    /// The damage found so far.
    #[must_use]
    pub fn integrity(&self) -> Integrity {
        let mut integrity = self.state.integrity.clone();
        for cursor in &self.cursors {
            integrity.merge(&cursor.pending);
        }
        let whole_file = |damage, file: String, what: String| DamagedPlace { damage, file, line: 0, what };
        for (name, why) in &self.foreign {
            let file = format!("{}/{name}", self.state.folder);
            integrity.note(1, whole_file(Damage::File, file, why.clone()));
        }
        // Damaged lines are reported already; this reports the missing numbers beyond them.
        let lost = self.state.lost + self.cursors.iter().map(|cursor| cursor.pending_lost).sum::<u64>();
        let missing = self.state.index.missing().saturating_sub(lost);
        if let Some((first, next)) = self.state.index.first_gap().filter(|_| missing > 0) {
            let what = match next - 1 {
                last if last == first => format!("record {first} is missing"),
                last => format!("records {first} to {last} are missing"),
            };
            integrity.note(missing, whole_file(Damage::Missing, self.state.folder.clone(), what));
        }
        integrity
    }

    /// Total damage so far.
    #[must_use]
    pub fn damage_count(&self) -> usize {
        self.integrity().damage() as usize
    }

    /// The highest sequence number returned; 0 before the first.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.state.index.highest()
    }

    /// The records added since the last poll, in numeric order. An incomplete line is left for a later poll.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn poll(&mut self) -> Result<Vec<Envelope<T>>> {
        self.read(false)
    }

    /// As [`LogTail::poll`], but reads only so many bytes. For the first reading of a long log in parts, so that work on the
    /// first ones can begin.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn poll_part(&mut self, bytes: u64) -> Result<LogPart<T>> {
        self.list()?;
        let before = self.state.index.highest();
        let mut budget = bytes;
        let (first, records) = self.read_within(false, &mut budget)?;
        Ok(LogPart { records, more: budget == 0, in_order: first.is_none_or(|first| first >= before) })
    }

    /// As [`LogTail::poll`], but includes a last record without a newline. For reading a log once.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn finish(&mut self) -> Result<Vec<Envelope<T>>> {
        self.read(true)
    }

    fn read(&mut self, finish: bool) -> Result<Vec<Envelope<T>>> {
        // Listed before reading: a writer begins the next segment only after the last byte of this one.
        self.list()?;
        Ok(self.read_within(finish, &mut u64::MAX.clone())?.1)
    }

    /// Reads up to `budget` bytes of what is new, and takes them off it; 0 is left when there may be more. The first value is
    /// the lowest place of the records in the log's order.
    fn read_within(&mut self, finish: bool, budget: &mut u64) -> Result<(Option<u64>, Vec<Envelope<T>>)> {
        let mut out = Vec::new();
        let last = self.cursors.len().saturating_sub(1);
        for (at, cursor) in self.cursors.iter_mut().enumerate() {
            if *budget == 0 {
                break;
            }
            cursor.read(at < last, finish, &mut self.state, &mut out, budget)?;
        }
        if !out.is_sorted_by_key(|(order, _)| *order) {
            out.sort_by_key(|(order, _)| *order);
        }
        Ok((out.first().map(|(order, _)| *order), out.into_iter().map(|(_, envelope)| envelope).collect()))
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
            if let Err(at) = self.cursors.binary_search_by(|cursor| cursor.segment.cmp(&segment)) {
                let name = format!("{}/{}", self.state.folder, segment.name);
                self.cursors.insert(at, SegmentCursor::new(&self.dir, name, segment));
            }
        }
        Ok(())
    }
}

impl SegmentCursor {
    fn new(dir: &Path, name: String, segment: LogSegment) -> Self {
        Self {
            path: dir.join(&segment.name),
            segment,
            name,
            file: None,
            done: false,
            offset: 0,
            line: 0,
            header_checked: false,
            may_repeat: 0,
            last_stat: None,
            pending: Integrity::default(),
            pending_lost: 0,
        }
    }

    /// A cursor of another reader at the same place, which opens the file itself.
    fn beside(&self) -> Self {
        Self {
            segment: self.segment.clone(),
            path: self.path.clone(),
            name: self.name.clone(),
            file: None,
            done: self.done,
            offset: self.offset,
            line: self.line,
            header_checked: self.header_checked,
            may_repeat: self.may_repeat,
            last_stat: None,
            pending: self.pending.clone(),
            pending_lost: self.pending_lost,
        }
    }

    /// Reads what is new. `closed`: the writer has moved to the next segment. `finish`: no more data is expected.
    fn read<T: LogRecord>(
        &mut self,
        closed: bool,
        finish: bool,
        state: &mut ReadState,
        out: &mut Vec<(u64, Envelope<T>)>,
        budget: &mut u64,
    ) -> Result<()> {
        if self.done {
            return Ok(());
        }
        let file = match self.file.take().map_or_else(|| open_file(&self.path), Ok) {
            Ok(file) => file,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let meta = file.metadata().map_err(|e| Error::io("read", &self.path, e))?;
        let stat = (meta.len(), meta.modified().ok());
        if self.last_stat != Some(stat) || closed || finish {
            let part = meta.len().min(self.offset.saturating_add(*budget));
            let whole = part == meta.len();
            *budget = if whole { *budget - (part - self.offset.min(part)) } else { 0 };
            self.last_stat = whole.then_some(stat);
            self.read_new(&file, part, closed && whole, finish, state, out)?;
            if !whole {
                self.file = Some(file);
                return Ok(());
            }
        }
        self.done |= closed;
        if !self.done {
            self.file = Some(file);
        }
        Ok(())
    }

    fn read_new<T: LogRecord>(
        &mut self,
        file: &File,
        len: u64,
        closed: bool,
        finish: bool,
        state: &mut ReadState,
        out: &mut Vec<(u64, Envelope<T>)>,
    ) -> Result<()> {
        (self.pending, self.pending_lost) = (Integrity::default(), 0);
        let (mut number, mut end) = (self.line, self.offset);
        let path = self.path.clone();
        let read = parsed_lines(file, self.offset, len, |line, content| {
            let bytes = line.end - end;
            (number, end) = (number + 1, line.end);
            if self.done {
                return;
            }
            let ended = line.whole || closed;
            match content {
                LineContent::Blank => {}
                LineContent::Record(parsed) if ended || finish => {
                    self.commit(number, end, state);
                    self.take_record(line.bytes, parsed, state, out);
                }
                LineContent::Damaged(records) if ended || (finish && !records.is_empty()) => {
                    let what = "not a complete record: the checksum does not match";
                    self.pending.note(1, self.damaged(Damage::Line, number, what));
                    // The header has no number that could be missing.
                    self.pending_lost += u64::from(records.is_empty() && number > 1);
                    if closed || !records.is_empty() {
                        self.commit(number, end, state);
                        for range in records {
                            let record = &line.bytes[range];
                            let parsed = verify(record).and_then(|(_, sum)| Ok((sum, parse_verified(record)?)));
                            self.take_record(record, parsed, state, out);
                        }
                    }
                }
                LineContent::Record(_) | LineContent::Damaged(_) => self.pending.unfinished_bytes += bytes,
            }
        });
        read.map_err(|e| Error::io("read", &path, e))
    }

    fn damaged(&self, damage: Damage, line: u64, what: &str) -> DamagedPlace {
        DamagedPlace { damage, file: self.name.clone(), line, what: what.into() }
    }

    /// Commits the position and the damage before it: repair never cuts before a good line.
    fn commit(&mut self, line: u64, end: u64, state: &mut ReadState) {
        (self.line, self.offset) = (line, end);
        if self.pending == Integrity::default() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        self.header_checked |= !pending.is_intact();
        state.integrity.merge(&pending);
        state.lost += std::mem::take(&mut self.pending_lost);
    }

    /// Takes a whole record of the line that was committed last.
    fn take_record<T: LogRecord>(
        &mut self,
        record: &[u8],
        parsed: ParsedRecord<T>,
        state: &mut ReadState,
        out: &mut Vec<(u64, Envelope<T>)>,
    ) {
        let (checksum, mut envelope) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                state.integrity.note(1, self.damaged(Damage::Line, self.line, &error.to_string()));
                return;
            }
        };
        let first = !std::mem::replace(&mut self.header_checked, true);
        if envelope.n == 0 {
            match parse_header(record) {
                Some(header) if first && header.log != T::LOG => {
                    let what = format!("a log of the kind `{}`, so it was not read", header.log);
                    state.integrity.note(1, self.damaged(Damage::File, 0, &what));
                    self.done = true;
                }
                Some(header) if first => self.may_repeat = header.again,
                _ => state.integrity.note(1, self.damaged(Damage::Repeated, self.line, "the header is repeated here")),
            }
            return;
        }
        if first {
            state.integrity.note(1, self.damaged(Damage::Line, self.line, "the file does not begin with its header"));
        }
        let n = envelope.n;
        let may_repeat = self.may_repeat > 0;
        self.may_repeat = self.may_repeat.saturating_sub(1);
        match state.index.insert(n, checksum) {
            Relation::New => {}
            Relation::Late => {
                let what = format!("record {n} comes after record {}", state.index.highest());
                state.integrity.note(1, self.damaged(Damage::Order, self.line, &what));
            }
            Relation::Duplicate if may_repeat => return,
            Relation::Duplicate => {
                let what = format!("record {n} is repeated here");
                state.integrity.note(1, self.damaged(Damage::Repeated, self.line, &what));
                return;
            }
            Relation::Conflict(substitute) => {
                let what = format!("another record already has number {n}");
                state.integrity.note(1, self.damaged(Damage::Conflict, self.line, &what));
                envelope.n = substitute;
                // It was written beside other conflicting records: its target is one of them.
                if let Ok(record) = &mut envelope.data
                    && let Some(target) = record.target()
                {
                    *target = state.index.substitute_of(*target).unwrap_or(*target);
                }
            }
        }
        if let Some(cut) = envelope.known().and_then(LogRecord::cut) {
            state.integrity.quarantined_bytes += cut.bytes;
            let what = format!("{} damaged bytes from here are in the quarantine", cut.bytes);
            state.integrity.note(cut.lines, self.damaged(Damage::Quarantined, self.line, &what));
        }
        state.integrity.opaque += u64::from(envelope.data.is_err());
        // A record with a substitute number keeps its written order: after the highest number before it.
        let order = if envelope.n == n { n } else { state.index.highest() };
        out.push((order, envelope));
    }
}
