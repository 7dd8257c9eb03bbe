//! What the health rules look at: the beginning, the last steps and the best time of every metric, and each pair's history.
//!
//! Owns the memory that goes into a checkpoint. Refuses judgement: the rules decide.

use crate::domain::ids::PairId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Pairs over which a model is asked whether it orders by length.
pub(super) const LENGTH_PAIRS: usize = 100;

/// What is known of a run before its first step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunFacts {
    /// Its method.
    pub method: String,
    /// Steps planned.
    pub steps: u64,
    /// Steps of a pass over the data.
    pub steps_per_epoch: u64,
    /// Rows trained on or kept for evaluation.
    pub kept: usize,
    /// Rows left out.
    pub dropped: usize,
    /// Why most of those were left out, in a few words.
    pub dropped_why: String,
    /// Whether `logps/chosen` is a mean over tokens, not a sum.
    pub mean_logps: bool,
    /// Whether the loss is −log σ of the pairs' margins, so that a large margin has no slope.
    pub sigmoid: bool,
    /// Nats an answer that the distance from the reference is steered to, where it is.
    pub kl_target: Option<f64>,
    /// The hyper-parameter that holds the policy near the reference.
    pub kl_key: &'static str,
}

/// A metric over a run: its beginning, its last values, its best time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct MetricTrack {
    /// Sum and number of the first values.
    pub(super) begin: (f64, usize),
    pub(super) recent: VecDeque<f64>,
    /// The greatest mean that the last values ever had.
    pub(super) best: Option<f64>,
}

/// The passes over a pair that ended with the model against it, if the last one did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Misranked {
    pub(super) passes: u32,
    pub(super) margin: f64,
}

/// What the rules remember.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HealthState {
    pub(super) tracks: BTreeMap<String, MetricTrack>,
    #[serde(rename = "against")]
    pub(super) misranked: BTreeMap<PairId, Misranked>,
    /// Sum and number of the margins of this pass over the data.
    #[serde(rename = "pass")]
    pub(super) epoch_margins: (f64, usize),
    /// The mean margin of the last whole pass, and how many there were.
    #[serde(rename = "passed")]
    pub(super) last_epoch: Option<(f64, u64)>,
    /// Of the last pairs: whether the longer answer is chosen, and whether the model orders the pair by length.
    pub(super) lengths: VecDeque<(bool, bool)>,
    /// Rules that have spoken, and how bad it was then.
    #[serde(rename = "said")]
    pub(super) reported: BTreeMap<String, f64>,
}

/// What a rule looks at.
pub(super) struct RunSoFar<'a> {
    pub(super) facts: &'a RunFacts,
    pub(super) state: &'a HealthState,
    pub(super) window: usize,
}

impl RunSoFar<'_> {
    /// The mean of a metric's last values; none before there are enough of them.
    pub(super) fn recent(&self, name: &str) -> Option<f64> {
        let values = self.last(name)?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// A metric's last values; none before there are enough of them.
    pub(super) fn last(&self, name: &str) -> Option<&VecDeque<f64>> {
        Some(&self.state.tracks.get(name)?.recent).filter(|values| values.len() == self.window)
    }

    /// The mean of a metric's first values.
    pub(super) fn begin(&self, name: &str) -> Option<f64> {
        let (sum, n) = self.state.tracks.get(name)?.begin;
        (n > 0).then(|| sum / n as f64)
    }

    /// The greatest mean of last values so far.
    pub(super) fn best(&self, name: &str) -> Option<f64> {
        self.state.tracks.get(name)?.best
    }
}
