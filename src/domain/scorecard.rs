//! What an evaluation found: every measure and every judge with interval, verdict and corrected p-value.
//!
//! Owns the path from what was logged to the numbers that the screen, the commands and the report show. Refuses to know
//! models: it folds an [`EvalState`].

use super::conclusion::{Conclusion, conclude};
use super::contest::Contestant;
use super::evaluation::{
    CannotTell, ComparisonVerdict, ConfidenceInterval, DRAWS, JudgeFigures, LengthRow, PromptScore, calibration_error,
    holm, judge_gate, length_controlled, mcnemar, over_seeds, paired_difference, paired_win_rate, sign_test,
};
use super::hash::hash64;
use super::measured::{Comparison, EvalState, Measurement};
use super::metric::Metrics;
use super::posed::HUMAN;
use super::standings::Standings;
use super::stats::{median, quantile, resample};
use super::suite::{Better, JudgeOperand, JudgeRow, Measure, Pooling, SuiteRow, judges, suite};
use gates::{agrees, gate_reports};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

mod gates;

pub use gates::{FEWEST_LABELS, GateReport, LLMBAR, OWN_LABELS, gate_suite, is_gate};

/// Seed of the bootstraps: the same log gives the same numbers.
const SEED: u64 = 1;

/// A measure of a suite for both contestants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasureReport {
    /// Its name in logs.
    pub key: &'static str,
    /// Its name on screens.
    pub title: &'static str,
    /// Items measured for both; for one where the other has none.
    pub items: usize,
    /// Prompts among them.
    pub prompts: usize,
    /// The value of a.
    pub a: Option<f64>,
    /// The value of b.
    pub b: Option<f64>,
    /// a − b on the items that both have.
    pub difference: Option<f64>,
    /// Its 95 % interval, over prompts (and seeds).
    pub interval: Option<[f64; 2]>,
    /// The 95 % interval of the value itself, over prompts, where only one of the two has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone: Option<[f64; 2]>,
    /// What it lets one say of a.
    pub conclusion: Conclusion,
    /// McNemar's exact p-value of a share; none for other measures.
    pub p: Option<f64>,
    /// The same after Holm's correction for everything that the session ran.
    pub p_corrected: Option<f64>,
    /// Why there is no difference or interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
}

/// A suite's measures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuiteReport {
    /// Its name.
    pub suite: String,
    /// Its measures, the headline first.
    pub measures: Vec<MeasureReport>,
}

/// The win rate at equal length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthReport {
    /// The controlled win rate.
    pub rate: f64,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// What it lets one say of a.
    pub conclusion: Conclusion,
    /// Whether control moved the rate so far that the fit may have failed.
    pub extreme: bool,
}

/// A judge's win rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeReport {
    /// The judge.
    pub judge: String,
    /// The suite whose answers it compared.
    pub suite: String,
    /// Comparisons.
    pub comparisons: usize,
    /// Prompts among them.
    pub prompts: usize,
    /// How often a was better.
    pub wins: usize,
    /// How often neither was.
    pub ties: usize,
    /// How often b was better.
    pub losses: usize,
    /// Comparisons without an opinion.
    pub unjudged: usize,
    /// The win rate of a; a tie is half a win.
    pub rate: Option<f64>,
    /// Its 95 % interval, over prompts (and seeds).
    pub interval: Option<[f64; 2]>,
    /// What it lets one say of a.
    pub conclusion: Conclusion,
    /// The exact sign test's p-value.
    pub p: Option<f64>,
    /// The same after Holm's correction for everything that the session ran.
    pub p_corrected: Option<f64>,
    /// Mean characters of both contestants' answers.
    pub mean_chars: [f64; 2],
    /// The win rate at equal length.
    pub length_controlled: Option<LengthReport>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_undefined: Option<String>,
    /// For a judge asked in both orders: the share of comparisons in which both orders agree.
    pub consistency: Option<f64>,
    /// The mean probability that it gives to the first answer, less one half.
    pub position_bias: Option<f64>,
    /// The same in logits: the mean of (l1 + l2)/2, where l1 and l2 are those of the first answer in both orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_logit: Option<f64>,
    /// Its accuracy on pairs with a known better answer.
    pub accuracy: Option<f64>,
    /// What it said of pairs with a known better answer, by set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gate: Vec<GateReport>,
    /// Why its number is no headline; empty where it is one.
    pub not_headline: Vec<String>,
}

