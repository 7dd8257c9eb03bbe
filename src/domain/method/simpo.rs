//! The row of SimPO: its options and its objective as a formula.

use super::cpo::{imitation, smoothed, votes};
use super::table::{Method, Needs, SOFT_LABELS, nothing, row};
use crate::domain::param::{Kind, Params};

/// The row.
pub(super) const METHOD: Method = Method {
    name: "simpo",
    title: "Simple preference optimisation",
    help: "push chosen above rejected per token, by a margin; no reference, no reward for length",
    needs: Needs::Pairs,
    reference: false,
    probes: true,
    mixes: true,
    without: &[],
    own: &[
        row("beta", Kind::Float(1e-6, 1000.0), "2", "2 – 10", "scale of the mean log-probs' difference", true),
        row(
            "simpo_gamma",
            Kind::Float(0.0, 1000.0),
            "0.5",
            "0 – beta; 0.5·beta is a good start",
            "how far chosen is to lead, already times beta",
            true,
        ),
        row(
            "cpo_alpha",
            Kind::Float(0.0, 1000.0),
            "0",
            "0 – 1",
            "weight of imitating the chosen answers; 0 is SimPO as published",
            false,
        ),
        row("label_smoothing", Kind::Float(0.0, 0.499), "0", "0 – 0.2", "share of labels taken to be wrong", false),
        SOFT_LABELS,
    ],
    defaults: &[("learning_rate", "1e-5", "LoRA 1e-6 – 2e-5, full 3e-7 – 1e-6")],
    under: &[],
    refuse: nothing,
    objective,
};

fn objective(p: &Params) -> String {
    let term = smoothed(&format!("{}·d − {}", p.text("beta"), p.text("simpo_gamma")), p);
    format!("{term}{},  d = mean log π(c) − mean log π(r){}", imitation(p), votes(p))
}
