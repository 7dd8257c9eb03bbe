//! The list of sessions with a summary of each, cheap enough for fifty of them before the first frame.
//!
//! Counts over the whole log are cached in `summary.json`, which says how far it has counted and may be deleted at any
//! time. An intact log is counted from there on; a damaged one is folded, as everywhere else.

use super::counted::{VERSION, note_cut};
use super::error::Result;
use super::files::{names, read_json, read_tail, replace};
use super::home::Home;
use super::lock::is_locked;
use super::log::{Listing, newest};
use super::session::SessionDir;
use crate::domain::{Choice, Rater, RunId, Session};
use crate::protocol::{Integrity, RunEvent, SessionRecord, apply_record, decode, verify};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes of a run's log read for its last losses.
const LOSS_WINDOW: u64 = 16 << 10;

/// Maximum number of losses: the width of a sparkline.
const LOSSES: usize = 32;

/// One line of a list of sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionSummary {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// The model it samples from and trains.
    pub model: String,
    /// Last change of its log or of a run's log, milliseconds since 1970.
    pub changed_ms: u64,
    /// Verdicts that count, by rater, the most first: neither undone nor skipped.
    pub labels: Vec<(Rater, usize)>,
    /// The damage in its own log.
    pub integrity: Integrity,
    /// Runs of every kind.
    pub runs: usize,
    /// Runs with a live worker.
    pub running: Vec<RunId>,
    /// The run whose log changed last.
    pub last_run: Option<RunId>,
    /// The last losses of the training run whose log changed last, oldest first, at most 32, including non-finite ones.
    pub losses: Vec<f64>,
}

/// The state of a segment when it was counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Stamp {
    name: String,
    len: u64,
    changed_ms: u64,
}

/// The cached counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Counted {
    /// [`VERSION`] when it was written.
    #[serde(default)]
    version: u32,
    /// The counted segments.
    stamps: Vec<Stamp>,
    /// Bytes counted of the last one …
    offset: u64,
    /// … and their CRC-32: when the file changed, it shows whether it only grew.
    sum: u32,
    /// Number of the last record counted: an intact log has all from 1 to it.
    last: u64,
    /// The highest number that was ever counted. A log that ends before it was cut.
    #[serde(default)]
    highest: u64,
    /// Verdicts other than skips, undone or not, by rater.
    judged: BTreeMap<String, usize>,
    /// The numbers of records from which on another rater judged: whose verdict an undo names.
    hands: BTreeMap<u64, String>,
    /// Skips and decisions on disputes: their undo takes no label back.
    skipped: BTreeSet<u64>,
    undone: BTreeSet<u64>,
    /// Result of folding a damaged log: verdicts that count by rater, and the damage.
    folded: Option<(BTreeMap<String, usize>, Integrity)>,
}

impl Counted {
    fn result(&self) -> (BTreeMap<String, usize>, Integrity) {
        let (labels, mut integrity) = self.found();
        note_cut(&mut integrity, self.last, self.highest);
        (labels, integrity)
    }

    fn found(&self) -> (BTreeMap<String, usize>, Integrity) {
        self.folded.clone().unwrap_or_else(|| {
            let mut labels = self.judged.clone();
            for of in self.undone.difference(&self.skipped) {
                let hand = self.hands.range(..=of).next_back().and_then(|(_, rater)| labels.get_mut(rater));
                if let Some(n) = hand {
                    *n = n.saturating_sub(1);
                }
            }
            (labels, Integrity::default())
        })
    }

    fn judge(&mut self, n: u64, rater: &Rater) {
        let rater = rater.as_str();
        if self.hands.last_key_value().is_none_or(|(_, last)| last != rater) {
            self.hands.insert(n, rater.to_owned());
        }
        *self.judged.entry(rater.to_owned()).or_default() += 1;
    }
}

/// The raters who have labels, the most first.
fn ranked(labels: BTreeMap<String, usize>) -> Vec<(Rater, usize)> {
    let mut out: Vec<_> = labels.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (Rater::new(name), n)).collect();
    out.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    out
}

