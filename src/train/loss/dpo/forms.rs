//! The losses of the DPO family: one row each, with its function and its formula.
//!
//! Owns the meaning of each `loss_type`. The method's choices, its refusals, a run's formula and the tests derive from this
//! table, so a new loss is added only here. Refuses tokens: an answer is its length, its log-ratio and its score.
//!
//! Papers: `sigmoid` Rafailov et al. 2023, smoothed Mitchell 2023 (cDPO); `robust` Chowdhury et al. 2024; `hinge` Zhao et
//! al. 2023 (SLiC); `ipo` Azar et al. 2023; `sigmoid_norm` Lambert et al. 2024 (Tülu 3); `exo_pair` Ji et al. 2024;
//! `nca_pair` Chen et al. 2024; `bco_pair` Jung et al. 2024; `sppo_hard` Wu et al. 2024; `aot` Melnyk et al. 2024;
//! `apo_*` D'Oosterlinck et al. 2024; `discopop` Lu et al. 2024; `dpop` Pal et al. 2024 (Smaug). TRL has no
//! `ipo_sum` and `dpop`.

use super::super::{log_sigmoid, sigmoid};
use super::pair::{PairInput, PairSums, Slope, sigmoid_slope, smoothed};
use crate::domain::{ParamKind, ParamRow, row};
use std::fmt;

/// A loss of the family. a, b: summed log π − log ρ of chosen and rejected; s: their scores under the f-divergence (a and b
/// for the reverse KL); x = β(s_c − s_r); n: tokens of an answer; ε: label smoothing.
pub struct DpoForm {
    /// TRL's `loss_type`.
    pub name: &'static str,
    /// How it is computed.
    pub(super) loss: FormLoss,
    /// The formula in the objective's symbols: a, b, Δ = s_c − s_r, D the same per token.
    pub(crate) formula: fn(&FormulaValues) -> String,
    /// Whether a factor may precede the formula without brackets.
    pub(crate) is_product: bool,
    /// Whether it uses label smoothing, of the run or of a pair.
    pub smoothing: bool,
    /// Whether it supports other divergences than the reverse KL.
    pub divergence: bool,
    /// Its own hyper-parameter, if any.
    pub own: Option<ParamRow>,
    /// Whether its value at the reference depends on the hyper-parameters alone.
    pub(super) known_at_reference: bool,
    /// The effective ε from a pair's own and the run's.
    pub(super) epsilon: fn(f64, f64) -> f64,
    /// The reason to refuse a label smoothing, given whether soft labels are on; none if it is valid.
    pub(crate) refuse: fn(f64, bool) -> Option<&'static str>,
}

/// How a form is computed.
#[derive(Clone, Copy)]
pub(super) enum FormLoss {
    /// Loss and slopes of each pair.
    Pair(fn(&PairInput) -> Slope),
    /// −log σ(β·(k-th largest upper value − k-th largest lower value)) over the batch.
    Ranked(RankedBy),
    /// Mean −log π over the tokens of all chosen answers of the batch.
    Sft,
}

/// The values that a ranked form sorts.
#[derive(Clone, Copy)]
pub(super) struct RankedBy {
    /// The upper and the lower value of a pair.
    pub(super) values: fn(&PairSums) -> (f64, f64),
    /// Whether the lower value is the rejected answer's, which then gets a slope; otherwise the reference's, a constant.
    pub(super) unpaired: bool,
}

/// The hyper-parameters shown in a formula.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormulaValues {
    pub(crate) beta: f64,
    pub(crate) epsilon: f64,
    pub(crate) own: f64,
}

impl FormulaValues {
    /// −log σ(β·x), with label smoothing.
    fn smoothed(&self, x: &str) -> String {
        let (beta, e) = (self.beta, self.epsilon);
        if e > 0.0 {
            format!("−(1−{e})·log σ({beta}·{x}) − {e}·log σ(−{beta}·{x})")
        } else {
            format!("−log σ({beta}·{x})")
        }
    }
}

/// The largest per-pair ε of `robust`, which divides by 1 − 2ε.
const LARGEST_FLIP: f64 = 0.45;

