//! What a method is to the trainer: the recipe traits, what they are given, and what they give back.
//!
//! Owns [`Recipe`] (rows that exist before the run) and [`OnlineRecipe`] (the policy's own answers), their inputs and
//! outputs, the registry's row, and the metrics per token that methods share. Refuses data, optimizers, schedules, sampling
//! and scoring: those belong to the trainer, the same for every method.
//!
//! An online round is sampled from the unaltered distribution at the run's temperature, without top-k or top-p: a KL between
//! policy and reference means nothing under a truncated distribution.

use crate::domain::{Metrics, Params};
use crate::model::error::Error;
use crate::nn::policy::{RowGradient, RowScores};
use crate::train::data::{Example, Making};
use crate::train::loss::{PairLoss, RowLoss, Tally};
use crate::train::reference::Reference;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A method's row in the registry.
pub(super) struct RecipeRow {
    /// Its name in the method table: `dpo`.
    pub name: &'static str,
    /// Its recipe with these hyper-parameters; fails on a value that the method does not know.
    pub open: fn(&Params) -> Result<AnyRecipe, Error>,
}

/// A recipe of either kind.
pub(crate) enum AnyRecipe {
    /// Learns from rows that exist before the run.
    Offline(Box<dyn Recipe>),
    /// Learns from the policy's own answers.
    Online(Box<dyn OnlineRecipe>),
}

impl AnyRecipe {
    /// A recipe for rows.
    pub(super) fn offline(recipe: impl Recipe + 'static) -> Self {
        Self::Offline(Box::new(recipe))
    }

    /// A recipe for answers.
    pub(super) fn online(recipe: impl OnlineRecipe + 'static) -> Self {
        Self::Online(Box::new(recipe))
    }

    /// How rows become examples: as the recipe says, or as prompts that leave room for an answer.
    pub(crate) fn making(&self, params: &Params) -> Making {
        match self {
            Self::Offline(recipe) => recipe.making(params),
            Self::Online(_) => Making {
                eval_fraction: params.f64("eval_fraction"),
                ..Making::plain(params.usize("max_length").saturating_sub(params.usize("max_completion_length")))
            },
        }
    }

    /// The scalar head's initial values for a model of `hidden` dimensions; none where no head is trained.
    pub(crate) fn score_head(&self, hidden: usize, params: &Params) -> Option<Vec<f64>> {
        match self {
            Self::Offline(recipe) => recipe.score_head(hidden, params),
            // A value head starts at 0: it has no opinion yet.
            Self::Online(recipe) => recipe.shape().values.then(|| vec![0.0; hidden]),
        }
    }

    /// Whether the rows' reference log-probs are computed before the run.
    pub(crate) fn needs_reference(&self) -> bool {
        matches!(self, Self::Offline(recipe) if recipe.needs_reference())
    }
}

/// A training method on rows that are there before the run.
pub(crate) trait Recipe: Send {
    /// Whether reference log-probs are needed.
    fn needs_reference(&self) -> bool {
        false
    }

    /// How its rows become examples.
    fn making(&self, params: &Params) -> Making {
        Making { eval_fraction: params.f64("eval_fraction"), ..Making::plain(params.usize("max_length")) }
    }

    /// The scalar head's first values for a model of `hidden` dimensions; none where no head is trained.
    fn score_head(&self, _hidden: usize, _params: &Params) -> Option<Vec<f64>> {
        None
    }

    /// The loss where policy and reference agree, for the check before the first update; none where there is no reference.
    fn at_reference(&self) -> Option<f64> {
        None
    }

    /// Loss and gradient of a micro-batch as its part of the whole window's; its metrics go to `tally`.
    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error>;

    /// How a micro-batch's loss is made of its examples'.
    fn apart(&self) -> Apart {
        Apart::No
    }

    /// How much a batch weighs in the mean loss of an evaluation.
    fn weight(&self, batch: &[Seen<'_>]) -> f64 {
        batch.len() as f64
    }

    /// What is only known when all evaluation examples have been seen, scores in the examples' order.
    fn evaluated(&mut self, _scores: &[Vec<RowScores>], _metrics: &mut Metrics) {}

    /// What the method adds to a checkpoint's `trainer.json` for those who use its result; null for nothing.
    fn notes(&self) -> Value {
        Value::Null
    }

    /// Takes back what [`Recipe::notes`] gave.
    fn recall(&mut self, _notes: &Value) {}
}

/// Whether a part of a micro-batch can go forward and back before the rest comes, so that nothing of it has to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    /// The examples' losses depend on one another.
    No,
    /// The micro-batch's loss is the mean of the examples'.
    Mean,
    /// It is their sum.
    Sum,
}

/// What goes into one update together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// What a mean over this micro-batch counts for in the update's.
    pub share: f64,
    /// Scored tokens.
    pub tokens: usize,
}

/// What the policy and the reference say about one example.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// The example.
    pub example: &'a Example,
    /// The policy on each of its sequences.
    pub scores: &'a [RowScores],
    /// The policy on each sequence aside.
    pub aside: &'a [RowScores],
    /// Reference log-probs, where the recipe needs them.
    pub reference: Option<&'a Reference>,
}

/// A micro-batch's part of the window's loss and its gradient.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Loss {
    /// The part: the parts of a window add up to its loss.
    pub loss: f64,
    /// dL/d of each sequence, example by example.
    pub g: Vec<RowGradient>,
}

impl Loss {
    /// The part of a mean over pairs in a window.
    pub(super) fn of_pairs(mean: PairLoss, window: &Window) -> Self {
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
    pub(super) fn of_rows(mean: RowLoss, window: &Window) -> Self {
        let share = window.share;
        let scaled = |row: Vec<f64>| RowGradient::from(row.into_iter().map(|x| x * share).collect::<Vec<f64>>());
        Self { loss: mean.loss * share, g: mean.g.into_iter().map(scaled).collect() }
    }
}

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

/// Adds the metrics that hang on a pair's answer tokens, each weighted by tokens: `logits/chosen|rejected` (vocabulary mean
/// of the logits), `entropy` (both answers), `mean_token_accuracy` (chosen answer).
pub(super) fn pair_tokens(batch: &[Seen<'_>], tally: &mut Tally) {
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

/// A pair's two sequences as the policy scored them.
pub(super) fn sides<'a>(pair: &Seen<'a>) -> Result<(&'a RowScores, &'a RowScores), Error> {
    match pair.scores {
        [chosen, rejected] => Ok((chosen, rejected)),
        other => Err(Error::Asked(format!("pair {} has {} sequences, not two", pair.example.id, other.len()))),
    }
}

/// The reference of an example.
pub(super) fn reference<'a>(pair: &Seen<'a>) -> Result<&'a Reference, Error> {
    pair.reference
        .filter(|r| r.len() == pair.scores.len() + pair.aside.len())
        .ok_or_else(|| Error::Asked(format!("{} has no reference log-probs", pair.example.id)))
}
