//! The interface between the trainer and a method: the trait that every recipe implements, and its types.
//!
//! Owns a recipe's input, its result and the token metrics. Refuses data, optimizers and schedules: those are the trainer's,
//! the same for every method. An online method is a recipe too: it implements [`Recipe::rollout`], and its examples carry
//! their sampled answers.

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
    /// Builds its recipe from a run's hyper-parameters.
    pub new: fn(&Params) -> Result<Box<dyn Recipe>, Error>,
}

/// A training method.
pub(crate) trait Recipe: Send {
    /// Whether the loss needs reference log-probs of the rows.
    fn needs_reference(&self) -> bool {
        false
    }

    /// What its rollouts need; none for offline methods.
    fn rollout(&self) -> Option<RolloutNeeds> {
        None
    }

    /// How its rows are tokenised; not called for online methods.
    fn tokenise_options(&self, shared: &TrainerParams) -> TokeniseOptions {
        TokeniseOptions::from_params(shared)
    }

    /// Initial weights of the scalar head for a model of `hidden` dimensions; none without a head.
    fn initial_score_head(&self, _hidden: usize, _seed: u64) -> Option<Vec<f64>> {
        None
    }

    /// The expected loss before the first update, where the policy equals the reference; none where it is unknown.
    fn at_reference(&self) -> Option<LossAtReference> {
        None
    }

    /// What the health rules need to know about the method.
    fn health(&self) -> HealthHints {
        HealthHints::default()
    }

    /// Sets the advantages of a round's answers, which come in groups of `group`; adds the round's metrics to `tally`.
    fn compute_advantages(&mut self, _answers: &mut [SampledAnswer], _group: usize, _tally: &mut Tally) {}

    /// A micro-batch's share of the update's loss and gradient; adds its metrics to `tally`.
    ///
    /// # Errors
    /// When an example is not of the kind that the method trains on.
    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error>;

    /// Whether a micro-batch's loss separates into its examples'.
    fn separable(&self) -> Separable {
        Separable::No
    }

    /// A batch's weight in the mean evaluation loss.
    fn eval_weight(&self, batch: &[ScoredExample<'_>]) -> f64 {
        batch.len() as f64
    }

    /// Adds metrics that need all evaluation examples; scores are in the examples' order.
    fn finish_evaluation(&mut self, _scores: &[Vec<RowScores>], _metrics: &mut Metrics) {}

    /// What the method adds to a checkpoint's `trainer.json` for users of its result; null for nothing.
    fn notes(&self) -> Value {
        Value::Null
    }

    /// Restores saved [`Recipe::notes`].
    fn restore_notes(&mut self, _notes: &Value) {}

    /// State that it carries between rounds, for a checkpoint; null for nothing.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Restores a saved [`Recipe::state`].
    fn restore(&mut self, _state: &Value) {}
}

/// Whether parts of a micro-batch can run forward and backward one after another, so that activations are freed between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separable {
    /// The examples' losses depend on each other.
    No,
    /// The micro-batch's loss is the mean of the examples'.
    Mean,
    /// It is their sum.
    Sum,
}

/// What a method's rollouts need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RolloutNeeds {
    /// Reference log-probs.
    pub reference: bool,
    /// Values of a value head.
    pub values: bool,
}

/// The expected loss where the policy equals the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossAtReference {
    /// The loss.
    pub loss: f64,
    /// The factor of the log-ratios: rounding errors scale with it.
    pub beta: f64,
}

/// What the health rules need to know about a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HealthHints {
    /// The factor of a pair's log-ratios in the loss.
    pub beta: f64,
    /// Whether a pair's loss is −log σ of its margin alone.
    pub sigmoid: bool,
    /// Whether `logps/*` are means over tokens.
    pub mean_logps: bool,
    /// Target KL per answer in nats of an adaptive KL penalty.
    pub kl_target: Option<f64>,
    /// The hyper-parameter that weights the KL to the reference.
    pub kl_key: &'static str,
    /// The hyper-parameter that rewards entropy; empty where the method has none.
    pub entropy_key: &'static str,
    /// What to check where a step has no gradient at all.
    pub no_gradient: &'static str,
}

impl Default for HealthHints {
    fn default() -> Self {
        Self {
            beta: 1.0,
            sigmoid: false,
            mean_logps: false,
            kl_target: None,
            kl_key: "beta",
            entropy_key: "",
            no_gradient: NO_GRADIENT,
        }
    }
}

