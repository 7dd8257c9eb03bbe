//! Logs under damage: repairs, skipped lines and what a reader returns.

use super::*;
use crate::domain::{PairId, Rater};
use crate::protocol::decode;
use crate::storage::{Error, Lock};
use std::cell::Cell;
use std::fs;
use std::io::Write;

thread_local! {
    /// How many of the next fsyncs of a log fail, in this thread.
    pub(super) static FAULTS: Cell<u32> = const { Cell::new(0) };
}

struct TestLog {
    dir: tempfile::TempDir,
}

impl TestLog {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    fn events(&self) -> PathBuf {
        self.dir.path().join("events")
    }
    fn first(&self) -> PathBuf {
        segment_path(&self.events(), 1)
    }
    fn quarantine(&self) -> PathBuf {
        self.dir.path().join("quarantine")
    }
    fn open(&self) -> LogWriter<SessionRecord> {
        self.rotating(64 << 20)
    }
    fn rotating(&self, at: u64) -> LogWriter<SessionRecord> {
        let lock = Lock::take(&self.dir.path().join("lock")).unwrap().unwrap();
        LogWriter::open_rotating(&self.events(), &self.quarantine(), &lock, at).unwrap()
    }
    fn tail(&self) -> LogTail<SessionRecord> {
        LogTail::new(&self.events())
    }
    fn read(&self) -> (Vec<Envelope<SessionRecord>>, usize) {
        let mut tail = self.tail();
        let records = tail.poll().unwrap();
        (records, tail.damage_count())
    }
    fn write(&self, bytes: &[u8]) {
        fs::create_dir_all(self.events()).unwrap();
        fs::write(self.first(), bytes).unwrap();
    }
    fn quarantined(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for name in crate::storage::files::names(&self.quarantine()).unwrap() {
            all.extend(fs::read(self.quarantine().join(name)).unwrap());
        }
        all
    }
}

use crate::protocol::Envelope;

fn note(i: usize) -> SessionRecord {
    SessionRecord::Noted { pair: PairId::new(format!("i{i}")), rater: Rater::new("ann"), text: format!("é{i}") }
}

fn filled(records: usize) -> (TestLog, Vec<u8>) {
    let log = TestLog::new();
    let mut writer = log.open();
    for i in 1..=records {
        assert_eq!(writer.append(&note(i)).unwrap(), i as u64);
    }
    writer.sync().unwrap();
    let bytes = fs::read(log.first()).unwrap();
    (log, bytes)
}

fn known(records: &[Envelope<SessionRecord>]) -> Vec<&SessionRecord> {
    records.iter().filter_map(Envelope::known).collect()
}

#[test]
fn a_tail_cut_at_every_byte_loses_at_most_the_cut_record() {
    let (_, bytes) = filled(6);
    let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    for cut in ends[3]..bytes.len() {
        let log = TestLog::new();
        log.write(&bytes[..cut]);
        // A record is whole if only its newline is missing.
        let whole = ends.iter().filter(|end| **end <= cut + 1).count() - 1;
        let before = log.read().0.len();
        assert!(before == whole || before + 1 == whole, "the reader takes whole lines only");
        let mut writer = log.open();
        writer.append(&note(100)).unwrap();
        let (records, skipped) = log.read();
        assert_eq!(skipped, 0);
        let seen = known(&records);
        for (i, record) in seen.iter().enumerate().take(whole) {
            assert_eq!(**record, note(i + 1), "cut at {cut}");
        }
        assert_eq!(**seen.last().unwrap(), note(100), "cut at {cut}");
        let good = ends[whole];
        if cut + 1 == good || cut == good {
            assert_eq!(seen.len(), whole + 1, "nothing to repair, cut at {cut}");
            assert!(log.quarantined().is_empty());
        } else {
            let torn = &bytes[good..cut];
            assert_eq!(
                *seen[whole],
                SessionRecord::Repaired { offset: good as u64, bytes: torn.len() as u64, lines: 0 }
            );
            assert_eq!(log.quarantined(), torn);
        }
        assert!(records.windows(2).all(|w| w[1].n == w[0].n + 1), "numbers without gaps");
    }
}

