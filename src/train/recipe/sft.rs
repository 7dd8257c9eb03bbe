//! SFT: −Σ m_t·log π(y_t) / N with the loss mask m, N = unmasked tokens of the whole accumulation window.
//!
//! `loss_type=dft` weights each token by its own detached probability (Wu et al. 2025, "On the Generalization of SFT: A
//! Reinforcement Learning Perspective with Reward Rectification"). Differs from TRL 1.16: rows longer than `max_length` are
//! left out instead of truncated; the assistant mask needs no markers in the template; evaluation rows are not packed.

use super::contract::{BatchLoss, Recipe, Registered, ScoredExample, Separable, UpdateWindow, read};
use crate::domain::{Hyperparameters, Method, Needs, ParamKind, TrainerParams, hyperparameters, nothing, row};
use crate::model::error::Error;
use crate::train::data::TokeniseOptions;
use crate::train::loss::{Sft, SftForm, Tally};

/// The registry's row.
pub(super) const SFT: Registered = Registered { method: METHOD, new: |params| Ok(Box::new(SftRecipe(read(params)?))) };

/// The method table's row.
const METHOD: Method = Method {
    name: "sft",
    title: "Supervised fine-tuning",
    help: "train on good answers by next-token prediction; the usual first stage",
    needs: Needs::Examples,
    reference: false,
    probes: true,
    mixes: false,
    without: &[],
    own: SftParams::rows,
    defaults: &[
        ("learning_rate", "1e-4", "LoRA 5e-5 – 2e-4, full 5e-6 – 5e-5"),
        ("num_train_epochs", "3", "1 – 3"),
        ("per_device_train_batch_size", "8", "1 – 32"),
    ],
    dependencies: Vec::new,
    refuse: nothing,
    objective: |p| SftParams::described(p, objective),
};

hyperparameters! {
    /// Hyper-parameters of supervised fine-tuning.
    struct SftParams {
        assistant_only_loss: bool = row(
            ParamKind::Bool,
            "true",
            "",
            "conversations: compute the loss on assistant turns only",
            true,
        );
        completion_only_loss: bool = row(
            ParamKind::Bool,
            "true",
            "",
            "prompt-completion rows: compute the loss on the completion only",
            true,
        );
        loss_type: SftForm = row(
            ParamKind::Choice(SftForm::WORDS),
            "nll",
            "",
            "nll, or dft: tokens weighted by their own probability",
            false,
        );
        packing: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "pack several texts into a row, without attention between them",
            false,
        );
    }
}

fn objective(p: &SftParams) -> String {
    let tokens = match (p.assistant_only_loss, p.completion_only_loss) {
        (true, true) => "answer tokens",
        (true, false) => "assistant tokens; all tokens of prompt-completion rows",
        (false, true) => "all tokens; completion tokens of prompt-completion rows",
        (false, false) => "all tokens",
    };
    let packed = if p.packing { ", packed" } else { "" };
    match p.loss_type {
        SftForm::Dft => format!("−Σ p_t·log π(y_t) / N,  p_t = π(y_t) detached, y_t: {tokens}{packed}"),
        SftForm::Nll => format!("−Σ log π(y_t) / N,  y_t: {tokens}{packed}"),
    }
}

/// The recipe.
struct SftRecipe(SftParams);

impl Recipe for SftRecipe {
    fn tokenise_options(&self, shared: &TrainerParams) -> TokeniseOptions {
        TokeniseOptions {
            assistant_only: self.0.assistant_only_loss,
            completion_only: self.0.completion_only_loss,
            packing: self.0.packing,
            ..TokeniseOptions::from_params(shared)
        }
    }

    fn separable(&self) -> Separable {
        Separable::Sum
    }

    fn eval_weight(&self, batch: &[ScoredExample<'_>]) -> f64 {
        batch.iter().map(|seen| seen.example.scored()).sum::<usize>() as f64
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        Ok(sft_loss(batch, window.tokens, self.0.loss_type, tally))
    }
}

/// The SFT loss of every scored token, divided by `tokens`; adds `entropy` and `mean_token_accuracy` to `tally`.
pub(crate) fn sft_loss(batch: &[ScoredExample<'_>], tokens: f64, form: SftForm, tally: &mut Tally) -> BatchLoss {
    let rows = || batch.iter().flat_map(|seen| seen.scores);
    let logps: Vec<&[f64]> = rows().map(|row| row.logp.as_slice()).collect();
    let out = Sft { form }.loss(&logps, tokens);
    for row in rows() {
        row.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
        row.top1.iter().for_each(|hit| tally.add("mean_token_accuracy", f64::from(*hit), 1.0));
    }
    BatchLoss { loss: out.loss, g: out.g.into_iter().map(Into::into).collect() }
}
