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
    let right: f64 = decided.iter().map(|(_, said, known)| if *said == 0 { 0.5 } else { f64::from(said == known) }).sum();
    let n = decided.len() as f64;
    let both: Vec<(f64, f64)> = seen.iter().filter_map(|(c, ..)| Some((c.a_first?.0, c.b_first?.0))).collect();
    let labels: Vec<(i64, i64)> = seen.iter().map(|(_, said, known)| (*said, *known)).collect();
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
