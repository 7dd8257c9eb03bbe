//! The run's health, fed from the trainer: what the rules of [`crate::domain::Health`] need to know of a run and of each step.
//!
//! Owns what a pair's margin is, as its method's loss sees it. Refuses rules and sentences, which are the domain's.

use crate::domain::{DroppedRows, Facts, Finding, Health, Memory, Metrics, PairMargin, Params};
use crate::model::error::Error;
use crate::model::sink::Sink;
use crate::protocol::RunEvent;
use crate::train::recipe::Seen;

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Steps planned.
    pub(super) steps: u64,
    /// Steps of a pass over the data.
    pub(super) steps_per_epoch: u64,
    /// Rows that are trained on or kept for evaluation.
    pub(super) kept: usize,
}

/// Watches a run's health.
pub(super) struct Watcher {
    health: Health,
    /// Margins of the step in the making.
    pairs: Vec<PairMargin>,
    /// What the loss multiplies log-ratios with.
    beta: f64,
}

impl Watcher {
    /// Watches a run of `method` from its beginning, of which `dropped` rows were left out.
    pub(super) fn new(method: &str, params: &Params, size: Size, dropped: &[DroppedRows]) -> Self {
        let most = dropped.iter().max_by_key(|d| d.count);
        let number = |key: &str| Some(params.f64(key)).filter(|x| x.is_finite() && *x > 0.0);
        let facts = Facts {
            method: method.to_owned(),
            steps: size.steps,
            steps_per_epoch: size.steps_per_epoch,
            kept: size.kept,
            dropped: dropped.iter().map(|d| d.count).sum(),
            dropped_why: most.map(|d| d.reason.clone()).unwrap_or_default(),
            mean_logps: matches!(method, "orpo" | "simpo"),
            sigmoid: is_sigmoid(method, params),
            kl_target: number("kl_target"),
            kl_key: if method == "ppo" { "kl_coef" } else { "beta" },
        };
        let beta = if method == "dpo" { number("beta").unwrap_or(1.0) } else { 1.0 };
        Self { health: Health::new(facts), pairs: Vec::new(), beta }
    }

    /// Takes in what the policy says of an example that is trained on; what is no pair says nothing.
    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        let [chosen, rejected] = seen.scores else { return };
        let lengths = [seen.example.answer(0).len(), seen.example.answer(1).len()];
        let sum = |logp: &[f64]| logp.iter().sum::<f64>();
        let skip = seen.example.skip();
        let margin = match seen.reference {
            // A trained score where there is one.
            _ if !chosen.value.is_empty() => sum(&chosen.value) - sum(&rejected.value),
            Some(reference) if reference.len() >= 2 => {
                let ratios = |own: &[f64], other: &[f64]| sum(own) - sum(other);
                self.beta * (ratios(&chosen.logp, &reference[0]) - ratios(&rejected.logp, &reference[1]))
            }
            // Without a reference: by token, or every longer answer were the less likely one.
            _ => {
                let mean = |logp: &[f64]| sum(logp) / logp.len().max(1) as f64;
                mean(chosen.logp.get(skip..).unwrap_or_default()) - mean(&rejected.logp)
            }
        };
        let longer = (lengths[0] != lengths[1]).then_some(lengths[0] > lengths[1]);
        self.pairs.push(PairMargin { id: seen.example.id.clone(), margin, longer });
    }

    /// What there is to say after a step.
    pub(super) fn observe(&mut self, step: u64, metrics: &Metrics) -> Vec<Finding> {
        let pairs = std::mem::take(&mut self.pairs);
        self.health.observe(step, metrics, &pairs)
    }

    /// Says what there is to say before the first step.
    pub(super) fn report_plan(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        for finding in self.health.planned() {
            sink.emit(RunEvent::Found(finding))?;
        }
        Ok(())
    }

    /// What the rules remember.
    pub(super) fn memory(&self) -> &Memory {
        self.health.memory()
    }

    /// Takes back what [`Watcher::memory`] gave.
    pub(super) fn restore(&mut self, memory: Memory) {
        self.health.restore(memory);
    }
}

/// Whether a pair's loss is −log σ of its margin alone.
fn is_sigmoid(method: &str, params: &Params) -> bool {
    match method {
        "reward" => true,
        "dpo" => matches!(params.text("loss_type"), "" | "sigmoid") && params.f64("label_smoothing") == 0.0,
        _ => false,
    }
}
