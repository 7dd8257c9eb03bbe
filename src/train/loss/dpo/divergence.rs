//! f-divergences between policy and reference (f-DPO, Wang et al. 2024): what stands in for the log-ratio.
//!
//! With t = π/ρ = e^a the score is f′(t), up to a constant: reverse KL a; forward KL 1 − 1/t; Jensen–Shannon
//! log(2t/(t+1)); α-divergence (t^(α−1) − 1)/(α−1). Every score is 0 and has slope 1 or ½ where policy and reference agree.

use super::super::{log_sigmoid, sigmoid};

/// The largest exponent taken, as in TRL: beyond it a score stays where it is and has no slope.
const LARGEST_EXPONENT: f64 = 80.0;

/// How the distance between policy and reference is measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Divergence {
    /// Plain DPO.
    #[default]
    ReverseKl,
    /// Covers what the reference covers.
    ForwardKl,
    /// Bounded above.
    Js,
    /// Between the two, by the coefficient α; at α = 1 it is the reverse KL, at 0 the forward KL.
    Alpha(f64),
}

impl Divergence {
    /// The score of a log-ratio and its derivative.
    #[must_use]
    pub(super) fn score(self, ratio: f64) -> (f64, f64) {
        match self {
            Self::ReverseKl => (ratio, 1.0),
            Self::Js => (std::f64::consts::LN_2 + log_sigmoid(ratio), sigmoid(-ratio)),
            Self::ForwardKl => power(-1.0, ratio),
            Self::Alpha(alpha) if (alpha - 1.0).abs() < 1e-6 => (ratio, 1.0),
            Self::Alpha(alpha) => power(alpha - 1.0, ratio),
        }
    }
}

/// (e^{k·ratio} − 1)/k and its derivative e^{k·ratio}.
fn power(k: f64, ratio: f64) -> (f64, f64) {
    let x = k * ratio;
    let held = x.min(LARGEST_EXPONENT);
    (held.exp_m1() / k, if x > LARGEST_EXPONENT { 0.0 } else { held.exp() })
}
