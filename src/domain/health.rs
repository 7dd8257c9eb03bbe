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
use past::{LENGTH_PAIRS, Misranked, RunSoFar};
use rules::{Evidence, RULES};

pub use past::{HealthState, RunFacts};

/// A finding is made again when it is this many times as bad as it was said to be.
const REPEAT_FACTOR: f64 = 2.0;
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
    facts: RunFacts,
    window: usize,
    state: HealthState,
}

impl Health {
    /// Watches a run of which `facts` are known.
    #[must_use]
    pub fn new(facts: RunFacts) -> Self {
        // A short run is over before twenty steps say anything.
        let window = (facts.steps / 5).clamp(5, 20) as usize;
        Self { facts, window, state: HealthState::default() }
    }

    /// What there is to say before the first step.
    pub fn planned(&mut self) -> Vec<Finding> {
        self.run_rules(0)
    }

    /// Takes in what a step measured and what it saw of the pairs it was made of.
    pub fn observe(&mut self, step: u64, metrics: &Metrics, pairs: &[PairMargin]) -> Vec<Finding> {
        for (name, value) in metrics.iter().filter(|(name, value)| value.is_finite() && rules::METRICS.contains(name)) {
            self.track(name, value);
        }
        if !pairs.is_empty() && self.facts.sigmoid {
            // σ(−m) is the share of its slope that the loss still has at the margin m.
            let flat = pairs.iter().filter(|p| 1.0 / (1.0 + p.margin.exp()) < 0.01).count();
            self.track(rules::SATURATED_SHARE, flat as f64 / pairs.len() as f64);
        }
        for pair in pairs.iter().filter(|p| p.margin.is_finite()) {
            self.record_pair(pair);
        }
        if self.facts.steps_per_epoch > 0
            && step.is_multiple_of(self.facts.steps_per_epoch)
            && self.state.epoch_margins.1 > 0
        {
            let (sum, n) = std::mem::take(&mut self.state.epoch_margins);
            self.state.last_epoch = Some((sum / n as f64, step / self.facts.steps_per_epoch));
            let findings = self.run_rules(step);
            self.state.last_epoch = None;
            return findings;
        }
        self.run_rules(step)
    }

    /// What to keep for a run that is taken up again.
    #[must_use]
    pub fn state(&self) -> &HealthState {
        &self.state
    }

    /// Goes on from what [`Health::memory`] gave.
    pub fn restore(&mut self, state: HealthState) {
        self.state = state;
    }

    fn track(&mut self, name: &str, value: f64) {
        let window = self.window;
        let track = self.state.tracks.entry(name.to_owned()).or_default();
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

    fn record_pair(&mut self, pair: &PairMargin) {
        let state = &mut self.state;
        state.epoch_margins.0 += pair.margin;
        state.epoch_margins.1 += 1;
        if pair.margin < 0.0 {
            let against =
                state.misranked.entry(pair.id.clone()).or_insert(Misranked { passes: 0, margin: pair.margin });
            against.passes += 1;
            against.margin = pair.margin;
        } else {
            state.misranked.remove(&pair.id);
        }
        if let Some(longer) = pair.longer.filter(|_| pair.margin != 0.0) {
            if state.lengths.len() == LENGTH_PAIRS {
                state.lengths.pop_front();
            }
            state.lengths.push_back((longer, longer == (pair.margin > 0.0)));
        }
    }

    /// Asks every rule.
    fn run_rules(&mut self, step: u64) -> Vec<Finding> {
        let past = RunSoFar { facts: &self.facts, state: &self.state, window: self.window };
        let mut out = Vec::new();
        let mut said = Vec::new();
        for rule in RULES {
            let Some(Evidence { magnitude, text, remedy, pair }) = (rule.check)(&past) else { continue };
            if self.state.reported.get(rule.name).is_some_and(|before| magnitude < before * REPEAT_FACTOR) {
                continue;
            }
            said.push((rule.name.to_owned(), magnitude));
            out.push(Finding { rule: rule.name.into(), step, severity: rule.severity, text, remedy, pair });
        }
        self.state.reported.extend(said);
        out
    }
}
