//! The win rate that a model would have if its answers were as long as the other's.
//!
//! The GLM of AlpacaEval 2 (Dubois et al. 2024, "Length-Controlled AlpacaEval") in its local form: the upstream term for
//! a prompt's difficulty and the "gamed" rows come from a table for one set of prompts, so they are left out. What remains
//! is logit P(win) = θ + φ·z with z = tanh((baseline − model characters)/sd), fitted with a small ridge; the controlled
//! win rate is σ(θ).

use super::super::newton::{Derivatives, minimise};
use super::super::stats::{Picks, sigmoid, softplus};
use super::Undefined;
use super::comparison::{ComparisonVerdict, verdict};
use super::interval::{ConfidenceInterval, DRAWS, percentiles};
use std::collections::BTreeMap;

/// Fewest rows: two parameters and their shared ridge mean little on fewer.
pub const FEWEST_LENGTHS: usize = 50;

/// Weight of (θ² + φ²)/2.
const RIDGE: f64 = 0.01;

/// A comparison with the lengths of both answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthRow {
    /// Any number that is the same for the same prompt.
    pub prompt: u64,
    /// 1 where the model wins, 0.5 for a tie, or the probability of a win.
    pub score: f64,
    /// Characters of the model's answer.
    pub model_chars: usize,
    /// Characters of the baseline's answer.
    pub baseline_chars: usize,
}

/// The fitted parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthFit {
    /// The log-odds of a win at equal length.
    pub theta: f64,
    /// What z adds.
    pub phi: f64,
    /// The standard deviation (n − 1) of baseline − model characters.
    pub sd: f64,
    /// σ(θ).
    pub rate: f64,
}

/// A win rate beside its length-controlled form.
#[derive(Debug, Clone, PartialEq)]
pub struct LengthControlled {
    /// The fit.
    pub fit: LengthFit,
    /// The mean score.
    pub raw: f64,
    /// Mean characters of the model's answers.
    pub model_chars: f64,
    /// Mean characters of the baseline's answers.
    pub baseline_chars: f64,
    /// The interval of the controlled rate, over samples of prompts.
    pub interval: Result<ConfidenceInterval, Undefined>,
    /// Whether control moved the rate by more than 10 points and more than a quarter of what was left: as upstream, a
    /// sign that the fit may have failed.
    pub extreme: bool,
    /// Whether the model is better at equal length.
    pub verdict: ComparisonVerdict,
}

/// Fits θ and φ with any number of rows and any ridge.
///
/// # Errors
/// No rows, or a score outside 0..=1.
pub fn fit_length(rows: &[LengthRow], ridge: f64) -> Result<LengthFit, Undefined> {
    if rows.is_empty() {
        return Err(Undefined::Empty);
    }
    if let Some(at) = rows.iter().position(|row| !(0.0..=1.0).contains(&row.score)) {
        return Err(Undefined::Score { row: at + 1, value: rows[at].score, expected: "a number from 0 to 1" });
    }
    let n = rows.len() as f64;
    let shorter: Vec<f64> = rows.iter().map(|row| row.baseline_chars as f64 - row.model_chars as f64).collect();
    let mean = shorter.iter().sum::<f64>() / n;
    let squares = shorter.iter().map(|d| (d - mean).powi(2)).sum::<f64>();
    let sd = if rows.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
    // Without variation of the length difference it cannot explain anything.
    let data: Vec<(f64, f64)> =
        rows.iter().zip(&shorter).map(|(row, d)| (if sd > 0.0 { (d / sd).tanh() } else { 0.0 }, row.score)).collect();
    let loss = |w: &[f64]| {
        let fit = data.iter().map(|(z, y)| {
            let x = w[0] + w[1] * z;
            y * softplus(-x) + (1.0 - y) * softplus(x)
        });
        fit.sum::<f64>() + ridge / 2.0 * (w[0] * w[0] + w[1] * w[1])
    };
    let derivatives = |w: &[f64]| -> Derivatives {
        let mut gradient = vec![ridge * w[0], ridge * w[1]];
        let mut hessian = vec![vec![ridge, 0.0], vec![0.0, ridge]];
        for (z, y) in &data {
            let p = sigmoid(w[0] + w[1] * z);
            let (off, curve) = (p - y, p * (1.0 - p));
            gradient[0] += off;
            gradient[1] += off * z;
            hessian[0][0] += curve;
            hessian[0][1] += curve * z;
            hessian[1][0] += curve * z;
            hessian[1][1] += curve * z * z;
        }
        (gradient, hessian)
    };
    let w = minimise(vec![0.0, 0.0], loss, derivatives);
    Ok(LengthFit { theta: w[0], phi: w[1], sd, rate: sigmoid(w[0]) })
}

