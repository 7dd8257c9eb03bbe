//! f-divergences between policy and reference (f-DPO, Wang et al. 2024), which replace the log-ratio.
//!
//! With t = π/ρ = e^a the score is f′(t), up to a constant: reverse KL a; forward KL 1 − 1/t; Jensen–Shannon
//! log(2t/(t+1)); α-divergence (t^(α−1) − 1)/(α−1). Where policy and reference agree, every score is 0 with slope 1 or ½.

use super::super::{log_sigmoid, sigmoid};

/// The largest exponent, as in TRL: above it the score is constant with zero gradient.
const LARGEST_EXPONENT: f64 = 80.0;

/// The f-divergence between policy and reference.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Divergence {
    /// Plain DPO.
    #[default]
    ReverseKl,
    /// Mass-covering.
    ForwardKl,
    /// Bounded above.
    Js,
    /// Interpolates by α: 1 is the reverse KL, 0 the forward KL.
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