#[test]
fn nul_runs_and_bit_flips_at_the_end_go_to_quarantine() {
    let (_, bytes) = filled(4);
    let mut nul = bytes.clone();
    nul.extend([0; 5000]);
    let log = TestLog::new();
    log.write(&nul);
    drop(log.open());
    assert_eq!(log.quarantined(), vec![0; 5000]);
    assert_eq!(log.read().0.len(), 5);

    let last = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    for at in last..bytes.len() - 1 {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let log = TestLog::new();
        log.write(&flipped);
        let mut writer = log.open();
        writer.append(&note(9)).unwrap();
        let (records, _) = log.read();
        let seen = known(&records);
        // A flip within the checksum's hex digits that only changes their case leaves the record readable.
        if log.quarantined().is_empty() {
            assert_eq!(seen.len(), 5, "flip at {at}");
        } else {
            assert_eq!(*seen[2], note(3));
            assert!(matches!(seen[3], SessionRecord::Repaired { .. }), "flip at {at}: {:?}", seen[3]);
            assert_eq!(*seen[4], note(9));
        }
    }
}

#[test]
fn damage_inside_a_file_is_skipped_and_counted_but_never_cut() {
    let (_, bytes) = filled(5);
    let text = String::from_utf8(bytes).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let header = lines[0].to_owned();
    let glued = format!("{}{}", &lines[2][..40], lines[3]);
    lines[2] = "\u{0}\u{0}\u{0}";
    lines[3] = &glued;
    lines.insert(4, &header);
    lines.insert(4, "");
    let crlf = lines.join("\r\n") + "\r\n";
    let log = TestLog::new();
    log.write(crlf.as_bytes());
    let mut writer = log.open();
    assert_eq!(writer.append(&note(6)).unwrap(), 6);
    let mut tail = log.tail();
    let records = tail.poll().unwrap();
    // The whole record after half of another one in the same line is read; the other one is missing.
    assert_eq!(known(&records), [&note(1), &note(3), &note(4), &note(5), &note(6)]);
    let integrity = tail.integrity();
    assert_eq!(
        (integrity.damaged_lines, integrity.repeated_lines, integrity.missing_records),
        (2, 1, 0),
        "{integrity:?}"
    );
    assert_eq!((integrity.damage(), integrity.first[0].line), (3, 3), "{integrity:?}");
    assert!(fs::read(log.first()).unwrap().starts_with(crlf.as_bytes()));
    assert!(log.quarantined().is_empty());
}

#[test]
fn a_fully_damaged_log_restarts_and_quarantines_its_bytes() {
    let log = TestLog::new();
    log.write(b"not a log\nat all");
    let mut writer = log.open();
    writer.append(&note(1)).unwrap();
    assert_eq!(log.quarantined(), b"not a log\nat all");
    let (records, damage) = log.read();
    assert_eq!(damage, 1, "a whole line is in the quarantine");
    assert_eq!(known(&records), [&SessionRecord::Repaired { offset: 0, bytes: 16, lines: 1 }, &note(1)]);
}

