//! The row of ORPO: its options and its objective as a formula.

use super::table::{Method, Needs, nothing, row};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "orpo",
    title: "Odds-ratio preference optimisation",
    help: "one stage from a base model: answer like chosen, with better odds than rejected; no reference",
    needs: Needs::Pairs,
    reference: false,
    probes: true,
    mixes: true,
    without: &[],
    own: &[
        row(
            "beta",
            Kind::Float(0.0, 1000.0),
            "0.1",
            "0.05 – 0.5",
            "weight of the odds ratio beside the SFT term (lambda)",
            true,
        ),
        row(
            "orpo_nll",
            Kind::Choice(&["prompt_and_chosen", "completion_token_mean", "completion_seq_mean"]),
            "prompt_and_chosen",
            "",
            "which tokens the SFT term covers",
            false,
        ),
    ],
    defaults: &[("learning_rate", "2e-5", "LoRA 5e-6 – 1e-4, full 1e-6 – 5e-6")],
    under: &[],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let nll = match p.text("orpo_nll") {
        "completion_token_mean" => "NLL(chosen, per token)",
        "completion_seq_mean" => "NLL(chosen, per answer)",
        _ => "NLL(prompt + chosen, per token)",
    };
    format!("{nll} − {}·log σ(log odds(c) − log odds(r)),  odds = p/(1−p), p = exp(mean log π)", p.text("beta"))
}
