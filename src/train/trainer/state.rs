//! A training run in memory: everything that a step reads and changes.
//!
//! Owns the fields and the public accessors. Refuses behaviour: opening, stepping and saving are in the neighbouring files.

use super::batches::Batches;
use super::best::Best;
use super::health::HealthMonitor;
use super::mix::Mix;
use super::pass::ExampleSet;
use super::probe::Probe;
use super::rollouts::Rollouts;
use super::self_check::SelfCheck;
use super::suites::PeriodicSuites;
use crate::domain::{PromptBody, TrainerParams};
use crate::model::language_model::{LanguageModel, Reading};
use crate::model::tune::Tune;
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
    /// Rollouts, for online methods.
    pub(super) rollouts: Option<Rollouts>,
    pub(super) optimizer: AdamW,
    pub(super) schedule: Schedule,
    pub(super) spec: TrainSpec,
    pub(super) params: TrainerParams,
    /// What is trained.
    pub(super) tune: Tune,
    /// Prompts of the sample answers.
    pub(super) sample_prompts: Vec<PromptBody>,
    pub(super) train: ExampleSet,
    pub(super) eval: ExampleSet,
    pub(super) batches: Batches,
    pub(super) mix: Option<Mix>,
    pub(super) probe: Option<Probe>,
    /// Suites measured while it trains, and every how many steps.
    pub(super) suites: Option<(Box<dyn PeriodicSuites>, u64)>,
    pub(super) step: u64,
    /// Total steps, including separate steps of mixed rows.
    pub(super) total: u64,
    /// Tokens trained on so far, without padding; prompts count for both sides.
    pub(super) tokens: u64,
    pub(super) check: SelfCheck,
    pub(super) best: Best,
    pub(super) health: HealthMonitor,
    /// A reward model's tokenizer, template and EOS.
    pub(super) reading: Option<Reading>,
    /// Whether samples of the untrained model have been emitted.
    pub(super) initial_samples_shown: bool,
}

impl Trainer {
    /// Steps done.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Total steps.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.total
    }

    /// Epochs so far.
    #[must_use]
    pub fn epoch(&self) -> f64 {
        self.step.min(self.batches.total) as f64 / self.batches.per_epoch() as f64
    }

    /// The training examples.
    #[must_use]
    pub fn examples(&self) -> &[Example] {
        &self.train.examples
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The step of the best evaluation so far by `metric_for_best_model`; none before the first.
    #[must_use]
    pub fn best_step(&self) -> Option<u64> {
        self.best.step()
    }

    /// Whether the current step is the best one.
    #[must_use]
    pub fn is_best_now(&self) -> bool {
        self.best_step() == Some(self.step)
    }

    /// Disables sample answers, for benchmarks.
    pub fn disable_samples(&mut self) {
        self.sample_prompts.clear();
    }

    /// Uses these answers (text, tokens, rewards) for the next round instead of sampling, in this training order. For comparison
    /// with another trainer's run.
    pub fn inject_round(&mut self, answers: Vec<SampledAnswer>) {
        if let Some(rollouts) = &mut self.rollouts {
            rollouts.inject(answers);
        }
    }
}
