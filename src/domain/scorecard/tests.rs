//! Reports of built logs.

use super::*;
use crate::domain::{ItemKey, Metrics, Num};

fn measurement(item: usize, side: Contestant, values: &[(&str, f64)]) -> Measurement {
    let mut metrics = Metrics::new();
    for (name, value) in values {
        metrics.set(name, *value);
    }
    let key = ItemKey { suite: "winrate".into(), item: format!("p{item}"), seed: 0 };
    Measurement { key, side, cluster: format!("c{item}"), values: metrics }
}

fn comparison(judge: &str, item: usize, p: f64, orders: Option<(f64, f64)>) -> Comparison {
    Comparison {
        key: ItemKey { suite: "winrate".into(), item: format!("p{item}"), seed: 0 },
        judge: judge.into(),
        cluster: format!("c{item}"),
        p: Some(Num(p)),
        a_first: orders.map(|o| Num(o.0)),
        b_first: orders.map(|o| Num(o.1)),
        chars: [100 + item, 90],
        problem: None,
        reference: None,
        difference: None,
    }
}

fn state(words: impl Fn(usize, Contestant) -> f64, wins: impl Fn(usize) -> f64) -> EvalState {
    let mut state = EvalState::default();
    for item in 0..60 {
        for side in Contestant::BOTH {
            state.measure(measurement(item, side, &[("words", words(item, side)), ("cut", 0.0)]));
        }
        state.compare(comparison("check:x", item, wins(item), None));
    }
    state
}

#[test]
fn an_unchanged_model_gives_zero_and_cannot_tell_everywhere() {
    let report = eval_report(&state(|item, _| item as f64, |_| 0.5), &[]);
    for measure in &report.suites[0].measures {
        assert_eq!(measure.difference, Some(0.0), "{}", measure.key);
        assert_eq!(measure.conclusion.word, "cannot tell");
        assert_eq!(measure.conclusion.detail.as_deref(), Some("no difference was seen"));
    }
    let judge = &report.judges[0];
    assert_eq!((judge.rate, judge.wins, judge.ties, judge.losses), (Some(0.5), 0, 60, 0));
    assert_eq!(judge.conclusion.word, "cannot tell");
}

#[test]
fn a_clear_difference_is_called_in_the_measures_own_direction() {
    let longer = |item: usize, side| item as f64 + if side == Contestant::A { 5.0 } else { 0.0 };
    let report = eval_report(&state(longer, |item| if item.is_multiple_of(6) { 0.0 } else { 1.0 }), &[]);
    let words = &report.suites[0].measures[0];
    assert_eq!((words.difference, words.conclusion.word), (Some(5.0), "higher"));
    let judge = &report.judges[0];
    assert_eq!((judge.wins, judge.losses, judge.conclusion.word), (50, 10, "better"));
    let p = judge.p.unwrap();
    assert!(p < 1e-6);
    // One more test in the session makes each less certain.
    let corrected = eval_report(&state(longer, |item| if item.is_multiple_of(6) { 0.0 } else { 1.0 }), &[0.5]);
    assert_eq!(corrected.tests, report.tests + 1);
    assert!((corrected.judges[0].p_corrected.unwrap() - 2.0 * p).abs() < 1e-12);
}

#[test]
fn a_judge_that_prefers_its_first_answer_is_no_headline() {
    let mut state = EvalState::default();
    for item in 0..60 {
        // 0.9 for whatever comes first.
        state.compare(comparison("llm:m", item, 0.5, Some((0.9, 0.1))));
    }
    let judge = &eval_report(&state, &[]).judges[0];
    assert_eq!(judge.consistency, Some(0.0));
    assert!((judge.position_bias.unwrap() - 0.4).abs() < 1e-12);
    assert!(judge.not_headline.iter().any(|why| why.contains("when the order is swapped")), "{:?}", judge.not_headline);
}

#[test]
fn swapping_the_contestants_mirrors_the_report() {
    let wins = |item: usize| f64::from(u8::from(item.is_multiple_of(3)));
    let report = eval_report(&state(|item, side| (item * (1 + side.index())) as f64, wins), &[]);
    let swapped = eval_report(&state(|item, side| (item * (2 - side.index())) as f64, |item| 1.0 - wins(item)), &[]);
    let (one, two) = (&report.suites[0].measures[0], &swapped.suites[0].measures[0]);
    assert_eq!(one.difference.map(|d| -d), two.difference);
    let ends = one.interval.unwrap();
    assert!((ends[0] + two.interval.unwrap()[1]).abs() < 1e-9);
    assert!((report.judges[0].rate.unwrap() + swapped.judges[0].rate.unwrap() - 1.0).abs() < 1e-12);
}
