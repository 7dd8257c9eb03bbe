//! From reward differences to the probability that people prefer an answer.
//!
//! P(first preferred) = σ(slope·(r_first − r_second)), fitted by maximum likelihood; a tie is half of each. There is no
//! intercept: swapping the two answers must swap the probability.

use super::super::newton::minimise;
use super::super::stats::{ece, sigmoid, softplus};
use super::Undefined;

/// Weight of slope²/2 where rewards rank every decided label right, or every one wrong, so that no slope is best.
const RIDGE: f64 = 0.01;

/// The fitted calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticCalibration {
    /// Log-odds a unit of reward. Negative: the rewards rank against the labels.
    pub slope: f64,
    /// Labels used.
    pub labels: usize,
    /// Whether a ridge had to hold the slope, because rewards separate the labels without an error.
    pub held: bool,
    /// Mean loss in nats a label; ln 2 says nothing was learned.
    pub loss: f64,
    /// The expected calibration error over ten bins after calibration, each label read in both orders.
    pub ece: f64,
}

impl LogisticCalibration {
    /// The probability that the first answer is preferred.
    #[must_use]
    pub fn probability(&self, difference: f64) -> f64 {
        sigmoid(self.slope * difference)
    }
}

/// Fits (difference of rewards, label) rows; the label is 1 where people prefer the first answer, 0.5 for a tie, 0 for
/// the second.
///
/// # Errors
/// No rows, a difference that is not finite, a label outside 0..=1, or only differences of 0.
pub fn logistic_calibration(rows: &[(f64, f64)]) -> Result<LogisticCalibration, Undefined> {
    if rows.is_empty() {
        return Err(Undefined::Empty);
    }
    for (at, (difference, label)) in rows.iter().enumerate() {
        if !difference.is_finite() {
            return Err(Undefined::Score { row: at + 1, value: *difference, expected: "a finite number" });
        }
        if !(0.0..=1.0).contains(label) {
            return Err(Undefined::Score { row: at + 1, value: *label, expected: "a number from 0 to 1" });
        }
    }
    // Differences on the scale 1, so that the ridge weighs the same for rewards of any size.
    let scale = (rows.iter().map(|(d, _)| d * d).sum::<f64>() / rows.len() as f64).sqrt();
    if scale == 0.0 || !scale.is_finite() {
        return Err(Undefined::NoVariation);
    }
    let rows: Vec<(f64, f64)> = rows.iter().map(|(d, y)| (d / scale, *y)).collect();
    let held = separated(&rows);
    let ridge = if held { RIDGE } else { 0.0 };
    let nats = |slope: f64| -> f64 {
        rows.iter().map(|(d, y)| y * softplus(-slope * d) + (1.0 - y) * softplus(slope * d)).sum()
    };
    let found = minimise(
        vec![0.0],
        |w| nats(w[0]) + ridge / 2.0 * w[0] * w[0],
        |w| {
            let (mut gradient, mut curve) = (ridge * w[0], ridge);
            for (d, y) in &rows {
                let p = sigmoid(w[0] * d);
                gradient += (p - y) * d;
                curve += p * (1.0 - p) * d * d;
            }
            (vec![gradient], vec![vec![curve]])
        },
    )[0];
    let decided = rows.iter().filter(|(_, y)| *y != 0.5);
    let predictions: Vec<(f64, bool)> =
        decided.flat_map(|(d, y)| [(sigmoid(found * d), *y > 0.5), (sigmoid(-found * d), *y < 0.5)]).collect();
    Ok(LogisticCalibration {
        slope: found / scale,
        labels: rows.len(),
        held,
        loss: nats(found) / rows.len() as f64,
        ece: ece(&predictions, 10),
    })
}

/// Whether the loss falls for ever as the slope grows, or as it falls: every row with a difference has a label at the
/// very end that its sign points to.
fn separated(rows: &[(f64, f64)]) -> bool {
    let moved = || rows.iter().filter(|(d, _)| *d != 0.0);
    let points = |sign: f64| moved().all(|(d, y)| *y == f64::from(u8::from(d * sign > 0.0)));
    points(1.0) || points(-1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_two_by_two_table() {
        // At difference 2, three of four prefer the first: slope·2 = ln 3. Read from the other side it is the same.
        let rows = [(2.0, 1.0), (2.0, 1.0), (-2.0, 0.0), (2.0, 0.0)];
        let found = logistic_calibration(&rows).unwrap();
        assert!((found.slope - 3f64.ln() / 2.0).abs() < 1e-9 && !found.held);
        assert!((found.probability(2.0) - 0.75).abs() < 1e-9 && (found.probability(-2.0) - 0.25).abs() < 1e-9);
        assert!(found.ece < 1e-9);
        let swapped: Vec<(f64, f64)> = rows.iter().map(|(d, y)| (-d, 1.0 - y)).collect();
        assert!((logistic_calibration(&swapped).unwrap().slope - found.slope).abs() < 1e-12);
    }

    #[test]
    fn rewards_against_the_labels_have_a_negative_slope_and_ties_say_nothing() {
        assert!(logistic_calibration(&[(1.0, 0.0), (2.0, 0.0), (1.0, 1.0)]).unwrap().slope < 0.0);
        let found = logistic_calibration(&[(1.0, 0.5), (-2.0, 0.5)]).unwrap();
        assert_eq!((found.slope, found.ece), (0.0, 0.0));
        assert!((found.loss - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn separated_labels_are_held_and_it_is_said_at_any_scale() {
        let found = logistic_calibration(&[(1.0, 1.0), (3.0, 1.0), (-2.0, 0.0), (0.0, 0.5)]).unwrap();
        assert!(found.held && found.slope.is_finite() && found.slope > 1.0);
        let large = logistic_calibration(&[(1e3, 1.0), (3e3, 1.0), (-2e3, 0.0), (0.0, 0.5)]).unwrap();
        assert!((large.slope * 1e3 - found.slope).abs() < 1e-6);
    }

    #[test]
    fn reasons_are_given() {
        assert_eq!(logistic_calibration(&[]), Err(Undefined::Empty));
        assert_eq!(logistic_calibration(&[(0.0, 1.0)]), Err(Undefined::NoVariation));
        assert!(matches!(logistic_calibration(&[(1.0, 2.0)]), Err(Undefined::Score { row: 1, .. })));
        assert!(matches!(logistic_calibration(&[(f64::NAN, 1.0)]), Err(Undefined::Score { row: 1, .. })));
    }
}
