//! KTO: w_D·(1 − σ(β·(a − z))) of a good answer, w_U·(1 − σ(β·(z − a))) of a bad one, a = Σ log π − log ρ over its tokens.
//!
//! Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization". z, at least 0 and without gradient, is
//! the mean of the same sum for answers behind prompts that are not theirs: every answer is also scored on its neighbour's
//! prompt. `loss_type=apo_zero_unpaired` (D'Oosterlinck et al. 2024) leaves z out. Differs from TRL 1.16: rows that do not
//! fit `max_length` are left out and not cut, rows may be shuffled (the neighbours are fixed before), and no `kl` is logged
//! where none is measured.

use super::contract::{AnyRecipe, Loss, Recipe, RecipeRow, Seen, Window, reference};
use crate::domain::Params;
use crate::model::error::Error;
use crate::train::data::Making;
use crate::train::loss::{Kto, KtoForm, KtoRow, Tally};

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "kto", open: |params| Ok(AnyRecipe::offline(KtoRecipe::new(params)?)) };

/// The recipe.
struct KtoRecipe(Kto);

impl KtoRecipe {
    fn new(params: &Params) -> Result<Self, Error> {
        let form = match params.text("loss_type") {
            "kto" => KtoForm::Kto,
            "apo_zero_unpaired" => KtoForm::ApoZeroUnpaired,
            other => return Err(Error::Asked(format!("loss_type={other} is none of kto, apo_zero_unpaired"))),
        };
        Ok(Self(Kto {
            beta: params.f64("beta"),
            form,
            desirable_weight: params.f64("desirable_weight"),
            undesirable_weight: params.f64("undesirable_weight"),
        }))
    }
}

impl Recipe for KtoRecipe {
    fn needs_reference(&self) -> bool {
        true
    }

    fn making(&self, params: &Params) -> Making {
        let neighbours = self.0.form == KtoForm::Kto;
        Making {
            mismatch: if neighbours { params.usize("per_device_train_batch_size") } else { 0 },
            eval_fraction: params.f64("eval_fraction"),
            ..Making::plain(params.usize("max_length"))
        }
    }

    /// Only where both weights are the same: else it hangs on how many of a batch are good.
    fn at_reference(&self) -> Option<f64> {
        (self.0.desirable_weight == self.0.undesirable_weight).then(|| self.0.at_reference(1, 1))
    }

    fn loss(&self, batch: &[Seen<'_>], window: &Window, tally: &mut Tally) -> Result<Loss, Error> {
        let mut rows = Vec::with_capacity(batch.len());
        let mut pool = Vec::new();
        for seen in batch {
            let [own] = seen.scores else {
                return Err(Error::Asked(format!(
                    "rating {} has {} sequences, not one",
                    seen.example.id,
                    seen.scores.len()
                )));
            };
            let good = seen.example.good;
            let reference = reference(seen)?;
            rows.push(KtoRow { policy: &own.logp, reference: &reference[0], good });
            let sum = |x: &[f64]| x.iter().sum::<f64>();
            pool.extend(seen.aside.iter().zip(&reference[1..]).map(|(p, r)| sum(&p.logp) - sum(r)));
            let logits = if good { "logits/chosen" } else { "logits/rejected" };
            own.mean_logit.iter().for_each(|x| tally.add(logits, *x, 1.0));
            own.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
        }
        let out = self.0.loss(&rows, &pool, tally);
        Ok(Loss::of_rows(out, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::method;

    fn kto(settings: &[(&str, &str)]) -> Result<KtoRecipe, Error> {
        let rows = method("kto").unwrap().rows();
        let mut params = Params::defaults(&rows);
        for (key, value) in settings {
            params.set(&rows, "kto", key, value).unwrap();
        }
        KtoRecipe::new(&params)
    }

    #[test]
    fn the_check_before_the_first_update_knows_the_loss_where_the_weights_are_one() {
        assert_eq!(kto(&[]).unwrap().at_reference(), Some(0.5));
        assert_eq!(kto(&[("desirable_weight", "1.3")]).unwrap().at_reference(), None);
    }
}
