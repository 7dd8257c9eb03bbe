//! One figure from several trained seeds: an interval that holds for another seed and other prompts.
//!
//! Every seed is scored on the same prompts: x_kp = μ + seed_k + prompt_p + error. The variance of the grand mean is
//! (MS_seed + MS_prompt − MS_error)/(K·P) from the mean squares of the two-way layout (Searle, Casella and McCulloch 1992,
//! "Variance Components", ch. 4), with Satterthwaite's degrees of freedom (Satterthwaite 1946) for Student's t. Where
//! seeds differ much and are few, that is close to K − 1 degrees. A component that would be negative counts as 0.

use super::Undefined;
use super::comparison::{ComparisonVerdict, verdict};
use super::interval::{ConfidenceInterval, IntervalMethod, PromptScore, clusters};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A figure over seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedsFigure {
    /// Prompts that every seed was scored on.
    pub prompts: usize,
    /// Prompts that some seed lacks: they are left out.
    pub left_out: usize,
    /// The mean over seeds and prompts.
    pub mean: f64,
    /// Each seed's mean.
    pub by_seed: Vec<f64>,
    /// The variance between seeds, without that of prompts.
    pub seed_variance: f64,
    /// The variance between prompts, without that of seeds.
    pub prompt_variance: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// Satterthwaite's degrees of freedom.
    pub degrees: f64,
    /// Student's interval.
    pub interval: ConfidenceInterval,
    /// Whether the mean lies above `null`.
    pub verdict: ComparisonVerdict,
}

