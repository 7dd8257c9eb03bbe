//! Calibration of a reward model on held-out pairs.
//!
//! Owns temperature scaling (Guo et al. 2017): P(chosen preferred) = σ((r_c − r_r)/T), with T fitted by maximum likelihood.
//! Refuses to change scores: the caller divides by T and subtracts the mean.

use super::{log_sigmoid, sigmoid};
use crate::domain::{ece, wilson};
use serde::{Deserialize, Serialize};

/// Bounds of ln T. At the lower bound T = 0.0067: with all pairs ranked correctly the likelihood grows without limit as T
/// falls, so there is no optimum.
const LOG_TEMPERATURE: (f64, f64) = (-5.0, 5.0);

/// Bins of the expected calibration error.
const BINS: usize = 10;

/// z of a 95 % interval.
const Z95: f64 = 1.959_963_984_540_054;

/// Calibration of a reward model, measured on held-out pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Pairs measured.
    pub pairs: usize,
    /// Mean of all scores.
    pub mean: f64,
    /// Standard deviation of all scores (unbiased; 0 of fewer than two).
    pub std: f64,
    /// The fitted temperature T.
    pub temperature: f64,
    /// Share of pairs with the chosen score strictly above the rejected one.
    pub accuracy: f64,
    /// 95 % Wilson interval of the accuracy.
    pub accuracy_low: f64,
    /// Its upper end.
    pub accuracy_high: f64,
    /// Expected calibration error of max(p, 1−p), p = σ((r_c − r_r)/T), over ten bins.
    pub ece: f64,
    /// The same at T = 1 (raw scores).
    pub ece_raw: f64,
}

/// Measures (r_c, r_r) pairs. None when there are none or a score is not finite.
#[must_use]
pub fn calibrate(pairs: &[(f64, f64)]) -> Option<Calibration> {
    if pairs.is_empty() || pairs.iter().any(|(c, r)| !c.is_finite() || !r.is_finite()) {
        return None;
    }
    let n = 2.0 * pairs.len() as f64;
    let mean = pairs.iter().map(|(c, r)| c + r).sum::<f64>() / n;
    let square = pairs.iter().map(|(c, r)| (c - mean).powi(2) + (r - mean).powi(2)).sum::<f64>();
    let margins: Vec<f64> = pairs.iter().map(|(c, r)| c - r).collect();
    let temperature = fit_temperature(&margins);
    let right = margins.iter().filter(|m| **m > 0.0).count() as f64;
    let (accuracy_low, accuracy_high) = wilson(right, margins.len() as f64, Z95);
    let error = |t: f64| {
        let predictions: Vec<_> = margins.iter().map(|m| (sigmoid(m.abs() / t), *m > 0.0)).collect();
        ece(&predictions, BINS)
    };
    Some(Calibration {
        pairs: pairs.len(),
        mean,
        std: (square / (n - 1.0)).sqrt(),
        temperature,
        accuracy: right / margins.len() as f64,
        accuracy_low,
        accuracy_high,
        ece: error(temperature),
        ece_raw: error(1.0),
    })
}

/// The T that minimises mean −log σ(margin/T), by golden-section search on ln T in −5..5; 1 without margins.
#[must_use]
pub fn fit_temperature(margins: &[f64]) -> f64 {
    if margins.is_empty() {
        return 1.0;
    }
    // Convex in 1/T, so unimodal in ln T.
    let nll = |log_t: f64| -margins.iter().map(|m| log_sigmoid(m * (-log_t).exp())).sum::<f64>();
    let inverse_phi = (5.0f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = LOG_TEMPERATURE;
    let (mut left, mut right) = (high - inverse_phi * (high - low), low + inverse_phi * (high - low));
    let (mut at_left, mut at_right) = (nll(left), nll(right));
    while high - low > 1e-7 {
        // Both can underflow to the same value at small T; the smaller T is the likelier.
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - inverse_phi * (high - low);
            at_left = nll(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + inverse_phi * (high - low);
            at_right = nll(right);
        }
    }
    f64::midpoint(low, high).exp()
}

#[cfg(test)]
mod tests {
    use super::super::tests::near;
    use super::*;

    #[test]
    fn equal_margins_have_a_closed_form_temperature() {
        // Three of four right, all by 2: σ(2/T) = ¾, T = 2/ln 3.
        let t = fit_temperature(&[2.0, 2.0, 2.0, -2.0]);
        near(t, 2.0 / 3.0f64.ln(), 1e-5);
        let nll = |t: f64| -[2.0, 2.0, 2.0, -2.0].iter().map(|m| log_sigmoid(m / t)).sum::<f64>();
        assert!(nll(t) < nll(1.02 * t) && nll(t) < nll(0.98 * t));
    }

    #[test]
    fn scaling_the_scores_scales_the_temperature() {
        let margins = [0.3, 1.7, -0.4, 2.2, 0.9, -1.1];
        let scaled: Vec<_> = margins.iter().map(|m| 5.0 * m).collect();
        near(fit_temperature(&scaled), 5.0 * fit_temperature(&margins), 1e-5);
    }

    #[test]
    fn the_bounds_are_respected() {
        near(fit_temperature(&[1.0, 2.0]), (-5.0f64).exp(), 1e-5);
        near(fit_temperature(&[-1.0, -2.0]), 5.0f64.exp(), 1e-5);
        assert_eq!(fit_temperature(&[]), 1.0);
    }

    #[test]
    fn calibration_of_four_pairs() {
        let c = calibrate(&[(1.0, -1.0), (2.0, 0.0), (0.5, -1.5), (-2.0, 0.0)]).unwrap();
        assert_eq!((c.pairs, c.accuracy), (4, 0.75));
        near(c.mean, -0.125, 1e-12);
        // Σ (x − mean)² = Σ x² − n·mean² = 12.5 + … over 7.
        near(c.std, ((1.0 + 1.0 + 4.0 + 0.25 + 2.25 + 4.0 - 8.0 * 0.015_625) / 7.0f64).sqrt(), 1e-12);
        assert!(c.accuracy_low < 0.75 && c.accuracy_high > 0.75 && c.accuracy_high < 1.0);
        // Every margin is 2: confidence ¾ at the fitted T, σ(2) as the scores are.
        near(c.ece, 0.0, 1e-5);
        near(c.ece_raw, sigmoid(2.0) - 0.75, 1e-12);
        assert_eq!(calibrate(&[]), None);
        assert_eq!(calibrate(&[(f64::NAN, 0.0)]), None);
    }
}
