//! ORPO: NLL(chosen) − β·log σ(log odds(c) − log odds(r)), odds = p/(1−p), p = exp(mean log π of the answer's tokens).
//!
//! Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model". `orpo_nll` says which tokens the SFT
//! term covers: `prompt_and_chosen` (TRL), `completion_token_mean`, or `completion_seq_mean`.
//! Differs from TRL 1.16: no second end-of-text token behind a chat template, pairs that do not fit are left out and not cut,
//! `logits/*` are means over answer tokens (TRL: over every position, padding too), and the odds stay finite at p = 1.

use super::contract::{AnyRecipe, Loss, Recipe, RecipeRow, Seen, Window, pair_tokens, sides};
use crate::domain::Params;
use crate::model::error::Error;
use crate::train::data::Making;
use crate::train::loss::{Nll, Orpo, OrpoPair, Tally};

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "orpo", open: |params| Ok(AnyRecipe::offline(OrpoRecipe::new(params)?)) };

/// The recipe.
struct OrpoRecipe(Orpo);

impl OrpoRecipe {
    fn new(params: &Params) -> Result<Self, Error> {
        let nll = match params.text("orpo_nll") {
            "prompt_and_chosen" => Nll::PromptAndChosen,
            "completion_token_mean" => Nll::CompletionTokenMean,
            "completion_seq_mean" => Nll::CompletionSeqMean,
            other => {
                return Err(Error::Asked(format!(
                    "orpo_nll={other} is none of prompt_and_chosen, completion_token_mean, completion_seq_mean"
                )));
            }
        };
        Ok(Self(Orpo { beta: params.f64("beta"), nll }))
    }
}

impl Recipe for OrpoRecipe {
    fn making(&self, params: &Params) -> Making {
        Making {
            prompt: self.0.nll == Nll::PromptAndChosen,
            eval_fraction: params.f64("eval_fraction"),
            ..Making::plain(params.usize("max_length"))
        }
    }

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let (chosen, rejected) = sides(pair)?;
            let (prompt, chosen) = chosen.logp.split_at(pair.example.skip());
            pairs.push(OrpoPair { prompt, chosen, rejected: &rejected.logp });
        }
        let out = self.0.loss(&pairs, tally);
        pair_tokens(batch, tally);
        Ok(Loss::of_pairs(out, window))
    }
}