/// The raw and the length-controlled win rate.
///
/// # Errors
/// Fewer than [`FEWEST_LENGTHS`] rows, or a score outside 0..=1.
pub fn length_controlled(rows: &[LengthRow], seed: u64) -> Result<LengthControlled, Undefined> {
    if rows.len() < FEWEST_LENGTHS {
        return Err(Undefined::TooFew { have: rows.len(), need: FEWEST_LENGTHS });
    }
    let fit = fit_length(rows, RIDGE)?;
    let n = rows.len() as f64;
    let raw = rows.iter().map(|row| row.score).sum::<f64>() / n;
    let mut by_prompt: BTreeMap<u64, Vec<LengthRow>> = BTreeMap::new();
    for row in rows {
        by_prompt.entry(row.prompt).or_default().push(*row);
    }
    let prompts: Vec<Vec<LengthRow>> = by_prompt.into_values().collect();
    let interval = if prompts.len() < 2 {
        Err(Undefined::OnePrompt)
    } else {
        let mut picks = Picks::new(prompts.len(), seed);
        let rates = (0..DRAWS).filter_map(|_| {
            let sample: Vec<LengthRow> = picks.sample().flat_map(|i| prompts[i].iter().copied()).collect();
            fit_length(&sample, RIDGE).ok().map(|fit| fit.rate)
        });
        percentiles(rates.collect())
    };
    Ok(LengthControlled {
        raw,
        model_chars: rows.iter().map(|row| row.model_chars as f64).sum::<f64>() / n,
        baseline_chars: rows.iter().map(|row| row.baseline_chars as f64).sum::<f64>() / n,
        extreme: fit.rate < (raw * 0.75).min(raw - 0.1) || fit.rate > (raw + (1.0 - raw) / 4.0).max(raw + 0.1),
        verdict: verdict(fit.rate, interval.as_ref().ok(), 0.5, prompts.len()),
        interval,
        fit,
    })
}

#[cfg(test)]
mod tests {
    use super::super::comparison::CannotTell;
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    fn reference() -> Vec<LengthRow> {
        let base = [100, 220, 150, 300, 80, 120, 400, 90];
        let model = [180, 200, 260, 500, 90, 300, 350, 240];
        let score = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.5, 1.0];
        (0..8)
            .map(|i| LengthRow { prompt: i as u64, score: score[i], model_chars: model[i], baseline_chars: base[i] })
            .collect()
    }

    #[test]
    fn the_fit_of_the_reference() {
        let fit = fit_length(&reference(), 1.0).unwrap();
        near(fit.sd, 94.074_439);
        near(fit.theta, 0.213_316);
        near(fit.phi, -1.058_153);
        near(fit.rate, 0.553_128);
        near(fit_length(&reference(), 0.01).unwrap().rate, 0.386_447);
        near(reference().iter().map(|r| r.score).sum::<f64>() / 8.0, 0.6875);
        assert_eq!(length_controlled(&reference(), 1), Err(Undefined::TooFew { have: 8, need: 50 }));
        assert_eq!(fit_length(&[], 1.0), Err(Undefined::Empty));
    }

    /// Wins go to the longer answer, and the model is longer on four prompts of five.
    fn longer_wins() -> Vec<LengthRow> {
        let row = |i: u64| {
            let longer = !i.is_multiple_of(5);
            let odd = i.is_multiple_of(11);
            LengthRow {
                prompt: i,
                score: f64::from(u8::from(longer != odd)),
                model_chars: if longer { 300 } else { 100 } + (i % 7) as usize,
                baseline_chars: if longer { 100 } else { 300 },
            }
        };
        (0..100).map(row).collect()
    }

    #[test]
    fn length_alone_explains_no_win() {
        let found = length_controlled(&longer_wins(), 1).unwrap();
        assert!(found.raw > 0.7 && (found.fit.rate - 0.5).abs() < 0.15, "{found:?}");
        assert!(found.extreme && found.model_chars > found.baseline_chars);
        assert!(matches!(found.verdict, ComparisonVerdict::CannotTell(CannotTell::Needs(_))));
        assert_eq!(length_controlled(&longer_wins(), 1).unwrap(), found, "the same seed gives the same bits");
    }

    #[test]
    fn swapping_the_models_mirrors_the_fit() {
        let swap = |r: &LengthRow| LengthRow {
            score: 1.0 - r.score,
            model_chars: r.baseline_chars,
            baseline_chars: r.model_chars,
            ..*r
        };
        let rows = longer_wins();
        let swapped: Vec<LengthRow> = rows.iter().map(swap).collect();
        let (a, b) = (fit_length(&rows, 0.01).unwrap(), fit_length(&swapped, 0.01).unwrap());
        assert!((a.rate + b.rate - 1.0).abs() < 1e-9 && (a.phi - b.phi).abs() < 1e-9);
    }

    #[test]
    fn identical_answers_stay_at_half() {
        let same = |i| LengthRow { prompt: i, score: 0.5, model_chars: 80, baseline_chars: 80 };
        let found = length_controlled(&(0..60).map(same).collect::<Vec<_>>(), 1).unwrap();
        assert_eq!((found.raw, found.fit.rate, found.fit.phi, found.extreme), (0.5, 0.5, 0.0, false));
        assert_eq!(found.verdict, ComparisonVerdict::CannotTell(CannotTell::NoDifference));
    }
}
