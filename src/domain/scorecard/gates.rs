//! How far a judge can be trusted: what it said of pairs whose better answer is known.
//!
//! Owns the sets' names and the figures of a set. Refuses to decide what is a headline: [`super`] does, by these figures.

use super::super::agreement::cohen_kappa;
use super::super::measured::{Comparison, EvalState};
use super::super::stats::wilson;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the suites of such comparisons begin with.
const GATE: &str = "gate/";

/// LLMBar natural: pairs with an objectively better answer.
pub const LLMBAR: &str = "llmbar";

/// The session's own labels by people.
pub const OWN_LABELS: &str = "own";

/// The fewest own labels from which an accuracy is taken, or a calibration.
pub const FEWEST_LABELS: usize = 30;

/// The suite of comparisons on a set of pairs with a known better answer.
#[must_use]
pub fn gate_suite(set: &str) -> String {
    format!("{GATE}{set}")
}

/// Whether comparisons of that suite measure the judge, not the contestants.
#[must_use]
pub fn is_gate(suite: &str) -> bool {
    suite.starts_with(GATE)
}

/// A judge on one set of pairs with a known better answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateReport {
    /// The set: `llmbar`, or `own` for the session's labels.
    pub set: String,
    /// Its pairs.
    pub pairs: usize,
    /// Pairs without an opinion of the judge.
    pub unjudged: usize,
    /// Pairs of which one answer is known to be better, and of which the judge has an opinion.
    pub decided: usize,
    /// The share of these that it judges right; its ties are half right.
    pub accuracy: Option<f64>,
    /// Wilson's 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Cohen's kappa with the known labels, ties among them.
    pub kappa: Option<f64>,
    /// For a judge asked in both orders: the share of pairs on which both orders agree.
    pub consistency: Option<f64>,
    /// How often it picks the longer answer, of those of unequal length that it decides.
    pub longer: Option<f64>,
    /// How often the longer answer is the better one there.
    pub longer_is_better: Option<f64>,
}

/// What a judge said of each set of pairs with a known better answer.
pub(super) fn gate_reports(state: &EvalState, judge: &str) -> Vec<GateReport> {
    let mut sets: BTreeMap<&str, Vec<&Comparison>> = BTreeMap::new();
    for comparison in state.comparisons().filter(|c| c.judge == judge) {
        if let Some(set) = comparison.key.suite.strip_prefix(GATE) {
            sets.entry(set).or_default().push(comparison);
        }
    }
    sets.into_iter().map(|(set, rows)| gate_report(set, &rows)).collect()
}

/// Who is better: 1 for a, −1 for b, 0 for neither.
fn sign(p: f64) -> i64 {
    i64::from(p > 0.5) - i64::from(p < 0.5)
}

/// Whether both orders name the same answer.
pub(super) fn agrees(one: f64, two: f64) -> bool {
    sign(one) == sign(two)
}

fn share(of: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| of as f64 / all as f64)
}

