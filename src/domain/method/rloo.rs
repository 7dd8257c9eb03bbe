//! The row of RLOO: its options and its objective as a formula.

use super::table::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, CHECKS_UNDER, EPSILON, EPSILON_HIGH, Method, Needs,
    nothing, reward_formula, row,
};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "rloo",
    title: "REINFORCE leave-one-out",
    help: "several answers to each prompt, each against the mean of the others, held near the reference; no value head",
    needs: Needs::Prompts,
    reference: true,
    probes: true,
    mixes: true,
    without: &["group_by_length", "max_tokens_per_batch"],
    own: &[
        row(
            "beta",
            Kind::Float(0.0, 100.0),
            "0.05",
            "0.01 – 0.1",
            "price of a nat of distance from the reference",
            true,
        ),
        EPSILON,
        EPSILON_HIGH,
        row("normalize_advantages", Kind::Bool, "false", "", "scale the advantages to mean 0 and variance 1", false),
    ],
    defaults: &[ANSWERS_RATE, ANSWERS_BATCH, ANSWERS_EVAL, ANSWERS_BEST],
    under: &[CHECKS_UNDER],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let price = match p.f64("beta") {
        b if b > 0.0 => format!(" − {}·Σ(log π − log π_ref)", p.text("beta")),
        _ => String::new(),
    };
    let scaled = if p.bool("normalize_advantages") { ", scaled to mean 0 and variance 1" } else { "" };
    format!(
        "−min(ρA, clip(ρ, 1−{}, 1+{})A),  A = R′ − mean R′ of its siblings{scaled},  R′ = R{price},  {}",
        p.text("epsilon"),
        p.text("epsilon_high"),
        reward_formula(p)
    )
}
