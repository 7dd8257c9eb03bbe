//! The best state of a run by one metric of its evaluations, and the end of a run that gets no better.
//!
//! Owns the comparison and the count of evaluations without improvement; both are part of a checkpoint, so that a resumed
//! run ends where the whole one does. Refuses files: what is done with the best state is the caller's.

use crate::domain::{Finding, Metrics, Severity, TrainerParams};
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::protocol::RunEvent;
use serde::{Deserialize, Serialize};

/// Where a run stands with its best evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Best {
    /// The best value so far; none before the first finite one.
    value: Option<f64>,
    /// The step it was measured at.
    step: u64,
    /// Evaluations since.
    since: u64,
    /// The run ends here although more steps were planned.
    pub(super) ended: bool,
    /// It has been said that the evaluations lack the metric.
    missing: bool,
}

impl Best {
    /// Takes the next evaluation's value, whether greater is better, and after how many evaluations without improvement the
    /// run ends (0: never).
    fn take(&mut self, value: f64, greater: bool, patience: u64, step: u64) {
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

    /// Compares an evaluation with the best one, and ends the run, with a finding, where patience is at its end.
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
                text: format!("The evaluation has no metric {name}, so no checkpoint is kept as the best one."),
                remedy: format!("Set metric_for_best_model to one of {}.", names.join(", ")),
                pair: None,
            }));
        };
        self.take(value, greater_is_better(name), params.early_stopping_patience, now);
        if !self.ended || now == total {
            return Ok(());
        }
        let best = match self.value {
            Some(best) => format!("it was best at step {} ({best:.4})", self.step),
            None => "it never was a number".to_owned(),
        };
        sink.emit(RunEvent::Found(Finding {
            rule: "early_stopping".into(),
            step: now,
            severity: Severity::Note,
            text: format!(
                "{name} has not improved for {} evaluations: {best}. The run ends here, after {} of {} steps.",
                self.since, now, total
            ),
            remedy: "Go on from its best checkpoint (RUN@best), or raise early_stopping_patience and run it again."
                .into(),
            pair: None,
        }))
    }
}

/// Whether a metric is better when it is greater: accuracies, margins, rewards and scores are, losses and divergences are not.
fn greater_is_better(metric: &str) -> bool {
    ["accurac", "margin", "reward", "score"].iter().any(|part| metric.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(values: &[f64], greater: bool, patience: u64) -> Best {
        let mut best = Best::default();
        for (i, value) in values.iter().enumerate() {
            assert!(!best.ended, "ended before evaluation {i}");
            best.take(*value, greater, patience, 10 * (i as u64 + 1));
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
    fn what_is_not_finite_is_no_improvement() {
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
