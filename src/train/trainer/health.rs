//! Feeds the health rules of [`crate::domain::Health`] from the trainer.
//!
//! Owns the definition of a pair's margin in its method's loss. Refuses rules and sentences, which are the domain's.

use super::mix::Mix;
use crate::domain::{Finding, Health, HealthState, Metrics, PairMargin, Plan, RunFacts};
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::protocol::RunEvent;
use crate::train::recipe::{Recipe, ScoredExample};

/// Collects a run's facts, metrics and margins for the health rules.
pub(super) struct HealthMonitor {
    health: Health,
    /// Margins of the current step.
    pairs: Vec<PairMargin>,
    /// The factor of the log-ratios in the loss.
    beta: f64,
}

impl HealthMonitor {
    /// Monitors a run of `method` as planned.
    pub(super) fn new(method: &str, recipe: &dyn Recipe, mix: Option<&Mix>, steps_per_epoch: u64, plan: &Plan) -> Self {
        let hints = recipe.health();
        let dropped = &plan.dropped;
        let most = dropped.iter().max_by_key(|d| d.count);
        let facts = RunFacts {
            method: method.to_owned(),
            steps: plan.total_steps,
            steps_per_epoch,
            kept: plan.train_rows + plan.eval_rows,
            dropped: dropped.iter().map(|d| d.count).sum(),
            dropped_why: most.map(|d| d.reason.clone()).unwrap_or_default(),
            mean_logps: hints.mean_logps,
            // Steps of mixed rows alone have another loss.
            loss_falls: recipe.rollout().is_none() && mix.is_none_or(|mix| !mix.sequential),
            start_loss: recipe.at_reference().filter(|_| mix.is_none()).map(|known| known.loss),
            entropy_key: hints.entropy_key,
            sigmoid: hints.sigmoid,
            kl_target: hints.kl_target,
            kl_key: hints.kl_key,
        };
        Self { health: Health::new(facts), pairs: Vec::new(), beta: hints.beta }
    }

    /// Records a training example's margin; only pairs have one.
    pub(super) fn record(&mut self, seen: &ScoredExample<'_>) {
        let [chosen, rejected] = seen.scores else { return };
        let lengths = [seen.example.answer(0).len(), seen.example.answer(1).len()];
        let sum = |logp: &[f64]| logp.iter().sum::<f64>();
        let skip = seen.example.skip();
        let margin = match seen.reference {
            // A reward model's score.
            _ if !chosen.value.is_empty() => sum(&chosen.value) - sum(&rejected.value),
            Some(reference) if reference.len() >= 2 => {
                let ratios = |own: &[f64], other: &[f64]| sum(own) - sum(other);
                self.beta * (ratios(&chosen.logp, &reference[0]) - ratios(&rejected.logp, &reference[1]))
            }
            // Without a reference: per token, since longer answers have lower sums.
            _ => {
                let mean = |logp: &[f64]| sum(logp) / logp.len().max(1) as f64;
                mean(chosen.logp.get(skip..).unwrap_or_default()) - mean(&rejected.logp)
            }
        };
        let longer = (lengths[0] != lengths[1]).then_some(lengths[0] > lengths[1]);
        self.pairs.push(PairMargin { id: seen.example.id.clone(), margin, longer });
    }

    /// Findings after a step.
    pub(super) fn observe(&mut self, step: u64, metrics: &Metrics) -> Vec<Finding> {
        let pairs = std::mem::take(&mut self.pairs);
        self.health.observe(step, metrics, &pairs)
    }

    /// Emits findings before the first step.
    pub(super) fn report_plan(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        for finding in self.health.planned() {
            sink.emit(RunEvent::Found(finding))?;
        }
        Ok(())
    }

    /// The rules' state.
    pub(super) fn state(&self) -> &HealthState {
        self.health.state()
    }

    /// Restores a saved [`HealthMonitor::state`].
    pub(super) fn restore(&mut self, state: HealthState) {
        self.health.restore(state);
    }
}