impl SessionSummary {
    /// Summarises a session.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn of(session: &SessionDir) -> Result<Self> {
        let meta = session.meta()?;
        let mut changed_ms = meta.created_ms;
        if let Some(path) = newest(&session.events())? {
            changed_ms = changed_ms.max(modified_ms(&path));
        }
        let runs_dir = session.path().join("runs");
        let mut running = Vec::new();
        let mut logs: Vec<(u64, RunId, PathBuf)> = Vec::new();
        let mut runs = 0;
        for name in names(&runs_dir)?.into_iter().filter(|n| !n.starts_with('.')) {
            let dir = runs_dir.join(&name);
            if !dir.join("spec.json").is_file() {
                continue;
            }
            runs += 1;
            if is_locked(&dir.join("lock")) {
                running.push(RunId::new(name.clone()));
            }
            if let Some(log) = newest(&dir.join("metrics"))? {
                logs.push((modified_ms(&log), RunId::new(name), log));
            }
        }
        logs.sort();
        changed_ms = changed_ms.max(logs.last().map_or(0, |(ms, ..)| *ms));
        let (labels, integrity) = labels(session)?;
        let losses = logs.iter().rev().map(|(.., log)| losses(log)).find(|l| !l.is_empty()).unwrap_or_default();
        Ok(Self {
            name: session.name(),
            path: session.path().to_owned(),
            model: meta.model,
            changed_ms,
            labels: ranked(labels),
            integrity,
            runs,
            running,
            last_run: logs.last().map(|(_, id, _)| id.clone()),
            losses,
        })
    }
}

/// Every session under the data folder, the most recently changed first. An unreadable folder is skipped here; opening
/// it by name reports why.
///
/// # Errors
/// When the folder of sessions cannot be listed.
pub fn list_sessions(home: &Home) -> Result<Vec<SessionSummary>> {
    let dir = home.sessions();
    let mut out = Vec::new();
    for name in names(&dir)? {
        if name.starts_with('.') {
            continue;
        }
        if let Ok(summary) = SessionDir::open(&dir.join(&name)).and_then(|s| SessionSummary::of(&s)) {
            out.push(summary);
        }
    }
    out.sort_by(|a, b| b.changed_ms.cmp(&a.changed_ms).then_with(|| a.name.cmp(&b.name)));
    Ok(out)
}

fn modified_ms(path: &Path) -> u64 {
    std::fs::metadata(path)
        .and_then(|m| m.modified())
        .ok()
        .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |d| d.as_millis() as u64)
}

/// Verdicts that count, counted on from the cache, and the damage in the log.
fn labels(session: &SessionDir) -> Result<(BTreeMap<String, usize>, Integrity)> {
    let cache = session.path().join("summary.json");
    let dir = session.events();
    let listing = Listing::of(&dir)?;
    let stamps: Vec<Stamp> = listing.segments.iter().map(|segment| stamp(&dir, &segment.name)).collect();
    let before: Counted = read_json(&cache, "counts").unwrap_or_default();
    let before = if before.version == VERSION { before } else { Counted::default() };
    if before.stamps == stamps && listing.is_pure() {
        return Ok(before.result());
    }
    let mut counted = if let Some(counted) = count_on(&before, &dir, &stamps).filter(|_| listing.is_pure()) {
        counted
    } else {
        let (labels, integrity, last) = fold(session)?;
        Counted { version: VERSION, folded: Some((labels, integrity)), stamps, last, ..Counted::default() }
    };
    counted.highest = before.highest.max(counted.last);
    if counted != before {
        // A session on a read-only disk is recounted each time: slower, not wrong.
        let _ = replace(&cache, &serde_json::to_vec(&counted).unwrap_or_default(), false);
    }
    Ok(counted.result())
}

fn stamp(dir: &Path, name: &str) -> Stamp {
    let path = dir.join(name);
    let len = std::fs::metadata(&path).map_or(0, |m| m.len());
    Stamp { name: name.into(), len, changed_ms: modified_ms(&path) }
}

/// The same by folding the log.
fn fold(session: &SessionDir) -> Result<(BTreeMap<String, usize>, Integrity, u64)> {
    let mut state = Session::default();
    let mut tail = session.tail();
    for envelope in tail.finish()? {
        if let Some(record) = envelope.known() {
            apply_record(&mut state, envelope.n, envelope.w, record);
        }
    }
    let mut labels = BTreeMap::new();
    for (_, judged) in state.verdicts().filter(|(_, j)| !j.undone && j.verdict.choice != Choice::Skip) {
        *labels.entry(judged.verdict.rater.as_str().to_owned()).or_default() += 1;
    }
    Ok((labels, tail.integrity(), tail.last_seq()))
}

