//! Scores grouped by prompt, their mean, its standard error and its interval.
//!
//! Answers to one prompt resemble each other, so prompts are resampled, not rows (Miller 2024, "Adding Error Bars to
//! Evals"). Refuses an interval from one prompt.

use super::super::stats::{Z95, resample, wilson};
use super::Undefined;
use std::collections::BTreeMap;

/// Samples of a bootstrap.
pub const DRAWS: usize = 2000;

/// A score on one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PromptScore {
    /// Any number that is the same for the same prompt, as the hash of its text.
    pub prompt: u64,
    /// The score.
    pub score: f64,
}

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalMethod {
    /// Wilson's score interval of a share.
    Wilson,
    /// Percentiles of samples of prompts.
    Bootstrap {
        /// How many samples.
        draws: usize,
    },
    /// Student's t.
    StudentT,
}

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceInterval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How it was made.
    pub method: IntervalMethod,
}

impl ConfidenceInterval {
    /// Half its width.
    #[must_use]
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// Whether it holds a value; an end counts, also when rounding put it beside the value.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        self.low <= value + 1e-12 && value - 1e-12 <= self.high
    }
}

/// The scores of one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cluster {
    pub(super) sum: f64,
    pub(super) rows: f64,
}

/// The scores of each prompt, in order of the prompts' numbers.
///
/// # Errors
/// No scores, or one outside `low..=high`, which `expected` describes.
pub(super) fn clusters(
    scores: &[PromptScore],
    range: std::ops::RangeInclusive<f64>,
    expected: &'static str,
) -> Result<BTreeMap<u64, Cluster>, Undefined> {
    let mut out: BTreeMap<u64, Cluster> = BTreeMap::new();
    for (at, row) in scores.iter().enumerate() {
        if !row.score.is_finite() || !range.contains(&row.score) {
            return Err(Undefined::Score { row: at + 1, value: row.score, expected });
        }
        let cluster = out.entry(row.prompt).or_insert(Cluster { sum: 0.0, rows: 0.0 });
        cluster.sum += row.score;
        cluster.rows += 1.0;
    }
    if out.is_empty() { Err(Undefined::Empty) } else { Ok(out) }
}

pub(super) fn mean(clusters: &[Cluster]) -> f64 {
    let (sum, rows) = clusters.iter().fold((0.0, 0.0), |(s, n), c| (s + c.sum, n + c.rows));
    sum / rows
}

/// The clustered standard error of the mean with the correction C/(C − 1); with one row a prompt it is sd/√n.
pub(super) fn standard_error(clusters: &[Cluster]) -> Result<f64, Undefined> {
    let c = clusters.len() as f64;
    if clusters.len() < 2 {
        return Err(Undefined::OnePrompt);
    }
    let mean = mean(clusters);
    let squares: f64 = clusters.iter().map(|k| (k.sum - k.rows * mean).powi(2)).sum();
    let rows: f64 = clusters.iter().map(|k| k.rows).sum();
    Ok((c / (c - 1.0) * squares).sqrt() / rows)
}

/// The percentile interval of the mean over samples of prompts.
pub(super) fn bootstrap_mean(clusters: &[Cluster], seed: u64) -> Result<ConfidenceInterval, Undefined> {
    if clusters.len() < 2 {
        return Err(Undefined::OnePrompt);
    }
    percentiles(resample(clusters, DRAWS, seed, |sample| Some(mean(sample))))
}

/// The interval that leaves out 2.5 % of the values at each end: as many below as above, so that it mirrors when the
/// values do.
pub(super) fn percentiles(mut values: Vec<f64>) -> Result<ConfidenceInterval, Undefined> {
    if values.len() * 2 <= DRAWS {
        return Err(Undefined::RarelyDefined);
    }
    values.sort_by(f64::total_cmp);
    let out = (values.len() as f64 * 0.025).ceil() as usize - 1;
    let (low, high) = (values[out], values[values.len() - 1 - out]);
    Ok(ConfidenceInterval { low, high, method: IntervalMethod::Bootstrap { draws: values.len() } })
}

/// Wilson's 95 % interval of `k` in `n`.
pub(super) fn wilson95(k: f64, n: f64) -> ConfidenceInterval {
    let (low, high) = wilson(k, n, Z95);
    ConfidenceInterval { low, high, method: IntervalMethod::Wilson }
}
