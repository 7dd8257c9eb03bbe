//! Recipes: one file a method, from a scored batch to its loss, its gradient and its metrics.
//!
//! Owns what the methods share: how a batch is seen, and the metrics that hang on tokens. Refuses data, optimizers and
//! schedules: those are the trainer's, the same for every method.

mod cpo;
mod dpo;
mod grpo;
mod kto;
mod online;
mod orpo;
mod ppo;
mod reward;
mod rloo;
mod sft;

pub use online::Answer;
pub(super) use online::{OnlineRecipe, UpdateWindow, online};
pub(super) use sft::imitate;

use super::data::{Example, Making};
use super::loss::{PairLoss, RowLoss, Tally};
use super::reference::Reference;
use crate::domain::{Metrics, Params};
use crate::model::error::Error;
use crate::nn::policy::{RowGradient, RowScores};

/// A training method on rows that are there before the run.
pub(super) trait Recipe: Send {
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
    fn notes(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes back what [`Recipe::notes`] gave.
    fn recall(&mut self, _notes: &serde_json::Value) {}
}

/// Whether a part of a micro-batch can go forward and back before the rest comes, so that nothing of it has to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Apart {
    /// The examples' losses depend on one another.
    No,
    /// The micro-batch's loss is the mean of the examples'.
    Mean,
    /// It is their sum.
    Sum,
}

/// What goes into one update together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
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
pub(super) struct Loss {
    /// The part: the parts of a window add up to its loss.
    pub loss: f64,
    /// dL/d of each sequence, example by example.
    pub g: Vec<RowGradient>,
}

impl Loss {
    /// The part of a mean over pairs in a window.
    fn of_pairs(mean: PairLoss, window: &Window) -> Self {
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
    fn of_rows(mean: RowLoss, window: &Window) -> Self {
        let share = window.share;
        let scaled = |row: Vec<f64>| RowGradient::from(row.into_iter().map(|x| x * share).collect::<Vec<f64>>());
        Self { loss: mean.loss * share, g: mean.g.into_iter().map(scaled).collect() }
    }
}

/// The recipe of a method.
///
/// # Errors
/// When there is none of that name, or its options contradict each other.
pub(crate) fn recipe(method: &str, params: &Params) -> Result<Box<dyn Recipe>, Error> {
    match method {
        "cpo" => Ok(Box::new(cpo::CpoRecipe::new(params)?)),
        "dpo" => Ok(Box::new(dpo::DpoRecipe::new(params)?)),
        "kto" => Ok(Box::new(kto::KtoRecipe::new(params)?)),
        "orpo" => Ok(Box::new(orpo::OrpoRecipe::new(params)?)),
        "reward" => Ok(Box::new(reward::RewardRecipe::new(params))),
        "simpo" => Ok(Box::new(cpo::CpoRecipe::simpo(params))),
        "sft" => Ok(Box::new(sft::SftRecipe::new(params)?)),
        other => Err(Error::Asked(format!("there is no recipe for the method `{other}`"))),
    }
}

/// Adds the metrics that hang on a pair's answer tokens, each weighted by tokens: `logits/chosen|rejected` (vocabulary mean
/// of the logits), `entropy` (both answers), `mean_token_accuracy` (chosen answer).
fn pair_tokens(batch: &[Seen<'_>], tally: &mut Tally) {
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
fn sides<'a>(pair: &Seen<'a>) -> Result<(&'a RowScores, &'a RowScores), Error> {
    match pair.scores {
        [chosen, rejected] => Ok((chosen, rejected)),
        other => Err(Error::Asked(format!("pair {} has {} sequences, not two", pair.example.id, other.len()))),
    }
}

/// The reference of an example.
fn reference<'a>(pair: &Seen<'a>) -> Result<&'a Reference, Error> {
    pair.reference
        .filter(|r| r.len() == pair.scores.len() + pair.aside.len())
        .ok_or_else(|| Error::Asked(format!("{} has no reference log-probs", pair.example.id)))
}

#[cfg(test)]
mod tests;