#[test]
fn numbers_continue_across_segments_and_reopening() {
    let log = TestLog::new();
    let mut tail = log.tail();
    let mut seen = Vec::new();
    for round in 0..7 {
        let mut writer = log.rotating(600);
        for i in 0..5 {
            writer.append(&note(round * 5 + i)).unwrap();
            if i % 2 == 0 {
                seen.extend(tail.poll().unwrap());
            }
        }
    }
    seen.extend(tail.poll().unwrap());
    assert!(Listing::of(&log.events()).unwrap().segments.len() > 3);
    assert_eq!(seen.iter().map(|e| e.n).collect::<Vec<_>>(), (1..=35).collect::<Vec<_>>());
    assert_eq!(tail.damage_count(), 0);
    assert_eq!(log.read().0.len(), 35);
    // In a file with only a header the numbers continue from the files before it.
    let last = newest(&log.events()).unwrap().unwrap();
    let text = fs::read_to_string(&last).unwrap();
    fs::write(&last, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    let last = log.read().0.last().unwrap().n;
    assert_eq!(log.rotating(600).append(&note(0)).unwrap(), last + 1);
}

#[test]
fn a_reader_waits_for_the_end_of_a_line() {
    let (_, bytes) = filled(3);
    let log = TestLog::new();
    log.write(b"");
    let mut tail = log.tail();
    let mut file = fs::OpenOptions::new().append(true).open(log.first()).unwrap();
    let mut seen = 0;
    for byte in &bytes {
        file.write_all(&[*byte]).unwrap();
        seen += tail.poll().unwrap().len();
    }
    assert_eq!((seen, tail.damage_count()), (3, 0));
    assert!(tail.poll().unwrap().is_empty());
}

#[test]
fn a_reader_follows_a_repair_of_damage_it_has_read() {
    let (log, mut bytes) = filled(3);
    let mut tail = log.tail();
    let n = bytes.len();
    bytes[n - 20] ^= 4;
    log.write(&bytes);
    assert_eq!(tail.poll().unwrap().len(), 2);
    let mut writer = log.open();
    writer.append(&note(7)).unwrap();
    let records = tail.poll().unwrap();
    assert_eq!(records.iter().map(|e| e.n).collect::<Vec<_>>(), [3, 4]);
    // The damaged line was whole: its record may have been acknowledged, so its loss is reported for good.
    let integrity = tail.integrity();
    assert_eq!((integrity.quarantined_lines, integrity.damage()), (1, 1), "{integrity:?}");
}

#[test]
fn the_lock_has_one_owner_until_its_last_writer_is_dropped() {
    let log = TestLog::new();
    let path = log.dir.path().join("lock");
    let writer = log.open();
    assert!(Lock::take(&path).unwrap().is_none());
    assert!(crate::storage::is_locked(&path));
    assert_eq!(crate::storage::lock_holder(&path).unwrap().pid, std::process::id());
    drop(writer);
    assert!(!crate::storage::is_locked(&path));
    Lock::take(&path).unwrap().unwrap().release();
}

#[test]
fn a_newer_format_is_read_only() {
    let (_, bytes) = filled(2);
    let text = String::from_utf8(bytes).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let body = lines[0].replace("\"major\":1", "\"major\":2");
    let body = &body[..body.len() - 16];
    lines[0] = format!("{body},\"c\":\"{:08x}\"}}", crc32fast::hash(body.as_bytes()));
    assert!(decode::<HeaderLine>(lines[0].as_bytes()).unwrap().data.is_ok());
    let log = TestLog::new();
    log.write((lines.join("\n") + "\n").as_bytes());
    assert_eq!(log.read().0.len(), 2);
    let lock = Lock::take(&log.dir.path().join("lock")).unwrap().unwrap();
    let opened = LogWriter::<SessionRecord>::open(&log.events(), &log.quarantine(), &lock);
    assert!(matches!(opened, Err(Error::Newer { major: 2, .. })));
}

#[test]
fn a_too_long_record_is_refused_and_leaves_the_log_unchanged() {
    let (log, bytes) = filled(1);
    let mut writer = log.open();
    let long = SessionRecord::Noted {
        pair: PairId::new("p"),
        rater: Rater::new("a"),
        text: "x".repeat(crate::protocol::MAX_LINE),
    };
    assert!(matches!(writer.append(&long), Err(Error::Record { .. })));
    assert_eq!(fs::read(log.first()).unwrap(), bytes);
    assert_eq!(writer.append(&note(2)).unwrap(), 2);
}

#[test]
fn conflicting_records_are_both_kept_and_an_undo_beside_the_second_targets_the_second() {
    let log = TestLog::new();
    let judged = |pair: &str| {
        SessionRecord::Judged(
            crate::domain::Verdict {
                pair: PairId::new(pair),
                rater: Rater::new("ann"),
                choice: crate::domain::Choice::Tie,
                left: crate::domain::Side::A,
                seen: crate::domain::Seen::Full,
                ms: 1,
                winner_hash: None,
                asked: crate::domain::Asked::default(),
                showing: crate::domain::Showing::default(),
            }
            .into(),
        )
    };
    let mut writer = log.open();
    writer.append(&judged("one")).unwrap();
    writer.append(&note(2)).unwrap();
    drop(writer);
    // As a release wrote it that began again at 1.
    let mut bytes = fs::read(log.first()).unwrap();
    for (n, record) in [(1, judged("two")), (2, SessionRecord::Undone { of: 1 })] {
        bytes.extend(crate::protocol::encode(n, 5, 5, &record).unwrap().bytes());
    }
    log.write(&bytes);
    let read = || {
        let mut state = crate::domain::Session::default();
        let mut tail = log.tail();
        for envelope in tail.poll().unwrap() {
            crate::protocol::apply_record(&mut state, envelope.n, envelope.w, envelope.known().unwrap());
        }
        let verdicts: Vec<_> = state.verdicts().map(|(n, j)| (n, j.verdict.pair.to_string(), j.undone)).collect();
        (verdicts, tail.integrity())
    };
    let (verdicts, integrity) = read();
    assert_eq!((integrity.conflicts, integrity.damage()), (2, 2), "{integrity:?}");
    assert_eq!(verdicts.len(), 2);
    assert_eq!((verdicts[0].0, verdicts[0].1.as_str(), verdicts[0].2), (1, "one", false));
    assert_eq!((verdicts[1].1.as_str(), verdicts[1].2), ("two", true));
    // Every reader gets the same substitute number, so later records can refer to it.
    let mut writer = log.open();
    assert_eq!(writer.append(&SessionRecord::Redone { of: verdicts[1].0 }).unwrap(), 3);
    let (verdicts, _) = read();
    assert_eq!((verdicts[1].1.as_str(), verdicts[1].2), ("two", false));
}

#[test]
fn records_of_a_failed_fsync_are_rewritten_with_their_numbers() {
    let log = TestLog::new();
    let mut writer = log.open();
    writer.append(&note(1)).unwrap();
    writer.sync().unwrap();
    let mut tail = log.tail();
    for i in 2..=4 {
        assert_eq!(writer.append(&note(i)).unwrap(), i as u64);
    }
    assert_eq!(tail.poll().unwrap().len(), 4, "a reader may be ahead of the disk");
    FAULTS.set(1);
    assert!(writer.sync().is_err());
    assert_eq!(writer.append(&note(5)).unwrap(), 5, "the next try begins a new file");
    writer.sync().unwrap();
    let (records, skipped) = log.read();
    assert_eq!(records.iter().map(|e| e.n).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!((known(&records)[4], skipped), (&note(5), 0));
    assert_eq!(tail.poll().unwrap().iter().map(|e| e.n).collect::<Vec<_>>(), [5]);
    assert!(!segment_path(&log.events(), 3).exists());
    // The records of the failed fsync are in the new file, not in the old one.
    let second = fs::read_to_string(segment_path(&log.events(), 2)).unwrap();
    assert_eq!(second.lines().count(), 5, "{second}");
    drop(writer);
    assert_eq!(log.open().append(&note(6)).unwrap(), 6);
}

#[test]
fn repeated_disk_failures_lose_nothing() {
    let log = TestLog::new();
    let mut writer = log.open();
    writer.append(&note(1)).unwrap();
    for _ in 0..3 {
        FAULTS.set(1);
        assert!(writer.sync().is_err());
        assert_eq!(FAULTS.get(), 0, "every call tries the disk");
        writer.append(&note(9)).unwrap();
    }
    writer.sync().unwrap();
    let (records, skipped) = log.read();
    assert_eq!(known(&records), [&note(1), &note(9), &note(9), &note(9)]);
    assert_eq!(skipped, 0);
}

#[test]
fn a_log_read_in_parts_is_the_log_read_whole_and_one_out_of_order_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let (events, quarantine) = (home.path().join("events"), home.path().join("quarantine"));
    let lock = Lock::take(&home.path().join("lock")).unwrap().unwrap();
    let mut log: LogWriter<SessionRecord> = LogWriter::open_rotating(&events, &quarantine, &lock, 4000).unwrap();
    for of in 0..200 {
        log.append(&SessionRecord::Undone { of }).unwrap();
    }
    log.sync().unwrap();
    let whole = LogTail::<SessionRecord>::new(&events).poll().unwrap();
    assert_eq!(whole.len(), 200);
    let parts = |bytes: u64| {
        let mut tail = LogTail::<SessionRecord>::new(&events);
        let (mut out, mut reads, mut in_order) = (Vec::new(), 0, true);
        loop {
            let part = tail.poll_part(bytes).unwrap();
            out.extend(part.records);
            reads += 1;
            in_order &= part.in_order;
            if !part.more {
                return (out, reads, tail.damage_count(), in_order);
            }
        }
    };
    for bytes in [300, 1000, 4000, 1 << 20] {
        let (out, reads, damage, in_order) = parts(bytes);
        assert_eq!((out == whole, damage, in_order), (true, 0, true), "{bytes}");
        assert!(reads > 1 || bytes == 1 << 20, "{bytes}: {reads}");
    }
    // The first record of the second file at its end: read in parts it comes too late, and the reader says so.
    let second = events.join("000002.jsonl");
    let text = std::fs::read_to_string(&second).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let first = lines.remove(1);
    lines.push(first);
    std::fs::write(&second, lines.join("\n") + "\n").unwrap();
    let (out, _, damage, in_order) = parts(300);
    assert!(out != whole && damage > 0 && !in_order);
    assert_eq!(LogTail::<SessionRecord>::new(&events).poll().unwrap(), whole);
}
