//! DPO: −log σ(β·[(log π(c) − log ρ(c)) − (log π(r) − log ρ(r))]), log-probs summed over the answers' tokens.
//!
//! Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model". `loss_type` lists
//! the forms of [`DpoForm`] that add up, `loss_weights` their weights; `label_smoothing`, `f_divergence_type`, `ld_alpha` and
//! `use_weighting` (WPO) change what they are taken of. The method's row refuses an option that no form of the list uses.
//! Differs from TRL 1.16: label smoothing acts on `sigmoid` and `sigmoid_norm` (TRL has dropped it there), `ipo_sum` and
//! `dpop` exist, pairs that do not fit `max_length` are left out and not cut, and metrics of a step are weighted by pairs and
//! tokens, not by micro-batches. It also logs `kl/chosen`.

use super::contract::{AnyRecipe, Apart, Loss, Recipe, RecipeRow, Seen, Window, pair_tokens, reference, sides};
use crate::domain::{Params, method};
use crate::model::error::Error;
use crate::train::loss::{Divergence, Dpo, DpoForm, DpoPair, Tally};

/// Its row in the registry.
pub(super) const RECIPE: RecipeRow =
    RecipeRow { name: "dpo", open: |params| Ok(AnyRecipe::offline(DpoRecipe::new(params)?)) };

/// The recipe.
struct DpoRecipe {
    dpo: Dpo,
    soft: bool,
}

/// A number, or the default of its row for a run from before the row was there.
fn number(params: &Params, key: &str) -> f64 {
    if params.text(key).is_empty() { default(key) } else { params.f64(key) }
}

/// The default of a row of DPO.
fn default(key: &str) -> f64 {
    let rows = method("dpo").map(|m| m.own).unwrap_or_default();
    rows.iter().find(|r| r.key == key).and_then(|r| r.default.parse().ok()).unwrap_or(f64::NAN)
}

impl Dpo {
    /// The loss that the hyper-parameters describe.
    ///
    /// # Errors
    /// When a loss or a divergence is unknown. What contradicts what is the method row's to say.
    pub(super) fn from_params(params: &Params) -> Result<Self, Error> {
        let (tau, lambda) = (number(params, "discopop_tau"), number(params, "dpop_lambda"));
        let weights: Vec<f64> = params.words("loss_weights").filter_map(|w| w.parse().ok()).collect();
        let mut terms = Vec::new();
        for (i, name) in params.words("loss_type").enumerate() {
            let Some(form) = DpoForm::named(name, tau, lambda) else {
                return Err(Error::Asked(format!("loss_type={name} is no loss of dpo")));
            };
            terms.push((form, weights.get(i).or(weights.first()).copied().unwrap_or(1.0)));
        }
        let divergence = match params.text("f_divergence_type") {
            "" | "reverse_kl" => Divergence::ReverseKl,
            "forward_kl" => Divergence::ForwardKl,
            "js_divergence" => Divergence::Js,
            "alpha_divergence" => Divergence::Alpha(number(params, "f_alpha_divergence_coef")),
            other => return Err(Error::Asked(format!("f_divergence_type={other} is no divergence of dpo"))),
        };
        Ok(Self {
            beta: params.f64("beta"),
            terms,
            label_smoothing: number(params, "label_smoothing"),
            divergence,
            ld_alpha: number(params, "ld_alpha"),
            wpo: params.bool("use_weighting"),
        })
    }
}

impl DpoRecipe {
    fn new(params: &Params) -> Result<Self, Error> {
        Ok(Self { dpo: Dpo::from_params(params)?, soft: params.bool("soft_labels") })
    }
}

impl Recipe for DpoRecipe {
    fn needs_reference(&self) -> bool {
        true
    }

    fn at_reference(&self) -> Option<f64> {
        self.dpo.at_reference()
    }

