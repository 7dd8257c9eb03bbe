//! How well a reward model ranks pairs whose better answer is known.

use super::super::stats::{Z95, ece, median, sigmoid, wilson};
use super::Undefined;
use super::interval::{ConfidenceInterval, IntervalMethod};

/// Bins of the expected calibration error.
const BINS: usize = 10;

/// A pair with its rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardedPair {
    /// Reward of the better answer minus that of the other.
    pub margin: f64,
    /// Characters of the better answer.
    pub chosen_chars: usize,
    /// Characters of the other.
    pub rejected_chars: usize,
}

/// The accuracy on a third of the pairs, by how much longer the better answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LengthTercile {
    /// The smallest length difference in it, better minus other, in characters.
    pub from: i64,
    /// The largest.
    pub to: i64,
    /// Pairs.
    pub pairs: usize,
    /// The share ranked right.
    pub accuracy: f64,
}

/// The figures of a reward model.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardFigures {
    /// Pairs.
    pub pairs: usize,
    /// The share ranked right; equal rewards are half right.
    pub accuracy: f64,
    /// Wilson's interval of it.
    pub interval: ConfidenceInterval,
    /// The mean margin.
    pub mean_margin: f64,
    /// The median margin.
    pub median_margin: f64,
    /// The expected calibration error of σ(margin) over ten bins, each pair read in both orders.
    pub ece: f64,
    /// The thirds, from pairs whose better answer is shorter to those where it is longer. Pairs of one length difference
    /// stay together, so that a third may be missing.
    pub terciles: Vec<LengthTercile>,
}

/// The figures of a reward model on pairs.
///
/// # Errors
/// No pairs, or a margin that is not finite.
pub fn reward_figures(pairs: &[RewardedPair]) -> Result<RewardFigures, Undefined> {
    if pairs.is_empty() {
        return Err(Undefined::Empty);
    }
    if let Some(at) = pairs.iter().position(|p| !p.margin.is_finite()) {
        return Err(Undefined::Score { row: at + 1, value: pairs[at].margin, expected: "a finite number" });
    }
    let n = pairs.len() as f64;
    let margins: Vec<f64> = pairs.iter().map(|p| p.margin).collect();
    let right: f64 = margins.iter().map(|m| credit(*m)).sum();
    let (low, high) = wilson(right, n, Z95);
    Ok(RewardFigures {
        pairs: pairs.len(),
        accuracy: right / n,
        interval: ConfidenceInterval { low, high, method: IntervalMethod::Wilson },
        mean_margin: margins.iter().sum::<f64>() / n,
        median_margin: median(&margins),
        ece: calibration_error(&margins),
        terciles: terciles(pairs),
    })
}

/// The expected calibration error of σ(margin) over ten bins, each pair read in both orders.
pub(in super::super) fn calibration_error(margins: &[f64]) -> f64 {
    let predictions: Vec<(f64, bool)> =
        margins.iter().flat_map(|m| [(sigmoid(*m), true), (sigmoid(-m), false)]).collect();
    ece(&predictions, BINS)
}

/// The third of each pair, 0 to 2, by how much longer the better answer is than the other, given both in characters. Pairs of
/// one length difference stay together, so that a third may be missing.
#[must_use]
pub fn length_thirds(chars: &[(usize, usize)]) -> Vec<usize> {
    let difference = |(chosen, rejected): &(usize, usize)| *chosen as i64 - *rejected as i64;
    let mut sorted: Vec<i64> = chars.iter().map(difference).collect();
    sorted.sort_unstable();
    let [_, one, two, _] = bounds(&sorted);
    let third = |pair: &(usize, usize)| {
        let at = sorted.partition_point(|d| *d < difference(pair));
        usize::from(at >= one) + usize::from(at >= two)
    };
    chars.iter().map(third).collect()
}

/// Where the thirds of a sorted list begin and end: a bound is moved up past its equals.
fn bounds(sorted: &[i64]) -> [usize; 4] {
    let n = sorted.len();
    let cut = |k: usize| {
        let at = (n * k).div_ceil(3).max(1).min(n);
        at + sorted[at..].iter().take_while(|d| at > 0 && **d == sorted[at - 1]).count()
    };
    [0, cut(1), cut(2), n]
}

fn credit(margin: f64) -> f64 {
    if margin > 0.0 {
        1.0
    } else if margin < 0.0 {
        0.0
    } else {
        0.5
    }
}

fn terciles(pairs: &[RewardedPair]) -> Vec<LengthTercile> {
    let mut sorted: Vec<(i64, f64)> =
        pairs.iter().map(|p| (p.chosen_chars as i64 - p.rejected_chars as i64, credit(p.margin))).collect();
    sorted.sort_by_key(|row| row.0);
    let bounds = bounds(&sorted.iter().map(|row| row.0).collect::<Vec<_>>());
    let third = |part: &[(i64, f64)]| {
        let (first, last) = (part.first()?, part.last()?);
        let right: f64 = part.iter().map(|row| row.1).sum();
        Some(LengthTercile { from: first.0, to: last.0, pairs: part.len(), accuracy: right / part.len() as f64 })
    };
    bounds.windows(2).filter_map(|w| third(&sorted[w[0]..w[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(margin: f64, chosen_chars: usize, rejected_chars: usize) -> RewardedPair {
        RewardedPair { margin, chosen_chars, rejected_chars }
    }

    #[test]
    fn a_model_that_prefers_length_shows_it_by_tercile() {
        let pairs: Vec<RewardedPair> = (0..30)
            .map(|i| match i % 3 {
                0 => pair(-1.0, 10, 90 + i),
                1 => pair(0.0, 50, 50),
                _ => pair(2.0, 90 + i, 10),
            })
            .collect();
        let found = reward_figures(&pairs).unwrap();
        let shares: Vec<(usize, f64)> = found.terciles.iter().map(|t| (t.pairs, t.accuracy)).collect();
        assert_eq!(shares, [(10, 0.0), (10, 0.5), (10, 1.0)]);
        assert!((found.accuracy - 0.5).abs() < 1e-12 && (found.mean_margin - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(found.median_margin, 0.0);
        // σ(1) = .731 is never right, σ(2) = .881 always, 0.5 by half.
        let want = (10.0 * sigmoid(1.0) + 10.0 * (1.0 - sigmoid(2.0))) / 30.0;
        assert!((found.ece - want).abs() < 1e-12, "{}", found.ece);
    }

    #[test]
    fn equal_lengths_stay_in_one_third_and_small_sets_work() {
        let found = reward_figures(&[pair(1.0, 5, 5), pair(1.0, 5, 5), pair(-1.0, 5, 5), pair(1.0, 9, 5)]).unwrap();
        assert_eq!(found.terciles.iter().map(|t| t.pairs).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(reward_figures(&[pair(1.0, 1, 2)]).unwrap().terciles.len(), 1);
        assert_eq!(length_thirds(&[(5, 5), (9, 5), (5, 5), (5, 5)]), [0, 2, 0, 0]);
        assert_eq!(length_thirds(&[(9, 1), (1, 9), (5, 5)]), [2, 0, 1]);
        assert_eq!(length_thirds(&[]), [0; 0]);
        assert_eq!(reward_figures(&[]), Err(Undefined::Empty));
        assert!(matches!(reward_figures(&[pair(f64::NAN, 1, 1)]), Err(Undefined::Score { row: 1, .. })));
    }
}
