//! KTO: w_D·(1 − σ(β·(a − z))) for a desirable answer, w_U·(1 − σ(β·(z − a))) for an undesirable one, a = Σ log π − log ρ.
//!
//! Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization". z, at least 0 and without gradient, is
//! the mean of the same sum for mismatched answers: every answer is also scored after its neighbour's prompt.
//! `loss_type=apo_zero_unpaired` (D'Oosterlinck et al. 2024) has no z. Differs from TRL 1.16: rows longer than `max_length`
//! are left out instead of truncated, rows may be shuffled (mismatched answers are assigned before), and `kl` is logged only
//! where it is measured.

use super::contract::{BatchLoss, HealthHints, LossAtReference, Recipe, Registered, ScoredExample, UpdateWindow, read};
use crate::domain::{Hyperparameters, Method, Needs, ParamKind, Params, TrainerParams, hyperparameters, row};
use crate::model::error::Error;
use crate::train::data::TokeniseOptions;
use crate::train::loss::{Kto, KtoForm, KtoRow, Tally};

/// The registry's row.
pub(super) const KTO: Registered =
    Registered { method: METHOD, new: |params| Ok(Box::new(KtoRecipe::new(&read::<KtoParams>(params)?))) };

/// The method table's row.
const METHOD: Method = Method {
    name: "kto",
    title: "Kahneman–Tversky optimisation",
    help: "learn from answers labelled desirable or undesirable, regularised towards the reference model",
    needs: Needs::Ratings,
    reference: true,
    probes: true,
    mixes: true,
    without: &["max_tokens_per_batch"],
    own: KtoParams::rows,
    defaults: &[
        ("learning_rate", "1e-5", "LoRA 5e-6 – 5e-5, full 5e-7 – 5e-6"),
        ("per_device_train_batch_size", "8", "4 – 32; kto at least 2"),
    ],
    dependencies: Vec::new,
    refuse,
    objective: |p| KtoParams::described(p, objective),
};

hyperparameters! {
    /// Hyper-parameters of KTO.
    struct KtoParams {
        beta: f64 = row(ParamKind::Float(1e-6, 1000.0), "0.1", "0.01 – 0.5", "strength of the KL regularisation towards the reference", true);
        loss_type: KtoForm = row(
            ParamKind::Choice(KtoForm::WORDS),
            "kto",
            "",
            "kto uses a KL baseline from mismatched answers, apo_zero_unpaired none",
            true,
        );
        desirable_weight: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "1",
            "weight·count of desirable 1 – 1.33 × undesirable",
            "weight of desirable answers",
            true,
        );
        undesirable_weight: f64 = row(ParamKind::Float(0.0, 1000.0), "1", "as above", "weight of undesirable answers", true);
    }
}

fn refuse(params: &Params) -> Option<String> {
    let (p, shared) = match (KtoParams::read(params), TrainerParams::read(params)) {
        (Ok(p), Ok(shared)) => (p, shared),
        (Err(e), _) | (_, Err(e)) => return Some(e.to_string()),
    };
    (p.loss_type == KtoForm::Kto && shared.per_device_train_batch_size == 1).then(|| {
        "kto needs mismatched answers within a batch; set per_device_train_batch_size to 2 or more, or set \
         loss_type=apo_zero_unpaired"
            .into()
    })
}

fn objective(p: &KtoParams) -> String {
    let beta = p.beta;
    let (good, bad) = (p.desirable_weight, p.undesirable_weight);
    let ratio = "a = log π(y) − log π_ref(y)";
    match p.loss_type {
        KtoForm::Kto => format!(
            "desirable: {good}·(1 − σ({beta}·(a − z))), undesirable: {bad}·(1 − σ({beta}·(z − a))),  {ratio},  \
             z = max(0, mean a of mismatched answers)"
        ),
        KtoForm::ApoZeroUnpaired => {
            format!("desirable: {good}·(1 − σ({beta}·a)), undesirable: {bad}·σ({beta}·a),  {ratio}")
        }
    }
}

/// The recipe.
struct KtoRecipe(Kto);

impl KtoRecipe {
    fn new(p: &KtoParams) -> Self {
        Self(Kto {
            beta: p.beta,
            form: p.loss_type,
            desirable_weight: p.desirable_weight,
            undesirable_weight: p.undesirable_weight,
        })
    }
}

impl Recipe for KtoRecipe {
    fn needs_reference(&self) -> bool {
        true
    }

    fn tokenise_options(&self, shared: &TrainerParams) -> TokeniseOptions {
        let neighbours = self.0.form == KtoForm::Kto;
        TokeniseOptions {
            mismatch_block: if neighbours { shared.per_device_train_batch_size } else { 0 },
            ..TokeniseOptions::from_params(shared)
        }
    }

    /// Known only for equal weights: otherwise it depends on the batch's share of desirable answers.
    fn at_reference(&self) -> Option<LossAtReference> {
        let same = self.0.desirable_weight == self.0.undesirable_weight;
        same.then(|| LossAtReference { loss: self.0.loss_at_reference(1, 1), beta: self.0.beta })
    }

    fn health(&self) -> HealthHints {
        HealthHints {
            no_gradient: "Set desirable_weight and undesirable_weight above 0, and check that no answer is rated both good and bad.",
            ..HealthHints::default()
        }
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let mut rows = Vec::with_capacity(batch.len());
        let mut pool = Vec::new();
        for seen in batch {
            let [own] = seen.scores else {
                return Err(Error::Invalid(format!(
                    "rating {} has {} sequences, not one",
                    seen.example.id,
                    seen.scores.len()
                )));
            };
            let desirable = seen.example.desirable;
            let reference = seen.reference_logps()?;
            rows.push(KtoRow { policy: &own.logp, reference: &reference[0], desirable });
            let sum = |x: &[f64]| x.iter().sum::<f64>();
            pool.extend(seen.kl_scores.iter().zip(&reference[1..]).map(|(p, r)| sum(&p.logp) - sum(r)));
            let logits = if desirable { "logits/chosen" } else { "logits/rejected" };
            own.mean_logit.iter().for_each(|x| tally.add(logits, *x, 1.0));
            own.entropy.iter().for_each(|x| tally.add("entropy", *x, 1.0));
        }
        let out = self.0.loss(&rows, &pool, tally);
        Ok(BatchLoss::from_rows(out, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::method;

    fn kto(settings: &[(&str, &str)]) -> KtoRecipe {
        let rows = method("kto").unwrap().rows();
        let mut params = Params::defaults(&rows);
        for (key, value) in settings {
            params.set(&rows, "kto", key, value).unwrap();
        }
        KtoRecipe::new(&read(&params).unwrap())
    }

    #[test]
    fn the_loss_at_the_reference_is_known_for_equal_weights() {
        assert_eq!(kto(&[]).at_reference(), Some(LossAtReference { loss: 0.5, beta: 0.1 }));
        assert_eq!(kto(&[("desirable_weight", "1.3")]).at_reference(), None);
    }
}
