//! The row of GRPO: its options and its objective as a formula.

use super::table::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, CHECKS_UNDER, EPSILON, EPSILON_HIGH, Method, Needs, Under,
    nothing, reward_formula, row,
};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "grpo",
    title: "Group-relative policy optimisation",
    help: "several answers to each prompt; those above their group's mean are made likelier; no value head",
    needs: Needs::Prompts,
    reference: true,
    probes: true,
    mixes: true,
    without: &["group_by_length", "max_tokens_per_batch"],
    own: &[
        row("beta", Kind::Float(0.0, 100.0), "0", "0 – 0.1", "weight of the KL to the reference; 0 needs none", true),
        row(
            "loss_type",
            Kind::Choice(&["dapo", "grpo", "bnpo", "dr_grpo"]),
            "dapo",
            "",
            "how token losses are added up: by tokens, by answers, by the longest answer",
            false,
        ),
        row(
            "scale_rewards",
            Kind::Choice(&["group", "batch", "none"]),
            "group",
            "",
            "standard deviation that advantages are divided by",
            false,
        ),
        EPSILON,
        EPSILON_HIGH,
        row(
            "importance_sampling_level",
            Kind::Choice(&["token", "sequence"]),
            "token",
            "",
            "ratio of each token, or of the whole answer (GSPO)",
            false,
        ),
        row("use_bias_correction_kl", Kind::Bool, "true", "", "multiply the KL by the ratio", false),
        row("mask_truncated_completions", Kind::Bool, "false", "", "answers that did not end teach nothing", false),
    ],
    defaults: &[ANSWERS_RATE, ("num_generations", "8", "4 – 16"), ANSWERS_BATCH, ANSWERS_EVAL, ANSWERS_BEST],
    under: &[
        CHECKS_UNDER,
        Under { keys: &["use_bias_correction_kl"], holds: |p| p.f64("beta") > 0.0, of: "beta", remedy: "raise beta" },
    ],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let beta = p.text("beta");
    let kl = match p.f64("beta") {
        b if b > 0.0 && p.bool("use_bias_correction_kl") => format!(" + {beta}·ρ·KL₃(π_ref)"),
        b if b > 0.0 => format!(" + {beta}·KL₃(π_ref)"),
        _ => String::new(),
    };
    let by = match p.text("scale_rewards") {
        "none" => "",
        "batch" => " / std of the batch",
        _ => " / std of its group",
    };
    let ratio = if p.text("importance_sampling_level") == "sequence" { ", ρ of the whole answer" } else { "" };
    format!(
        "−min(ρA, clip(ρ, 1−{}, 1+{})A){kl} ({}),  A = (R − mean of its group){by}{ratio},  {}",
        p.text("epsilon"),
        p.text("epsilon_high"),
        p.text("loss_type"),
        reward_formula(p)
    )
}
