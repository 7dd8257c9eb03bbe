//! SFT: −Σ m_t·log π(y_t) / N over the tokens to imitate, N = those of the whole accumulation window.
//!
//! `loss_type=dft` weighs each token with its own probability, held constant (Wu et al. 2025, "On the Generalization of SFT: A
//! Reinforcement Learning Perspective with Reward Rectification"). Differs from TRL 1.16: rows longer than `max_length` are
//! left out and not cut; what the assistant said is found without markers in the template; rows kept for evaluation are not
//! packed.

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
    help: "imitate good answers, token by token; the base of everything after it",
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
            "conversations: learn the assistant's turns only, not what it was asked",
            true,
        );
        completion_only_loss: bool = row(
            ParamKind::Bool,
            "true",
            "",
            "prompt and completion: learn the completion only",
            true,
        );
        loss_type: SftForm = row(
            ParamKind::Choice(SftForm::WORDS),
            "nll",
            "",
            "nll, or dft: each token weighted by its own probability",
            false,
        );
        packing: bool = row(
            ParamKind::Bool,
            "false",
            "",
            "several short texts in one row that do not see each other",
            false,
        );
    }
}

fn objective(p: &SftParams) -> String {
    let tokens = match (p.assistant_only_loss, p.completion_only_loss) {
        (true, true) => "tokens of the answers",
        (true, false) => "the assistant's tokens; of prompt and completion all",
        (false, true) => "all tokens; of prompt and completion the completion's",
        (false, false) => "all tokens",
    };
    let packed = if p.packing { ", several texts to a row" } else { "" };
    match p.loss_type {
        SftForm::Dft => format!("−Σ p_t·log π(y_t) / N,  p_t = π(y_t) held constant, y_t the {tokens}{packed}"),
        SftForm::Nll => format!("−Σ log π(y_t) / N,  y_t the {tokens}{packed}"),
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

/// The loss of imitating every scored token, divided by `tokens`; adds `entropy` and `mean_token_accuracy` to `tally`.
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
