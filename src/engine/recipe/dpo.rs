//! DPO: −log σ(β·[(log π(c) − log ρ(c)) − (log π(r) − log ρ(r))]), log-probs summed over the answers' tokens.
//!
//! Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model". `loss_type` lists
//! the forms of [`DpoForm`] that add up, `loss_weights` their weights; `label_smoothing`, `f_divergence_type`, `ld_alpha` and
//! `use_weighting` (WPO) change what they are taken of. An option that no form of the list uses is refused.
//! Differs from TRL 1.16: label smoothing acts on `sigmoid` and `sigmoid_norm` (TRL has dropped it there), `ipo_sum` and
//! `dpop` exist, pairs that do not fit `max_length` are left out and not cut, and metrics of a step are weighted by pairs and
//! tokens, not by micro-batches. It also logs `kl/chosen`.

use super::{Apart, Loss, Recipe, Seen, Window, pair_tokens, reference, sides};
use crate::domain::{Params, method};
use crate::engine::error::Error;
use crate::engine::loss::{Divergence, Dpo, DpoForm, DpoPair, Tally};

/// The recipe.
pub(super) struct DpoRecipe {
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
    /// When an option has no meaning for the losses chosen, or contradicts them; the sentence says what to do.
    pub(super) fn from_params(params: &Params) -> Result<Self, Error> {
        let refuse = |sentence: String| Err(Error::Asked(sentence));
        let list = params.text("loss_type");
        let (tau, lambda) = (number(params, "discopop_tau"), number(params, "dpop_lambda"));
        let names: Vec<&str> = params.words("loss_type").collect();
        let mut forms = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let Some(form) = DpoForm::named(name, tau, lambda) else {
                return refuse(format!("loss_type={name} is no loss of dpo"));
            };
            if names[..i].contains(name) {
                return refuse(format!(
                    "loss_type={list} names {name} twice; give it once and weigh it by loss_weights"
                ));
            }
            forms.push(form);
        }
        if forms.iter().all(|form| *form == DpoForm::Sft) {
            return refuse(
                "loss_type=sft alone learns no preference; add another (loss_type=sigmoid,sft) or take the method sft"
                    .into(),
            );
        }
        let weights: Vec<f64> = params.words("loss_weights").filter_map(|w| w.parse().ok()).collect();
        let weights = match weights.len() {
            0 => vec![1.0; forms.len()],
            1 => vec![weights[0]; forms.len()],
            n if n == forms.len() => weights,
            n => {
                return refuse(format!(
                    "loss_weights has {n} numbers and loss_type={list} {} losses; give one number for each, or one for all",
                    forms.len()
                ));
            }
        };
        let label_smoothing = number(params, "label_smoothing");
        if label_smoothing > 0.0 && !forms.iter().any(|form| form.uses_label_smoothing()) {
            return refuse(format!(
                "label_smoothing has no meaning for loss_type={list}; set it to 0 or take loss_type=sigmoid"
            ));
        }
        if label_smoothing == 0.0 && !params.bool("soft_labels") && forms.contains(&DpoForm::Robust) {
            return refuse("loss_type=robust with label_smoothing=0 is sigmoid; set it to 0.1, or take sigmoid".into());
        }
        if label_smoothing == 0.0 && forms.contains(&DpoForm::ExoPair) {
            return refuse("loss_type=exo_pair needs label_smoothing above 0; its authors take 0.001".into());
        }
        let unused = |key: &str, loss: &str| number(params, key) != default(key) && !names.contains(&loss);
        for (key, loss) in [("discopop_tau", "discopop"), ("dpop_lambda", "dpop")] {
            if unused(key, loss) {
                return refuse(format!(
                    "{key} has no meaning for loss_type={list}; leave it at {} or take loss_type={loss}",
                    default(key)
                ));
            }
        }
        let coefficient = number(params, "f_alpha_divergence_coef");
        let divergence = match params.text("f_divergence_type") {
            "" | "reverse_kl" => Divergence::ReverseKl,
            "forward_kl" => Divergence::ForwardKl,
            "js_divergence" => Divergence::Js,
            "alpha_divergence" => Divergence::Alpha(coefficient),
            other => return refuse(format!("f_divergence_type={other} is no divergence of dpo")),
        };
        if coefficient != default("f_alpha_divergence_coef") && !matches!(divergence, Divergence::Alpha(_)) {
            return refuse(format!(
                "f_alpha_divergence_coef has no meaning here; leave it at {} or take f_divergence_type=alpha_divergence",
                default("f_alpha_divergence_coef")
            ));
        }
        if divergence != Divergence::ReverseKl
            && let Some(at) = forms.iter().position(|form| !form.takes_divergence())
        {
            return refuse(format!(
                "loss_type={} is only defined for f_divergence_type=reverse_kl; take that, or another loss",
                names[at]
            ));
        }
        if params.bool("soft_labels") && !forms.iter().any(|form| form.uses_label_smoothing()) {
            return refuse(format!("soft_labels has no meaning for loss_type={list}; set it to false or take sigmoid"));
        }
        let wpo = params.bool("use_weighting");
        if wpo && let Some(at) = forms.iter().position(|form| form.sorts_batch()) {
            return refuse(format!(
                "use_weighting weighs pairs, but loss_type={} sorts them over the batch; set it to false or take another loss",
                names[at]
            ));
        }
        Ok(Self {
            beta: params.f64("beta"),
            terms: forms.into_iter().zip(weights).collect(),
            label_smoothing,
            divergence,
            ld_alpha: number(params, "ld_alpha"),
            wpo,
        })
    }
}

impl DpoRecipe {
    pub(super) fn new(params: &Params) -> Result<Self, Error> {
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
        use DpoForm::{Hinge, Ipo, Robust, Sigmoid};
        // The others sort, average or shift over the micro-batch, or count its tokens.
        let alone = self.dpo.terms.iter().all(|(form, _)| matches!(form, Sigmoid | Hinge | Ipo | Robust));
        if alone && !self.dpo.wpo { Apart::Mean } else { Apart::No }
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

    #[test]
    fn an_option_that_no_loss_uses_is_refused_by_name() {
        let refused: [(&[(&str, &str)], &str); 11] = [
            (&[("loss_type", "hinge"), ("label_smoothing", "0.1")], "label_smoothing has no meaning"),
            (&[("loss_type", "exo_pair")], "needs label_smoothing"),
            (&[("discopop_tau", "0.1")], "discopop_tau has no meaning"),
            (&[("dpop_lambda", "5")], "dpop_lambda has no meaning"),
            (&[("f_alpha_divergence_coef", "0.3")], "f_alpha_divergence_coef has no meaning"),
            (&[("loss_type", "nca_pair"), ("f_divergence_type", "js_divergence")], "nca_pair is only defined"),
            (&[("loss_type", "dpop"), ("f_divergence_type", "forward_kl")], "dpop is only defined"),
            (&[("loss_type", "sigmoid,aot"), ("use_weighting", "true")], "loss_type=aot sorts"),
            (&[("loss_type", "sigmoid,sft"), ("loss_weights", "1,2,3")], "3 numbers"),
            (&[("loss_type", "ipo,ipo")], "twice"),
            (&[("loss_type", "sft")], "no preference"),
        ];
        for (settings, part) in refused {
            let sentence = with(settings).unwrap_err().to_string();
            assert!(sentence.contains(part), "{settings:?}: {sentence}");
        }
    }
}