/// Everything an evaluation found.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct EvalReport {
    /// By suite.
    pub suites: Vec<SuiteReport>,
    /// By judge and suite.
    pub judges: Vec<JudgeReport>,
    /// How many tests were corrected for together.
    pub tests: usize,
    /// The ratings of the session's models that its judges compared; filled in by who reads the session's other evaluations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub standings: Vec<Standings>,
}

impl EvalReport {
    /// Judge, suite, and why the judge's number is no headline.
    #[must_use]
    pub fn headlines(&self) -> Vec<(&str, &str, &[String])> {
        self.judges.iter().map(|j| (j.judge.as_str(), j.suite.as_str(), j.not_headline.as_slice())).collect()
    }

    /// Its p-values before correction, in order.
    #[must_use]
    pub fn p_values(&self) -> Vec<f64> {
        let measures = self.suites.iter().flat_map(|suite| suite.measures.iter().filter_map(|m| m.p));
        measures.chain(self.judges.iter().filter_map(|judge| judge.p)).collect()
    }

    /// Corrects its p-values for its own tests and those of the session's `others`.
    fn correct(&mut self, others: &[f64]) {
        let own = self.p_values();
        let all: Vec<f64> = own.iter().chain(others).copied().collect();
        self.tests = all.len();
        let Ok(corrected) = holm(&all) else { return };
        let mut next = corrected.into_iter();
        for measure in self.suites.iter_mut().flat_map(|suite| &mut suite.measures) {
            measure.p_corrected = measure.p.and_then(|_| next.next());
        }
        for judge in &mut self.judges {
            judge.p_corrected = judge.p.and_then(|_| next.next());
        }
    }
}

/// The report of what is logged. `others` are the uncorrected p-values of the session's other evaluations.
#[must_use]
pub fn eval_report(state: &EvalState, others: &[f64]) -> EvalReport {
    let mut by_suite: BTreeMap<&str, Vec<&Measurement>> = BTreeMap::new();
    for measurement in state.measurements() {
        by_suite.entry(&measurement.key.suite).or_default().push(measurement);
    }
    let suites = by_suite.into_iter().filter_map(|(name, rows)| Some(suite_report(suite(name)?, &rows))).collect();
    let mut by_judge: BTreeMap<(&str, &str), Vec<&Comparison>> = BTreeMap::new();
    for comparison in state.comparisons().filter(|c| !is_gate(&c.key.suite)) {
        by_judge.entry((&comparison.judge, &comparison.key.suite)).or_default().push(comparison);
    }
    let judges = by_judge
        .into_iter()
        .map(|((judge, suite), rows)| judge_report(judge, suite, &rows, gate_reports(state, judge)))
        .collect();
    let mut report = EvalReport { suites, judges, tests: 0, standings: Vec::new() };
    report.correct(others);
    report
}

/// A measure's values without interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasureValues {
    /// The value of a on the items that both have.
    pub a: f64,
    /// The value of b on them.
    pub b: f64,
}

/// The values of a suite's measure; none where no item has both.
#[must_use]
pub fn measure_values(state: &EvalState, suite: &str, measure: &Measure) -> Option<MeasureValues> {
    let rows: Vec<&Measurement> = state.measurements().filter(|m| m.key.suite == suite).collect();
    let [a, b] = Contestant::BOTH.map(|side| values(measure, &rows, side));
    let shared: Vec<_> = a.iter().filter_map(|(key, a)| Some((*a, *b.get(key)?))).collect();
    let a = pooled(measure.pooling, shared.iter().map(|pair| &pair.0))?;
    Some(MeasureValues { a, b: pooled(measure.pooling, shared.iter().map(|pair| &pair.1))? })
}

fn suite_report(row: &SuiteRow, rows: &[&Measurement]) -> SuiteReport {
    let measures = row.measures.iter().map(|measure| measure_report(measure, rows)).filter(|m| m.items > 0);
    SuiteReport { suite: row.name.into(), measures: measures.collect() }
}

/// An item's value: numerator and denominator.
#[derive(Debug, Clone, Copy)]
struct ItemValue {
    cluster: u64,
    seed: u32,
    value: f64,
    weight: f64,
}

fn values<'a>(measure: &Measure, rows: &[&'a Measurement], side: Contestant) -> BTreeMap<(&'a str, u32), ItemValue> {
    let mut out = BTreeMap::new();
    for row in rows.iter().filter(|row| row.side == side) {
        let weight = match measure.pooling {
            Pooling::Per(other) => row.values.get(other),
            _ => Some(1.0),
        };
        let (Some(value), Some(weight)) = (row.values.get(measure.key), weight) else { continue };
        if value.is_finite() && weight.is_finite() {
            let cluster = hash64(row.cluster.as_bytes());
            out.insert((row.key.item.as_str(), row.key.seed), ItemValue { cluster, seed: row.key.seed, value, weight });
        }
    }
    out
}

