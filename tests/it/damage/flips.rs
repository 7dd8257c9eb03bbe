//! Random damage to logs: flipped bits, cuts, edits, copied and swapped parts. Either the records are the same, or the damage
//! is said; and no whole line is lost beside a damaged one.
//!
//! One kind of damage leaves no mark: a log cut exactly between two lines is the log of a moment ago. Those are counted.

use super::DamagedSession;
use crate::chance::{Chance, change};
use crate::support::count;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tiebreak::protocol::{Envelope, Integrity, RunEvent, SessionRecord, verify};
use tiebreak::storage::{LogRecord, LogTail, LogWriter, SessionDir};

#[derive(Debug, Default)]
struct Found {
    /// The same records as before.
    same: usize,
    /// Damage was said.
    said: usize,
    /// The log ends earlier, between two lines.
    shorter: usize,
}

/// One or two changes: mostly of few bits, as disks and people make them.
fn damage(bytes: &mut Vec<u8>, whole: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.below(2) {
        let at = chance.below(bytes.len());
        match chance.below(6) {
            0 | 1 => bytes[at] ^= 1 << chance.below(8),
            2 => bytes.truncate(at),
            3 => {
                let end = bytes.len().min(at + 1 + chance.below(600));
                bytes.drain(at..end);
            }
            4 => {
                // A line goes to another place, or stands twice.
                let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                let (from, to) = (chance.below(lines.len()), chance.below(lines.len()));
                let line = lines[from].clone();
                lines.insert(to, line);
                if chance.percent(50) {
                    lines.remove(from + usize::from(to <= from));
                }
                *bytes = lines.concat();
            }
            _ => change(bytes, whole, chance),
        }
        if bytes.is_empty() {
            return;
        }
    }
}

type Records<T> = BTreeMap<u64, Envelope<T>>;

fn read<T: LogRecord>(dir: &Path) -> (Records<T>, Integrity) {
    let mut tail = LogTail::<T>::new(dir);
    let records = tail.finish().unwrap();
    (records.into_iter().map(|record| (record.n, record)).collect(), tail.integrity())
}

/// The numbers of the records whose line stands unchanged in the bytes.
fn intact(bytes: &[u8], lines: &BTreeMap<Vec<u8>, u64>) -> BTreeSet<u64> {
    bytes.split(|b| *b == b'\n').filter_map(|line| lines.get(line).copied()).collect()
}

fn logs<T: LogRecord + PartialEq + std::fmt::Debug>(
    dir: &Path,
    session: &SessionDir,
    tries: usize,
    seed: u64,
    added: &T,
) -> Found {
    let file = dir.join("000001.jsonl");
    let whole = fs::read(&file).unwrap();
    let lines: BTreeMap<Vec<u8>, u64> = whole
        .split(|b| *b == b'\n')
        .filter_map(|line| Some((line.to_vec(), verify(line).ok()?.0)))
        .filter(|(_, n)| *n > 0)
        .collect();
    let (before, found) = read::<T>(dir);
    assert!(found.is_intact() && before.len() == lines.len() && before.len() > 30, "{}", before.len());
    let mut chance = Chance(seed);
    let mut tally = Found::default();
    for number in 0..tries {
        let mut bytes = whole.clone();
        damage(&mut bytes, &whole, &mut chance);
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::write(&file, &bytes).unwrap();
        let what = format!("damage {number} of seed {seed}");
        let (now, said) = read::<T>(dir);
        for n in intact(&bytes, &lines) {
            assert_eq!(now.get(&n), before.get(&n), "{what}: record {n} is whole and was not read");
        }
        // White space belongs to no record.
        let shorter = filled(&whole).starts_with(&filled(&bytes));
        if now == before {
            tally.same += 1;
        } else if !said.is_intact() || said.unfinished_bytes > 0 {
            tally.said += 1;
        } else {
            assert!(shorter, "{what}: silent: {said:?}");
            tally.shorter += 1;
        }
        // The writer repairs, and neither it nor its record hides the damage.
        if number % 10 == 0 {
            let lock = session.lock().unwrap().unwrap();
            let mut writer = LogWriter::<T>::open(dir, &session.path().join("quarantine"), &lock).unwrap();
            let n = writer.append(added).unwrap();
            writer.sync().unwrap();
            let (after, still) = read::<T>(dir);
            assert!(after.contains_key(&n), "{what}: the new record {n} is missing");
            for (n, record) in &now {
                assert_eq!(after.get(n), Some(record), "{what}: repair changed record {n}");
            }
            assert!(still.damage() >= said.damage().min(1), "{what}: repair hid the damage: {said:?}, then {still:?}");
        }
    }
    tally
}

/// The lines that hold more than white space.
fn filled(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
}

fn flips(tries: usize, seed: u64) {
    let place = DamagedSession::new();
    let session = place.dir();
    let found = logs::<SessionRecord>(&place.events(), &session, tries - tries / 4, seed, &super::judged(11));
    println!("session logs: {found:?}");
    assert!(found.said * 2 > tries / 2, "the damage does not bite: {found:?}");
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions/tiny/runs/sft-1/metrics/000001.jsonl");
    let text = fs::read(runs).unwrap();
    let end = text.split_inclusive(|b| *b == b'\n').take(40).map(<[u8]>::len).sum();
    let metrics = session.path().join("runs/sft-1/metrics");
    fs::create_dir_all(&metrics).unwrap();
    fs::write(metrics.join("000001.jsonl"), &text[..end]).unwrap();
    let found = logs::<RunEvent>(&metrics, &session, tries / 4, seed + 1, &RunEvent::Stopped { step: 1 });
    println!("run logs: {found:?}");
}

#[test]
fn random_damage_to_a_log_is_never_silent() {
    flips(600, 3);
}

#[test]
#[ignore = "TIEBREAK_FLIPS changes, 10,000 without it"]
fn long_flips() {
    flips(count("TIEBREAK_FLIPS", 10_000), count("TIEBREAK_SEED", 2026) as u64);
}
