//! ORPO: NLL(chosen) − β·log σ(log odds(c) − log odds(r)), odds = p/(1−p), p = exp(mean log π of the answer's tokens).
//!
//! Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model". `orpo_nll` selects the tokens of the SFT
//! term: `prompt_and_chosen` (TRL), `completion_token_mean`, or `completion_seq_mean`.
//! Differs from TRL 1.16: no second EOS token after a chat template, pairs that are too long are left out instead of truncated,
//! `logits/*` are means over answer tokens (TRL: over all positions, padding included), and the odds stay finite at p = 1.

use super::contract::{
    BatchLoss, HealthHints, Recipe, Registered, ScoredExample, UpdateWindow, pair_token_metrics, read,
};
use crate::domain::{Hyperparameters, Method, Needs, ParamKind, TrainerParams, hyperparameters, nothing, row};
use crate::model::error::Error;
use crate::train::data::TokeniseOptions;
use crate::train::loss::{Orpo, OrpoNll, OrpoPair, Tally};

/// The registry's row.
pub(super) const ORPO: Registered = Registered {
    method: METHOD,
    new: |params| {
        let p: OrpoParams = read(params)?;
        Ok(Box::new(OrpoRecipe(Orpo { beta: p.beta, nll: p.orpo_nll })))
    },
};

/// The method table's row.
const METHOD: Method = Method {
    name: "orpo",
    title: "Odds-ratio preference optimisation",
    help: "SFT and preference training in one stage, from a base model; no reference model",
    needs: Needs::Pairs,
    reference: false,
    probes: true,
    mixes: true,
    without: &[],
    own: OrpoParams::rows,
    defaults: &[("learning_rate", "2e-5", "LoRA 5e-6 – 1e-4, full 1e-6 – 5e-6")],
    dependencies: Vec::new,
    refuse: nothing,
    objective: |p| OrpoParams::described(p, objective),
};

hyperparameters! {
    /// Hyper-parameters of ORPO.
    struct OrpoParams {
        beta: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "0.1",
            "0.05 – 0.5",
            "weight of the odds-ratio loss (lambda in the paper)",
            true,
        );
        orpo_nll: OrpoNll = row(
            ParamKind::Choice(OrpoNll::WORDS),
            "prompt_and_chosen",
            "",
            "tokens of the SFT term",
            false,
        );
    }
}

fn objective(p: &OrpoParams) -> String {
    let nll = match p.orpo_nll {
        OrpoNll::CompletionTokenMean => "NLL(chosen, per token)",
        OrpoNll::CompletionSeqMean => "NLL(chosen, per answer)",
        OrpoNll::PromptAndChosen => "NLL(prompt + chosen, per token)",
    };
    format!("{nll} − {}·log σ(log odds(c) − log odds(r)),  odds = p/(1−p), p = exp(mean log π)", p.beta)
}

/// The recipe.
struct OrpoRecipe(Orpo);

impl Recipe for OrpoRecipe {
    fn tokenise_options(&self, shared: &TrainerParams) -> TokeniseOptions {
        TokeniseOptions { score_prompt: self.0.nll == OrpoNll::PromptAndChosen, ..TokeniseOptions::from_params(shared) }
    }

    fn health(&self) -> HealthHints {
        HealthHints { mean_logps: true, ..HealthHints::default() }
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let (chosen, rejected) = pair.pair_scores()?;
            let (prompt, chosen) = chosen.logp.split_at(pair.example.skip());
            pairs.push(OrpoPair { prompt, chosen, rejected: &rejected.logp });
        }
        let out = self.0.loss(&pairs, tally);
        pair_token_metrics(batch, tally);
        Ok(BatchLoss::from_pairs(out, window))
    }
}
