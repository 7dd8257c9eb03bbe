//! A training run in memory: what the trainer's parts work on.
//!
//! Owns the fields and nothing that is done with them: each part of the trainer (`rows.rs`, `rounds.rs`, `watch.rs`,
//! `checkpoint.rs` …) adds its own methods to [`Trainer`].

use super::batches::Batches;
use super::best::Best;
use super::health::Watcher;
use super::mix::Mix;
use super::online::Online;
use super::probe::Probe;
use crate::domain::PromptBody;
use crate::model::error::Error;
use crate::model::language_model::{LanguageModel, Reading};
use crate::nn::optim::AdamW;
use crate::nn::policy::Policy;
use crate::protocol::TrainSpec;
use crate::train::data::Example;
use crate::train::recipe::Recipe;
use crate::train::reference::Reference;
use crate::train::schedule::Schedule;

/// A training run in memory.
pub struct Trainer {
    pub(super) model: LanguageModel,
    pub(super) policy: Policy,
    pub(super) way: Way,
    pub(super) optimizer: AdamW,
    pub(super) schedule: Schedule,
    pub(super) spec: TrainSpec,
    /// Prompts asked now and then, so that a person can look at what the numbers mean.
    pub(super) asked: Vec<PromptBody>,
    pub(super) train: Data,
    pub(super) eval: Data,
    pub(super) batches: Batches,
    pub(super) mix: Option<Mix>,
    pub(super) probe: Option<Probe>,
    pub(super) step: u64,
    /// Steps planned, those of mixed rows alone too.
    pub(super) total: u64,
    /// Real tokens trained on so far, prompts of both sides counted.
    pub(super) tokens: u64,
    pub(super) check: Check,
    pub(super) best: Best,
    /// It has been said that memory ran out.
    pub(super) narrowed: bool,
    pub(super) health: Watcher,
    /// How answers become tokens, where scores will hang on it.
    pub(super) reading: Option<Reading>,
    /// Answers of the untrained model have been shown.
    pub(super) introduced: bool,
}

/// What a method learns from: rows that are there, or the policy's own answers.
pub(super) enum Way {
    Rows(Box<dyn Recipe>),
    Answers(Box<Online>),
}

impl Way {
    /// What the method adds to a checkpoint for those who use its result.
    pub(super) fn notes(&self) -> serde_json::Value {
        match self {
            Self::Rows(recipe) => recipe.notes(),
            Self::Answers(_) => serde_json::Value::Null,
        }
    }

    /// Takes back what [`Way::notes`] gave.
    pub(super) fn recall(&mut self, notes: &serde_json::Value) {
        if let Self::Rows(recipe) = self {
            recipe.recall(notes);
        }
    }

    /// Where the method is beyond the number of steps.
    pub(super) fn state(&self) -> serde_json::Value {
        match self {
            Self::Rows(_) => serde_json::Value::Null,
            Self::Answers(online) => online.state(),
        }
    }

    /// Takes back what [`Way::state`] gave.
    pub(super) fn restore(&mut self, state: &serde_json::Value) -> Result<(), Error> {
        match self {
            Self::Rows(_) => Ok(()),
            Self::Answers(online) => online.restore(state),
        }
    }
}

/// Tokens of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
    /// New to the run: `num_tokens` counts them.
    pub(super) seen: u64,
    /// Gone through forwards and backwards: what the speed is measured by.
    pub(super) done: u64,
}

/// Examples with their reference log-probs; `references` is empty where the method has none.
#[derive(Default)]
pub(super) struct Data {
    pub(super) examples: Vec<Example>,
    pub(super) references: Vec<Reference>,
}

/// Which checks are still due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Check {
    /// The loss at the reference, until the first batch has been seen.
    pub(super) start: Option<f64>,
    /// Updates with a learning rate above 0 so far, up to 2: adapters' A moves only after B did.
    pub(super) moves: u64,
}

impl Check {
    pub(super) fn new(at_reference: Option<f64>) -> Self {
        Self { start: at_reference, moves: 0 }
    }

    /// Whether the update with this learning rate is one to look at.
    pub(super) fn watching(&self, rate: f64) -> bool {
        rate > 0.0 && self.moves < 2
    }
}
