//! Damaged logs: acknowledged verdicts survive any damage, new verdicts are saved, and the damage is reported.

mod flips;

use crate::terminal::Pty;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tiebreak::domain::{Choice, PairId, Params, Rater, RunId, Seen, Side, Strength, Verdict};
use tiebreak::protocol::{DataSnapshot, ModelRef, RunSpec, SessionRecord, Task, TrainSpec, encode};
use tiebreak::storage::{Home, LogWriter, SessionDir, list_sessions, sha256};

const PAIRS: usize = 12;
/// Verdicts acknowledged before the damage.
const BEFORE: usize = 8;

struct DamagedSession {
    home: tempfile::TempDir,
}

pub fn judged(i: usize) -> SessionRecord {
    SessionRecord::Judged(
        Verdict {
            pair: PairId::new(format!("i{i}")),
            rater: Rater::new("ann"),
            choice: Choice::Prefer(if i.is_multiple_of(2) { Side::A } else { Side::B }, Strength::Better),
            left: Side::A,
            seen: Seen::Full,
            ms: 900 + i as u64,
            winner_hash: None,
            asked: tiebreak::domain::Asked::default(),
            showing: tiebreak::domain::Showing::default(),
        }
        .into(),
    )
}

impl DamagedSession {
    /// A session of twelve pairs, eight of them labelled.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        crate::pty::session(home.path(), "tone", PAIRS);
        let place = Self { home };
        place.judge(1..=BEFORE);
        // The list caches its counts: the cache must not hide later damage.
        assert!(place.listed().1.is_empty());
        std::thread::sleep(std::time::Duration::from_millis(10));
        place
    }

    /// The entry in the list of sessions: its number of labels, and the damage in words.
    fn listed(&self) -> (usize, String) {
        let mut all = list_sessions(&Home::resolve(Some(self.home.path())).unwrap()).unwrap();
        let listed = all.remove(0);
        (listed.labels.iter().map(|(_, n)| n).sum(), listed.integrity.words())
    }

    fn dir(&self) -> SessionDir {
        SessionDir::find(&Home::resolve(Some(self.home.path())).unwrap(), "tone").unwrap()
    }

    fn events(&self) -> PathBuf {
        self.dir().path().join("events")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.events().join(name)
    }

    /// Appends and syncs verdicts: afterwards they are acknowledged.
    fn judge(&self, pairs: std::ops::RangeInclusive<usize>) {
        let dir = self.dir();
        let lock = dir.lock().unwrap().unwrap();
        let mut writer = dir.writer(&lock).unwrap();
        for i in pairs {
            writer.append(&judged(i)).unwrap();
        }
        writer.sync().unwrap();
    }

    /// The pairs with a readable verdict.
    fn read(&self) -> BTreeSet<String> {
        let (state, _) = self.dir().state().unwrap();
        state.verdicts().filter(|(_, j)| !j.undone).map(|(_, j)| j.verdict.pair.to_string()).collect()
    }

    fn command(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tiebreak")).args(args).env("TIEBREAK_HOME", self.home.path()).output().unwrap()
    }

    fn check(&self) -> (i32, String) {
        let out = self.command(&["replay", "tone", "--check"]);
        (out.status.code().unwrap(), String::from_utf8_lossy(&out.stderr).into_owned())
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file("000001.jsonl")).unwrap()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).unwrap();
    }

    /// The log's lines, each with its newline.
    fn lines(&self) -> Vec<Vec<u8>> {
        self.bytes().split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
    }
}

/// The effect of damage on a line.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    Lost,
    Kept,
}

type Damage = fn(&mut Vec<Vec<u8>>, usize);