/// The table, in the order of the form.
pub const FORMS: &[DpoForm] = &[
    pair("sigmoid", |p| p.of_margin(smoothed(p.x(), p.epsilon)), |w| w.smoothed("Δ")).smoothing().divergence(),
    pair(
        "ipo",
        |p| {
            let u = p.c.score / p.c.tokens - p.r.score / p.r.tokens - 0.5 / p.beta;
            Slope { loss: u * u, chosen: 2.0 * u * p.c.slope / p.c.tokens, rejected: -2.0 * u * p.r.slope / p.r.tokens }
        },
        |w| format!("(D − 1/(2·{}))²", w.beta),
    )
    .divergence(),
    pair(
        "ipo_sum",
        |p| {
            let u = p.c.score - p.r.score - 0.5 / p.beta;
            Slope { loss: u * u, chosen: 2.0 * u * p.c.slope, rejected: -2.0 * u * p.r.slope }
        },
        |w| format!("(Δ − 1/(2·{}))²", w.beta),
    )
    .divergence(),
    pair(
        "hinge",
        |p| p.of_margin(((1.0 - p.x()).max(0.0), if p.x() < 1.0 { -1.0 } else { 0.0 })),
        |w| format!("max(0, 1 − {}·Δ)", w.beta),
    )
    .divergence()
    .product(),
    // Unbiased under labels flipped with probability ε.
    pair(
        "robust",
        |p| {
            let (x, scale) = (p.x(), 1.0 / (1.0 - 2.0 * p.epsilon));
            let loss = -(1.0 - p.epsilon) * log_sigmoid(x) + p.epsilon * log_sigmoid(-x);
            let slope = -(1.0 - p.epsilon) * sigmoid(-x) - p.epsilon * sigmoid(x);
            p.of_margin((loss * scale, slope * scale))
        },
        |w| match w.epsilon {
            0.0 => w.smoothed("Δ"),
            e => format!("(−(1−{e})·log σ({0}·Δ) + {e}·log σ(−{0}·Δ))/(1 − 2·{e})", w.beta),
        },
    )
    .smoothing()
    .divergence()
    .own_epsilon(|own, _| own.clamp(0.0, LARGEST_FLIP))
    .refuse(|smoothing, soft| {
        let sentence = "loss_type=robust with label_smoothing=0 is sigmoid; set label_smoothing=0.1 or use sigmoid";
        (smoothing <= 0.0 && !soft).then_some(sentence)
    }),
    // x per token.
    pair(
        "sigmoid_norm",
        |p| {
            let (loss, slope) = smoothed(p.beta * (p.c.score / p.c.tokens - p.r.score / p.r.tokens), p.epsilon);
            Slope {
                loss,
                chosen: slope * p.beta * p.c.slope / p.c.tokens,
                rejected: -slope * p.beta * p.r.slope / p.r.tokens,
            }
        },
        |w| w.smoothed("D"),
    )
    .smoothing()
    .divergence(),
    // KL from (q, 1−q) to (1−ε, ε), q = σ(x).
    pair(
        "exo_pair",
        |p| {
            let (x, right, wrong) = (p.x(), (-p.epsilon).ln_1p(), p.epsilon.ln());
            let loss = sigmoid(x) * (log_sigmoid(x) - right) + sigmoid(-x) * (log_sigmoid(-x) - wrong);
            // q′·[ln q − ln(1−q) − ln(1−ε) + ln ε], and ln q − ln(1−q) = x.
            p.of_margin((loss, sigmoid_slope(x) * (x - right + wrong)))
        },
        |w| format!("KL((q, 1−q) ‖ (1−{0}, {0})), q = σ({1}·Δ)", w.epsilon, w.beta),
    )
    .smoothing()
    .divergence()
    .own_epsilon(|own, run| own.max(run).min(1.0 - run))
    .unknown_at_reference()
    .refuse(|smoothing, _| {
        let sentence = "loss_type=exo_pair needs label_smoothing above 0; the paper uses 0.001";
        (smoothing <= 0.0).then_some(sentence)
    }),
    pair(
        "nca_pair",
        |p| {
            let (a, b) = p.rewards();
            Slope {
                loss: -log_sigmoid(a) - 0.5 * log_sigmoid(-a) - 0.5 * log_sigmoid(-b),
                chosen: p.beta * (0.5 * sigmoid(a) - sigmoid(-a)),
                rejected: p.beta * 0.5 * sigmoid(b),
            }
        },
        |w| format!("−log σ({0}·a) − 0.5·log σ(−{0}·a) − 0.5·log σ(−{0}·b)", w.beta),
    ),
    pair(
        "bco_pair",
        |p| {
            let (a, b) = p.rewards();
            Slope {
                loss: -log_sigmoid(a) - log_sigmoid(-b),
                chosen: -p.beta * sigmoid(-a),
                rejected: p.beta * sigmoid(b),
            }
        },
        |w| format!("−log σ({0}·a) − log σ(−{0}·b)", w.beta),
    ),
    pair(
        "sppo_hard",
        |p| {
            let (u, v) = (p.c.ratio - 0.5 / p.beta, p.r.ratio + 0.5 / p.beta);
            Slope { loss: u * u + v * v, chosen: 2.0 * u, rejected: 2.0 * v }
        },
        |w| format!("(a − 1/(2·{0}))² + (b + 1/(2·{0}))²", w.beta),
    ),
    ranked("aot", RankedBy { values: |s| (s.logp_chosen - s.logp_rejected, s.ref_margin), unpaired: false }, |w| {
        w.smoothed("R")
    }),
    ranked("aot_unpaired", RankedBy { values: |s| (s.chosen.ratio, s.rejected.ratio), unpaired: true }, |w| {
        w.smoothed("U")
    }),
    pair(
        "apo_zero",
        |p| {
            let (a, b) = p.rewards();
            Slope {
                loss: sigmoid(-a) + sigmoid(b),
                chosen: -p.beta * sigmoid_slope(a),
                rejected: p.beta * sigmoid_slope(b),
            }
        },
        |w| format!("1 − σ({0}·a) + σ({0}·b)", w.beta),
    ),
    pair(
        "apo_down",
        |p| {
            let (a, b) = p.rewards();
            let gap = a - b;
            Slope {
                loss: sigmoid(a) + sigmoid(-gap),
                chosen: p.beta * (sigmoid_slope(a) - sigmoid_slope(gap)),
                rejected: p.beta * sigmoid_slope(gap),
            }
        },
        |w| format!("σ({0}·a) + 1 − σ({0}·(a − b))", w.beta),
    ),
    // m = σ(x/τ), τ 0.05 in the paper.
    pair(
        "discopop",
        |p| {
            let (x, tau) = (p.x(), p.own);
            let (mix, rest) = (sigmoid(x / tau), sigmoid(-x / tau));
            // e^{−x}·m as one exponential: separately, the first factor overflows where the second underflows.
            let tail = (log_sigmoid(x / tau) - x).exp();
            let loss = -log_sigmoid(x) * rest + tail;
            let slope = -sigmoid(-x) * rest + log_sigmoid(x) * mix * rest / tau - tail + tail * rest / tau;
            p.of_margin((loss, slope))
        },
        |w| format!("−log σ(x)·(1 − m) + e^−x·m, x = {}·Δ, m = σ(x/{})", w.beta, w.own),
    )
    .divergence()
    .own(ParamRow {
        key: "discopop_tau",
        ..row(ParamKind::Float(1e-3, 1.0), "0.05", "0.05", "discopop: temperature of the mix of its two losses", false)
    }),
    // Penalises chosen answers that are less likely than under the reference; λ 50 in the paper.
    pair(
        "dpop",
        |p| {
            let (lambda, short) = (p.own, (-p.c.ratio).max(0.0));
            let (loss, slope) = smoothed(p.beta * (p.c.ratio - p.r.ratio - lambda * short), 0.0);
            let lift = if p.c.ratio < 0.0 { 1.0 + lambda } else { 1.0 };
            Slope { loss, chosen: slope * p.beta * lift, rejected: -slope * p.beta }
        },
        |w| format!("−log σ({}·(a − b − {}·max(0, −a)))", w.beta, w.own),
    )
    .own(ParamRow {
        key: "dpop_lambda",
        ..row(
            ParamKind::Float(0.0, 1e6),
            "50",
            "5 – 500",
            "dpop: penalty weight when the chosen answer is less likely than under the reference",
            false,
        )
    }),
    // Uses no reference, so it is compatible with any divergence.
    form("sft", FormLoss::Sft, |_| "NLL(chosen, per token)".into()).divergence().product().unknown_at_reference(),
];