/// Counts the records after `before`; none when the log is damaged.
fn count_on(before: &Counted, dir: &Path, stamps: &[Stamp]) -> Option<Counted> {
    // Only the last segment grows; those before it must be unchanged.
    let grew = before.folded.is_none()
        && before.stamps.len() <= stamps.len()
        && before.stamps.split_last().is_some_and(|(last, closed)| {
            let now = &stamps[closed.len()];
            closed == &stamps[..closed.len()] && now.name == last.name && now.len >= before.offset
        });
    let mut counted = if grew { before.clone() } else { Counted { version: VERSION, ..Counted::default() } };
    let first = counted.stamps.len().saturating_sub(1);
    for (at, stamp) in stamps.iter().enumerate().skip(first) {
        if at > first || counted.stamps.is_empty() {
            (counted.offset, counted.sum) = (0, 0);
        }
        let bytes = read_from(&dir.join(&stamp.name), 0);
        let (known, new) = bytes.split_at_checked(counted.offset as usize)?;
        if crc32fast::hash(known) != counted.sum {
            return None;
        }
        let used = count_lines(new, &mut counted)?;
        counted.offset += used as u64;
        counted.sum = crc32fast::hash(&bytes[..counted.offset as usize]);
        // A writer begins the next segment only after a whole line.
        if at + 1 < stamps.len() && used < new.len() {
            return None;
        }
    }
    counted.stamps = stamps.to_vec();
    Some(counted)
}

/// Counts whole lines and returns their length in bytes; none when they are not in order. Only the kinds that change
/// the count are decoded.
fn count_lines(bytes: &[u8], counted: &mut Counted) -> Option<usize> {
    let mut used = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")) {
        let (n, _) = verify(line).ok()?;
        let begins = counted.offset == 0 && used == 0;
        used += line.len();
        if begins != (n == 0) || (n > 0 && n != counted.last + 1) {
            return None;
        }
        counted.last = counted.last.max(n);
        if begins && !String::from_utf8_lossy(line).contains("\"log\":\"session\"") {
            return None;
        }
        if !KINDS.contains(&kind(line)) {
            continue;
        }
        let Ok(record) = decode::<SessionRecord>(line).ok()?.data else { continue };
        let collected = matches!(record, SessionRecord::Collected { .. });
        match record.act() {
            SessionRecord::Judged(v) if v.choice == Choice::Skip => {
                counted.skipped.insert(n);
            }
            SessionRecord::Adjudicated(_) => {
                counted.skipped.insert(n);
            }
            SessionRecord::Judged(v) => counted.judge(n, &v.rater),
            // Whether an undo from another copy counts depends on times that are not kept here.
            SessionRecord::Undone { .. } | SessionRecord::Redone { .. } if collected => return None,
            SessionRecord::Undone { of } => {
                counted.undone.insert(*of);
            }
            SessionRecord::Redone { of } => {
                counted.undone.remove(of);
            }
            SessionRecord::Repaired { lines, .. } if *lines > 0 => return None,
            _ => {}
        }
    }
    Some(used)
}

/// The kinds of record that change the count.
const KINDS: [&[u8]; 6] = [b"judged", b"adjudicated", b"undone", b"redone", b"collected", b"repaired"];

/// A line's kind without decoding it: the text after `"k":"`, the fourth of the codec's fields.
fn kind(line: &[u8]) -> &[u8] {
    let mut commas = line.iter().enumerate().filter(|(_, b)| **b == b',').map(|(i, _)| i);
    let field = commas.nth(2).map_or(&[][..], |i| &line[i + 1..]);
    let text = field.strip_prefix(b"\"k\":\"").unwrap_or_default();
    text.split(|b| *b == b'"').next().unwrap_or_default()
}

/// The losses in the last bytes of a run's log.
fn losses(log: &Path) -> Vec<f64> {
    let len = std::fs::metadata(log).map_or(0, |m| m.len());
    let mut losses: Vec<f64> = read_from(log, len.saturating_sub(LOSS_WINDOW))
        .rsplit(|b| *b == b'\n')
        .filter(|line| kind(line) == b"stepped")
        .filter_map(|line| match decode::<RunEvent>(line).ok()?.data {
            Ok(RunEvent::Stepped { metrics, .. }) => metrics.get("loss"),
            _ => None,
        })
        .take(LOSSES)
        .collect();
    losses.reverse();
    losses
}

/// The bytes of a file from an offset on; empty if it cannot be read, since one session must not fail the list.
fn read_from(path: &Path, offset: u64) -> Vec<u8> {
    read_tail(path, offset, u64::MAX).unwrap_or_default()
}