/// Every kind of damage to one file, and its effect on the line.
const KINDS: &[(&str, Damage, Line)] = &[
    (
        "a flipped bit",
        |lines, at| {
            let m = lines[at].len() / 2;
            lines[at][m] ^= 1;
        },
        Line::Lost,
    ),
    (
        "a flipped bit in the checksum",
        |lines, at| {
            let m = lines[at].len() - 5;
            lines[at][m] ^= 1;
        },
        Line::Lost,
    ),
    (
        "NULs",
        |lines, at| {
            let n = lines[at].len() - 1;
            lines[at][..n].fill(0);
        },
        Line::Lost,
    ),
    (
        "invalid UTF-8",
        |lines, at| {
            let m = lines[at].len() / 2;
            lines[at][m] = 0xff;
        },
        Line::Lost,
    ),
    (
        "a cut line",
        |lines, at| {
            let n = lines[at].len();
            lines[at].drain(n - 12..n - 1);
        },
        Line::Lost,
    ),
    (
        "a missing line",
        |lines, at| {
            lines.remove(at);
        },
        Line::Lost,
    ),
    (
        "a line that stands twice",
        |lines, at| {
            let l = lines[at].clone();
            lines.insert(at, l);
        },
        Line::Kept,
    ),
    (
        "an old line at the end",
        |lines, at| {
            let l = lines[at].clone();
            lines.push(l);
        },
        Line::Kept,
    ),
    (
        "a partial second copy at the end",
        |lines, at| {
            let copy = lines[..=at].to_vec();
            lines.extend(copy);
        },
        Line::Kept,
    ),
    (
        "two lines swapped",
        |lines, at| {
            let to = if at + 1 < lines.len() { at + 1 } else { at - 1 };
            lines.swap(at, to);
        },
        Line::Kept,
    ),
    (
        "a line moved to the end",
        |lines, at| {
            let to = if at + 1 < lines.len() { lines.len() } else { 1 };
            let l = lines[at].clone();
            lines.insert(to, l);
            lines.remove(if to == 1 { at + 1 } else { at });
        },
        Line::Kept,
    ),
    (
        "two lines in one",
        |lines, at| {
            lines[at].pop();
        },
        Line::Kept,
    ),
    (
        "a flipped newline",
        |lines, at| {
            let n = lines[at].len() - 1;
            lines[at][n] ^= 1;
        },
        Line::Kept,
    ),
    (
        "half a line before it",
        |lines, at| {
            let mut half = lines[at][..lines[at].len() / 2].to_vec();
            half.append(&mut lines[at]);
            lines[at] = half;
        },
        Line::Kept,
    ),
];

fn places(lines: usize) -> Vec<usize> {
    // The header, the first records, the middle, the boundary between pairs and verdicts, and every verdict.
    let first_verdict = lines - BEFORE;
    let mut places = vec![0, 1, 2, lines / 3, first_verdict - 1];
    places.extend(first_verdict..lines);
    places
}

fn verdicts(pairs: std::ops::RangeInclusive<usize>) -> BTreeSet<String> {
    pairs.map(|i| format!("i{i}")).collect()
}