/// The names, in the order of the form.
pub(crate) const NAMES: &[&str] = &names::<{ FORMS.len() }>();

const fn names<const N: usize>() -> [&'static str; N] {
    let mut out = [""; N];
    let mut i = 0;
    while i < N {
        out[i] = FORMS[i].name;
        i += 1;
    }
    out
}

const fn form(name: &'static str, loss: FormLoss, formula: fn(&FormulaValues) -> String) -> DpoForm {
    DpoForm {
        name,
        loss,
        formula,
        is_product: false,
        smoothing: false,
        divergence: false,
        own: None,
        known_at_reference: true,
        epsilon: |own, _| own,
        refuse: |_, _| None,
    }
}

const fn pair(name: &'static str, loss: fn(&PairInput) -> Slope, formula: fn(&FormulaValues) -> String) -> DpoForm {
    form(name, FormLoss::Pair(loss), formula)
}

const fn ranked(name: &'static str, by: RankedBy, formula: fn(&FormulaValues) -> String) -> DpoForm {
    form(name, FormLoss::Ranked(by), formula).smoothing()
}

impl DpoForm {
    const fn smoothing(mut self) -> Self {
        self.smoothing = true;
        self
    }

    const fn divergence(mut self) -> Self {
        self.divergence = true;
        self
    }

    const fn product(mut self) -> Self {
        self.is_product = true;
        self
    }

    const fn own(mut self, row: ParamRow) -> Self {
        self.own = Some(row);
        self
    }

    const fn unknown_at_reference(mut self) -> Self {
        self.known_at_reference = false;
        self
    }

    const fn own_epsilon(mut self, epsilon: fn(f64, f64) -> f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    const fn refuse(mut self, refuse: fn(f64, bool) -> Option<&'static str>) -> Self {
        self.refuse = refuse;
        self
    }

    /// The form of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMS.iter().find(|form| form.name == name)
    }

    /// Whether the form sorts the batch, so that its loss does not separate into pairs.
    #[must_use]
    pub fn sorts_batch(&self) -> bool {
        matches!(self.loss, FormLoss::Ranked(_))
    }

    /// Whether the form is the SFT loss on the chosen answers, without a comparison.
    #[must_use]
    pub fn is_sft(&self) -> bool {
        matches!(self.loss, FormLoss::Sft)
    }
}

impl PartialEq for DpoForm {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for DpoForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
