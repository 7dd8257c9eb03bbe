//! CPO: −log σ(β·[log π(c) − log π(r)]) + α·NLL(c), log-probs summed over the answers' tokens.
//!
//! Xu et al. 2024, "Contrastive Preference Optimization". No reference model. `loss_type`: `sigmoid`, `hinge`, `ipo` (means).
//! With `soft_labels` a pair's share of contrary votes replaces `label_smoothing` where raters disagreed.
//! Differs from TRL 1.16: no second EOS token after a chat template, pairs that are too long are left out instead of truncated,
//! and `logits/*` are means over answer tokens (TRL: over all positions, padding included).

use super::contract::{
    BatchLoss, HealthHints, Recipe, Registered, ScoredExample, Separable, UpdateWindow, pair_token_metrics, read,
};
use crate::domain::{
    Condition, Dependency, Hyperparameters, Method, Needs, ParamKind, SOFT_LABELS, choices, hyperparameters, nothing,
    row,
};
use crate::model::error::Error;
use crate::train::loss::{Cpo, CpoForm, CpoPair, Tally};

/// The registry's row.
pub(super) const CPO: Registered =
    Registered { method: METHOD, new: |params| Ok(Box::new(CpoRecipe::new(&read::<CpoParams>(params)?))) };

/// The method table's row.
const METHOD: Method = Method {
    name: "cpo",
    title: "Contrastive preference optimisation",
    help: "prefer chosen over rejected plus SFT on chosen; no reference model",
    needs: Needs::Pairs,
    reference: false,
    probes: true,
    mixes: true,
    without: &[],
    own: CpoParams::rows,
    defaults: &[("learning_rate", "1e-5", "LoRA 1e-6 – 2e-5, full 1e-7 – 2e-6")],
    dependencies: || {
        let sigmoid = Condition::Includes("sigmoid");
        let keys = &["label_smoothing", "soft_labels"];
        vec![Dependency { keys, condition: sigmoid, on: "loss_type", remedy: "set loss_type=sigmoid".into() }]
    },
    refuse: nothing,
    objective: |p| CpoParams::described(p, objective),
};

choices! {
    /// The loss on the log-prob difference x.
    enum CpoLoss {
        /// −log σ.
        Sigmoid = "sigmoid",
        /// max(0, 1 − x).
        Hinge = "hinge",
        /// Squared error, with mean log-probs.
        Ipo = "ipo",
    }
}

hyperparameters! {
    /// Hyper-parameters of CPO.
    struct CpoParams {
        beta: f64 = row(ParamKind::Float(1e-6, 1000.0), "0.1", "0.1 – 0.5", "scale of the log-prob difference", true);
        loss_type: CpoLoss = row(
            ParamKind::Choice(CpoLoss::WORDS),
            "sigmoid",
            "",
            "loss on the log-prob difference",
            true,
        );
        cpo_alpha: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "1",
            "0.5 – 1",
            "weight of the NLL of the chosen answers",
            true,
        );
        label_smoothing: f64 = row(
            ParamKind::Float(0.0, 0.499),
            "0",
            "0 – 0.2",
            "assumed share of wrong labels (sigmoid)",
            false,
        );
        soft_labels: bool = SOFT_LABELS;
    }
}

fn objective(p: &CpoParams) -> String {
    let beta = p.beta;
    let (term, d) = match p.loss_type {
        CpoLoss::Hinge => (format!("max(0, 1 − {beta}·d)"), "d = log π(c) − log π(r)"),
        CpoLoss::Ipo => (format!("(d − 1/(2·{beta}))²"), "d = mean log π(c) − mean log π(r)"),
        CpoLoss::Sigmoid => (smoothed_formula(&format!("{beta}·d"), p.label_smoothing), "d = log π(c) − log π(r)"),
    };
    format!("{term}{},  {d}{}", nll_term(p.cpo_alpha), soft_labels_note(p.soft_labels))
}

/// −log σ(x) with label smoothing `e`.
pub(super) fn smoothed_formula(x: &str, e: f64) -> String {
    if e > 0.0 { format!("−(1−{e})·log σ({x}) − {e}·log σ(−({x}))") } else { format!("−log σ({x})") }
}

/// The formula's note on `soft_labels`.
pub(super) fn soft_labels_note(soft_labels: bool) -> &'static str {
    if soft_labels { ",  ε per pair from contrary votes or its rater's inconsistency" } else { "" }
}

/// The NLL term of the formula.
pub(super) fn nll_term(alpha: f64) -> String {
    if alpha == 0.0 { String::new() } else { format!(" + {alpha}·NLL(chosen, per token)") }
}

/// The recipe of CPO and SimPO.
pub(super) struct CpoRecipe {
    /// The loss.
    pub(super) cpo: Cpo,
    /// Whether label smoothing is per pair.
    pub(super) soft: bool,
}

impl CpoRecipe {
    fn new(p: &CpoParams) -> Self {
        let form = match p.loss_type {
            CpoLoss::Sigmoid => CpoForm::Sigmoid,
            CpoLoss::Hinge => CpoForm::Hinge,
            CpoLoss::Ipo => CpoForm::Ipo,
        };
        let cpo = Cpo { beta: p.beta, form, label_smoothing: p.label_smoothing, alpha: p.cpo_alpha };
        Self { cpo, soft: p.soft_labels }
    }
}

impl Recipe for CpoRecipe {
    fn health(&self) -> HealthHints {
        HealthHints { mean_logps: matches!(self.cpo.form, CpoForm::Simpo { .. }), ..HealthHints::default() }
    }

    fn separable(&self) -> Separable {
        // The NLL term is a mean over the micro-batch's tokens.
        if self.cpo.alpha == 0.0 { Separable::Mean } else { Separable::No }
    }

    fn loss(&self, batch: &[ScoredExample<'_>], window: &UpdateWindow, tally: &mut Tally) -> Result<BatchLoss, Error> {
        let mut pairs = Vec::with_capacity(batch.len());
        for pair in batch {
            let (chosen, rejected) = pair.pair_scores()?;
            let epsilon = pair.example.agreed.filter(|_| self.soft).map(|agreed| 1.0 - agreed);
            pairs.push(CpoPair { chosen: &chosen.logp, rejected: &rejected.logp, epsilon });
        }
        let out = self.cpo.loss(&pairs, tally);
        pair_token_metrics(batch, tally);
        Ok(BatchLoss::from_pairs(out, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Params, method};

    #[test]
    fn options_reach_the_loss() {
        let rows = method("cpo").unwrap().rows();
        let mut params = Params::defaults(&rows);
        params.set(&rows, "cpo", "loss_type", "ipo").unwrap();
        params.set(&rows, "cpo", "cpo_alpha", "0.5").unwrap();
        let cpo = CpoRecipe::new(&read(&params).unwrap()).cpo;
        assert_eq!(cpo, Cpo { beta: 0.1, form: CpoForm::Ipo, label_smoothing: 0.0, alpha: 0.5 });
    }
}
