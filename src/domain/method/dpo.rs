//! The row of DPO: its options and its objective as a formula.

use super::{Method, Needs, row};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "dpo",
    title: "Direct preference optimisation",
    help: "push chosen above rejected, held near the frozen reference",
    needs: Needs::Pairs,
    reference: true,
    probes: true,
    mixes: true,
    without: &[],
    own: &[
        row("beta", Kind::Float(1e-6, 1000.0), "0.1", "0.01 – 0.5", "how hard to stay near the reference", true),
        row(
            "loss_type",
            Kind::Choice(&["sigmoid", "ipo", "ipo_sum", "hinge"]),
            "sigmoid",
            "",
            "shape of the loss over the margin",
            true,
        ),
        row(
            "label_smoothing",
            Kind::Float(0.0, 0.499),
            "0",
            "0 – 0.2",
            "share of labels taken to be wrong (sigmoid: cDPO)",
            false,
        ),
    ],
    defaults: &[("learning_rate", "1e-5", "LoRA 1e-6 – 2e-5, full 1e-7 – 2e-6")],
    objective,
};

fn objective(p: &Params) -> String {
    let beta = p.text("beta");
    let ratio = "(log π(c) − log π_ref(c)) − (log π(r) − log π_ref(r))";
    match p.text("loss_type") {
        "ipo" => format!("(Δ − 1/(2·{beta}))²,  Δ = mean-token {ratio}"),
        "ipo_sum" => format!("(Δ − 1/(2·{beta}))²,  Δ = {ratio}"),
        "hinge" => format!("max(0, 1 − {beta}·Δ),  Δ = {ratio}"),
        _ if p.f64("label_smoothing") > 0.0 => {
            let e = p.text("label_smoothing");
            format!("−(1−{e})·log σ({beta}·Δ) − {e}·log σ(−{beta}·Δ),  Δ = {ratio}")
        }
        _ => format!("−log σ({beta}·Δ),  Δ = {ratio}"),
    }
}
