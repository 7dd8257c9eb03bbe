//! What a method is to the trainer: the trait that every recipe implements, and the nouns it speaks in.
//!
//! Owns how a batch is seen, what a recipe gives back, and the metrics that hang on tokens. Refuses data, optimizers and
//! schedules: those are the trainer's, the same for every method. A method that learns from the policy's own answers is a
//! recipe like any other: it says so by [`Recipe::rollout`], and its examples carry their answers.

use crate::domain::{Hyperparameters, Method, Metrics, Params, TrainerParams};
use crate::model::error::Error;
use crate::nn::policy::{RowGradient, RowScores};
use crate::train::data::{Example, TokeniseOptions};
use crate::train::loss::{PairLoss, RowLoss, Tally};
use crate::train::reference::Reference;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A row of the registry.
#[derive(Clone, Copy)]
pub(super) struct Registered {
    /// The method's row in the method table.
    pub method: Method,
    /// Its recipe from a run's hyper-parameters.
    pub new: fn(&Params) -> Result<Box<dyn Recipe>, Error>,
}

/// A training method.
pub(crate) trait Recipe: Send {
    /// Whether the rows' reference log-probs are needed.
    fn needs_reference(&self) -> bool {
        false
    }

    /// What it needs of the policy's own answers; none where it learns from rows that exist before the run.
    fn rollout(&self) -> Option<RolloutNeeds> {
        None
    }

    /// How its rows become examples; not asked of a method that answers prompts.
    fn tokenise_options(&self, shared: &TrainerParams) -> TokeniseOptions {
        TokeniseOptions::from_params(shared)
    }

    /// The scalar head's first values for a model of `hidden` dimensions; none where no head is trained.
    fn initial_score_head(&self, _hidden: usize, _seed: u64) -> Option<Vec<f64>> {
        None
    }

    /// What is known before the first update, where policy and reference agree; none where there is no reference.
    fn at_reference(&self) -> Option<LossAtReference> {
        None
    }

    /// What the health rules need to know of the method.
    fn health(&self) -> HealthHints {
        HealthHints::default()
    }

    /// Gives a round's answers, group after group of `group`, their advantages; adds the round's metrics to `tally`.
    fn compute_advantages(&mut self, _answers: &mut [SampledAnswer], _group: usize, _tally: &mut Tally) {}

    /// Loss and gradient of a micro-batch as its part of the whole update's; its metrics go to `tally`.
    ///
    /// # Errors
    /// When an example is not of the kind that the method learns from.
    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error>;

    /// How a micro-batch's loss is made of its examples'.
    fn separable(&self) -> Separable {
        Separable::No
    }

    /// How much a batch weighs in the mean loss of an evaluation.
    fn eval_weight(&self, batch: &[ScoredExample<'_>]) -> f64 {
        batch.len() as f64
    }

    /// What is only known when all evaluation examples have been seen, scores in the examples' order.
    fn finish_evaluation(&mut self, _scores: &[Vec<RowScores>], _metrics: &mut Metrics) {}

    /// What the method adds to a checkpoint's `trainer.json` for those who use its result; null for nothing.
    fn notes(&self) -> Value {
        Value::Null
    }

    /// Restores what [`Recipe::notes`] gave.
    fn restore_notes(&mut self, _notes: &Value) {}

    /// What it carries from round to round of answers, for a checkpoint; null for nothing.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Restores what [`Recipe::state`] gave.
    fn restore(&mut self, _state: &Value) {}
}

/// Whether a part of a micro-batch can go forward and back before the rest comes, so that nothing of it has to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separable {
    /// The examples' losses depend on one another.
    No,
    /// The micro-batch's loss is the mean of the examples'.
    Mean,
    /// It is their sum.
    Sum,
}

/// What a method needs of a round of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RolloutNeeds {
    /// Reference log-probs.
    pub reference: bool,
    /// A value head.
    pub values: bool,
}

/// What is known where the policy is the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossAtReference {
    /// The loss.
    pub loss: f64,
    /// What log-ratios are multiplied with: rounding grows with it.
    pub beta: f64,
}

/// What the health rules need to know of a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HealthHints {
    /// What the loss multiplies a pair's log-ratios with.
    pub beta: f64,
    /// Whether a pair's loss is −log σ of its margin alone.
    pub sigmoid: bool,
    /// Whether `logps/*` are means over tokens.
    pub mean_logps: bool,
    /// Nats an answer that the distance from the reference is steered to, where it is.
    pub kl_target: Option<f64>,
    /// The hyper-parameter that holds the policy near the reference.
    pub kl_key: &'static str,
}