/// The pooled value; none without items.
fn pooled<'a>(pooling: Pooling, values: impl IntoIterator<Item = &'a ItemValue>) -> Option<f64> {
    if matches!(pooling, Pooling::Median | Pooling::Calibration) {
        let all: Vec<f64> = values.into_iter().map(|item| item.value).collect();
        let figure = if pooling == Pooling::Median { median } else { calibration_error };
        return (!all.is_empty()).then(|| figure(&all));
    }
    let (sum, weight) = values.into_iter().fold((0.0, 0.0), |(s, w), item| (s + item.value, w + item.weight));
    (weight > 0.0).then(|| sum / weight)
}

/// A measure pooled over the values of items; none where no item has it.
#[must_use]
pub fn pooled_value(measure: &Measure, values: &[Metrics]) -> Option<f64> {
    let item = |values: &Metrics| -> Option<ItemValue> {
        let value = values.get(measure.key)?;
        let weight = if let Pooling::Per(other) = measure.pooling { values.get(other)? } else { 1.0 };
        (value.is_finite() && weight.is_finite()).then_some(ItemValue { cluster: 0, seed: 0, value, weight })
    };
    let items: Vec<ItemValue> = values.iter().filter_map(item).collect();
    pooled(measure.pooling, &items)
}

fn measure_report(measure: &Measure, rows: &[&Measurement]) -> MeasureReport {
    let [a, b] = Contestant::BOTH.map(|side| values(measure, rows, side));
    let shared: Vec<(ItemValue, ItemValue)> = a.iter().filter_map(|(key, a)| Some((*a, *b.get(key)?))).collect();
    let prompts: BTreeSet<u64> = a.values().chain(b.values()).map(|item| item.cluster).collect();
    let mut out = MeasureReport {
        key: measure.key,
        title: measure.title,
        items: if shared.is_empty() { a.len().max(b.len()) } else { shared.len() },
        prompts: prompts.len(),
        a: pooled(measure.pooling, a.values()),
        b: pooled(measure.pooling, b.values()),
        difference: None,
        interval: None,
        alone: None,
        conclusion: Conclusion { word: "cannot tell", detail: None },
        p: None,
        p_corrected: None,
        undefined: None,
    };
    if shared.is_empty() {
        out.undefined = Some("only one of the two has values".into());
        let one: Vec<ItemValue> = a.values().chain(b.values()).copied().collect();
        out.alone = if a.is_empty() || b.is_empty() { interval_of(measure.pooling, &one) } else { None };
        return out;
    }
    if measure.pooling == Pooling::Share {
        let count = |won: f64, lost: f64| shared.iter().filter(|(a, b)| a.value == won && b.value == lost).count();
        out.p = mcnemar(count(1.0, 0.0), count(0.0, 1.0)).ok().map(|test| test.exact);
    }
    let seeds: BTreeSet<u32> = shared.iter().map(|(a, _)| a.seed).collect();
    let found = match measure.pooling {
        Pooling::Per(_) | Pooling::Median | Pooling::Calibration => of_sets(measure.pooling, &shared),
        _ if seeds.len() > 1 => {
            let by_seed: Vec<Vec<PromptScore>> = seeds
                .iter()
                .map(|seed| {
                    let own = shared.iter().filter(|(a, _)| a.seed == *seed);
                    own.map(|(a, b)| PromptScore { prompt: a.cluster, score: a.value - b.value }).collect()
                })
                .collect();
            over_seeds(&by_seed, 0.0)
                .map(|found| (found.mean, Ok(found.interval), found.verdict))
                .map_err(|e| e.to_string())
        }
        _ => {
            let scores = |of: fn(&(ItemValue, ItemValue)) -> ItemValue| -> Vec<PromptScore> {
                let score = |pair| of(pair);
                shared.iter().map(score).map(|i| PromptScore { prompt: i.cluster, score: i.value }).collect()
            };
            paired_difference(&scores(|pair| pair.0), &scores(|pair| pair.1), SEED)
                .map(|found| (found.difference, found.interval.map_err(|e| e.to_string()), found.verdict))
                .map_err(|e| e.to_string())
        }
    };
    match found {
        Ok((difference, interval, verdict)) => {
            out.difference = Some(difference);
            out.conclusion = conclude(&verdict, measure.better, "prompt");
            match interval {
                Ok(interval) => out.interval = Some([interval.low, interval.high]),
                Err(why) => out.undefined = Some(why),
            }
        }
        Err(why) => out.undefined = Some(why),
    }
    out
}

