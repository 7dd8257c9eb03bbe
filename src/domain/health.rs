//! Health: detects training problems from a run's metrics; each finding has its evidence and one remedy.
//!
//! Owns the repetition rule: a rule reports once, and again only when the problem has become much worse. The rules are a table
//! in `health/rules.rs`. Refuses metric definitions and the trainer: it is fed step by step. Its [`HealthState`] goes into a
//! checkpoint, so that a resumed run repeats no finding.

mod past;
mod rules;

#[cfg(test)]
mod tests;

use super::ids::PairId;
use super::metric::Metrics;
use super::run::Finding;
use past::{EpochMargins, LENGTH_PAIRS, Misranked, RunSoFar};
use rules::{Evidence, RULES};

pub use past::{HealthState, RunFacts};

/// A rule reports again when its magnitude has grown by this factor.
const REPEAT_FACTOR: f64 = 2.0;
/// A margin nearer to 0 ranks no pair: a model that scores both answers alike has such ones by rounding.
const MISRANKED: f64 = 0.005;

/// The margin of one pair in a step.
#[derive(Debug, Clone, PartialEq)]
pub struct PairMargin {
    /// The pair.
    pub id: PairId,
    /// The margin as the loss sees it; below 0 the model prefers the rejected answer.
    pub margin: f64,
    /// Whether the chosen answer is longer; none at equal length.
    pub longer: Option<bool>,
}

/// The health rules of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    facts: RunFacts,
    window: usize,
    state: HealthState,
}

impl Health {
    /// Starts monitoring a run.
    #[must_use]
    pub fn new(facts: RunFacts) -> Self {
        // A short run would end before a window of twenty steps is full.
        let window = (facts.steps / 5).clamp(5, 20) as usize;
        Self { facts, window, state: HealthState::default() }
    }

    /// Findings before the first step.
    pub fn planned(&mut self) -> Vec<Finding> {
        self.run_rules(0)
    }

    /// Records a step's metrics and pair margins; returns new findings.
    pub fn observe(&mut self, step: u64, metrics: &Metrics, pairs: &[PairMargin]) -> Vec<Finding> {
        for (name, value) in metrics.iter().filter(|(name, value)| value.is_finite() && rules::METRICS.contains(name)) {
            self.track(name, value);
        }
        if !pairs.is_empty() && self.facts.sigmoid {
            // At margin m the loss has σ(−m) of its maximum slope.
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
            let passes = step / self.facts.steps_per_epoch;
            self.state.last_epoch = Some(EpochMargins { mean: sum / n as f64, pairs: n, passes });
            let findings = self.run_rules(step);
            self.state.last_epoch = None;
            return findings;
        }
        self.run_rules(step)
    }

    /// The state to save in a checkpoint.
    #[must_use]
    pub fn state(&self) -> &HealthState {
        &self.state
    }

    /// Restores a saved [`Health::state`].
    pub fn restore(&mut self, state: HealthState) {
        self.state = state;
    }

    fn track(&mut self, name: &str, value: f64) {
        let window = self.window;
        let track = self.state.tracks.entry(name.to_owned()).or_default();
        track.first.get_or_insert(value);
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
        if pair.margin < -MISRANKED {
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

    /// Evaluates every rule.
    fn run_rules(&mut self, step: u64) -> Vec<Finding> {
        let past = RunSoFar { facts: &self.facts, state: &self.state, window: self.window, step };
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