impl Default for HealthHints {
    fn default() -> Self {
        Self { beta: 1.0, sigmoid: false, mean_logps: false, kl_target: None, kl_key: "beta" }
    }
}

/// What goes into one update together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct UpdateWindow {
    /// What a mean over this micro-batch counts for in the update's.
    pub share: f64,
    /// Scored tokens of the update; of a round of answers its part, which need not be whole.
    pub tokens: f64,
}

/// What the policy and the reference say about one example.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoredExample<'a> {
    /// The example.
    pub example: &'a Example,
    /// The policy on each of its sequences.
    pub scores: &'a [RowScores],
    /// The policy on each sequence aside.
    pub kl_scores: &'a [RowScores],
    /// Reference log-probs, where the recipe needs them.
    pub reference: Option<&'a Reference>,
    /// The policy's own answer that it was made of, where it was.
    pub answer: Option<&'a SampledAnswer>,
}

impl<'a> ScoredExample<'a> {
    /// A pair's two sequences as the policy scored them.
    pub(super) fn pair_scores(&self) -> Result<(&'a RowScores, &'a RowScores), Error> {
        match self.scores {
            [chosen, rejected] => Ok((chosen, rejected)),
            other => Err(Error::Asked(format!("pair {} has {} sequences, not two", self.example.id, other.len()))),
        }
    }

    /// The reference of the example.
    pub(super) fn reference_logps(&self) -> Result<&'a Reference, Error> {
        self.reference
            .filter(|r| r.len() == self.scores.len() + self.kl_scores.len())
            .ok_or_else(|| Error::Asked(format!("{} has no reference log-probs", self.example.id)))
    }

    /// The answer that it was made of, and the policy's scores on it.
    pub(super) fn sampled_answer(&self) -> Result<(&'a SampledAnswer, &'a RowScores), Error> {
        match (self.answer, self.scores) {
            (Some(answer), [scores]) => Ok((answer, scores)),
            _ => Err(Error::Asked(format!("{} is not one of the policy's own answers", self.example.id))),
        }
    }
}

/// One of the policy's answers in a round, and what it was worth. Every list has one number a token of the answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SampledAnswer {
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

impl SampledAnswer {
    /// Tokens of the answer.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len() - self.prompt
    }
}

/// A micro-batch's part of the update's loss and its gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct BatchLoss {
    /// The part: the parts of a window add up to its loss.
    pub loss: f64,
    /// dL/d of each sequence, example by example.
    pub g: Vec<RowGradient>,
}

impl BatchLoss {
    /// The part of a mean over pairs in a window.
    pub(super) fn from_pairs(mean: PairLoss, window: &UpdateWindow) -> Self {
        let share = window.share;
        let mut g = Vec::with_capacity(2 * mean.g.len());
        for pair in mean.g {
            for side in [pair.chosen, pair.rejected] {
                g.push(RowGradient::from(side.into_iter().map(|x| x * share).collect::<Vec<f64>>()));
            }
        }
        Self { loss: mean.loss * share, g }
    }

    /// The part of a mean over rows in a window.
    pub(super) fn from_rows(mean: RowLoss, window: &UpdateWindow) -> Self {
        let share = window.share;
        let scaled = |row: Vec<f64>| RowGradient::from(row.into_iter().map(|x| x * share).collect::<Vec<f64>>());
        Self { loss: mean.loss * share, g: mean.g.into_iter().map(scaled).collect() }
    }
}

/// A method's hyper-parameters from a run's texts.
///
/// # Errors
/// With the key whose value does not read.
pub(crate) fn read<P: Hyperparameters>(params: &Params) -> Result<P, Error> {
    P::read(params).map_err(|e| Error::Asked(e.to_string()))
}

/// Adds the metrics that hang on a pair's answer tokens, each weighted by tokens: `logits/chosen|rejected` (vocabulary mean
/// of the logits), `entropy` (both answers), `mean_token_accuracy` (chosen answer).
pub(super) fn pair_token_metrics(batch: &[ScoredExample<'_>], tally: &mut Tally) {
    for pair in batch {
        let skip = pair.example.skip();
        for ((name, skip), row) in [("logits/chosen", skip), ("logits/rejected", 0)].into_iter().zip(pair.scores) {
            row.mean_logit.iter().skip(skip).for_each(|x| tally.add(name, *x, 1.0));
            row.entropy.iter().skip(skip).for_each(|x| tally.add("entropy", *x, 1.0));
        }
        for hit in pair.scores.iter().take(1).flat_map(|row| row.top1.iter().skip(skip)) {
            tally.add("mean_token_accuracy", f64::from(*hit), 1.0);
        }
    }
}
