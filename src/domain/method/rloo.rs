//! The row of RLOO: its options and its objective as a formula.

use super::{Method, Needs, reward_formula, row};
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
    without: &["group_by_length"],
    own: &[
        row(
            "beta",
            Kind::Float(0.0, 100.0),
            "0.05",
            "0.01 – 0.1",
            "price of a nat of distance from the reference",
            true,
        ),
        row("epsilon", Kind::Float(0.0, 10.0), "0.2", "0.1 – 0.3", "a ratio this far below 1 counts no more", false),
        row(
            "epsilon_high",
            Kind::Float(0.0, 10.0),
            "0.2",
            "0.2 – 0.4",
            "a ratio this far above 1 counts no more",
            false,
        ),
        row("normalize_advantages", Kind::Bool, "false", "", "scale the advantages to mean 0 and variance 1", false),
    ],
    defaults: &[
        ("learning_rate", "1e-4", "LoRA 1e-5 – 3e-4, full 1e-6 – 1e-5"),
        ("per_device_train_batch_size", "16", "8 – 64"),
        ("eval_fraction", "0", "0 – 0.2"),
        ("metric_for_best_model", "eval_reward", ""),
    ],
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
