//! The row of the reward model: its options and its objective as a formula.

use super::table::{Method, Needs, nothing, row};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "reward",
    title: "Reward model",
    help: "learn a score that ranks chosen above rejected; PPO, GRPO and RLOO climb it",
    needs: Needs::Pairs,
    reference: false,
    probes: false,
    mixes: false,
    without: &["sample_steps"],
    own: &[
        row(
            "use_margin",
            Kind::Bool,
            "false",
            "",
            "a stronger verdict asks for a wider gap (its margin, 0 to 1)",
            true,
        ),
        row(
            "soft_labels",
            Kind::Bool,
            "false",
            "",
            "a pair's own chance of a wrong label: the votes against it, or how often its one rater judged otherwise again",
            false,
        ),
        row(
            "center_rewards_coefficient",
            Kind::Float(0.0, 100.0),
            "0.01",
            "0 – 0.1",
            "pull of the scores' sum towards 0",
            true,
        ),
    ],
    defaults: &[("learning_rate", "1e-4", "LoRA 5e-5 – 5e-4, full 5e-6 – 2e-5"), ("eval_fraction", "0.2", "0.1 – 0.3")],
    under: &[],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let margin = if p.bool("use_margin") { " − margin" } else { "" };
    let center = match p.f64("center_rewards_coefficient") {
        c if c > 0.0 => format!(" + {}·(r(c) + r(r))²", p.text("center_rewards_coefficient")),
        _ => String::new(),
    };
    let soft = if p.bool("soft_labels") { ", ε of a pair = its votes against, or its rater's slips" } else { "" };
    format!("−log σ(r(c) − r(r){margin}){center}{soft},  r = w·h at the answer's last token")
}