/// What to check where a step of most methods has no gradient.
const NO_GRADIENT: &str = "Check that no weight of the loss is 0; if none is, report it with the model's name.";

/// The accumulation window of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct UpdateWindow {
    /// The weight of this micro-batch's mean in the update's.
    pub share: f64,
    /// Scored tokens of the update; for rollouts the round's tokens per update, which may be fractional.
    pub tokens: f64,
}

/// One example with the scores of policy and reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoredExample<'a> {
    /// The example.
    pub example: &'a Example,
    /// Policy scores of each sequence.
    pub scores: &'a [RowScores],
    /// Policy scores of each KL sequence.
    pub kl_scores: &'a [RowScores],
    /// Reference log-probs, where the recipe needs them.
    pub reference: Option<&'a Reference>,
    /// The sampled answer, for online methods.
    pub answer: Option<&'a SampledAnswer>,
}

impl<'a> ScoredExample<'a> {
    /// Policy scores of a pair: chosen, rejected.
    pub(super) fn pair_scores(&self) -> Result<(&'a RowScores, &'a RowScores), Error> {
        match self.scores {
            [chosen, rejected] => Ok((chosen, rejected)),
            other => Err(Error::Invalid(format!("pair {} has {} sequences, not two", self.example.id, other.len()))),
        }
    }

    /// Reference log-probs of the example.
    pub(super) fn reference_logps(&self) -> Result<&'a Reference, Error> {
        self.reference
            .filter(|r| r.len() == self.scores.len() + self.kl_scores.len())
            .ok_or_else(|| Error::Invalid(format!("{} has no reference log-probs", self.example.id)))
    }

    /// The sampled answer and its policy scores.
    pub(super) fn sampled_answer(&self) -> Result<(&'a SampledAnswer, &'a RowScores), Error> {
        match (self.answer, self.scores) {
            (Some(answer), [scores]) => Ok((answer, scores)),
            _ => Err(Error::Invalid(format!("{} is not a sampled answer", self.example.id))),
        }
    }
}

/// One sampled answer of a round with its reward. Every list has one value per token of the answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SampledAnswer {
    /// Index of its prompt's row.
    pub row: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Prompt and answer, including the EOS token.
    pub ids: Vec<u32>,
    /// Whether it ended with an EOS token.
    pub ended: bool,
    /// The answer as text.
    pub text: String,
    /// Score of the reward model, if any.
    pub score: Option<f64>,
    /// Share of the checks that pass, if any.
    pub checks: Option<f64>,
    /// The total reward, penalty included.
    pub reward: f64,
    /// log π_old of its tokens, from the training forward pass.
    pub old: Vec<f64>,
    /// Reference log-probs of its tokens; empty where the method needs none.
    pub reference: Vec<f64>,
    /// Values before each token at sampling time; empty without a value head.
    pub values: Vec<f64>,
    /// Advantages; a single value where the whole answer has one.
    pub advantages: Vec<f64>,
    /// Returns; empty without a value head.
    pub returns: Vec<f64>,
}

impl SampledAnswer {
    /// Tokens of the answer.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len() - self.prompt
    }
}

/// A micro-batch's share of the update's loss and gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct BatchLoss {
    /// The share: the shares of a window sum to its loss.
    pub loss: f64,
    /// Gradient of each sequence, example by example.
    pub g: Vec<RowGradient>,
}

impl BatchLoss {
    /// The share of a mean over pairs.
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

    /// The share of a mean over rows.
    pub(super) fn from_rows(mean: RowLoss, window: &UpdateWindow) -> Self {
        let share = window.share;
        let scaled = |row: Vec<f64>| RowGradient::from(row.into_iter().map(|x| x * share).collect::<Vec<f64>>());
        Self { loss: mean.loss * share, g: mean.g.into_iter().map(scaled).collect() }
    }
}

/// Parses hyper-parameters.
///
/// # Errors
/// With the key whose value is invalid.
pub(crate) fn read<P: Hyperparameters>(params: &Params) -> Result<P, Error> {
    P::read(params).map_err(|e| Error::Invalid(e.to_string()))
}

/// Adds metrics of a pair's answer tokens, weighted by tokens: `logits/chosen|rejected` (mean logit over the vocabulary),
/// `entropy` (both answers), `mean_token_accuracy` (chosen answer).
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
