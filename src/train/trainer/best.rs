//! The best evaluation of a run by one metric, and early stopping.
//!
//! Owns the comparison and the count of evaluations without improvement; both are part of a checkpoint, so that a resumed run
//! stops at the same step. Refuses files: the caller keeps the best checkpoint.

use super::suites::SUITE_PREFIX;
use crate::domain::{Better, Finding, Metrics, Severity, TrainerParams, suite};
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::protocol::RunEvent;
use serde::{Deserialize, Serialize};

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Best {
    /// The best value so far; none before the first finite one.
    value: Option<f64>,
    /// The step it was measured at.
    step: u64,
    /// Evaluations since then.
    since: u64,
    /// Whether the run stops early.
    pub(super) ended: bool,
    /// Whether the missing metric has been reported.
    missing: bool,
}

impl Best {
    /// Records the next evaluation. `patience`: evaluations without improvement before the run stops (0: never).
    fn record(&mut self, value: f64, greater: bool, patience: u64, step: u64) {
        let better = match self.value {
            None => value.is_finite(),
            Some(best) => value.is_finite() && if greater { value > best } else { value < best },
        };
        if better {
            *self = Self { value: Some(value), step, since: 0, ..*self };
        } else {
            self.since += 1;
            self.ended = patience > 0 && self.since >= patience;
        }
    }

    /// The step of the best value; none before the first.
    pub(super) fn step(&self) -> Option<u64> {
        self.value.map(|_| self.step)
    }

    /// Compares an evaluation with the best one; stops the run with a finding when patience runs out.
    pub(super) fn compare(
        &mut self,
        metrics: &Metrics,
        params: &TrainerParams,
        now: u64,
        total: u64,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let name = params.metric_for_best_model.as_str();
        if name.is_empty() {
            return Ok(());
        }
        let Some(value) = metrics.get(name) else {
            if std::mem::replace(&mut self.missing, true) {
                return Ok(());
            }
            let names: Vec<&str> = metrics.iter().map(|(n, _)| n).collect();
            return sink.emit(RunEvent::Found(Finding {
                rule: "best_metric".into(),
                step: now,
                severity: Severity::Warn,
                text: format!("The evaluation has no metric {name}, so no best checkpoint is kept."),
                remedy: format!("Set metric_for_best_model to one of {}.", names.join(", ")),
                pair: None,
            }));
        };
        self.record(value, greater_is_better(name), params.early_stopping_patience, now);
        if !self.ended || now == total {
            return Ok(());
        }
        let best = match self.value {
            Some(best) => format!("the best value is {best:.4} at step {}", self.step),
            None => "no value was finite".to_owned(),
        };
        sink.emit(RunEvent::Found(Finding {
            rule: "early_stopping".into(),
            step: now,
            severity: Severity::Note,
            text: format!(
                "{name} has not improved for {} evaluations; {best}. The run stops early, after {} of {} steps.",
                self.since, now, total
            ),
            remedy: "Use its best checkpoint (RUN@best), or raise early_stopping_patience and run it again.".into(),
            pair: None,
        }))
    }
}

/// Whether greater is better: true for accuracies, margins, rewards and scores, false for losses and divergences.
fn greater_is_better(metric: &str) -> bool {
    // `suite/ifeval/prompt_strict`: the suite's own row says.
    if let Some((name, key)) = metric.strip_prefix(SUITE_PREFIX).and_then(|rest| rest.split_once('/'))
        && let Some(measure) = suite(name).and_then(|row| row.measures.iter().find(|m| m.key == key))
    {
        return measure.better != Better::Lower;
    }
    ["accurac", "margin", "reward", "score"].iter().any(|part| metric.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(values: &[f64], greater: bool, patience: u64) -> Best {
        let mut best = Best::default();
        for (i, value) in values.iter().enumerate() {
            assert!(!best.ended, "ended before evaluation {i}");
            best.record(*value, greater, patience, 10 * (i as u64 + 1));
        }
        best
    }

    #[test]
    fn patience_counts_evaluations_without_improvement() {
        let best = after(&[0.7, 0.5, 0.6, 0.5], false, 2);
        assert_eq!((best.value, best.step, best.since, best.ended), (Some(0.5), 20, 2, true));
        let best = after(&[0.7, 0.5, 0.6, 0.4, 0.5], false, 2);
        assert_eq!((best.step, best.since, best.ended), (40, 1, false));
        assert!(!after(&[1.0; 20], false, 0).ended);
        assert_eq!(after(&[0.1, 0.3, 0.2], true, 0).step, 20);
    }

    #[test]
    fn a_non_finite_value_is_no_improvement() {
        let best = after(&[f64::NAN, f64::NEG_INFINITY], false, 2);
        assert_eq!((best.value, best.ended), (None, true));
        assert_eq!(after(&[f64::NAN, 0.5, f64::NAN], false, 2).step, 20);
    }

    #[test]
    fn the_direction_follows_from_the_name() {
        for name in ["eval_rewards/accuracies", "eval_rewards/margins", "eval_reward", "eval_mean_token_accuracy"] {
            assert!(greater_is_better(name), "{name}");
        }
        for name in ["eval_loss", "eval_objective/kl", "eval_ece"] {
            assert!(!greater_is_better(name), "{name}");
        }
    }
}
