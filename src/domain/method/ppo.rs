//! The row of PPO: its options and its objective as a formula.

use super::table::{
    ANSWERS_BATCH, ANSWERS_BEST, ANSWERS_EVAL, ANSWERS_RATE, CHECKS_UNDER, Method, Needs, Under, nothing,
    reward_formula, row,
};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "ppo",
    title: "Proximal policy optimisation",
    help: "answer, be scored, climb the score with a value head, held near the frozen reference by a KL penalty",
    needs: Needs::Prompts,
    reference: true,
    probes: true,
    mixes: true,
    without: &["group_by_length", "max_tokens_per_batch"],
    own: &[
        row(
            "kl_coef",
            Kind::Float(0.0, 100.0),
            "0.05",
            "0.01 – 0.2",
            "price of a nat of distance from the reference",
            true,
        ),
        row(
            "kl_target",
            Kind::Float(0.0, 10_000.0),
            "0",
            "3 – 10",
            "nats an answer to steer the price to (adaptive); 0 keeps kl_coef",
            false,
        ),
        row(
            "kl_horizon",
            Kind::Float(1.0, 1e9),
            "10000",
            "",
            "answers over which the adaptive price corrects itself",
            false,
        ),
        row("cliprange", Kind::Float(0.0, 10.0), "0.2", "0.1 – 0.3", "a ratio this far from 1 counts no more", false),
        row(
            "cliprange_value",
            Kind::Float(0.0, 1000.0),
            "0.2",
            "0.1 – 0.5",
            "a value this far from its old one counts no more",
            false,
        ),
        row("vf_coef", Kind::Float(0.0, 100.0), "0.1", "0.05 – 1", "weight of the value loss", false),
        row("entropy_coef", Kind::Float(0.0, 10.0), "0", "0 – 0.01", "weight of the entropy bonus", false),
        row("gamma", Kind::Float(0.0, 1.0), "1", "", "discount of a reward by each token it lies ahead", false),
        row("lam", Kind::Float(0.0, 1.0), "0.95", "0.9 – 1", "lambda of the advantage estimate (GAE)", false),
        row("whiten_rewards", Kind::Bool, "false", "", "scale the tokens' rewards to variance 1", false),
    ],
    defaults: &[ANSWERS_RATE, ("num_iterations", "4", "1 – 4"), ANSWERS_BATCH, ANSWERS_EVAL, ANSWERS_BEST],
    under: &[
        CHECKS_UNDER,
        Under { keys: &["kl_horizon"], holds: |p| p.f64("kl_target") > 0.0, of: "kl_target", remedy: "set kl_target" },
        Under { keys: &["cliprange_value"], holds: |p| p.f64("vf_coef") > 0.0, of: "vf_coef", remedy: "raise vf_coef" },
    ],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let price = match p.f64("kl_target") {
        t if t > 0.0 => format!("β (adaptive, KL → {t})"),
        _ => p.text("kl_coef").to_owned(),
    };
    let entropy = match p.f64("entropy_coef") {
        c if c > 0.0 => format!(" − {c}·H"),
        _ => String::new(),
    };
    format!(
        "−min(ρA, clip(ρ, 1±{})A) + {}·½max((V − G)², (clip(V, V_old±{}) − G)²){entropy},  A = GAE(γ {}, λ {}) of \
         r_t = −{price}·(log π − log π_ref) + R at the end,  {}",
        p.text("cliprange"),
        p.text("vf_coef"),
        p.text("cliprange_value"),
        p.text("gamma"),
        p.text("lam"),
        reward_formula(p)
    )
}
