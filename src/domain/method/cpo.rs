//! The row of CPO: its options and its objective as a formula.

use super::table::{Method, Needs, SOFT_LABELS, Under, nothing, row};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "cpo",
    title: "Contrastive preference optimisation",
    help: "push chosen above rejected and imitate chosen; no reference, half the forward passes of DPO",
    needs: Needs::Pairs,
    reference: false,
    probes: true,
    mixes: true,
    without: &[],
    own: &[
        row("beta", Kind::Float(1e-6, 1000.0), "0.1", "0.1 – 0.5", "scale of the log-probs' difference", true),
        row(
            "loss_type",
            Kind::Choice(&["sigmoid", "hinge", "ipo"]),
            "sigmoid",
            "",
            "shape of the loss over the difference",
            true,
        ),
        row(
            "cpo_alpha",
            Kind::Float(0.0, 1000.0),
            "1",
            "0.5 – 1",
            "weight of imitating the chosen answers; what holds the model in place of a reference",
            true,
        ),
        row(
            "label_smoothing",
            Kind::Float(0.0, 0.499),
            "0",
            "0 – 0.2",
            "share of labels taken to be wrong (sigmoid)",
            false,
        ),
        SOFT_LABELS,
    ],
    defaults: &[("learning_rate", "1e-5", "LoRA 1e-6 – 2e-5, full 1e-7 – 2e-6")],
    under: &[Under {
        keys: &["label_smoothing", "soft_labels"],
        holds: |p| p.text("loss_type") == "sigmoid",
        of: "loss_type",
        remedy: "take loss_type=sigmoid",
    }],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let beta = p.text("beta");
    let (term, d) = match p.text("loss_type") {
        "hinge" => (format!("max(0, 1 − {beta}·d)"), "d = log π(c) − log π(r)"),
        "ipo" => (format!("(d − 1/(2·{beta}))²"), "d = mean log π(c) − mean log π(r)"),
        _ => (smoothed(&format!("{beta}·d"), p), "d = log π(c) − log π(r)"),
    };
    format!("{term}{},  {d}{}", imitation(p), votes(p))
}

/// −log σ(x), smoothed where that is asked for.
pub(super) fn smoothed(x: &str, p: &Params) -> String {
    if p.f64("label_smoothing") > 0.0 {
        let e = p.text("label_smoothing");
        format!("−(1−{e})·log σ({x}) − {e}·log σ(−({x}))")
    } else {
        format!("−log σ({x})")
    }
}

/// What stands in for the run's ε.
pub(super) fn votes(p: &Params) -> &'static str {
    if p.bool("soft_labels") { ",  ε of a pair = its votes against, or its rater's slips" } else { "" }
}

/// The term that imitates the chosen answers.
pub(super) fn imitation(p: &Params) -> String {
    match p.f64("cpo_alpha") {
        0.0 => String::new(),
        _ => format!(" + {}·NLL(chosen, per token)", p.text("cpo_alpha")),
    }
}