/// The mean of the scores of several seeds, with an interval over seeds and prompts. `null` is the score that means
/// "the same": 0.5 for win rates, 0 for differences.
///
/// # Errors
/// Fewer than two seeds, no scores, fewer than two prompts in common.
pub fn over_seeds(seeds: &[Vec<PromptScore>], null: f64) -> Result<SeedsFigure, Undefined> {
    if seeds.len() < 2 {
        return Err(if seeds.is_empty() { Undefined::Empty } else { Undefined::OneSeed });
    }
    let read = |scores: &Vec<PromptScore>| clusters(scores, f64::MIN..=f64::MAX, "a finite number");
    let by_prompt = seeds.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let shared: Vec<u64> =
        by_prompt[0].keys().copied().filter(|prompt| by_prompt.iter().all(|seed| seed.contains_key(prompt))).collect();
    let all: std::collections::BTreeSet<u64> = by_prompt.iter().flat_map(|seed| seed.keys().copied()).collect();
    match shared.len() {
        0 => return Err(Undefined::NothingShared),
        1 => return Err(Undefined::OnePrompt),
        _ => {}
    }
    let table: Vec<Vec<f64>> =
        by_prompt.iter().map(|seed| shared.iter().map(|p| seed[p].sum / seed[p].rows).collect()).collect();
    let (k, p) = (table.len() as f64, shared.len() as f64);
    let by_seed: Vec<f64> = table.iter().map(|row| row.iter().sum::<f64>() / p).collect();
    let by_prompt: Vec<f64> = (0..shared.len()).map(|j| table.iter().map(|row| row[j]).sum::<f64>() / k).collect();
    let mean = by_seed.iter().sum::<f64>() / k;
    let squares = |means: &[f64]| means.iter().map(|m| (m - mean).powi(2)).sum::<f64>();
    let seed = p * squares(&by_seed) / (k - 1.0);
    let prompt = k * squares(&by_prompt) / (p - 1.0);
    let mut residual = 0.0;
    for (row, of_seed) in table.iter().zip(&by_seed) {
        residual +=
            row.iter().zip(&by_prompt).map(|(x, of_prompt)| (x - of_seed - of_prompt + mean).powi(2)).sum::<f64>();
    }
    let error = residual / ((k - 1.0) * (p - 1.0));
    let (sum, degrees) = match (seed > error, prompt > error) {
        (true, true) => {
            let sum = seed + prompt - error;
            let spread =
                seed.powi(2) / (k - 1.0) + prompt.powi(2) / (p - 1.0) + error.powi(2) / ((k - 1.0) * (p - 1.0));
            (sum, sum.powi(2) / spread)
        }
        (true, false) => (seed, k - 1.0),
        (false, true) => (prompt, p - 1.0),
        (false, false) if seed > prompt => (seed, k - 1.0),
        (false, false) => (prompt, p - 1.0),
    };
    let standard_error = (sum / (k * p)).sqrt();
    let t = StudentsT::new(0.0, 1.0, degrees.max(1.0)).map_err(|_| Undefined::Empty)?.inverse_cdf(0.975);
    let half = t * standard_error;
    let interval = ConfidenceInterval { low: mean - half, high: mean + half, method: IntervalMethod::StudentT };
    Ok(SeedsFigure {
        prompts: shared.len(),
        left_out: all.len() - shared.len(),
        mean,
        seed_variance: ((seed - error) / p).max(0.0),
        prompt_variance: ((prompt - error) / k).max(0.0),
        by_seed,
        standard_error,
        degrees: degrees.max(1.0),
        verdict: verdict(mean, Some(&interval), null, shared.len()),
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

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    #[test]
    fn three_seeds_and_four_prompts_by_hand() {
        let seeds = [rows(&[1.0, 0.5, 0.0, 1.0]), rows(&[1.0, 1.0, 0.5, 0.5]), rows(&[0.5, 0.0, 0.0, 0.5])];
        let found = over_seeds(&seeds, 0.5).unwrap();
        // Mean squares with numpy: seeds 0.270833, prompts 0.243056, error 0.076389.
        near(found.mean, 0.541_667);
        near(found.seed_variance, (0.270_833_333 - 0.076_388_889) / 4.0);
        near(found.prompt_variance, (0.243_055_556 - 0.076_388_889) / 3.0);
        near(found.standard_error, (0.437_5f64 / 12.0).sqrt());
        near(
            found.degrees,
            0.437_5f64.powi(2)
                / (0.270_833_333f64.powi(2) / 2.0 + 0.243_055_556f64.powi(2) / 3.0 + 0.076_388_889f64.powi(2) / 6.0),
        );
        assert!(matches!(found.verdict, ComparisonVerdict::CannotTell(CannotTell::Needs(_))));
    }

    #[test]
    fn few_seeds_that_disagree_widen_the_interval() {
        let flat: Vec<f64> = (0..200).map(|i| f64::from(i % 2)).collect();
        let shifted = |by: f64| rows(&flat.iter().map(|s| s + by).collect::<Vec<_>>());
        let agree = over_seeds(&[shifted(0.0), shifted(0.0)], 0.0).unwrap();
        let disagree = over_seeds(&[shifted(-0.2), shifted(0.2)], 0.0).unwrap();
        assert!((agree.mean - disagree.mean).abs() < 1e-12);
        assert!(disagree.interval.half_width() > 10.0 * agree.interval.half_width());
        // With no error of its own and seeds that dominate, almost K − 1 degrees: t of one degree is 12.7.
        assert!(disagree.degrees < 1.2, "{}", disagree.degrees);
    }

    #[test]
    fn student_quantiles_are_right() {
        for (degrees, want) in [(1.0, 12.706_204_7), (2.0, 4.302_652_7), (4.0, 2.776_445_1), (2.5, 3.574_654_8)] {
            near(StudentsT::new(0.0, 1.0, degrees).unwrap().inverse_cdf(0.975), want);
        }
    }

    #[test]
    fn identical_models_stay_at_the_null_and_reasons_are_given() {
        let found = over_seeds(&[rows(&[0.5; 30]), rows(&[0.5; 30])], 0.5).unwrap();
        assert_eq!((found.mean, found.standard_error), (0.5, 0.0));
        assert_eq!(found.verdict, ComparisonVerdict::CannotTell(CannotTell::NoDifference));
        assert_eq!(over_seeds(&[], 0.5), Err(Undefined::Empty));
        assert_eq!(over_seeds(&[rows(&[1.0])], 0.5), Err(Undefined::OneSeed));
        assert_eq!(over_seeds(&[rows(&[1.0]), rows(&[1.0])], 0.5), Err(Undefined::OnePrompt));
        let partly = over_seeds(&[rows(&[1.0, 0.0, 1.0]), rows(&[1.0, 0.0])], 0.5).unwrap();
        assert_eq!((partly.prompts, partly.left_out), (2, 1));
    }
}
