//! Inputs and outputs of the forms of the DPO family: lengths, log-ratios, scores and slopes of a pair.
//!
//! Owns the values that all forms share. Refuses tokens and formulas.

use super::super::{log_sigmoid, sigmoid};

/// One answer of a pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerSide {
    /// Its length.
    pub tokens: f64,
    /// Summed log π − log ρ.
    pub ratio: f64,
    /// The ratio's score under the divergence.
    pub score: f64,
    /// dscore/dratio.
    pub slope: f64,
}

/// A pair's loss and its derivatives by the two log-ratios.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Slope {
    pub loss: f64,
    pub chosen: f64,
    pub rejected: f64,
}

/// Sums over a pair's tokens.
pub(crate) struct PairSums {
    pub(super) chosen: AnswerSide,
    pub(super) rejected: AnswerSide,
    /// Summed log π of the chosen answer, its tail weighted by `ld_alpha`.
    pub(super) logp_chosen: f64,
    /// The same for the rejected answer.
    pub(super) logp_rejected: f64,
    /// Summed log ρ, chosen − rejected, weighted likewise.
    pub(super) ref_margin: f64,
    /// Length of the shorter answer.
    pub(super) shared: usize,
    /// WPO's weight; 1 without WPO.
    pub(super) weight: f64,
}

/// A form's input for one pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairInput {
    pub(super) beta: f64,
    /// The pair's label smoothing.
    pub(super) epsilon: f64,
    /// The form's own hyper-parameter, if any.
    pub(super) own: f64,
    pub(super) c: AnswerSide,
    pub(super) r: AnswerSide,
}

impl PairInput {
    /// The margin x = β(s_c − s_r).
    pub(super) fn x(&self) -> f64 {
        self.beta * (self.c.score - self.r.score)
    }

    /// βa and βb, the rewards of the two answers.
    pub(super) fn rewards(&self) -> (f64, f64) {
        (self.beta * self.c.ratio, self.beta * self.r.ratio)
    }

    /// A loss of the margin x and its derivative by it.
    pub(super) fn of_margin(&self, (loss, slope): (f64, f64)) -> Slope {
        Slope { loss, chosen: slope * self.beta * self.c.slope, rejected: -slope * self.beta * self.r.slope }
    }
}

/// −(1−ε)·log σ(x) − ε·log σ(−x) and its derivative.
pub(in super::super) fn smoothed(x: f64, epsilon: f64) -> (f64, f64) {
    let loss = -(1.0 - epsilon) * log_sigmoid(x) - epsilon * log_sigmoid(-x);
    (loss, epsilon * sigmoid(x) - (1.0 - epsilon) * sigmoid(-x))
}

/// σ′(x).
pub(super) fn sigmoid_slope(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}
