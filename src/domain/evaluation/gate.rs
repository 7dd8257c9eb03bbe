//! Whether a judge's number may be a headline.
//!
//! A judge is measured on LLMBar natural (pairs with an objectively better answer) or on the session's labels, and in both
//! orders. Below either floor its number is shown, but it never headlines; nor does that of a judge that was not measured.
//! The floors are this program's choice.

/// Least accuracy on pairs with a known better answer.
pub const MIN_ACCURACY: f64 = 0.65;
/// Least share of pairs on which both orders name the same answer.
pub const MIN_CONSISTENCY: f64 = 0.70;

/// What was measured of a judge.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct JudgeFigures {
    /// The share of pairs with a known better answer judged right, ties half.
    pub accuracy: Option<f64>,
    /// The share of pairs judged the same in both orders.
    pub consistency: Option<f64>,
}

/// Why a judge's number is no headline.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum GateFailure {
    /// Its accuracy is unknown.
    #[error(
        "its accuracy was not measured: name the folder of LLMBar natural with --data, or label 30 pairs that it did not learn from"
    )]
    AccuracyUnknown,
    /// Its accuracy is below the floor.
    #[error("it judges {:.0} % of pairs with a known better answer right; a headline needs {:.0} %", .0 * 100.0, MIN_ACCURACY * 100.0)]
    Accuracy(f64),
    /// Its consistency is unknown.
    #[error("its agreement with itself in the other order was not measured")]
    ConsistencyUnknown,
    /// Its consistency is below the floor.
    #[error("it agrees with itself in {:.0} % of pairs when the order is swapped; a headline needs {:.0} %", .0 * 100.0, MIN_CONSISTENCY * 100.0)]
    Consistency(f64),
}

/// Nothing where the judge may headline; otherwise every reason why not.
#[must_use]
pub fn judge_gate(figures: &JudgeFigures) -> Vec<GateFailure> {
    let accuracy = match figures.accuracy.filter(|a| a.is_finite()) {
        None => Some(GateFailure::AccuracyUnknown),
        Some(seen) => (seen < MIN_ACCURACY).then_some(GateFailure::Accuracy(seen)),
    };
    let consistency = match figures.consistency.filter(|c| c.is_finite()) {
        None => Some(GateFailure::ConsistencyUnknown),
        Some(seen) => (seen < MIN_CONSISTENCY).then_some(GateFailure::Consistency(seen)),
    };
    accuracy.into_iter().chain(consistency).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(accuracy: Option<f64>, consistency: Option<f64>) -> Vec<GateFailure> {
        judge_gate(&JudgeFigures { accuracy, consistency })
    }

    #[test]
    fn both_floors_must_be_reached() {
        assert_eq!(gate(Some(0.65), Some(0.70)), []);
        assert_eq!(gate(Some(0.64), Some(0.9)), [GateFailure::Accuracy(0.64)]);
        assert_eq!(gate(Some(0.9), Some(0.69)), [GateFailure::Consistency(0.69)]);
        assert_eq!(gate(None, Some(f64::NAN)), [GateFailure::AccuracyUnknown, GateFailure::ConsistencyUnknown]);
        // A judge that always picks its own position: right by half, never consistent.
        let positional = gate(Some(0.5), Some(0.0));
        assert_eq!(positional.len(), 2);
        assert_eq!(
            positional[0].to_string(),
            "it judges 50 % of pairs with a known better answer right; a headline needs 65 %"
        );
    }
}
