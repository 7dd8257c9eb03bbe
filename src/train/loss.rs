//! Losses over per-token log-probs: pure functions of `f64` slices.
//!
//! Owns the formulas, their gradients dL/dlogp_t and the metrics that follow from them. Refuses tensors, tokens and models:
//! what a log-prob belongs to is the caller's business.

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

/// What a loss function gives back for one micro-batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairLoss {
    /// Mean over the batch.
    pub loss: f64,
    /// dL/dlogp of every token, pair by pair, in the order of the inputs.
    pub g: Vec<PairGradient>,
}

/// dL/dlogp of one pair's tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairGradient {
    /// Of the chosen side: the prompt's tokens first where the loss covers them, then the answer's.
    pub chosen: Vec<f64>,
    /// Of the rejected answer.
    pub rejected: Vec<f64>,
}

/// What a loss over single rows gives back for one micro-batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowLoss {
    /// The loss, reduced as its method says.
    pub loss: f64,
    /// dL/dlogp of every token, row by row, in the order of the inputs.
    pub g: Vec<Vec<f64>>,
}

/// Weighted means by name, in the order in which the names first came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    sums: Vec<(&'static str, f64, f64)>,
    /// The extremes of the micro-batch at hand, which may come in parts.
    open: Vec<(&'static str, f64)>,
}

impl Tally {
    /// Adds `value` with `weight` (pairs, tokens or micro-batches) to the mean `name`.
    pub fn add(&mut self, name: &'static str, value: f64, weight: f64) {
        match self.sums.iter_mut().find(|(n, ..)| *n == name) {
            Some((_, sum, total)) => {
                *sum += value * weight;
                *total += weight;
            }
            None => self.sums.push((name, value * weight, weight)),
        }
    }

    /// Keeps the least (by `f64::min`) or most of the values named so in this micro-batch.
    pub fn extreme(&mut self, name: &'static str, value: f64, of: fn(f64, f64) -> f64) {
        if let Some((_, so_far)) = self.open.iter_mut().find(|(n, _)| *n == name) {
            *so_far = of(*so_far, value);
            return;
        }
        self.open.push((name, value));
        // Its place among the others.
        self.add(name, 0.0, 0.0);
    }

    /// The micro-batch is over: its extremes go into the means over micro-batches.
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

/// The largest log-ratio of new to old policy that is raised to a power (verl's and OpenRLHF's guard): a ratio beyond e^20
/// stays there and has no slope.
const LARGEST_LOG_RATIO: f64 = 20.0;

/// π_new/π_old from its logarithm, and its derivative by it.
fn ratio(log_ratio: f64) -> (f64, f64) {
    let value = log_ratio.min(LARGEST_LOG_RATIO).exp();
    (value, if log_ratio > LARGEST_LOG_RATIO { 0.0 } else { value })
}

/// The sum of a slice.
fn total(x: &[f64]) -> f64 {
    x.iter().sum()
}

/// The rewards' four metrics by TRL's names. Accuracy is strict: equal rewards count as wrong, so it is 0 where the policy
/// still is the reference.
fn rewards(tally: &mut Tally, chosen: f64, rejected: f64) {
    tally.add("rewards/chosen", chosen, 1.0);
    tally.add("rewards/rejected", rejected, 1.0);
    tally.add("rewards/accuracies", f64::from(chosen > rejected), 1.0);
    tally.add("rewards/margins", chosen - rejected, 1.0);
}

#[cfg(test)]
mod tests;