    fn apart(&self) -> Apart {
        // The others sort the micro-batch, or count its tokens.
        let of_batch = |form: &DpoForm| form.sorts_batch() || *form == DpoForm::Sft;
        if self.dpo.terms.iter().any(|(form, _)| of_batch(form)) { Apart::No } else { Apart::Mean }
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
                collision_chosen: &chosen.collision,
                collision_rejected: &rejected.collision,
                epsilon: pair.example.agreed.filter(|_| self.soft).map(|agreed| 1.0 - agreed),
            });
        }
        let out = self.dpo.loss(&pairs, tally);
        pair_tokens(batch, tally);
        Ok(Loss::of_pairs(out, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;

    fn with(settings: &[(&str, &str)]) -> Result<Dpo, Error> {
        let rows = method("dpo").unwrap().rows();
        let mut params = Params::defaults(&rows);
        for (key, value) in settings {
            params.set(&rows, "dpo", key, value).unwrap();
        }
        Dpo::from_params(&params)
    }

    #[test]
    fn defaults_are_plain_dpo() {
        assert_eq!(with(&[]).unwrap(), Dpo::new(0.1, DpoForm::Sigmoid));
    }

    #[test]
    fn a_run_from_before_an_option_was_there_has_its_default() {
        let old = [("beta", "0.2"), ("loss_type", "ipo"), ("label_smoothing", "0")];
        let params = Params(old.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(Dpo::from_params(&params).unwrap(), Dpo::new(0.2, DpoForm::Ipo));
    }

    #[test]
    fn every_option_reaches_the_loss() {
        let dpo = with(&[
            ("loss_type", "discopop,sft"),
            ("loss_weights", "0.8,0.2"),
            ("discopop_tau", "0.1"),
            ("f_divergence_type", "alpha_divergence"),
            ("f_alpha_divergence_coef", "0.3"),
            ("ld_alpha", "0.5"),
            ("use_weighting", "true"),
        ]);
        let want = Dpo {
            beta: 0.1,
            terms: vec![(DpoForm::Discopop { tau: 0.1 }, 0.8), (DpoForm::Sft, 0.2)],
            label_smoothing: 0.0,
            divergence: Divergence::Alpha(0.3),
            ld_alpha: 0.5,
            wpo: true,
        };
        assert_eq!(dpo.unwrap(), want);
        let dpo = with(&[("loss_type", "dpop,robust"), ("dpop_lambda", "5"), ("label_smoothing", "0.2")]).unwrap();
        assert_eq!(dpo.terms, [(DpoForm::Dpop { lambda: 5.0 }, 1.0), (DpoForm::Robust, 1.0)]);
        assert_eq!(dpo.label_smoothing, 0.2);
        let dpo = with(&[("loss_type", "sigmoid,hinge"), ("loss_weights", "0.5")]).unwrap();
        assert_eq!(dpo.terms, [(DpoForm::Sigmoid, 0.5), (DpoForm::Hinge, 0.5)]);
    }

    /// What the method's row says of each loss, so that options without effect are refused, is so of its form.
    #[test]
    fn the_rules_about_options_know_the_forms() {
        let dpo = method("dpo").unwrap();
        let losses = dpo.own.iter().find(|row| row.key == "loss_type").map(|row| row.kind);
        let Some(Kind::List(names)) = losses else { panic!("{losses:?}") };
        for name in names.iter().filter(|name| **name != "sft") {
            let form = DpoForm::named(name, 0.05, 50.0).unwrap();
            let refused = |settings: &[(&str, &str)]| {
                let mut params = Params::defaults(&dpo.rows());
                for (key, value) in [&[("loss_type", *name)], settings].concat() {
                    params.set(&dpo.rows(), "dpo", key, value).unwrap();
                }
                dpo.contradiction(&params).is_some()
            };
            assert_eq!(refused(&[("label_smoothing", "0.1")]), !form.uses_label_smoothing(), "{name}");
            let smoothing: &[(&str, &str)] =
                if form.uses_label_smoothing() { &[("label_smoothing", "0.1")] } else { &[] };
            let with = |more: (&'static str, &'static str)| refused(&[smoothing, &[more]].concat());
            assert_eq!(with(("soft_labels", "true")), !form.uses_label_smoothing(), "{name}");
            assert_eq!(with(("f_divergence_type", "js_divergence")), !form.takes_divergence(), "{name}");
            assert_eq!(with(("use_weighting", "true")), form.sorts_batch(), "{name}");
        }
    }
}
