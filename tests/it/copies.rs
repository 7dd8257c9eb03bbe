//! Working together: a session is packed, unpacked, labelled in several copies, and the labels are collected.

use crate::cli::{json, text, tiebreak};
use std::path::Path;
use tiebreak::domain::{Asked, Choice, CompletionId, PairId, Rater, Seen, Side, Strength, Verdict};
use tiebreak::protocol::SessionRecord;
use tiebreak::storage::{Home, SessionDir};

/// Appends records to a session as a label screen would.
fn append(home: &Path, session: &str, records: &[SessionRecord]) -> Vec<u64> {
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), session).unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut log = dir.writer(&lock).unwrap();
    let seqs = records.iter().map(|record| log.append(record).unwrap()).collect();
    log.sync().unwrap();
    seqs
}

fn judged(pair: &str, rater: &str, choice: Choice) -> SessionRecord {
    let (pair, rater) = (PairId::new(pair), Rater::new(rater));
    SessionRecord::Judged(
        Verdict {
            pair,
            rater,
            choice,
            left: Side::B,
            seen: Seen::Full,
            ms: 900,
            winner_hash: None,
            asked: Asked::default(),
            showing: tiebreak::domain::Showing::default(),
        }
        .into(),
    )
}

fn prefer(side: Side) -> Choice {
    Choice::Prefer(side, Strength::Better)
}

/// A session `s` with three unjudged pairs, packed into `week.tgz`.
fn shared(home: &Path) -> String {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    json(home, &["new", "s", "--model", model.to_str().unwrap(), "--json"]);
    let mut records = crate::support::pairs(3);
    records.push(SessionRecord::Noted { pair: PairId::new("p1:0-1"), rater: Rater::new("ana"), text: "hm".into() });
    append(home, "s", &records);
    let file = home.join("week.tgz").to_str().unwrap().to_owned();
    assert_eq!(json(home, &["pack", "s", "--to", &file, "--json"])["weights_left_out"], 0);
    file
}

fn first_pairs(home: &Path) -> Vec<String> {
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "s").unwrap();
    dir.state().unwrap().0.pairs().iter().map(|p| p.id.to_string()).collect()
}

#[test]
fn the_labels_of_two_copies_are_collected_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let file = shared(home);
    let pairs = first_pairs(home);
    for name in ["ben", "cy"] {
        json(home, &["unpack", &file, "--as", name, "--json"]);
    }
    append(home, "s", &[judged(&pairs[0], "ana", prefer(Side::A))]);
    append(home, "ben", &[judged(&pairs[0], "ben", prefer(Side::B)), judged(&pairs[1], "ben", Choice::Tie)]);
    let completion = {
        let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "cy").unwrap();
        dir.state().unwrap().0.pairs()[2].a.clone()
    };
    let correction = |text: &str| SessionRecord::Corrected {
        pair: PairId::new(&pairs[2]),
        completion: CompletionId::new(completion.as_str()),
        rater: Rater::new("cy"),
        text: text.into(),
    };
    let note =
        |text: &str| SessionRecord::Noted { pair: PairId::new(&pairs[1]), rater: Rater::new("cy"), text: text.into() };
    let seqs = append(home, "cy", &[judged(&pairs[0], "cy", prefer(Side::B)), correction("better"), note("look")]);

    let repacked = home.join("cy.tgz").to_str().unwrap().to_owned();
    json(home, &["pack", "cy", "--to", &repacked, "--json"]);
    let out = tiebreak(home, &["collect", "s", "ben", &repacked, "--json"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let rows: Vec<serde_json::Value> = text(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((rows[0]["verdicts"].as_u64(), rows[0]["notes"].as_u64()), (Some(2), Some(0)));
    assert_eq!(
        (rows[1]["verdicts"].as_u64(), rows[1]["corrections"].as_u64(), rows[1]["notes"].as_u64()),
        (Some(1), Some(1), Some(1))
    );
    let state = |session: &str| {
        let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), session).unwrap();
        dir.state().unwrap().0
    };
    let s = state("s");
    assert_eq!(s.rows().0.len(), 1 + usize::from(s.rows().0.iter().any(|r| r.chosen == "better")));
    assert_eq!(s.note_of(&PairId::new(&pairs[1]), &Rater::new("cy")), Some("look"));
    assert_eq!(s.sft_rows().len(), 1);

    // Again: nothing. Then an undo there.
    for from in ["ben", "cy", &repacked] {
        let again = json(home, &["collect", "s", from, "--json"]);
        assert_eq!((again["verdicts"].as_u64(), again["corrections"].as_u64()), (Some(0), Some(0)), "{again}");
    }
    append(home, "cy", &[SessionRecord::Undone { of: seqs[0] }]);
    assert_eq!(json(home, &["collect", "s", "cy", "--json"])["undone_or_redone"], 1);
    assert_eq!(state("s").counting(&PairId::new(&pairs[0])).len(), 2);
    // A copy that collected from a copy brings nothing twice.
    json(home, &["collect", "ben", "s", "--json"]);
    assert_eq!(json(home, &["collect", "s", "ben", "--json"])["known"], 7);
    assert_eq!(json(home, &["replay", "s", "--check", "--json"])["verdicts"], 4);
    let outcome = |session: &str| {
        format!("{:?}", pairs.iter().map(|p| state(session).outcome(&PairId::new(p))).collect::<Vec<_>>())
    };
    assert_eq!(outcome("s"), outcome("ben"));
}

#[test]
fn what_cannot_be_collected_is_one_sentence_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let file = shared(home);
    let pairs = first_pairs(home);
    json(home, &["unpack", &file, "--as", "other", "--json"]);
    append(home, "s", &[judged(&pairs[0], "me", prefer(Side::A))]);
    append(home, "other", &[judged(&pairs[0], "me", prefer(Side::B))]);
    let lines = || {
        std::fs::read_to_string(home.join("sessions/s/events/000001.jsonl"))
            .unwrap()
            .lines()
            .filter(|l| l.contains("judged"))
            .count()
    };
    let before = lines();
    let torn = home.join("torn.tgz");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    for (args, reason) in [
        (&["collect", "s", "other"][..], "--one-person"),
        (&["collect", "s", "s"], "is the session itself"),
        (&["collect", "s", "nope"], "no session `nope`"),
        (&["collect", "s", torn.to_str().unwrap()], "torn"),
        (&["collect", "s", "other", "--rename", "me"], "OLD=NEW"),
        (&["collect", "s", "other", "--rename", "me=import:x"], "OLD=NEW"),
        (&["unpack", &file], "already exists"),
        (&["unpack", &file, "--as", "../x"], "cannot name a session"),
        (&["pack", "s", "--to", &file], "already exists"),
    ] {
        let out = tiebreak(home, args);
        let said = text(&out.stderr);
        assert!(!out.status.success() && said.contains(reason), "{args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
    assert_eq!(lines(), before);
    assert_eq!(json(home, &["collect", "s", "other", "--rename", "me=ben", "--json"])["verdicts"], 1);
    assert_eq!(json(home, &["replay", "s", "--check", "--json"])["verdicts"], 2);
}
