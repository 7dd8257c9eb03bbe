//! Health: what goes wrong in a run, found from its metrics, in plain sentences with the evidence and one remedy each.
//!
//! Owns that a rule speaks once, and again only when things have become much worse. The rules are a table in
//! `health/rules.rs`, a row each. Refuses metrics' definitions and the trainer: it is fed, step by step, and its [`Memory`]
//! goes into a checkpoint, so that a run taken up again says nothing twice.

mod past;
mod rules;

#[cfg(test)]
mod tests;

use super::ids::PairId;
use super::metric::Metrics;
use super::run::Finding;
use past::{Against, LENGTH_PAIRS, RunSoFar};
use rules::{RULES, Sign};

pub use past::{Facts, Memory};

/// A finding is made again when it is this many times as bad as it was said to be.
const MUCH_WORSE: f64 = 2.0;
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
        let past = RunSoFar { facts: &self.facts, memory: &self.memory, window: self.window };
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
