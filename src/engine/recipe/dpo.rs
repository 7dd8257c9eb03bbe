//! DPO: −log σ(β·[(log π(c) − log ρ(c)) − (log π(r) − log ρ(r))]), log-probs summed over the answers' tokens.
//!
//! Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model". Variants by
//! `loss_type`: `ipo` (mean over tokens, as its authors have it), `ipo_sum`, `hinge`; `label_smoothing` makes cDPO.
//! Differs from TRL 1.16: label smoothing acts on `sigmoid` (TRL has dropped it there), `ipo_sum` exists, pairs that do not
//! fit `max_length` are left out and not cut, and metrics of a step are weighted by pairs and tokens, not by micro-batches.
//! It also logs `kl/chosen`.

use super::{Loss, Recipe, Seen, Window, pair_tokens, reference, sides};
use crate::domain::Params;
use crate::engine::error::Error;
use crate::engine::loss::{Dpo, DpoForm, DpoPair, Tally};

/// The recipe.
pub(super) struct DpoRecipe(Dpo);

impl DpoRecipe {
    pub(super) fn new(params: &Params) -> Result<Self, Error> {
        let label_smoothing = params.f64("label_smoothing");
        let form = match params.text("loss_type") {
            "sigmoid" => DpoForm::Sigmoid { label_smoothing },
            other if label_smoothing > 0.0 => {
                return Err(Error::Asked(format!(
                    "label_smoothing has no meaning for loss_type={other}; set it to 0 or take loss_type=sigmoid"
                )));
            }
            "ipo" => DpoForm::Ipo,
            "ipo_sum" => DpoForm::IpoSum,
            "hinge" => DpoForm::Hinge,
            other => return Err(Error::Asked(format!("loss_type={other} is none of sigmoid, ipo, ipo_sum, hinge"))),
        };
        Ok(Self(Dpo { beta: params.f64("beta"), form }))
    }
}

impl Recipe for DpoRecipe {
    fn needs_reference(&self) -> bool {
        true
    }

    fn at_reference(&self) -> Option<f64> {
        Some(self.0.at_reference())
    }

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let ((chosen, rejected), reference) = (sides(pair)?, reference(pair)?);
            pairs.push(DpoPair {
                chosen: &chosen.logp,
                rejected: &rejected.logp,
                ref_chosen: &reference[0],
                ref_rejected: &reference[1],
            });
        }
        let out = self.0.loss(&pairs, tally);
        pair_tokens(batch, tally);
        Ok(Loss::of_pairs(out, window))
    }
}
