//! Recipes: one file a method, from a scored batch to its loss, its gradient and its metrics.
//!
//! Owns what the methods share: which tokens are scored, and the metrics that hang on tokens. Refuses data, optimizers and
//! schedules: those are the trainer's, the same for every method.

mod dpo;
mod orpo;

use super::error::Error;
use super::loss::{PairLoss, Tally};
use super::policy::RowScores;
use super::reference::Reference;
use crate::domain::Params;

/// A training method on preference pairs.
pub(super) trait Recipe: Send {
    /// Whether reference log-probs are needed.
    fn needs_reference(&self) -> bool;
    /// Whether the prompt's tokens are scored too, on the chosen side.
    fn covers_prompt(&self) -> bool;
    /// The loss where policy and reference agree, for the check before the first update; none where there is no reference.
    fn at_reference(&self) -> Option<f64>;
    /// Loss and gradient of a micro-batch; its metrics go to `tally`.
    fn loss(&self, batch: &[Scored<'_>], tally: &mut Tally) -> Result<PairLoss, Error>;
}

/// What the policy and the reference say about one pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored<'a> {
    /// How many of `chosen`'s first tokens are the prompt's.
    pub prompt: usize,
    /// The chosen side.
    pub chosen: &'a RowScores,
    /// The rejected side, its answer's tokens only.
    pub rejected: &'a RowScores,
    /// Reference log-probs, where the recipe needs them.
    pub reference: Option<&'a Reference>,
}

/// The recipe of a method.
///
/// # Errors
/// When there is none of that name.
pub(super) fn recipe(method: &str, params: &Params) -> Result<Box<dyn Recipe>, Error> {
    match method {
        "dpo" => Ok(Box::new(dpo::DpoRecipe::new(params)?)),
        "orpo" => Ok(Box::new(orpo::OrpoRecipe::new(params)?)),
        other => Err(Error::Asked(format!("there is no recipe for the method `{other}`; there are dpo and orpo"))),
    }
}

/// Adds the metrics that hang on answer tokens, each weighted by tokens: `logits/chosen|rejected` (vocabulary mean of the
/// logits), `entropy` (both answers), `mean_token_accuracy` (chosen answer).
fn token_metrics(batch: &[Scored<'_>], tally: &mut Tally) {
    for pair in batch {
        let sides = [("logits/chosen", pair.chosen, pair.prompt), ("logits/rejected", pair.rejected, 0)];
        for (name, row, skip) in sides {
            row.mean_logit.iter().skip(skip).for_each(|x| tally.add(name, *x, 1.0));
            row.entropy.iter().skip(skip).for_each(|x| tally.add("entropy", *x, 1.0));
        }
        for hit in pair.chosen.top1.iter().skip(pair.prompt) {
            tally.add("mean_token_accuracy", f64::from(*hit), 1.0);
        }
    }
}
