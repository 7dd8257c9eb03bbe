//! The timeline: seeking equals folding, order survives broken clocks, idle time is cut.

use super::*;
use crate::domain::{
    Choice, Metrics, PairId, Prompt, PromptBody, PromptId, Rater, Seen, Side, Strength, Verdict, mix64,
};
use crate::protocol::RunCommand;

fn envelope<T>(n: u64, w: u64, data: T) -> Envelope<T> {
    Envelope { n, m: n * 3, w, data: Ok(data) }
}

fn verdict(k: u64) -> SessionRecord {
    let choice = if k.is_multiple_of(3) { Choice::Tie } else { Choice::Prefer(Side::A, Strength::Better) };
    SessionRecord::Judged(
        Verdict {
            pair: PairId::new(format!("p{}", k % 40)),
            rater: Rater::new("me"),
            choice,
            left: Side::A,
            seen: Seen::Full,
            ms: 900,
            winner_hash: None,
            asked: crate::domain::Asked::default(),
            showing: crate::domain::Showing::default(),
        }
        .into(),
    )
}

/// Two logs of `n` entries in total, with verdicts, undo, steps, a lost attempt and a broken clock.
fn sample(n: u64) -> Timeline {
    let mut session = vec![envelope(
        1,
        10,
        SessionRecord::Prompted(
            Prompt {
                id: PromptId::new("p1"),
                body: PromptBody::user("why?"),
                source: "typed".into(),
                tags: Vec::new(),
            }
            .into(),
        ),
    )];
    for k in 2..=n / 2 {
        let record = if mix64(k).is_multiple_of(7) { SessionRecord::Undone { of: k - 1 } } else { verdict(k) };
        session.push(envelope(k, 10 + k * 20, record));
    }
    let mut run =
        vec![envelope(1, 30, RunEvent::Started { attempt: 1, pid: 1, device: "CPU".into(), from_step: None })];
    let mut step = 0;
    for k in 2..=n / 2 {
        let event = match k {
            300 => RunEvent::Started { attempt: 2, pid: 2, device: "CPU".into(), from_step: Some(100) },
            301 => RunEvent::Obeyed(RunCommand::Pause),
            302 => RunEvent::Obeyed(RunCommand::Resume),
            _ if k % 100 == 0 => RunEvent::Checkpointed { step, bytes: 5 },
            _ => {
                step = if k > 300 { k - 202 } else { k };
                let mut metrics = Metrics::new();
                metrics.set("loss", if k == 50 { f64::NAN } else { 1.0 / k as f64 });
                RunEvent::Stepped { step, epoch: 0.0, metrics }
            }
        };
        // The wall clock jumps back in the middle of the run.
        let w = if k > 400 { 30 + k * 20 - 4_000 } else { 30 + k * 20 };
        run.push(envelope(k, w, event));
    }
    Timeline::merge(session, vec![(RunId::new("dpo-1"), run)])
}

fn hash(moment: &Moment) -> (String, Vec<String>) {
    (moment.session.state_hash(), moment.runs.iter().map(|run| run.state_hash()).collect())
}

#[test]
fn seek_equals_folding_from_the_start() {
    let mut line = sample(5_000);
    assert_eq!(line.len(), 5_000);
    for k in 0..60u64 {
        let n = (mix64(k) % 5_001) as usize;
        line.seek(n);
        assert_eq!(line.cursor(), n);
        let mut fresh = sample(5_000);
        for _ in 0..n {
            fresh.step();
        }
        assert_eq!(hash(line.state()), hash(fresh.state()), "seek({n})");
    }
}

#[test]
fn a_clock_that_jumps_never_reorders_a_log() {
    let line = sample(2_000);
    for source in [None, Some(0)] {
        let ns: Vec<u64> = line
            .entries()
            .iter()
            .filter_map(|e| match (e.of_a_run(), source) {
                (None, None) => e.session_number(),
                (Some((0, e)), Some(0)) => Some(e.n),
                _ => None,
            })
            .collect();
        assert!(ns.is_sorted() && ns.len() == 1_000);
    }
    assert!((1..line.len()).all(|i| line.time_of(i) >= line.time_of(i - 1)));
}

#[test]
fn idle_time_is_cut_and_marks_are_stops() {
    let session = vec![
        envelope(1, 1_000, verdict(1)),
        envelope(2, 1_500, SessionRecord::Undone { of: 1 }),
        envelope(3, 900_000, verdict(2)),
    ];
    let mut line = Timeline::merge(session, Vec::new());
    assert_eq!((0..3).map(|i| line.time_of(i)).collect::<Vec<_>>(), [0, 500, 2_500]);
    assert_eq!(line.length(), 2_500);
    assert_eq!(line.count_at(2_499), 2);
    assert_eq!(line.next_mark(), Some(1));
    line.seek(1);
    assert_eq!((line.previous_mark(), line.next_mark()), (None, Some(3)));
    line.seek(3);
    assert_eq!((line.previous_mark(), line.next_mark()), (Some(1), None));
    assert_eq!(line.state().session.verdicts().count(), 2);
}

#[test]
fn an_empty_session_has_an_empty_timeline() {
    let mut line = Timeline::merge(Vec::new(), Vec::new());
    line.seek(10);
    assert_eq!((line.cursor(), line.length(), line.next_mark()), (0, 0, None));
}
