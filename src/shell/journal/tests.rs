//! A journal that was handed the log against one that read it itself.

use super::*;
use crate::domain::{
    Asked, Choice, CompletionId, Num, Prompt, PromptBody, PromptId, Rater, Seen, Showing, Side, TagChange, Verdict,
    mix64,
};
use crate::protocol::SessionMeta;
use crate::storage::Home;
use std::io::Write;

/// A record of any kind that a person or a run adds; `written` records are before it.
fn record(seed: u64, written: u64) -> SessionRecord {
    let draw = |salt: u64, below: u64| mix64(seed ^ (written << 20) ^ (salt << 50)) % below;
    let (pair, rater) = (PairId::new(format!("i{}", draw(1, 9))), Rater::new(["ana", "bo"][draw(2, 2) as usize]));
    let prompt = PromptId::new(format!("p{}", draw(3, 9)));
    match draw(0, 8) {
        0 => {
            let body = PromptBody::user(format!("why {written}?"));
            SessionRecord::Prompted(Prompt { id: prompt, body, source: "typed".into(), tags: [].into() }.into())
        }
        1 => SessionRecord::Undone { of: draw(4, written + 1) },
        2 => SessionRecord::Redone { of: draw(4, written + 1) },
        3 => SessionRecord::Noted { pair, rater, text: format!("note {written}") },
        4 => SessionRecord::Tagged(TagChange { prompt, tag: "code".into(), on: draw(5, 2) == 0, rater }),
        5 => {
            let (completion, run) = (CompletionId::new(format!("i{}.a", draw(6, 9))), RunId::new("reward-1"));
            SessionRecord::Scored { completion, run, score: Num(written as f64 / 3.0) }
        }
        _ => SessionRecord::Judged(
            Verdict {
                pair,
                rater,
                choice: Choice::Tie,
                left: Side::A,
                seen: Seen::Full,
                ms: written,
                winner_hash: None,
                asked: Asked::default(),
                showing: Showing::default(),
            }
            .into(),
        ),
    }
}

/// A session of so many records, the last of them torn.
fn torn_session(home: &Home, seed: u64, records: u64) -> SessionDir {
    let meta = SessionMeta { format: 1, name: "s".into(), model: "tiny".into(), created_ms: 1, app: "0".into() };
    let dir = SessionDir::create(home, "s", &meta).unwrap();
    let mut journal = Journal::open(&dir).unwrap().unwrap();
    for n in 0..records {
        journal.append(&record(seed, n)).unwrap();
    }
    if !seed.is_multiple_of(3) {
        journal.close().unwrap();
    }
    let log = std::fs::read_dir(dir.path().join("events")).unwrap().next().unwrap().unwrap().path();
    std::fs::OpenOptions::new().append(true).open(log).unwrap().write_all(b"{\"n\":99,\"k\":\"und").unwrap();
    dir
}

/// What the journal of a session writes next, and what its log then holds; `handed` takes over what another reader folded.
fn goes_on(seed: u64, records: u64, handed: bool) -> Vec<(u64, Option<SessionRecord>)> {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(folder.path())).unwrap();
    let dir = torn_session(&home, seed, records);
    // The reader may be ahead of the repair.
    let (mut tail, mut log) = (dir.tail(), LogFold::default());
    log.add(tail.poll().unwrap());
    let mut journal = Journal::open_unfolded(&dir).unwrap().unwrap();
    if handed {
        journal.take_fold(FoldedLog::of(&log, &tail)).unwrap();
        // The screen judges on in its own copy, which the writer's must not see.
        let SessionRecord::Judged(verdict) =
            (0..10_000).map(|n| record(seed, n)).find(|r| matches!(r, SessionRecord::Judged(_))).unwrap()
        else {
            unreachable!()
        };
        log.session.judge(1 << 62, verdict);
        log.session.score(CompletionId::new("i1.a"), &RunId::new("reward-9"), 1.0);
    }
    for n in records..records + 40 {
        journal.append(&record(seed, n)).unwrap();
    }
    journal.close().unwrap();
    let records = dir.tail().poll().unwrap().into_iter().map(|envelope| (envelope.n, envelope.known().cloned()));
    // The bytes before the torn line depend on how many digits the times took.
    records.filter(|(_, record)| !matches!(record, Some(SessionRecord::Repaired { .. }))).collect()
}

#[test]
fn a_journal_that_was_handed_the_log_writes_what_one_that_read_it_writes() {
    for (seed, records) in [(1, 0), (2, 1), (3, 70), (4, 230), (5, 985), (6, 1_010)] {
        let (read, handed) = (goes_on(seed, records, false), goes_on(seed, records, true));
        assert!(matches!(handed.last(), Some((_, Some(SessionRecord::StateHashed { .. })))), "seed {seed}");
        assert_eq!(handed, read, "seed {seed}");
    }
}
