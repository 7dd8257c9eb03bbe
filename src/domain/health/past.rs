//! The history that the health rules read: first, recent and best values of every metric, and each pair's margins.
//!
//! Owns the state that goes into a checkpoint. Refuses judgement: the rules decide.

use crate::domain::ids::PairId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Recent pairs over which length bias is measured.
pub(super) const LENGTH_PAIRS: usize = 100;

/// Facts about a run before its first step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunFacts {
    /// Its method.
    pub method: String,
    /// Steps planned.
    pub steps: u64,
    /// Steps per epoch.
    pub steps_per_epoch: u64,
    /// Rows used for training or evaluation.
    pub kept: usize,
    /// Rows left out.
    pub dropped: usize,
    /// The most common reason, in a few words.
    pub dropped_why: String,
    /// Whether `logps/chosen` is a mean over tokens instead of a sum.
    pub mean_logps: bool,
    /// Whether training lowers the loss: not so where rows are sampled anew.
    pub loss_falls: bool,
    /// The loss where the policy equals its reference, if that is known.
    pub start_loss: Option<f64>,
    /// The hyper-parameter that rewards entropy; empty where the method has none.
    pub entropy_key: &'static str,
    /// Whether the loss is −log σ of the margins, so that it saturates at large margins.
    pub sigmoid: bool,
    /// Target KL per answer in nats of an adaptive KL penalty.
    pub kl_target: Option<f64>,
    /// The hyper-parameter that weights the KL to the reference.
    pub kl_key: &'static str,
}

/// A metric over a run: its first, recent and best values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct MetricTrack {
    /// The first value: of a loss, before any update.
    #[serde(default)]
    pub(super) first: Option<f64>,
    /// Sum and number of the first values.
    pub(super) begin: (f64, usize),
    pub(super) recent: VecDeque<f64>,
    /// The largest mean of recent values so far.
    pub(super) best: Option<f64>,
}

/// The margins of a full epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct EpochMargins {
    pub(super) mean: f64,
    /// Margins in it.
    pub(super) pairs: usize,
    /// Its number, from 1.
    pub(super) passes: u64,
}

/// Consecutive epochs in which the model ranked a pair wrongly, and the last margin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Misranked {
    pub(super) passes: u32,
    pub(super) margin: f64,
}

/// The rules' state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HealthState {
    pub(super) tracks: BTreeMap<String, MetricTrack>,
    #[serde(rename = "against")]
    pub(super) misranked: BTreeMap<PairId, Misranked>,
    /// Sum and count of this epoch's margins.
    #[serde(rename = "pass")]
    pub(super) epoch_margins: (f64, usize),
    /// The epoch that ended with this step; it lives within a step.
    #[serde(skip)]
    pub(super) last_epoch: Option<EpochMargins>,
    /// For recent pairs: whether the longer answer is chosen, and whether the model prefers the longer one.
    pub(super) lengths: VecDeque<(bool, bool)>,
    /// The magnitude of each reported rule.
    #[serde(rename = "said")]
    pub(super) reported: BTreeMap<String, f64>,
}

/// The input of a rule.
pub(super) struct RunSoFar<'a> {
    pub(super) facts: &'a RunFacts,
    pub(super) state: &'a HealthState,
    pub(super) window: usize,
    /// Steps made.
    pub(super) step: u64,
}

impl RunSoFar<'_> {
    /// The first of the recent steps.
    pub(super) fn begun(&self) -> u64 {
        (self.step + 1).saturating_sub(self.window as u64)
    }

    /// The mean of a metric's recent values; none before the window is full.
    pub(super) fn recent(&self, name: &str) -> Option<f64> {
        let values = self.last(name)?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// A metric's recent values; none before the window is full.
    pub(super) fn last(&self, name: &str) -> Option<&VecDeque<f64>> {
        Some(&self.state.tracks.get(name)?.recent).filter(|values| values.len() == self.window)
    }

    /// The mean of a metric's first values.
    pub(super) fn begin(&self, name: &str) -> Option<f64> {
        let (sum, n) = self.state.tracks.get(name)?.begin;
        (n > 0).then(|| sum / n as f64)
    }

    /// A metric's first value.
    pub(super) fn first(&self, name: &str) -> Option<f64> {
        self.state.tracks.get(name)?.first
    }

    /// The largest mean of recent values so far.
    pub(super) fn best(&self, name: &str) -> Option<f64> {
        self.state.tracks.get(name)?.best
    }
}
