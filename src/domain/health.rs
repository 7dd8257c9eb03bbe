//! Health: what goes wrong in a run, found from its metrics, in plain sentences with the evidence and one remedy each.
//!
//! Owns what a rule may look at ([`Past`]: the beginning, the last steps and the best time of every metric, and each pair's
//! history) and that a rule speaks once, and again only when things have become much worse. The rules are a table in
//! `health/rules.rs`, a row each. Refuses metrics' definitions and the trainer: it is fed, step by step, and its [`Memory`]
//! goes into a checkpoint, so that a run taken up again says nothing twice.

mod rules;

#[cfg(test)]
mod tests;

use super::ids::PairId;
use super::metric::Metrics;
use super::run::Finding;
use rules::{RULES, Sign};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// A finding is made again when it is this many times as bad as it was said to be.
const MUCH_WORSE: f64 = 2.0;
/// Pairs over which a model is asked whether it orders by length.
const LENGTH_PAIRS: usize = 100;

/// What is known of a run before its first step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
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

/// What a step said of one pair.
#[derive(Debug, Clone, PartialEq)]
pub struct PairMargin {
    /// The pair.
    pub id: PairId,
    /// How far the model is for the chosen answer, as the loss sees it; below 0 it is for the rejected one.
    pub margin: f64,
    /// Whether the chosen answer is the longer one; none where both are as long.
    pub longer: Option<bool>,
}

/// A metric over a run: its beginning, its last values, its best time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Track {
    /// Sum and number of the first values.
    begin: (f64, usize),
    recent: VecDeque<f64>,
    /// The greatest mean that the last values ever had.
    best: Option<f64>,
}

/// The passes over a pair that ended with the model against it, if the last one did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Against {
    passes: u32,
    margin: f64,
}

/// What the rules remember.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Memory {
    tracks: BTreeMap<String, Track>,
    against: BTreeMap<PairId, Against>,
    /// Sum and number of the margins of this pass over the data.
    pass: (f64, usize),
    /// The mean margin of the last whole pass, and how many there were.
    passed: Option<(f64, u64)>,
    /// Of the last pairs: whether the longer answer is chosen, and whether the model orders the pair by length.
    lengths: VecDeque<(bool, bool)>,
    /// Rules that have spoken, and how bad it was then.
    said: BTreeMap<String, f64>,
}

/// What a rule looks at.
struct Past<'a> {
    facts: &'a Facts,
    memory: &'a Memory,
    window: usize,
}

impl Past<'_> {
    /// The mean of a metric's last values; none before there are enough of them.
    fn recent(&self, name: &str) -> Option<f64> {
        let values = self.last(name)?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// A metric's last values; none before there are enough of them.
    fn last(&self, name: &str) -> Option<&VecDeque<f64>> {
        Some(&self.memory.tracks.get(name)?.recent).filter(|values| values.len() == self.window)
    }

    /// The mean of a metric's first values.
    fn begin(&self, name: &str) -> Option<f64> {
        let (sum, n) = self.memory.tracks.get(name)?.begin;
        (n > 0).then(|| sum / n as f64)
    }

    /// The greatest mean of last values so far.
    fn best(&self, name: &str) -> Option<f64> {
        self.memory.tracks.get(name)?.best
    }
}

/// Watches one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    facts: Facts,
    window: usize,
    memory: Memory,
}

impl Health {
    /// Watches a run of which `facts` are known.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        // A short run is over before twenty steps say anything.
        let window = (facts.steps / 5).clamp(5, 20) as usize;
        Self { facts, window, memory: Memory::default() }
    }

    /// What there is to say before the first step.
    pub fn planned(&mut self) -> Vec<Finding> {
        self.look(0)
    }

    /// Takes in what a step measured and what it saw of the pairs it was made of.
    pub fn observe(&mut self, step: u64, metrics: &Metrics, pairs: &[PairMargin]) -> Vec<Finding> {
        for (name, value) in metrics.iter().filter(|(name, value)| value.is_finite() && rules::READS.contains(name)) {
            self.track(name, value);
        }
        if !pairs.is_empty() && self.facts.sigmoid {
            // σ(−m) is the share of its slope that the loss still has at the margin m.
            let flat = pairs.iter().filter(|p| 1.0 / (1.0 + p.margin.exp()) < 0.01).count();
            self.track(rules::FLAT, flat as f64 / pairs.len() as f64);
        }
        for pair in pairs.iter().filter(|p| p.margin.is_finite()) {
            self.take_in(pair);
        }
        if self.facts.steps_per_epoch > 0 && step.is_multiple_of(self.facts.steps_per_epoch) && self.memory.pass.1 > 0 {
            let (sum, n) = std::mem::take(&mut self.memory.pass);
            self.memory.passed = Some((sum / n as f64, step / self.facts.steps_per_epoch));
            let findings = self.look(step);
            self.memory.passed = None;
            return findings;
        }
        self.look(step)
    }

    /// What to keep for a run that is taken up again.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Goes on from what [`Health::memory`] gave.
    pub fn restore(&mut self, memory: Memory) {
        self.memory = memory;
    }

    fn track(&mut self, name: &str, value: f64) {
        let window = self.window;
        let track = self.memory.tracks.entry(name.to_owned()).or_default();
        if track.begin.1 < window {
            track.begin.0 += value;
            track.begin.1 += 1;
        }
        if track.recent.len() == window {
            track.recent.pop_front();
        }
        track.recent.push_back(value);
        if track.recent.len() == window {
            let mean = track.recent.iter().sum::<f64>() / window as f64;
            track.best = Some(track.best.map_or(mean, |best| best.max(mean)));
        }
    }

    fn take_in(&mut self, pair: &PairMargin) {
        let memory = &mut self.memory;
        memory.pass.0 += pair.margin;
        memory.pass.1 += 1;
        if pair.margin < 0.0 {
            let against = memory.against.entry(pair.id.clone()).or_insert(Against { passes: 0, margin: pair.margin });
            against.passes += 1;
            against.margin = pair.margin;
        } else {
            memory.against.remove(&pair.id);
        }
        if let Some(longer) = pair.longer.filter(|_| pair.margin != 0.0) {
            if memory.lengths.len() == LENGTH_PAIRS {
                memory.lengths.pop_front();
            }
            memory.lengths.push_back((longer, longer == (pair.margin > 0.0)));
        }
    }

    /// Asks every rule.
    fn look(&mut self, step: u64) -> Vec<Finding> {
        let past = Past { facts: &self.facts, memory: &self.memory, window: self.window };
        let mut out = Vec::new();
        let mut said = Vec::new();
        for rule in RULES {
            let Some(Sign { bad, text, remedy, pair }) = (rule.look)(&past) else { continue };
            if self.memory.said.get(rule.name).is_some_and(|before| bad < before * MUCH_WORSE) {
                continue;
            }
            said.push((rule.name.to_owned(), bad));
            out.push(Finding { rule: rule.name.into(), step, severity: rule.severity, text, remedy, pair });
        }
        self.memory.said.extend(said);
        out
    }
}
