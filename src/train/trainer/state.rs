//! A training run in memory: everything that a step reads and changes.
//!
//! Owns the fields, and what may be asked of a run from outside. Refuses to do anything: opening, stepping and saving are the
//! files' beside it, which build on this one.

use super::batches::Batches;
use super::best::Best;
use super::health::HealthMonitor;
use super::mix::Mix;
use super::pass::ExampleSet;
use super::probe::Probe;
use super::rollouts::Rollouts;
use super::watch::SelfCheck;
use crate::domain::{PromptBody, TrainerParams};
use crate::model::language_model::{LanguageModel, Reading};
use crate::nn::optim::AdamW;
use crate::nn::policy::Policy;
use crate::protocol::TrainSpec;
use crate::train::data::Example;
use crate::train::recipe::{Recipe, SampledAnswer};
use crate::train::schedule::Schedule;

/// A training run in memory.
pub struct Trainer {
    pub(super) model: LanguageModel,
    pub(super) policy: Policy,
    /// The method.
    pub(super) recipe: Box<dyn Recipe>,
    /// Its rounds of answers, where it learns from the policy's own.
    pub(super) rollouts: Option<Rollouts>,
    pub(super) optimizer: AdamW,
    pub(super) schedule: Schedule,
    pub(super) spec: TrainSpec,
    pub(super) params: TrainerParams,
    /// Prompts asked now and then, so that a person can look at what the numbers mean.
    pub(super) sample_prompts: Vec<PromptBody>,
    pub(super) train: ExampleSet,
    pub(super) eval: ExampleSet,
    pub(super) batches: Batches,
    pub(super) mix: Option<Mix>,
    pub(super) probe: Option<Probe>,
    pub(super) step: u64,
    /// Steps planned, those of mixed rows alone too.
    pub(super) total: u64,
    /// Real tokens trained on so far, prompts of both sides counted.
    pub(super) tokens: u64,
    pub(super) check: SelfCheck,
    pub(super) best: Best,
    pub(super) health: HealthMonitor,
    /// How answers become tokens, where scores will hang on it.
    pub(super) reading: Option<Reading>,
    /// Answers of the untrained model have been shown.
    pub(super) initial_samples_shown: bool,
}

impl Trainer {
    /// Steps made.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Steps planned.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// Passes over the data so far.
    #[must_use]
    pub fn epoch(&self) -> f64 {
        self.step.min(self.batches.total) as f64 / self.batches.per_epoch() as f64
    }

    /// What is trained on, in tokens.
    #[must_use]
    pub fn examples(&self) -> &[Example] {
        &self.train.examples
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The step whose evaluation was the best so far by `metric_for_best_model`; none before the first.
    #[must_use]
    pub fn best_step(&self) -> Option<u64> {
        self.best.step()
    }

    /// Whether the run stands at that step.
    #[must_use]
    pub fn is_best_now(&self) -> bool {
        self.best_step() == Some(self.step)
    }

    /// Asks no prompt from here on: nobody looks at the answers of a benchmark.
    pub fn disable_samples(&mut self) {
        self.sample_prompts.clear();
    }

    /// Gives the next round's answers instead of sampling them, in the order in which they are to be learned from: text,
    /// tokens and reward of each. For comparing with another trainer's run.
    pub fn inject_round(&mut self, answers: Vec<SampledAnswer>) {
        if let Some(rollouts) = &mut self.rollouts {
            rollouts.inject(answers);
        }
    }
}
