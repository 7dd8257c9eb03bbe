//! Losses over per-token log-probs: pure functions of `f64` slices.
//!
//! Owns the formulas, their gradients dL/dlogp_t and their metrics. Refuses tensors, tokens and models: the caller knows which
//! token a log-prob belongs to.

mod advantage;
mod calibration;
mod cpo;
mod dpo;
mod grpo;
mod kto;
mod orpo;
mod ppo;
mod reward;
mod rloo;
mod sft;

pub use advantage::{RewardScale, gae, group_advantages, leave_one_out, reward_metrics, whiten};
pub use calibration::{Calibration, calibrate, fit_temperature};
pub use cpo::{Cpo, CpoForm, CpoPair};
pub use dpo::{Divergence, Dpo, DpoForm, DpoPair, DpoTerm, FORMS};
pub use grpo::{Grpo, GrpoRow, RatioLevel, Reduction};
pub use kto::{Kto, KtoForm, KtoRow};
pub use orpo::{Orpo, OrpoNll, OrpoPair};
pub use ppo::{AdaptiveKl, KlEstimator, Ppo, PpoLoss, PpoRow, Rollout, rollout_metrics, token_rewards};
pub use reward::{Reward, RewardLoss, RewardPair};
pub use rloo::{Rloo, RlooRow};
pub use sft::{Sft, SftForm};

pub(crate) use dpo::{FormulaValues, NAMES};

use crate::domain::Metrics;

/// Loss and gradient of pairs in one micro-batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairLoss {
    /// Mean over the batch.
    pub loss: f64,
    /// dL/dlogp of every token, pair by pair, in input order.
    pub g: Vec<PairGradient>,
}

/// dL/dlogp of one pair's tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairGradient {
    /// Chosen side: the prompt's tokens first where the loss covers them, then the answer's.
    pub chosen: Vec<f64>,
    /// Rejected answer.
    pub rejected: Vec<f64>,
}

/// Loss and gradient of single rows in one micro-batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowLoss {
    /// The loss, with the method's reduction.
    pub loss: f64,
    /// dL/dlogp of every token, row by row, in input order.
    pub g: Vec<Vec<f64>>,
}

/// Weighted means of metrics by name, in insertion order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    sums: Vec<(&'static str, f64, f64)>,
    /// Minima and maxima of the current micro-batch, which may arrive in parts.
    open: Vec<(&'static str, f64)>,
}

impl Tally {
    /// Adds `value` to the mean `name`, weighted by pairs, tokens or micro-batches.
    pub fn add(&mut self, name: &'static str, value: f64, weight: f64) {
        match self.sums.iter_mut().find(|(n, ..)| *n == name) {
            Some((_, sum, total)) => {
                *sum += value * weight;
                *total += weight;
            }
            None => self.sums.push((name, value * weight, weight)),
        }
    }

    /// Tracks the minimum (`f64::min`) or maximum of `name` in this micro-batch.
    pub fn extreme(&mut self, name: &'static str, value: f64, of: fn(f64, f64) -> f64) {
        if let Some((_, so_far)) = self.open.iter_mut().find(|(n, _)| *n == name) {
            *so_far = of(*so_far, value);
            return;
        }
        self.open.push((name, value));
        // Reserves its position among the means.
        self.add(name, 0.0, 0.0);
    }

    /// Ends the micro-batch: adds its minima and maxima to the means over micro-batches.
    pub fn close(&mut self) {
        for (name, value) in std::mem::take(&mut self.open) {
            self.add(name, value, 1.0);
        }
    }

    /// The mean so far.
    #[must_use]
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.sums.iter().find(|(n, _, w)| *n == name && *w > 0.0).map(|(_, s, w)| s / w)
    }

    /// Sets every mean in `metrics`, with `prefix` before its name.
    pub fn write(&self, prefix: &str, metrics: &mut Metrics) {
        for (name, sum, weight) in self.sums.iter().filter(|(_, _, w)| *w > 0.0) {
            metrics.set(&format!("{prefix}{name}"), sum / weight);
        }
    }
}

/// log σ(x), stable for any x.
#[must_use]
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// σ(x), stable for any x.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// The largest log-ratio of new to old policy that is exponentiated (as in verl and OpenRLHF): above it the ratio is e^20
/// with zero gradient.
const LARGEST_LOG_RATIO: f64 = 20.0;

/// π_new/π_old from the log-ratio, and its derivative.
fn ratio(log_ratio: f64) -> (f64, f64) {
    let value = log_ratio.min(LARGEST_LOG_RATIO).exp();
    (value, if log_ratio > LARGEST_LOG_RATIO { 0.0 } else { value })
}

/// The sum of a slice.
fn total(x: &[f64]) -> f64 {
    x.iter().sum()
}

/// TRL's four `rewards/*` metrics. Accuracy is strict: equal rewards count as wrong, so it is 0 where the policy equals the
/// reference.
fn rewards(tally: &mut Tally, chosen: f64, rejected: f64) {
    tally.add("rewards/chosen", chosen, 1.0);
    tally.add("rewards/rejected", rejected, 1.0);
    tally.add("rewards/accuracies", f64::from(chosen > rejected), 1.0);
    tally.add("rewards/margins", chosen - rejected, 1.0);
}

#[cfg(test)]
mod tests;
