//! SFT: −Σ m_t·log π(y_t) / N over the tokens to imitate, N = those of the whole accumulation window.
//!
//! `loss_type=dft` weighs each token with its own probability, held constant (Wu et al. 2025, "On the Generalization of SFT: A
//! Reinforcement Learning Perspective with Reward Rectification"). Differs from TRL 1.16: rows longer than `max_length` are
//! left out and not cut; what the assistant said is found without markers in the template; rows kept for evaluation are not
//! packed.

use super::contract::{AnyRecipe, Apart, Loss, Recipe, RecipeRow, Seen, Window};
use crate::domain::Params;
use crate::model::error::Error;
use crate::train::data::Making;
use crate::train::loss::{Sft, SftForm, Tally};

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "sft", open: |params| Ok(AnyRecipe::offline(SftRecipe::new(params)?)) };

/// The recipe.
struct SftRecipe {
    form: SftForm,
    assistant_only: bool,
    completion_only: bool,
    packing: bool,
}

impl SftRecipe {
    fn new(params: &Params) -> Result<Self, Error> {
        let form = match params.text("loss_type") {
            "nll" => SftForm::Nll,
            "dft" => SftForm::Dft,
            other => return Err(Error::Asked(format!("loss_type={other} is none of nll, dft"))),
        };
        let (assistant_only, completion_only) =
            (params.bool("assistant_only_loss"), params.bool("completion_only_loss"));
        Ok(Self { form, assistant_only, completion_only, packing: params.bool("packing") })
    }
}

impl Recipe for SftRecipe {
    fn making(&self, params: &Params) -> Making {
        Making {
            assistant_only: self.assistant_only,
            completion_only: self.completion_only,
            packing: self.packing,
            eval_fraction: params.f64("eval_fraction"),
            ..Making::plain(params.usize("max_length"))
        }
    }

    fn apart(&self) -> Apart {
        Apart::Sum
    }

    fn weight(&self, batch: &[Seen<'_>]) -> f64 {
        batch.iter().map(|seen| seen.example.scored()).sum::<usize>() as f64
    }

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        Ok(imitate(batch, window.tokens, self.form, tally))
    }
}

/// The loss of imitating every scored token, divided by `tokens`; adds `entropy` and `mean_token_accuracy` to `tally`.
pub(crate) fn imitate(batch: &[Seen<'_>], tokens: usize, form: SftForm, tally: &mut Tally) -> Loss {
    let rows = || batch.iter().flat_map(|seen| seen.scores);
    let logps: Vec<&[f64]> = rows().map(|row| row.logp.as_slice()).collect();
    let out = Sft { form }.loss(&logps, tokens as f64);
    for row in rows() {
        row.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
        row.top1.iter().for_each(|hit| tally.add("mean_token_accuracy", f64::from(*hit), 1.0));
    }
    Loss { loss: out.loss, g: out.g.into_iter().map(Into::into).collect() }
}