type Found = Result<(f64, Result<ConfidenceInterval, String>, ComparisonVerdict), String>;

/// The rows of each prompt together.
fn clustered<T: Copy>(rows: &[T], cluster: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut clusters: BTreeMap<u64, Vec<T>> = BTreeMap::new();
    for row in rows {
        clusters.entry(cluster(row)).or_default().push(*row);
    }
    clusters.into_values().collect()
}

/// The interval of one contestant's value, with a bootstrap over prompts; none for one prompt.
fn interval_of(pooling: Pooling, values: &[ItemValue]) -> Option<[f64; 2]> {
    let groups = clustered(values, |item| item.cluster);
    if groups.len() < 2 {
        return None;
    }
    let draws = resample(&groups, DRAWS, SEED, |groups: &[Vec<ItemValue>]| pooled(pooling, groups.iter().flatten()));
    Some([quantile(&draws, 0.025), quantile(&draws, 0.975)])
}

/// The difference of two figures of whole sets, with a bootstrap over prompts.
fn of_sets(pooling: Pooling, shared: &[(ItemValue, ItemValue)]) -> Found {
    let groups = clustered(shared, |pair| pair.0.cluster);
    let difference = |groups: &[Vec<(ItemValue, ItemValue)>]| -> Option<f64> {
        let pairs = || groups.iter().flatten();
        Some(pooled(pooling, pairs().map(|pair| &pair.0))? - pooled(pooling, pairs().map(|pair| &pair.1))?)
    };
    let seen = difference(&groups).ok_or("nothing was counted")?;
    if groups.len() < 2 {
        return Ok((seen, Err("one prompt gives no interval: compare on two or more prompts".into()), NO_INTERVAL));
    }
    let draws = resample(&groups, DRAWS, SEED, difference);
    let interval = ConfidenceInterval {
        low: quantile(&draws, 0.025),
        high: quantile(&draws, 0.975),
        method: super::evaluation::IntervalMethod::Bootstrap { draws: draws.len() },
    };
    Ok((seen, Ok(interval), super::evaluation::verdict_of(seen, &interval, 0.0, groups.len())))
}

const NO_INTERVAL: ComparisonVerdict = ComparisonVerdict::CannotTell(CannotTell::NoInterval);

fn judge_report(judge: &str, suite: &str, rows: &[&Comparison], gate: Vec<GateReport>) -> JudgeReport {
    let judged: Vec<(&Comparison, f64)> =
        rows.iter().filter_map(|row| Some((*row, row.p?.0))).filter(|(_, p)| p.is_finite()).collect();
    let score = |row: &Comparison, p: f64| PromptScore { prompt: hash64(row.cluster.as_bytes()), score: p };
    let scores: Vec<PromptScore> = judged.iter().map(|(row, p)| score(row, *p)).collect();
    let count = |wins: fn(f64) -> bool| judged.iter().filter(|(_, p)| wins(*p)).count();
    let (wins, losses) = (count(|p| p > 0.5), count(|p| p < 0.5));
    let seeds: BTreeSet<u32> = judged.iter().map(|(row, _)| row.key.seed).collect();
    let found: Found = if seeds.len() > 1 {
        let of = |seed: &u32| -> Vec<PromptScore> {
            judged.iter().filter(|(row, _)| row.key.seed == *seed).map(|(row, p)| score(row, *p)).collect()
        };
        let by_seed: Vec<Vec<PromptScore>> = seeds.iter().map(of).collect();
        over_seeds(&by_seed, 0.5).map(|f| (f.mean, Ok(f.interval), f.verdict)).map_err(|e| e.to_string())
    } else {
        paired_win_rate(&scores, SEED)
            .map(|f| (f.rate, f.interval.map_err(|e| e.to_string()), f.verdict))
            .map_err(|e| e.to_string())
    };
    let mean = |of: fn(&Comparison) -> f64| -> f64 {
        if judged.is_empty() { 0.0 } else { judged.iter().map(|(row, _)| of(row)).sum::<f64>() / judged.len() as f64 }
    };
    let mut out = JudgeReport {
        judge: judge.into(),
        suite: suite.into(),
        comparisons: judged.len(),
        prompts: scores.iter().map(|s| s.prompt).collect::<BTreeSet<_>>().len(),
        wins,
        ties: judged.len() - wins - losses,
        losses,
        unjudged: rows.len() - judged.len(),
        rate: None,
        interval: None,
        conclusion: Conclusion { word: "cannot tell", detail: None },
        p: sign_test(wins, losses).ok(),
        p_corrected: None,
        mean_chars: [mean(|row| row.chars[0] as f64), mean(|row| row.chars[1] as f64)],
        length_controlled: None,
        length_undefined: None,
        consistency: None,
        position_bias: None,
        position_logit: None,
        accuracy: None,
        gate,
        not_headline: Vec::new(),
    };
    if let Ok((rate, interval, verdict)) = found {
        out.rate = Some(rate);
        out.interval = interval.ok().map(|interval| [interval.low, interval.high]);
        out.conclusion = conclude(&verdict, Better::Higher, "prompt");
    }
    let lengths: Vec<LengthRow> = judged
        .iter()
        .map(|(row, p)| LengthRow {
            prompt: hash64(row.cluster.as_bytes()),
            score: *p,
            model_chars: row.chars[0],
            baseline_chars: row.chars[1],
        })
        .collect();
    match length_controlled(&lengths, SEED) {
        Ok(found) => {
            out.length_controlled = Some(LengthReport {
                rate: found.fit.rate,
                interval: found.interval.ok().map(|interval| [interval.low, interval.high]),
                conclusion: conclude(&found.verdict, Better::Higher, "prompt"),
                extreme: found.extreme,
            });
        }
        Err(why) => out.length_undefined = Some(why.to_string()),
    }
    orders(&judged, &mut out);
    headline(&mut out);
    out
}

