//! The fold of a run: status, attempts, pace and hash.

use super::*;
use crate::domain::{CompletionId, Finish, LogProb, PromptId, Severity};

fn metrics(loss: f64) -> Metrics {
    let mut m = Metrics::new();
    m.set("loss", loss);
    m
}

fn plan(total: u64) -> Plan {
    Plan { total_steps: total, steps_per_epoch: 10, ..Plan::default() }
}

/// `n` steps of 500 ms each, the worker's clock starting at `m0`.
fn steps(run: &mut RunState, from: u64, to: u64, m0: u64) {
    for (i, step) in (from..=to).enumerate() {
        run.tick(m0 + i as u64 * 500, 1_000_000 + i as u64 * 500);
        run.advance(step, step as f64 / 10.0, &metrics(1.0 / step as f64));
    }
}

#[test]
fn an_unlocked_log_is_lost_and_an_unchecked_one_is_starting() {
    let mut run = RunState::default();
    assert_eq!(run.status(None), RunStatus::Starting);
    assert_eq!(run.status(Some(true)), RunStatus::Starting);
    assert_eq!(run.status(Some(false)), RunStatus::Lost);
    run.tick(0, 5);
    run.start(1, "CPU", None, 0);
    assert_eq!(run.status(None), RunStatus::Starting);
    assert_eq!(run.status(Some(true)), RunStatus::Running);
    assert_eq!(run.status(Some(false)), RunStatus::Lost);
    run.obey("pause");
    assert_eq!(run.status(Some(true)), RunStatus::Paused);
    assert_eq!(run.status(Some(false)), RunStatus::Lost);
    run.end(RunStatus::Finished, 3);
    assert_eq!(run.status(Some(false)), RunStatus::Finished);
    assert_eq!(run.status(None), RunStatus::Finished);
}

#[test]
fn time_left_follows_recent_steps_and_ignores_pauses() {
    let mut run = RunState::default();
    run.start(1, "CPU", None, 0);
    run.set_plan(plan(30));
    assert_eq!(run.seconds_left(), None);
    steps(&mut run, 1, 10, 0);
    assert_eq!(run.seconds_per_step(), Some(0.5));
    assert_eq!(run.seconds_left(), Some(10.0));
    run.obey("pause");
    run.tick(900_000, 2_000_000);
    run.obey("resume");
    steps(&mut run, 11, 13, 900_500);
    assert_eq!(run.seconds_per_step(), Some(0.5));
    run.end(RunStatus::Finished, 13);
    assert_eq!(run.seconds_left(), None);
}

#[test]
fn a_second_attempt_resumes_from_its_checkpoint() {
    let mut run = RunState::default();
    run.start(1, "CPU", None, 0);
    run.set_plan(plan(30));
    steps(&mut run, 1, 9, 0);
    run.checkpoint(5, 100);
    run.checkpoint(9, 100);
    run.findings.push(Finding {
        rule: "x".into(),
        step: 8,
        severity: Severity::Warn,
        text: String::new(),
        remedy: String::new(),
        pair: None,
    });
    let before = run.elapsed_ms();
    // A new process: its monotonic clock is unrelated to the first one's.
    run.start(2, "CPU", Some(5), 77);
    assert_eq!((run.step, run.attempt, run.epoch), (5, 2, 0.5));
    assert_eq!(run.series("loss").unwrap().live().len(), 5);
    assert_eq!(run.series("loss").unwrap().ghosts()[0].len(), 4);
    assert_eq!(run.checkpoints.iter().map(|c| c.step).collect::<Vec<_>>(), [5]);
    assert!(run.findings.is_empty());
    steps(&mut run, 6, 7, 77);
    assert_eq!(run.elapsed_ms(), before + 500);
    assert_eq!(run.latest("loss"), Some(1.0 / 7.0));
}

#[test]
fn non_finite_values_are_kept() {
    let mut run = RunState::default();
    run.start(1, "CPU", None, 0);
    run.advance(1, 0.1, &metrics(0.5));
    run.advance(2, 0.2, &metrics(f64::NAN));
    let bucket = run.series("loss").unwrap().live().bucket(0..2);
    assert_eq!((bucket.count, bucket.bad), (1, 1));
    assert!(run.latest("loss").unwrap().is_nan());
}

#[test]
fn sampling_counts_completions_and_tokens() {
    let mut run = RunState::default();
    run.start(1, "CPU", None, 0);
    run.set_plan(Plan { total_steps: 100, ..Plan::default() });
    for k in 0..60u64 {
        run.tick(k * 1000, k);
        run.complete(&Completion {
            turns: [].into(),
            id: CompletionId::new(format!("s1.p1.{k}")),
            prompt: PromptId::new("p1"),
            model: "m".into(),
            text: "t".into(),
            tokens: 40,
            finish: Finish::Eos,
            sampler: None,
            logprob: LogProb::UNKNOWN,
        });
    }
    assert_eq!((run.step, run.tokens, run.recent.len()), (60, 2400, RECENT));
    assert_eq!(run.tokens_per_second(), Some(40.0));
    assert_eq!(run.seconds_left(), Some(40.0));
    // A resumed sampling run keeps what its log holds.
    run.start(2, "CPU", None, 5);
    assert_eq!(run.step, 60);
}

#[test]
fn the_hash_covers_the_log_and_not_the_view() {
    let mut a = RunState::default();
    a.start(1, "CPU", None, 0);
    steps(&mut a, 1, 5, 0);
    let mut b = a.clone();
    b.set_smoothing(0.9);
    assert_eq!(a.state_hash(), b.state_hash());
    b.advance(6, 0.6, &metrics(0.0));
    assert_ne!(a.state_hash(), b.state_hash());
}

#[test]
fn a_sampling_run_reports_its_own_progress() {
    let mut run = RunState::default();
    run.start(1, "CPU", None, 0);
    let completion = |k: u64| Completion {
        turns: [].into(),
        id: CompletionId::new(format!("s1.p1.{k}")),
        prompt: PromptId::new("p1"),
        model: "m".into(),
        text: "t".into(),
        tokens: 10,
        finish: Finish::Eos,
        sampler: None,
        logprob: LogProb::UNKNOWN,
    };
    // Three of four candidates were distinct; the prompt as a whole counts four answers and 45 tokens.
    for k in 0..3 {
        run.complete(&completion(k));
    }
    let mut m = Metrics::new();
    m.set("num_tokens", 45.0);
    m.set("tokens_per_second", 9.0);
    run.advance(4, 0.1, &m);
    assert_eq!((run.step, run.tokens, run.tokens_per_second()), (4, 45, Some(9.0)));
}
