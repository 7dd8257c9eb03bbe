//! ORPO: NLL(chosen) − β·log σ(log odds(c) − log odds(r)), odds = p/(1−p), p = exp(mean log π of the answer's tokens).
//!
//! Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model". `orpo_nll` says which tokens the SFT
//! term covers: `prompt_and_chosen` (TRL), `completion_token_mean`, or `completion_seq_mean`.
//! Differs from TRL 1.16: no second end-of-text token behind a chat template, pairs that do not fit are left out and not cut,
//! `logits/*` are means over answer tokens (TRL: over every position, padding too), and the odds stay finite at p = 1.

use super::{Recipe, Scored, token_metrics};
use crate::domain::Params;
use crate::engine::error::Error;
use crate::engine::loss::{Nll, Orpo, OrpoPair, PairLoss, Tally};

/// The recipe.
pub(super) struct OrpoRecipe(Orpo);

impl OrpoRecipe {
    pub(super) fn new(params: &Params) -> Result<Self, Error> {
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
    fn needs_reference(&self) -> bool {
        false
    }

    fn covers_prompt(&self) -> bool {
        self.0.nll == Nll::PromptAndChosen
    }

    fn at_reference(&self) -> Option<f64> {
        None
    }

    fn loss(&self, batch: &[Scored<'_>], tally: &mut Tally) -> Result<PairLoss, Error> {
        let pairs: Vec<_> = batch
            .iter()
            .map(|pair| {
                let (prompt, chosen) = pair.chosen.logp.split_at(pair.prompt);
                OrpoPair { prompt, chosen, rejected: &pair.rejected.logp }
            })
            .collect();
        let out = self.0.loss(&pairs, tally);
        token_metrics(batch, tally);
        Ok(out)
    }
}
