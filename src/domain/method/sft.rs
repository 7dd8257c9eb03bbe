//! The row of supervised fine-tuning: its options and its objective as a formula.

use super::table::{Method, Needs, nothing, row};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "sft",
    title: "Supervised fine-tuning",
    help: "imitate good answers, token by token; the base of everything after it",
    needs: Needs::Examples,
    reference: false,
    probes: true,
    mixes: false,
    without: &[],
    own: &[
        row(
            "assistant_only_loss",
            Kind::Bool,
            "true",
            "",
            "conversations: learn the assistant's turns only, not what it was asked",
            true,
        ),
        row("completion_only_loss", Kind::Bool, "true", "", "prompt and completion: learn the completion only", true),
        row(
            "loss_type",
            Kind::Choice(&["nll", "dft"]),
            "nll",
            "",
            "nll, or dft: each token weighted by its own probability",
            false,
        ),
        row("packing", Kind::Bool, "false", "", "several short texts in one row that do not see each other", false),
    ],
    defaults: &[
        ("learning_rate", "1e-4", "LoRA 5e-5 – 2e-4, full 5e-6 – 5e-5"),
        ("num_train_epochs", "3", "1 – 3"),
        ("per_device_train_batch_size", "8", "1 – 32"),
    ],
    under: &[],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let tokens = match (p.bool("assistant_only_loss"), p.bool("completion_only_loss")) {
        (true, true) => "tokens of the answers",
        (true, false) => "the assistant's tokens; of prompt and completion all",
        (false, true) => "all tokens; of prompt and completion the completion's",
        (false, false) => "all tokens",
    };
    let packed = if p.bool("packing") { ", several texts to a row" } else { "" };
    match p.text("loss_type") {
        "dft" => format!("−Σ p_t·log π(y_t) / N,  p_t = π(y_t) held constant, y_t the {tokens}{packed}"),
        _ => format!("−Σ log π(y_t) / N,  y_t the {tokens}{packed}"),
    }
}
