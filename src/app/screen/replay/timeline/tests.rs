//! The timeline: seeking equals folding, order survives broken clocks, idle time is cut.

use super::*;
use crate::domain::{
    Choice, Completion, CompletionId, Finish, LogProb, Metrics, Num, Pair, PairId, Prompt, PromptBody, PromptId, Rater,
    Seen, Side, Strength, TagChange, Verdict, mix64,
};
use crate::protocol::{RunCommand, apply_record};

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
            Prompt { id: PromptId::new("p1"), body: PromptBody::user("why?"), source: "typed".into(), tags: [].into() }
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

/// Everything that a session's log adds to, again and again: prompts, answers, pairs, scores, margins, verdicts that are undone and
/// redone, tags that come and go.
fn rich_log(rounds: u64) -> Vec<Envelope<SessionRecord>> {
    let mut log: Vec<Envelope<SessionRecord>> = Vec::new();
    let mut verdicts: Vec<u64> = Vec::new();
    for k in 0..rounds {
        let mut push = |record: SessionRecord| {
            let n = log.len() as u64 + 1;
            log.push(envelope(n, n * 10, record));
            n
        };
        let prompt = PromptId::new(format!("p{k}"));
        let body = PromptBody::user(format!("why {k}?"));
        let tags = if k % 3 == 0 { ["old".to_owned()].into() } else { [].into() };
        push(SessionRecord::Prompted(Prompt { id: prompt.clone(), body, source: "typed".into(), tags }.into()));
        let ids = ["a", "b"].map(|side| CompletionId::new(format!("p{k}.{side}")));
        for id in &ids {
            let answer = Completion {
                id: id.clone(),
                prompt: prompt.clone(),
                model: "m".into(),
                text: format!("since {id}").into(),
                tokens: 2,
                finish: Finish::Given,
                sampler: None,
                logprob: LogProb::UNKNOWN,
                turns: [].into(),
            };
            push(SessionRecord::Completed(answer.into()));
        }
        let [a, b] = ids.clone();
        let pair = PairId::new(format!("p{}", k % 40));
        let made = Pair { id: pair.clone(), prompt, a, b, strategy: "random".into(), p_select: 1.0 };
        push(SessionRecord::Paired(made.into()));
        // Some answers are scored again, and by another run.
        let scored = CompletionId::new(format!("p{}.a", mix64(k) % (k + 1)));
        let run = RunId::new(if k % 5 == 0 { "reward-2" } else { "reward-1" });
        push(SessionRecord::Scored { completion: scored, run, score: Num(k as f64 / 7.0) });
        push(SessionRecord::MarginStated { pair, margin: Num(k as f64 / 9.0) });
        verdicts.push(push(verdict(k)));
        let some = verdicts[(mix64(k + 77) % verdicts.len() as u64) as usize];
        match k % 4 {
            0 => drop(push(SessionRecord::Undone { of: some })),
            1 => drop(push(SessionRecord::Redone { of: some })),
            _ => {}
        }
        let prompt = PromptId::new(format!("p{}", mix64(k + 5) % (k + 3)));
        let (rater, tag) = (Rater::new("me"), if k % 2 == 0 { "new" } else { "old" }.to_owned());
        push(SessionRecord::Tagged(TagChange { prompt, tag, on: k % 3 != 0, rater }));
    }
    log
}

#[test]
fn a_state_of_the_replay_is_what_the_log_alone_folds_to() {
    let log = rich_log(400);
    let mut line = Timeline::merge(log.clone(), Vec::new());
    assert!(line.snapshots.len() > 3);
    let places = (0..40u64).map(|k| (mix64(k) % (log.len() as u64 + 1)) as usize);
    for n in places.chain([log.len(), 0, 1]) {
        line.seek(n);
        let mut alone = Session::default();
        for envelope in &log[..n] {
            apply_record(&mut alone, envelope.n, envelope.w, envelope.known().unwrap());
        }
        let state = &line.state().session;
        assert!(*state == alone, "seek({n})");
        assert_eq!(state.state_hash(), alone.state_hash(), "seek({n})");
        for (at, prompt) in alone.prompts().iter().enumerate() {
            assert_eq!(state.prompt_place(&prompt.id), Some(at));
        }
        let later = PromptId::new(format!("p{}", alone.prompts().len()));
        assert!(state.prompt(&later).is_none());
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
