//! SimPO: −log σ(β·(A_c − A_r) − γ), A = mean log-prob of an answer's tokens.
//!
//! Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward". Differs from TRL 1.16: a separate
//! method with `cpo_alpha=0`, as published (TRL's default adds the NLL); otherwise as CPO does.

use super::contract::{Registered, read};
use super::cpo::{CpoRecipe, nll_term, smoothed_formula, soft_labels_note};
use crate::domain::{Hyperparameters, Method, Needs, ParamKind, SOFT_LABELS, hyperparameters, nothing, row};
use crate::train::loss::{Cpo, CpoForm};

/// The registry's row.
pub(super) const SIMPO: Registered =
    Registered { method: METHOD, new: |params| Ok(Box::new(recipe(&read::<SimpoParams>(params)?))) };

/// The method table's row.
const METHOD: Method = Method {
    name: "simpo",
    title: "Simple preference optimisation",
    help: "prefer chosen over rejected by mean log-probs with a target margin; no reference model",
    needs: Needs::Pairs,
    reference: false,
    probes: true,
    mixes: true,
    without: &[],
    own: SimpoParams::rows,
    defaults: &[("learning_rate", "1e-5", "LoRA 1e-6 – 2e-5, full 3e-7 – 1e-6")],
    dependencies: Vec::new,
    refuse: nothing,
    objective: |p| SimpoParams::described(p, objective),
};

hyperparameters! {
    /// Hyper-parameters of SimPO.
    struct SimpoParams {
        beta: f64 = row(ParamKind::Float(1e-6, 1000.0), "2", "2 – 10", "scale of the difference of mean log-probs", true);
        simpo_gamma: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "0.5",
            "0 – beta; 0.5·beta is a good start",
            "target reward margin (gamma), already multiplied by beta",
            true,
        );
        cpo_alpha: f64 = row(
            ParamKind::Float(0.0, 1000.0),
            "0",
            "0 – 1",
            "weight of the NLL of the chosen answers; 0: SimPO as published",
            false,
        );
        label_smoothing: f64 = row(
            ParamKind::Float(0.0, 0.499),
            "0",
            "0 – 0.2",
            "assumed share of wrong labels",
            false,
        );
        soft_labels: bool = SOFT_LABELS;
    }
}

fn objective(p: &SimpoParams) -> String {
    let term = smoothed_formula(&format!("{}·d − {}", p.beta, p.simpo_gamma), p.label_smoothing);
    format!("{term}{},  d = mean log π(c) − mean log π(r){}", nll_term(p.cpo_alpha), soft_labels_note(p.soft_labels))
}

fn recipe(p: &SimpoParams) -> CpoRecipe {
    let form = CpoForm::Simpo { gamma: p.simpo_gamma };
    let cpo = Cpo { beta: p.beta, form, label_smoothing: p.label_smoothing, alpha: p.cpo_alpha };
    CpoRecipe { cpo, soft: p.soft_labels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Params, method};

    #[test]
    fn options_reach_the_loss() {
        let rows = method("simpo").unwrap().rows();
        let mut params = Params::defaults(&rows);
        params.set(&rows, "simpo", "simpo_gamma", "1.2").unwrap();
        params.set(&rows, "simpo", "label_smoothing", "0.1").unwrap();
        let simpo = recipe(&read(&params).unwrap()).cpo;
        assert_eq!(simpo, Cpo { beta: 2.0, form: CpoForm::Simpo { gamma: 1.2 }, label_smoothing: 0.1, alpha: 0.0 });
    }
}
