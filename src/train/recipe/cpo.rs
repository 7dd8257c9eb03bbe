//! CPO: −log σ(β·[log π(c) − log π(r)]) + α·NLL(c), sums over the answers' tokens; SimPO: −log σ(β·(A_c − A_r) − γ),
//! A the means.
//!
//! Xu et al. 2024, "Contrastive Preference Optimization"; Meng et al. 2024, "SimPO: Simple Preference Optimization with a
//! Reference-Free Reward". Neither has a reference. `loss_type` of CPO: `sigmoid`, `hinge`, `ipo` (means). With
//! `soft_labels` the share of contrary votes stands in for `label_smoothing` where raters differed over a pair.
//! Differs from TRL 1.16: SimPO is a method of its own with `cpo_alpha=0`, as published (TRL's default adds the NLL);
//! no second end-of-text token behind a chat template, pairs that do not fit are left out and not cut, and `logits/*` are
//! means over answer tokens (TRL: over every position, padding too).

use super::contract::{AnyRecipe, Apart, Loss, Recipe, RecipeRow, Seen, Window, pair_tokens, sides};
use crate::domain::Params;
use crate::model::error::Error;
use crate::train::loss::{Cpo, CpoForm, CpoPair, Tally};

/// CPO's row in the registry.
pub(super) const CPO: RecipeRow =
    RecipeRow { name: "cpo", open: |params| Ok(AnyRecipe::offline(CpoRecipe::new(params)?)) };

/// SimPO's.
pub(super) const SIMPO: RecipeRow =
    RecipeRow { name: "simpo", open: |params| Ok(AnyRecipe::offline(CpoRecipe::simpo(params))) };

/// The recipe of both.
struct CpoRecipe {
    cpo: Cpo,
    soft: bool,
}

impl CpoRecipe {
    /// CPO.
    fn new(params: &Params) -> Result<Self, Error> {
        let form = match params.text("loss_type") {
            "sigmoid" => CpoForm::Sigmoid,
            "hinge" => CpoForm::Hinge,
            "ipo" => CpoForm::Ipo,
            other => return Err(Error::Asked(format!("loss_type={other} is none of sigmoid, hinge, ipo"))),
        };
        Ok(Self::of(form, params))
    }

    /// SimPO.
    fn simpo(params: &Params) -> Self {
        Self::of(CpoForm::Simpo { gamma: params.f64("simpo_gamma") }, params)
    }

    fn of(form: CpoForm, params: &Params) -> Self {
        let cpo = Cpo {
            beta: params.f64("beta"),
            form,
            label_smoothing: params.f64("label_smoothing"),
            alpha: params.f64("cpo_alpha"),
        };
        Self { cpo, soft: params.bool("soft_labels") }
    }
}

impl Recipe for CpoRecipe {
    fn apart(&self) -> Apart {
        // The part that imitates is a mean over the micro-batch's tokens.
        if self.cpo.alpha == 0.0 { Apart::Mean } else { Apart::No }
    }

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let (chosen, rejected) = sides(pair)?;
            let epsilon = pair.example.agreed.filter(|_| self.soft).map(|agreed| 1.0 - agreed);
            pairs.push(CpoPair { chosen: &chosen.logp, rejected: &rejected.logp, epsilon });
        }
        let out = self.cpo.loss(&pairs, tally);
        pair_tokens(batch, tally);
        Ok(Loss::of_pairs(out, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::method;

    fn params(name: &str, settings: &[(&str, &str)]) -> Params {
        let rows = method(name).unwrap().rows();
        let mut params = Params::defaults(&rows);
        for (key, value) in settings {
            params.set(&rows, name, key, value).unwrap();
        }
        params
    }

    #[test]
    fn options_reach_the_loss() {
        let cpo = CpoRecipe::new(&params("cpo", &[("loss_type", "ipo"), ("cpo_alpha", "0.5")])).unwrap().cpo;
        assert_eq!(cpo, Cpo { beta: 0.1, form: CpoForm::Ipo, label_smoothing: 0.0, alpha: 0.5 });
        let simpo = CpoRecipe::simpo(&params("simpo", &[("simpo_gamma", "1.2"), ("label_smoothing", "0.1")])).cpo;
        assert_eq!(simpo, Cpo { beta: 2.0, form: CpoForm::Simpo { gamma: 1.2 }, label_smoothing: 0.1, alpha: 0.0 });
    }
}