#[test]
fn acknowledged_verdicts_survive_every_kind_of_damage_at_every_line() {
    let mut wrong = Vec::new();
    for (kind, damage, becomes) in KINDS {
        for at in places(DamagedSession::new().lines().len()) {
            let place = DamagedSession::new();
            let mut lines = place.lines();
            let last = lines.len() - 1;
            // A crash leaves a log without its last record, or with an unfinished last line.
            if at == last && matches!(*kind, "a missing line" | "two lines in one") {
                continue;
            }
            damage(&mut lines, at);
            place.put("000001.jsonl", &lines.concat());
            let mut want = verdicts(1..=BEFORE);
            if *becomes == Line::Lost && at + BEFORE > last {
                want.remove(&format!("i{}", at + BEFORE - last));
            }
            // A reader skips an unfinished line; the writer completes it.
            let open_end = at == last && *kind == "a flipped newline";
            if !open_end && place.read() != want {
                wrong.push(format!("{kind} at {at}: read {:?}", place.read()));
            }
            let (code, said) = place.check();
            if code != 1 || said.is_empty() {
                wrong.push(format!("{kind} at {at}: --check says {code} {said}"));
            }
            place.judge(9..=10);
            want.extend(verdicts(9..=10));
            if place.read() != want {
                wrong.push(format!("{kind} at {at}: after two more, read {:?}", place.read()));
            }
            if place.listed().0 != want.len() || place.listed().1.is_empty() {
                wrong.push(format!("{kind} at {at}: after two more, listed {:?}", place.listed()));
            }
            let (code, said) = place.check();
            if code != 1 || said.is_empty() {
                wrong.push(format!("{kind} at {at}: --check after two more says {code} {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Changes a folder of log segments.
type Segments = fn(&DamagedSession);

/// A log of several segments.
fn split(place: &DamagedSession, names: &[&str]) {
    let lines = place.lines();
    let (header, records) = lines.split_first().unwrap();
    fs::remove_file(place.file("000001.jsonl")).unwrap();
    let size = records.len().div_ceil(names.len());
    for (name, part) in names.iter().zip(records.chunks(size)) {
        place.put(name, &[header.clone(), part.concat()].concat());
    }
}

const FOLDERS: &[(&str, Segments)] = &[
    ("an old copy restored as the second segment", |p| {
        let l = p.lines();
        p.put("000002.jsonl", &l[..20].concat());
    }),
    ("a whole copy as the second segment", |p| p.put("000002.jsonl", &p.bytes())),
    ("a copy far away", |p| p.put("4294967295.jsonl", &p.bytes())),
    ("a copy at the end of all numbers", |p| p.put("18446744073709551615.jsonl", &p.bytes())),
    ("a copy beyond all numbers", |p| p.put("99999999999999999999999.jsonl", &p.bytes())),
    ("a second spelling of the first segment", |p| p.put("0000001.jsonl", &p.lines()[..30].concat())),
    ("a conflicted copy", |p| p.put("000001 (copy).jsonl", &p.bytes())),
    ("the first segment is missing", |p| {
        split(p, &["000001.jsonl", "000002.jsonl"]);
        fs::remove_file(p.file("000001.jsonl")).unwrap();
    }),
    ("the middle segment is missing", |p| {
        split(p, &["000001.jsonl", "000002.jsonl", "000003.jsonl"]);
        fs::remove_file(p.file("000002.jsonl")).unwrap();
    }),
    ("segments in the wrong order", |p| split(p, &["000002.jsonl", "000001.jsonl"])),
    ("everything moved far away", |p| {
        fs::rename(p.file("000001.jsonl"), p.file("4294967295.jsonl")).unwrap();
        p.put("4294967294.jsonl", &p.lines_of("4294967295.jsonl")[..10].concat());
    }),
    ("a record of the largest number", |p| {
        p.append("000001.jsonl", encode(u64::MAX, 1, 1, &judged(11)).unwrap().as_bytes());
    }),
    ("a record of a number above all exact ones", |p| {
        p.append("000001.jsonl", encode(1 << 60, 1, 1, &judged(11)).unwrap().as_bytes());
    }),
    ("a gap in the numbers", |p| p.append("000001.jsonl", encode(5000, 1, 1, &judged(11)).unwrap().as_bytes())),
    ("a folder with a segment's name", |p| fs::create_dir(p.file("000002.jsonl")).unwrap()),
    ("a foreign log", |p| {
        let lock = p.dir().lock().unwrap().unwrap();
        let dir = p.home.path().join("run");
        let mut w = LogWriter::<tiebreak::protocol::RunEvent>::open(&dir, &dir, &lock).unwrap();
        w.append(&tiebreak::protocol::RunEvent::Stopped { step: 1 }).unwrap();
        fs::rename(dir.join("000001.jsonl"), p.file("000002.jsonl")).unwrap();
    }),
];

impl DamagedSession {
    fn lines_of(&self, name: &str) -> Vec<Vec<u8>> {
        fs::read(self.file(name)).unwrap().split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let all = [fs::read(self.file(name)).unwrap(), bytes.to_vec()].concat();
        self.put(name, &all);
    }
}

#[test]
fn acknowledged_verdicts_survive_unusual_segment_folders() {
    let mut wrong = Vec::new();
    for (kind, damage) in FOLDERS {
        let place = DamagedSession::new();
        damage(&place);
        let mut want = verdicts(1..=BEFORE);
        if *kind == "a gap in the numbers" {
            want.insert("i11".into());
        }
        if place.read() != want {
            wrong.push(format!("{kind}: read {:?}", place.read()));
        }
        let (code, said) = place.check();
        if code != 1 || said.is_empty() {
            wrong.push(format!("{kind}: --check says {code} {said}"));
        }
        for pairs in [9..=9, 10..=10] {
            place.judge(pairs);
        }
        want.extend(verdicts(9..=10));
        if place.read() != want {
            wrong.push(format!("{kind}: after two more, read {:?}", place.read()));
        }
        if place.listed().0 != want.len() || place.listed().1.is_empty() {
            wrong.push(format!("{kind}: after two more, listed {:?}", place.listed()));
        }
        let (code, said) = place.check();
        if code != 1 || said.is_empty() {
            wrong.push(format!("{kind}: --check after two more says {code} {said}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_log_without_a_readable_line_does_not_verify() {
    for bytes in [&b"not a log\nat all\n"[..], b"\0\0\0\0\0\0\0\n", b"not a log"] {
        let place = DamagedSession::new();
        place.put("000001.jsonl", bytes);
        assert_eq!(place.check().0, 1, "{bytes:?}");
        place.judge(9..=10);
        assert_eq!(place.read(), verdicts(9..=10));
        if bytes.contains(&b'\n') {
            assert_eq!(place.check().0, 1, "whole lines are in quarantine: {bytes:?}");
        }
    }
}

#[test]
fn a_log_truncated_before_the_launch_record_of_a_run_does_not_verify() {
    let place = DamagedSession::new();
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: sha256(b""), rows: 0, session_seq: 56 };
    let model = ModelRef { name: "m".into(), path: "m".into() };
    let task = Task::Train(TrainSpec::new("dpo", model, Params::default(), data));
    let spec = RunSpec {
        id: RunId::new("dpo-1"),
        task,
        device: "cpu".into(),
        created_ms: 1,
        app: "0".into(),
        inputs: tiebreak::protocol::Inputs::default(),
    };
    place.dir().create_run(&spec, b"").unwrap();
    assert_eq!(place.check(), (0, String::new()));
    let lines = place.lines();
    place.put("000001.jsonl", &lines[..lines.len() - 3].concat());
    let (code, said) = place.check();
    assert!(code == 1 && said.contains("dpo-1 was launched after record 56"), "{code} {said}");
    assert_eq!(place.dir().state().unwrap().1.missing_records, 3);
}

#[test]
fn an_undamaged_log_verifies_with_any_line_ending() {
    let place = DamagedSession::new();
    assert_eq!(place.check(), (0, String::new()));
    let text = String::from_utf8(place.bytes()).unwrap();
    place.put("000001.jsonl", text.replace('\n', "\r\n").as_bytes());
    place.judge(9..=10);
    assert_eq!((place.read(), place.check().0), (verdicts(1..=10), 0));
}

#[test]
fn two_verdicts_on_a_damaged_log_survive_reopening() {
    let place = DamagedSession::new();
    let lines = place.lines();
    place.append("000001.jsonl", &lines[0]);
    let open = |wait: &str| {
        let pty = Pty::sized(place.home.path(), &["label", "tone", "--rater", "ann"], 120, 30);
        pty.wait(wait, |t| t.lines().next().is_some_and(|l| l.contains(wait)));
        pty
    };
    let mut pty = open("8 of 12");
    // A key that arrives together with the pair is ignored.
    let judge = |pty: &mut Pty| {
        std::thread::sleep(std::time::Duration::from_millis(600));
        pty.keys("1");
    };
    judge(&mut pty);
    pty.wait("ninth", |t| t.contains("9 of 12") && t.contains("✓ saved"));
    judge(&mut pty);
    pty.wait("tenth", |t| t.contains("10 of 12") && t.contains("✓ saved"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
    let mut pty = open("10 of 12");
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
}

/// Eight verdicts, one of them damaged.
fn with_a_damaged_verdict() -> DamagedSession {
    let place = DamagedSession::new();
    let mut lines = place.lines();
    let at = lines.len() - 4;
    let middle = lines[at].len() / 2;
    lines[at][middle] ^= 1;
    place.put("000001.jsonl", &lines.concat());
    place
}

#[test]
fn a_damaged_log_is_refused_without_allow_damaged() {
    let place = with_a_damaged_verdict();
    let to = place.home.path().join("rows.jsonl");
    let export = ["export", "tone", "--to", to.to_str().unwrap()];
    for args in [&export[..], &["train", "tone", "dpo"]] {
        let out = place.command(args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        for words in ["1 damaged line", "events/000001.jsonl line 54", "--allow-damaged"] {
            assert!(said.contains(words), "{args:?}: {said}");
        }
        assert!(said.trim_end().lines().count() == 1 && !to.exists(), "{args:?}: {said}");
    }
    let out = place.command(&[&export[..], &["--allow-damaged"]].concat());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("1 damaged line"), "{said}");
    assert_eq!(fs::read_to_string(&to).unwrap().lines().count(), 7);
    // --allow-damaged accepts the damage; the missing model is the next error.
    let out = place.command(&["train", "tone", "dpo", "--allow-damaged"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.contains("none") && !said.contains("--allow-damaged"), "{said}");
}

#[test]
fn every_kind_of_damage_is_refused_by_export_without_allow_damaged() {
    let mut places: Vec<(&str, DamagedSession)> = Vec::new();
    for (kind, damage, _) in KINDS {
        let place = DamagedSession::new();
        let mut lines = place.lines();
        let at = lines.len() - 4;
        damage(&mut lines, at);
        place.put("000001.jsonl", &lines.concat());
        places.push((*kind, place));
    }
    for (kind, damage) in FOLDERS {
        let place = DamagedSession::new();
        damage(&place);
        places.push((*kind, place));
    }
    for (kind, place) in places {
        let to = place.home.path().join("rows.jsonl");
        let out = place.command(&["export", "tone", "--to", to.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(1) && said.contains("--allow-damaged") && !to.exists(), "{kind}: {said}");
        let out = place.command(&["export", "tone", "--to", to.to_str().unwrap(), "--allow-damaged"]);
        assert!(out.status.success() && to.exists(), "{kind}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn damage_is_shown_in_the_header_and_in_the_list() {
    let place = with_a_damaged_verdict();
    let mut pty = Pty::sized(place.home.path(), &["label", "tone", "--rater", "ann"], 120, 30);
    let header = |t: &str| t.lines().next().unwrap_or_default().to_owned();
    pty.wait("damage in the header", |t| header(t).contains("⚠ 1 damaged line ") && header(t).contains("7 of 12"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
    let mut pty = Pty::sized(place.home.path(), &[], 120, 30);
    pty.wait("damage in the list", |t| t.contains("⚠ 1 damaged line") && t.contains("7 labels"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
}

#[test]
fn the_watch_header_names_damage_of_the_runs_log() {
    let home = crate::bundled::copied_from("sessions");
    let log = home.path().join("sessions/tiny/runs");
    let run = fs::read_dir(log).unwrap().map(|run| run.unwrap().path()).find(|run| run.is_dir()).unwrap();
    let log = run.join("metrics/000001.jsonl");
    let damaged = fs::read_to_string(&log).unwrap().replacen("\"k\":\"stepped\"", "\"k\":\"steppeX\"", 1);
    fs::write(&log, damaged).unwrap();
    let mut pty = Pty::sized(home.path(), &["watch", "tiny"], 120, 30);
    pty.wait("damage in the header", |t| t.lines().next().is_some_and(|l| l.contains("⚠ 1 damaged line   FINISHED")));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
}

#[test]
fn records_of_an_unknown_kind_are_kept_and_count_as_undamaged() {
    let place = DamagedSession::new();
    let later = serde_json::json!({"k": "from_the_future", "d": {"x": 1}});
    place.append("000001.jsonl", encode(57, 1, 1, &later).unwrap().as_bytes());
    place.judge(9..=9);
    assert_eq!((place.read(), place.check().0), (verdicts(1..=9), 0));
    let out = place.command(&["replay", "tone", "--check", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&said["unknown"], &said["ok"]), (&1.into(), &true.into()), "{said}");
    let mut pty = Pty::sized(place.home.path(), &["replay", "tone"], 120, 30);
    pty.wait("unknown record in the header", |t| t.lines().next().is_some_and(|l| l.contains("1 unknown record")));
    // The program drops escape sequences while it probes the terminal.
    std::thread::sleep(std::time::Duration::from_millis(800));
    pty.keys("\x1b[F");
    pty.wait("the end", |t| t.contains("entry 58/58"));
    pty.keys("\x1b[D");
    pty.wait("the unknown kind", |t| t.contains("of the unknown kind `from_the_future`"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
}

#[test]
fn a_log_cut_between_two_lines_is_said_where_it_was_counted_before() {
    let place = DamagedSession::new();
    let lines = place.lines();
    let summary = place.dir().path().join("summary.json");
    for cut in 1..=3 {
        place.put("000001.jsonl", &lines[..lines.len() - cut].concat());
        let missing = if cut == 1 { "1 missing record".to_owned() } else { format!("{cut} missing records") };
        // The list counts anew and forgets nothing.
        for _ in 0..2 {
            assert_eq!(place.listed(), (BEFORE - cut, missing.clone()));
        }
        let (_, found) = place.dir().state().unwrap();
        assert_eq!(found.missing_records, cut as u64, "{}", found.sentence());
        let (code, said) = place.check();
        assert!(code == 1 && said.contains(&missing) && said.contains("restore events/ from a copy"), "{code} {said}");
        let output = place.command(&["train", "tone", "dpo", "--set", "max_steps=1"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(&missing), "{said}");
        let pty = Pty::sized(place.home.path(), &["label", "tone", "--rater", "ann"], 120, 30);
        pty.wait("damage", |t| t.contains(&missing));
    }
    // Restored, all is well; without the counts, nothing tells.
    place.put("000001.jsonl", &lines.concat());
    assert_eq!((place.listed(), place.check()), ((BEFORE, String::new()), (0, String::new())));
    place.put("000001.jsonl", &lines[..lines.len() - 1].concat());
    fs::remove_file(summary).unwrap();
    assert_eq!((place.listed(), place.check()), ((BEFORE - 1, String::new()), (0, String::new())));
    // New records take the numbers of those that are gone.
    place.put("000001.jsonl", &lines.concat());
    assert_eq!(place.listed(), (BEFORE, String::new()));
    place.put("000001.jsonl", &lines[..lines.len() - 1].concat());
    place.judge(9..=10);
    assert_eq!(place.check(), (0, String::new()));
}

#[test]
fn a_runs_log_cut_between_two_lines_ends_before_its_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    crate::cli::with_pairs(home.path());
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_tiebreak")).args(args).env("TIEBREAK_HOME", home.path()).output().unwrap()
    };
    let trained =
        run(&["train", "tone", "dpo", "--set", "max_steps=4", "--set", "save_steps=2", "--set", "eval_fraction=0"]);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    assert!(run(&["replay", "tone", "--check"]).status.success());
    let log = home.path().join("sessions/tone/runs/dpo-1/metrics/000001.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let end = text.lines().position(|line| line.contains("\"stepped\"") && line.contains("\"step\":4")).unwrap();
    fs::write(&log, text.split_inclusive('\n').take(end).collect::<String>()).unwrap();
    let checked = run(&["replay", "tone", "--check"]);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("run dpo-1 has a checkpoint of step 4, but its log ends at step 3"), "{said}");
}