fn gate_report(set: &str, rows: &[&Comparison]) -> GateReport {
    let seen: Vec<(&Comparison, i64, i64)> =
        rows.iter().filter_map(|c| Some((*c, sign(c.p?.0), sign(c.reference?.0)))).collect();
    let decided: Vec<&(&Comparison, i64, i64)> = seen.iter().filter(|(.., known)| *known != 0).collect();
    let right: f64 =
        decided.iter().map(|(_, said, known)| if *said == 0 { 0.5 } else { f64::from(said == known) }).sum();
    let n = decided.len() as f64;
    let both: Vec<(f64, f64)> = seen.iter().filter_map(|(c, ..)| Some((c.a_first?.0, c.b_first?.0))).collect();
    // Read from both sides: a file may have every better answer first, which would make chance agreement certain.
    let labels: Vec<(i64, i64)> = seen.iter().flat_map(|(_, said, known)| [(*said, *known), (-said, -known)]).collect();
    let longer = |c: &Comparison| i64::from(c.chars[0] > c.chars[1]) - i64::from(c.chars[0] < c.chars[1]);
    let unequal: Vec<&(&Comparison, i64, i64)> = seen.iter().filter(|(c, ..)| longer(c) != 0).collect();
    let picks: Vec<bool> =
        unequal.iter().filter(|(_, said, _)| *said != 0).map(|(c, said, _)| *said == longer(c)).collect();
    let better: Vec<bool> =
        unequal.iter().filter(|(.., known)| *known != 0).map(|(c, _, known)| *known == longer(c)).collect();
    let count = |of: &[bool]| share(of.iter().filter(|x| **x).count(), of.len());
    GateReport {
        set: set.to_owned(),
        pairs: rows.len(),
        unjudged: rows.len() - seen.len(),
        decided: decided.len(),
        accuracy: (n > 0.0).then(|| right / n),
        interval: (n > 0.0).then(|| {
            let (low, high) = wilson(right, n, 1.959_964);
            [low, high]
        }),
        kappa: cohen_kappa(&labels),
        consistency: share(both.iter().filter(|(one, two)| agrees(*one, *two)).count(), both.len()),
        longer: count(&picks),
        longer_is_better: count(&better),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemKey, Num, eval_report};

    /// A judge's opinions: (p, orders, reference, characters).
    type Row = (f64, Option<(f64, f64)>, Option<f64>, [usize; 2]);

    fn state(judge: &str, sets: &[(&str, Vec<Row>)]) -> EvalState {
        let mut state = EvalState::default();
        for (suite, rows) in sets {
            for (at, (p, orders, reference, chars)) in rows.iter().enumerate() {
                state.compare(Comparison {
                    key: ItemKey { suite: (*suite).into(), item: at.to_string(), seed: 0 },
                    judge: judge.into(),
                    cluster: format!("{suite} {at}"),
                    p: Some(Num(*p)),
                    a_first: orders.map(|o| Num(o.0)),
                    b_first: orders.map(|o| Num(o.1)),
                    chars: *chars,
                    problem: None,
                    reference: reference.map(Num),
                    difference: None,
                });
            }
        }
        state
    }

    /// `right` of `n` pairs judged right in both orders; the longer answer is the better one in half of them.
    fn known(right: usize, n: usize) -> Vec<Row> {
        (0..n)
            .map(|at| {
                let reference = f64::from(u8::from(at % 2 == 0));
                let p = if (at < right) == (reference == 1.0) { 0.8 } else { 0.2 };
                (p, Some((p, p)), Some(reference), if at % 4 < 2 { [9, 5] } else { [5, 9] })
            })
            .collect()
    }

    fn judged(n: usize) -> Vec<Row> {
        (0..n).map(|_| (0.7, Some((0.7, 0.7)), None, [4, 5])).collect()
    }

    #[test]
    fn a_judge_that_prefers_its_own_position_is_refused_the_headline() {
        // 0.9 for whatever comes first, on known pairs and on the contestants' answers.
        let lover = |reference: Option<f64>| (0.5, Some((0.9, 0.1)), reference, [5, 5]);
        let gate: Vec<Row> = (0..100).map(|at| lover(Some(f64::from(u8::from(at % 2 == 0))))).collect();
        let state = state("llm:m", &[("gate/llmbar", gate), ("winrate", vec![lover(None); 60])]);
        let report = eval_report(&state, &[]);
        assert_eq!(report.judges.len(), 1, "what measures a judge is no result: {:?}", report.judges);
        let judge = &report.judges[0];
        assert_eq!((judge.suite.as_str(), judge.comparisons, judge.accuracy), ("winrate", 60, Some(0.5)));
        assert_eq!(judge.consistency, Some(0.0));
        assert!((judge.position_logit.unwrap() - 9f64.ln()).abs() < 1e-9);
        assert_eq!(judge.not_headline.len(), 2, "{:?}", judge.not_headline);
    }

    #[test]
    fn a_measured_judge_headlines_and_an_unmeasured_one_does_not() {
        let of = |judge: &str, sets: &[(&str, Vec<Row>)]| eval_report(&state(judge, sets), &[]).judges[0].clone();
        let good = of("llm:m", &[("gate/llmbar", known(80, 100)), ("winrate", judged(60))]);
        assert_eq!((good.accuracy, good.not_headline.len()), (Some(0.8), 0), "{:?}", good.not_headline);
        let gate = &good.gate[0];
        assert_eq!((gate.decided, gate.consistency, gate.longer_is_better), (100, Some(1.0), Some(0.5)));
        assert!((gate.kappa.unwrap() - 0.6).abs() < 1e-9 && gate.interval.unwrap()[0] < 0.8);
        let poor = of("llm:m", &[("gate/llmbar", known(60, 100)), ("winrate", judged(60))]);
        assert!(poor.not_headline[0].contains("60 %"), "{:?}", poor.not_headline);
        let unmeasured = of("llm:m", &[("winrate", judged(60))]);
        assert!(unmeasured.not_headline[0].contains("not measured"), "{:?}", unmeasured.not_headline);
        // Few own labels are shown and measure nothing.
        let few = of("llm:m", &[("gate/own", known(20, 20)), ("winrate", judged(60))]);
        assert_eq!((few.accuracy, few.gate[0].accuracy), (None, Some(1.0)));
        // A run is measured on your labels before LLMBar, and has no order that could matter.
        let one_way = |rows: Vec<Row>| rows.into_iter().map(|(p, _, r, c)| (p, None, r, c)).collect::<Vec<_>>();
        let sets = [
            ("gate/llmbar", one_way(known(50, 100))),
            ("gate/own", one_way(known(36, 40))),
            ("winrate", one_way(judged(60))),
        ];
        let run = of("reward:r", &sets);
        assert_eq!((run.accuracy, run.not_headline.len(), run.consistency), (Some(0.9), 0, None));
        assert!(of("reward:r", &sets[2..]).not_headline[0].contains("not measured"));
        // Checks need no measurement.
        assert!(of("check:x", &sets[2..]).not_headline.is_empty());
    }

    #[test]
    fn a_judge_that_picks_the_longer_answer_shows() {
        let rows: Vec<Row> = (0..40)
            .map(|at| {
                let longer_first = at % 2 == 0;
                let p = if longer_first { 0.9 } else { 0.1 };
                (p, Some((p, p)), Some(f64::from(u8::from(at % 4 < 2))), if longer_first { [9, 5] } else { [5, 9] })
            })
            .collect();
        let state = state("llm:m", &[("gate/own", rows)]);
        let found = &gate_reports(&state, "llm:m")[0];
        assert_eq!((found.longer, found.longer_is_better, found.accuracy), (Some(1.0), Some(0.5), Some(0.5)));
        assert!(found.kappa.unwrap().abs() < 1e-9);
    }
}
