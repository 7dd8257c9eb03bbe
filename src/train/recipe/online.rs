//! What the methods share that learn from the policy's own answers: an answer, and what a recipe makes of a round of them.
//!
//! Owns the nouns. Refuses to sample and to score: the trainer does, the same for every method. A round is sampled from the
//! unaltered distribution at the run's temperature, without top-k or top-p: a KL between policy and reference means nothing
//! under a cut distribution.

use super::{Loss, grpo, ppo, rloo};
use crate::domain::Params;
use crate::model::error::Error;
use crate::nn::policy::RowScores;
use crate::train::loss::Tally;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One of the policy's answers in a round, and what it was worth. Every list has one number a token of the answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Index of its prompt's row.
    pub row: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Prompt and answer, the token that ended it too.
    pub ids: Vec<u32>,
    /// The model ended it.
    pub ended: bool,
    /// The answer as text.
    pub text: String,
    /// Score of the reward model, where there is one.
    pub score: Option<f64>,
    /// Share of the checks that hold, where there are any.
    pub checks: Option<f64>,
    /// All of it together, with the penalty.
    pub reward: f64,
    /// log π of its tokens when it was sampled, by the forward pass that trains.
    pub old: Vec<f64>,
    /// log ρ of its tokens; empty where the method needs none.
    pub reference: Vec<f64>,
    /// The value head before each token, when it was sampled; empty where there is none.
    pub values: Vec<f64>,
    /// Advantages; one number where the whole answer has one.
    pub advantages: Vec<f64>,
    /// Returns; empty where there is no value head.
    pub returns: Vec<f64>,
}

impl Answer {
    /// Tokens of the answer.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len() - self.prompt
    }
}

/// What a method needs of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Reference log-probs.
    pub reference: bool,
    /// A value head.
    pub values: bool,
}

/// What goes into one update together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct UpdateWindow {
    /// Micro-batches.
    pub micro: usize,
    /// Answer tokens of the update's part of the round.
    pub tokens: f64,
}

/// A method that learns from the policy's own answers.
pub(crate) trait OnlineRecipe: Send {
    /// What it needs.
    fn shape(&self) -> Shape;
    /// Gives a round's answers, group after group of `group`, their advantages; adds the round's metrics to `tally`.
    fn judge(&mut self, answers: &mut [Answer], group: usize, tally: &mut Tally);
    /// Loss and gradient of a micro-batch as its part of the update's.
    fn loss(&self, batch: &[(&Answer, &RowScores)], window: &UpdateWindow, tally: &mut Tally) -> Loss;
    /// What it carries from round to round, for a checkpoint; null for nothing.
    fn state(&self) -> Value {
        Value::Null
    }
    /// Takes back what [`OnlineRecipe::state`] gave.
    fn restore(&mut self, _state: &Value) {}
}

/// The recipe of a method that learns from its own answers; none where the method has rows of answers.
///
/// # Errors
/// When its options contradict each other.
pub(crate) fn online(method: &str, params: &Params) -> Result<Option<Box<dyn OnlineRecipe>>, Error> {
    if let Some(sentence) = crate::domain::method(method).and_then(|m| m.contradiction(params)) {
        return Err(Error::Asked(sentence));
    }
    Ok(match method {
        "ppo" => Some(Box::new(ppo::PpoRecipe::new(params))),
        "grpo" => Some(Box::new(grpo::GrpoRecipe::new(params))),
        "rloo" => Some(Box::new(rloo::RlooRecipe::new(params))),
        _ => None,
    })
}
