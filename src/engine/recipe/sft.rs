//! SFT: −Σ m_t·log π(y_t) / N over the tokens to imitate, N = those of the whole accumulation window.
//!
//! `loss_type=dft` weighs each token with its own probability, held constant (Wu et al. 2025, "On the Generalization of SFT: A
//! Reinforcement Learning Perspective with Reward Rectification"). Differs from TRL 1.16: rows longer than `max_length` are
//! left out and not cut; what the assistant said is found without markers in the template.

use super::{Loss, Recipe, Seen, Window};
use crate::domain::Params;
use crate::engine::error::Error;
use crate::engine::loss::Tally;
use crate::engine::rows::Making;

/// The recipe.
pub(super) struct SftRecipe {
    dft: bool,
    assistant_only: bool,
    completion_only: bool,
}

impl SftRecipe {
    pub(super) fn new(params: &Params) -> Result<Self, Error> {
        let dft = match params.text("loss_type") {
            "nll" => false,
            "dft" => true,
            other => return Err(Error::Asked(format!("loss_type={other} is none of nll, dft"))),
        };
        let (assistant_only, completion_only) =
            (params.bool("assistant_only_loss"), params.bool("completion_only_loss"));
        Ok(Self { dft, assistant_only, completion_only })
    }
}

impl Recipe for SftRecipe {
    fn making(&self, params: &Params) -> Making {
        Making {
            assistant_only: self.assistant_only,
            completion_only: self.completion_only,
            eval_fraction: params.f64("eval_fraction"),
            ..Making::plain(params.usize("max_length"))
        }
    }

    fn weight(&self, batch: &[Seen<'_>]) -> f64 {
        batch.iter().map(|seen| seen.example.scored()).sum::<usize>() as f64
    }

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        Ok(imitate(batch, window.tokens, self.dft, tally))
    }
}

/// The loss of imitating every scored token, divided by `tokens`; adds `entropy` and `mean_token_accuracy` to `tally`.
pub(in crate::engine) fn imitate(batch: &[Seen<'_>], tokens: usize, dft: bool, tally: &mut Tally) -> Loss {
    let mut out = Loss::default();
    let share = 1.0 / tokens.max(1) as f64;
    for row in batch.iter().flat_map(|seen| seen.scores) {
        let weight = |lp: &f64| if dft { lp.exp() * share } else { share };
        out.loss -= row.logp.iter().map(|lp| weight(lp) * lp).sum::<f64>();
        out.g.push(row.logp.iter().map(|lp| -weight(lp)).collect::<Vec<f64>>().into());
        row.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
        row.top1.iter().for_each(|hit| tally.add("mean_token_accuracy", f64::from(*hit), 1.0));
    }
    out
}
