//! The difference of two models' scores on the same prompts, as of two win rates against a common reference.

use super::Undefined;
use super::comparison::{ComparisonVerdict, verdict};
use super::interval::{Cluster, ConfidenceInterval, PromptScore, bootstrap_mean, clusters, mean, standard_error};

/// How far the first model's scores lie above the second's.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedDifference {
    /// Prompts with scores of both.
    pub prompts: usize,
    /// Prompts with scores of one only: they are left out.
    pub left_out: usize,
    /// The first model's mean over the shared prompts.
    pub first: f64,
    /// The second model's mean.
    pub second: f64,
    /// The mean of the differences by prompt.
    pub difference: f64,
    /// Its standard error.
    pub standard_error: Result<f64, Undefined>,
    /// Its bootstrap interval, over prompts.
    pub interval: Result<ConfidenceInterval, Undefined>,
    /// Whether the first model is better; higher scores are better.
    pub verdict: ComparisonVerdict,
}

/// The paired difference of two models' scores. A prompt with several scores counts once, with their mean.
///
/// # Errors
/// No scores, one that is not finite, or no shared prompt.
pub fn paired_difference(
    first: &[PromptScore],
    second: &[PromptScore],
    seed: u64,
) -> Result<PairedDifference, Undefined> {
    let read = |scores: &[PromptScore]| clusters(scores, f64::MIN..=f64::MAX, "a finite number");
    let (a, b) = (read(first)?, read(second)?);
    let means: Vec<(f64, f64)> =
        a.iter().filter_map(|(prompt, a)| b.get(prompt).map(|b| (a.sum / a.rows, b.sum / b.rows))).collect();
    let left_out = a.len() + b.len() - 2 * means.len();
    if means.is_empty() {
        return Err(Undefined::NothingShared);
    }
    let single = |of: fn(&(f64, f64)) -> f64| -> Vec<Cluster> {
        means.iter().map(|m| Cluster { sum: of(m), rows: 1.0 }).collect()
    };
    let differences = single(|m| m.0 - m.1);
    let difference = mean(&differences);
    let interval = bootstrap_mean(&differences, seed);
    Ok(PairedDifference {
        prompts: means.len(),
        left_out,
        first: mean(&single(|m| m.0)),
        second: mean(&single(|m| m.1)),
        difference,
        standard_error: standard_error(&differences),
        verdict: verdict(difference, interval.as_ref().ok(), 0.0, means.len()),
        interval,
    })
}

#[cfg(test)]
mod tests {
    use super::super::comparison::CannotTell;
    use super::*;

    fn rows(scores: &[f64]) -> Vec<PromptScore> {
        scores.iter().enumerate().map(|(i, score)| PromptScore { prompt: i as u64, score: *score }).collect()
    }

    #[test]
    fn what_both_share_cancels() {
        // Hard and easy prompts: the scores spread widely, their differences do not.
        let base: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let better: Vec<f64> = base.iter().enumerate().map(|(i, s)| s + 0.1 + 0.01 * (i % 3) as f64).collect();
        let found = paired_difference(&rows(&better), &rows(&base), 1).unwrap();
        assert!((found.difference - 0.1099).abs() < 1e-9, "{}", found.difference);
        assert!(found.interval.as_ref().unwrap().half_width() < 0.003);
        assert_eq!(found.verdict, ComparisonVerdict::Better);
        let swapped = paired_difference(&rows(&base), &rows(&better), 1).unwrap();
        assert_eq!((swapped.difference, swapped.verdict), (-found.difference, ComparisonVerdict::Worse));
        let (x, y) = (found.interval.unwrap(), swapped.interval.unwrap());
        assert_eq!((x.low, x.high), (-y.high, -y.low));
    }

    #[test]
    fn identical_models_differ_by_exactly_nothing() {
        let scores = rows(&[0.1, 0.7, 0.3, 0.9, 0.2, 0.6]);
        let found = paired_difference(&scores, &scores, 1).unwrap();
        let interval = found.interval.unwrap();
        assert_eq!((found.difference, interval.low, interval.high), (0.0, 0.0, 0.0));
        assert_eq!(found.verdict, ComparisonVerdict::CannotTell(CannotTell::NoDifference));
    }

    #[test]
    fn prompts_of_one_side_are_left_out_and_counted() {
        let mut a = rows(&[1.0, 0.0, 1.0]);
        a[2].prompt = 77;
        let found = paired_difference(&a, &rows(&[0.0, 0.0]), 1).unwrap();
        assert_eq!((found.prompts, found.left_out, found.difference), (2, 1, 0.5));
        let far = [PromptScore { prompt: 99, score: 1.0 }];
        assert_eq!(paired_difference(&far, &rows(&[1.0]), 1), Err(Undefined::NothingShared));
        assert_eq!(paired_difference(&[], &far, 1), Err(Undefined::Empty));
        let one = paired_difference(&rows(&[1.0]), &rows(&[0.0]), 1).unwrap();
        assert_eq!(one.interval, Err(Undefined::OnePrompt));
    }
}