/// What both orders of a judge say, and whether its number may be a headline.
fn orders(judged: &[(&Comparison, f64)], out: &mut JudgeReport) {
    let both: Vec<(f64, f64)> = judged.iter().filter_map(|(row, _)| Some((row.a_first?.0, row.b_first?.0))).collect();
    if both.is_empty() {
        return;
    }
    let n = both.len() as f64;
    let same = both.iter().filter(|(one, two)| agrees(*one, *two)).count();
    out.consistency = Some(same as f64 / n);
    // With a first the first answer has the probability `one`, with b first 1 − `two`.
    out.position_bias = Some(both.iter().map(|(one, two)| f64::midpoint(*one, 1.0 - two) - 0.5).sum::<f64>() / n);
    out.position_logit = Some(both.iter().map(|(one, two)| (logit(*one) - logit(*two)) / 2.0).sum::<f64>() / n);
}

/// The least distance of a probability from 0 and 1 in a logit: a judge that answers in words gives exactly 0 or 1.
const LOGIT_EDGE: f64 = 1e-6;

/// The log-odds of a probability; those of 1 − p are exactly the opposite, so that what cancels is exactly 0.
#[must_use]
pub fn logit(p: f64) -> f64 {
    let of_small = |p: f64| {
        let p = p.max(LOGIT_EDGE);
        (p / (1.0 - p)).ln()
    };
    if p > 0.5 { -of_small(1.0 - p) } else { of_small(p) }
}

/// Whether the judge's number may be a headline. A judge that learned what it says has to be measured first: on LLMBar, or
/// on the session's own labels, which come first for a run, since it learned from such. Checks need no measurement.
fn headline(out: &mut JudgeReport) {
    let kind = out.judge.split(':').next().unwrap_or_default();
    if kind == HUMAN {
        if out.unjudged > 0 {
            let all = out.comparisons + out.unjudged;
            out.not_headline.push(format!("{} of {all} pairs are still to be judged", out.unjudged));
        }
        return;
    }
    let row: Option<&JudgeRow> = judges().into_iter().find(|row| row.name == kind);
    let run = row.is_some_and(|row| row.takes == JudgeOperand::Run);
    let model = row.is_some_and(|row| row.takes == JudgeOperand::Model);
    if !run && !model && out.consistency.is_none() {
        return;
    }
    let of = |set: &str| out.gate.iter().find(|gate| gate.set == set);
    let own = || of(OWN_LABELS).filter(|gate| gate.decided >= FEWEST_LABELS).and_then(|gate| gate.accuracy);
    let llmbar = || of(LLMBAR).and_then(|gate| gate.accuracy);
    out.accuracy = if run { own().or_else(llmbar) } else { llmbar().or_else(own) };
    let consistency = out.gate.iter().filter_map(|gate| gate.consistency).chain(out.consistency).reduce(f64::min);
    // Scores are the same in both orders.
    let figures = JudgeFigures { accuracy: out.accuracy, consistency: consistency.or(run.then_some(1.0)) };
    out.not_headline = judge_gate(&figures).iter().map(ToString::to_string).collect();
}

#[cfg(test)]
mod tests;
