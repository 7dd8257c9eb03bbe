//! Statistics of counts and probabilities: confidence intervals, calibration, quantiles.
//!
//! Owns the formulas. Refuses to know what was counted.

use super::hash::mix64;

/// z of a 95 % interval.
pub(super) const Z95: f64 = 1.959_963_984_540_054;

/// σ(x), stable for any x.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// ln(1 + e^x), stable for any x.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// A statistic of `draws` samples that are drawn from the items with replacement. Samples in which it is undefined are
/// left out.
pub(super) fn resample<T: Clone>(
    items: &[T],
    draws: usize,
    seed: u64,
    statistic: impl Fn(&[T]) -> Option<f64>,
) -> Vec<f64> {
    let mut picks = Picks::new(items.len(), seed);
    let mut found = Vec::with_capacity(draws);
    for _ in 0..draws {
        let sample: Vec<T> = picks.sample().map(|i| items[i].clone()).collect();
        found.extend(statistic(&sample));
    }
    found
}

/// Draws of `n` items with replacement, by number.
pub(super) struct Picks {
    n: u64,
    state: u64,
}

impl Picks {
    pub(super) fn new(n: usize, seed: u64) -> Self {
        Self { n: n as u64, state: mix64(seed) }
    }

    /// The numbers of the next sample: as many as there are items.
    pub(super) fn sample(&mut self) -> impl Iterator<Item = usize> + '_ {
        (0..self.n).map(|_| {
            self.state = mix64(self.state);
            // The high half of the product of a 64-bit draw and n is uniform enough below 2³² items.
            ((u128::from(self.state) * u128::from(self.n)) >> 64) as usize
        })
    }
}

/// The Wilson score interval of a share of `k` successes in `n` trials, as (low, high) within 0..=1; z = 1.96 for 95 %.
///
/// Wilson 1927, "Probable inference, the law of succession, and statistical inference". `k` may be half (a tie).
/// Without trials the interval is (0, 1).
#[must_use]
pub fn wilson(k: f64, n: f64, z: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let p = k / n;
    let z2 = z * z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// The expected calibration error (Naeini et al. 2015) over `bins` bins of equal width on 0..=1: the mean, weighted by
/// count, of |share of hits − mean confidence| in each. `predictions`: confidence and whether it came true. 0 without
/// predictions.
#[must_use]
pub fn ece(predictions: &[(f64, bool)], bins: usize) -> f64 {
    let bins = bins.max(1);
    // Count, summed confidence, hits.
    let mut totals = vec![(0.0, 0.0, 0.0); bins];
    for (confidence, hit) in predictions {
        let at = ((confidence * bins as f64) as usize).min(bins - 1);
        totals[at].0 += 1.0;
        totals[at].1 += confidence;
        totals[at].2 += f64::from(*hit);
    }
    let gap: f64 = totals.iter().map(|(_, confidence, hits)| f64::abs(hits - confidence)).sum();
    gap / (predictions.len() as f64).max(1.0)
}

/// The smallest value that at least the share `q` of the values do not exceed (nearest rank); NaN without values. `q`
/// in 0..=1: 0.5 is the lower median, 0.99 the 99th percentile.
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// The middle value, or the mean of the middle two; NaN without values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    #[test]
    fn wilson_by_hand_and_at_the_ends() {
        // 8 of 10, z = 1.96: centre (0.8 + 0.19208)/1.38416, half 1.96/1.38416·√(0.016 + 0.009604).
        let (low, high) = wilson(8.0, 10.0, 1.96);
        near(low, 0.490_157);
        near(high, 0.943_319);
        let (low, high) = wilson(0.0, 20.0, 1.96);
        assert_eq!(low, 0.0);
        near(high, 3.8416 / 23.8416);
        let (low, high) = wilson(20.0, 20.0, 1.96);
        near(low, 20.0 / 23.8416);
        assert_eq!(high, 1.0);
        assert_eq!(wilson(0.0, 0.0, 1.96), (0.0, 1.0));
    }

    #[test]
    fn ece_is_zero_when_calibrated_and_the_weighted_gap_otherwise() {
        let sure = |n: usize, hits: usize, c: f64| (0..n).map(move |i| (c, i < hits));
        let calibrated: Vec<_> = sure(4, 3, 0.75).collect();
        near(ece(&calibrated, 10), 0.0);
        // Two bins: four predictions off by 0.25, six off by 0.45.
        let off: Vec<_> = sure(4, 2, 0.75).chain(sure(6, 3, 0.95)).collect();
        near(ece(&off, 10), (4.0 * 0.25 + 6.0 * 0.45) / 10.0);
        near(ece(&[(1.0, true), (1.0, false)], 10), 0.5);
        assert_eq!(ece(&[], 10), 0.0);
    }

    #[test]
    fn median_and_quantiles_by_hand() {
        let values = [4.0, 1.0, 3.0, 2.0];
        near(median(&values), 2.5);
        near(median(&values[..3]), 3.0);
        near(quantile(&values, 0.5), 2.0);
        near(quantile(&values, 0.99), 4.0);
        near(quantile(&values, 0.0), 1.0);
        assert!(median(&[]).is_nan() && quantile(&[], 0.5).is_nan());
    }
}
