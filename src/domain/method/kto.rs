//! The row of KTO: its options and its objective as a formula.

use super::table::{Method, Needs, row};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "kto",
    title: "Kahneman–Tversky optimisation",
    help: "learn from single answers with a thumb up or down, held near the frozen reference",
    needs: Needs::Ratings,
    reference: true,
    probes: true,
    mixes: true,
    without: &["max_tokens_per_batch"],
    own: &[
        row("beta", Kind::Float(1e-6, 1000.0), "0.1", "0.01 – 0.5", "how hard to stay near the reference", true),
        row(
            "loss_type",
            Kind::Choice(&["kto", "apo_zero_unpaired"]),
            "kto",
            "",
            "kto measures against the drift on mismatched answers, apo_zero_unpaired against the reference alone",
            true,
        ),
        row(
            "desirable_weight",
            Kind::Float(0.0, 1000.0),
            "1",
            "weight · count of good 1 – 1.33 times that of bad",
            "weight of the good answers",
            true,
        ),
        row("undesirable_weight", Kind::Float(0.0, 1000.0), "1", "as above", "weight of the bad answers", true),
    ],
    defaults: &[
        ("learning_rate", "1e-5", "LoRA 5e-6 – 5e-5, full 5e-7 – 5e-6"),
        ("per_device_train_batch_size", "8", "4 – 32; kto at least 2"),
    ],
    under: &[],
    refuse,
    objective,
};

fn refuse(p: &Params) -> Option<String> {
    // Absent, the form is the default one; the batch may be absent as well.
    let neighbours = matches!(p.text("loss_type"), "" | "kto");
    (neighbours && p.usize("per_device_train_batch_size") == 1).then(|| {
        "kto scores every answer on its neighbour's prompt as well; set per_device_train_batch_size to 2 or more, or take \
         loss_type=apo_zero_unpaired"
            .into()
    })
}

fn objective(p: &Params) -> String {
    let beta = p.text("beta");
    let (good, bad) = (p.text("desirable_weight"), p.text("undesirable_weight"));
    let ratio = "a = log π(y) − log π_ref(y)";
    if p.text("loss_type") == "kto" {
        format!(
            "good: {good}·(1 − σ({beta}·(a − z))), bad: {bad}·(1 − σ({beta}·(z − a))),  {ratio},  \
             z = max(0, mean a of answers to other prompts)"
        )
    } else {
        format!("good: {good}·(1 − σ({beta}·a)), bad: {bad}·σ({beta}·a),  {ratio}")
    }
}
