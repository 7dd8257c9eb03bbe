//! The shapes of the DPO family: one pair's loss and its slopes, and the two forms that sort a whole batch.
//!
//! Owns what each `loss_type` means. Refuses tokens: a side of a pair is its length, its log-ratio and its score.
//!
//! Papers: `sigmoid` Rafailov et al. 2023, smoothed Mitchell 2023 (cDPO); `robust` Chowdhury et al. 2024; `hinge` Zhao et
//! al. 2023 (SLiC); `ipo` Azar et al. 2023; `sigmoid_norm` Lambert et al. 2024 (Tülu 3); `exo_pair` Ji et al. 2024;
//! `nca_pair` Chen et al. 2024; `bco_pair` Jung et al. 2024; `sppo_hard` Wu et al. 2024; `aot` Melnyk et al. 2024;
//! `apo_*` D'Oosterlinck et al. 2024; `discopop` Lu et al. 2024; `dpop` Pal et al. 2024 (Smaug).

use super::super::{log_sigmoid, sigmoid};

/// What `robust` takes a pair's own share of contrary votes to be at most: it divides by 1 − 2ε.
const LARGEST_FLIP: f64 = 0.45;

/// Shape of the loss over the margin. a, b: summed log π − log ρ of chosen and rejected; s: their scores under the
/// f-divergence (a and b themselves for the reverse KL); x = β(s_c − s_r); n: tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DpoForm {
    /// −(1−ε)·log σ(x) − ε·log σ(−x).
    Sigmoid,
    /// [−(1−ε)·log σ(x) + ε·log σ(−x)]/(1−2ε): unbiased under labels flipped with probability ε.
    Robust,
    /// max(0, 1 − x).
    Hinge,
    /// (s_c/n_c − s_r/n_r − 1/(2β))², as IPO's authors have it.
    Ipo,
    /// (s_c − s_r − 1/(2β))².
    IpoSum,
    /// As [`DpoForm::Sigmoid`], of x = β(s_c/n_c − s_r/n_r).
    SigmoidNorm,
    /// KL from (q, 1−q) to (1−ε, ε), q = σ(x); ε above 0.
    ExoPair,
    /// −log σ(βa) − ½·log σ(−βa) − ½·log σ(−βb).
    NcaPair,
    /// −log σ(βa) − log σ(−βb).
    BcoPair,
    /// (a − 1/(2β))² + (b + 1/(2β))².
    SppoHard,
    /// As [`DpoForm::Sigmoid`], of the k-th largest policy margin against the k-th largest reference margin of the batch.
    Aot,
    /// As [`DpoForm::Sigmoid`], of the k-th largest a against the k-th largest b of the batch.
    AotUnpaired,
    /// 1 − σ(βa) + σ(βb).
    ApoZero,
    /// σ(βa) + 1 − σ(β(a − b)).
    ApoDown,
    /// −log σ(x)·(1−m) + e^{−x}·m, m = σ(x/τ).
    Discopop {
        /// τ in 0..=1, both but 0; 0.05 in the paper.
        tau: f64,
    },
    /// Mean −log π over the tokens of all chosen answers of the batch.
    Sft,
    /// −log σ(β(a − b − λ·max(0, −a))): a chosen answer may not become less likely than under the reference.
    Dpop {
        /// λ, 50 in the paper.
        lambda: f64,
    },
}

impl DpoForm {
    /// The form that TRL's `loss_type` names; `ipo_sum` and `dpop` are not TRL's. None when there is no such form.
    #[must_use]
    pub fn named(name: &str, tau: f64, lambda: f64) -> Option<Self> {
        Some(match name {
            "sigmoid" => Self::Sigmoid,
            "robust" => Self::Robust,
            "hinge" => Self::Hinge,
            "ipo" => Self::Ipo,
            "ipo_sum" => Self::IpoSum,
            "sigmoid_norm" => Self::SigmoidNorm,
            "exo_pair" => Self::ExoPair,
            "nca_pair" => Self::NcaPair,
            "bco_pair" => Self::BcoPair,
            "sppo_hard" => Self::SppoHard,
            "aot" => Self::Aot,
            "aot_unpaired" => Self::AotUnpaired,
            "apo_zero" => Self::ApoZero,
            "apo_down" => Self::ApoDown,
            "discopop" => Self::Discopop { tau },
            "sft" => Self::Sft,
            "dpop" => Self::Dpop { lambda },
            _ => return None,
        })
    }

    /// Whether the share of wrong labels, of the run or of a pair, enters the form.
    #[must_use]
    pub fn uses_label_smoothing(self) -> bool {
        matches!(self, Self::Sigmoid | Self::SigmoidNorm | Self::Robust | Self::ExoPair | Self::Aot | Self::AotUnpaired)
    }

    /// Whether the form has a meaning under another divergence than the reverse KL. `sft` compares with no reference, so
    /// that any divergence may stand beside it.
    #[must_use]
    pub fn takes_divergence(self) -> bool {
        matches!(
            self,
            Self::Sigmoid
                | Self::SigmoidNorm
                | Self::Robust
                | Self::Hinge
                | Self::Ipo
                | Self::IpoSum
                | Self::ExoPair
                | Self::Discopop { .. }
                | Self::Sft
        )
    }

    /// Whether the form sorts the batch, so that its gradient belongs to no single pair.
    #[must_use]
    pub fn sorts_batch(self) -> bool {
        matches!(self, Self::Aot | Self::AotUnpaired)
    }

    /// ε of one pair: its own where it has one (held where the form stays finite), else the run's.
    pub(super) fn epsilon(self, smoothing: f64, own: Option<f64>) -> f64 {
        match (self, own) {
            (_, None) => smoothing,
            (Self::Robust, Some(e)) => e.clamp(0.0, LARGEST_FLIP),
            (Self::ExoPair, Some(e)) => e.max(smoothing).min(1.0 - smoothing),
            (_, Some(e)) => e,
        }
    }
}

/// One answer of a pair, as the forms see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    /// Its length.
    pub tokens: f64,
    /// Summed log π − log ρ.
    pub ratio: f64,
    /// The ratio's score under the divergence.
    pub score: f64,
    /// dscore/dratio.
    pub slope: f64,
}

/// A pair's loss and its derivatives by the two log-ratios.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Slope {
    pub loss: f64,
    pub chosen: f64,
    pub rejected: f64,
}

/// −(1−ε)·log σ(x) − ε·log σ(−x) and its derivative.
pub(in super::super) fn smoothed(x: f64, epsilon: f64) -> (f64, f64) {
    let loss = -(1.0 - epsilon) * log_sigmoid(x) - epsilon * log_sigmoid(-x);
    (loss, epsilon * sigmoid(x) - (1.0 - epsilon) * sigmoid(-x))
}

/// σ′(x).
fn bump(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

/// The loss of one pair. `Sft` and the sorting forms are of the batch and give nothing here.
pub(super) fn of_pair(form: DpoForm, beta: f64, epsilon: f64, c: &Side, r: &Side) -> Slope {
    let x = beta * (c.score - r.score);
    // A loss of the margin x and its derivative by it.
    let margin =
        |(loss, slope): (f64, f64)| Slope { loss, chosen: slope * beta * c.slope, rejected: -slope * beta * r.slope };
    let (a, b) = (beta * c.ratio, beta * r.ratio);
    match form {
        DpoForm::Sigmoid => margin(smoothed(x, epsilon)),
        DpoForm::Robust => {
            let scale = 1.0 / (1.0 - 2.0 * epsilon);
            let loss = -(1.0 - epsilon) * log_sigmoid(x) + epsilon * log_sigmoid(-x);
            let slope = -(1.0 - epsilon) * sigmoid(-x) - epsilon * sigmoid(x);
            margin((loss * scale, slope * scale))
        }
        DpoForm::Hinge => margin(((1.0 - x).max(0.0), if x < 1.0 { -1.0 } else { 0.0 })),
        DpoForm::Ipo => {
            let u = c.score / c.tokens - r.score / r.tokens - 0.5 / beta;
            Slope { loss: u * u, chosen: 2.0 * u * c.slope / c.tokens, rejected: -2.0 * u * r.slope / r.tokens }
        }
        DpoForm::IpoSum => {
            let u = c.score - r.score - 0.5 / beta;
            Slope { loss: u * u, chosen: 2.0 * u * c.slope, rejected: -2.0 * u * r.slope }
        }
        DpoForm::SigmoidNorm => {
            let (loss, slope) = smoothed(beta * (c.score / c.tokens - r.score / r.tokens), epsilon);
            Slope { loss, chosen: slope * beta * c.slope / c.tokens, rejected: -slope * beta * r.slope / r.tokens }
        }
        DpoForm::ExoPair => {
            let (right, wrong) = ((-epsilon).ln_1p(), epsilon.ln());
            let loss = sigmoid(x) * (log_sigmoid(x) - right) + sigmoid(-x) * (log_sigmoid(-x) - wrong);
            // q′·[ln q − ln(1−q) − ln(1−ε) + ln ε], and ln q − ln(1−q) = x.
            margin((loss, bump(x) * (x - right + wrong)))
        }
        DpoForm::NcaPair => Slope {
            loss: -log_sigmoid(a) - 0.5 * log_sigmoid(-a) - 0.5 * log_sigmoid(-b),
            chosen: beta * (0.5 * sigmoid(a) - sigmoid(-a)),
            rejected: beta * 0.5 * sigmoid(b),
        },
        DpoForm::BcoPair => {
            Slope { loss: -log_sigmoid(a) - log_sigmoid(-b), chosen: -beta * sigmoid(-a), rejected: beta * sigmoid(b) }
        }
        DpoForm::SppoHard => {
            let (u, v) = (c.ratio - 0.5 / beta, r.ratio + 0.5 / beta);
            Slope { loss: u * u + v * v, chosen: 2.0 * u, rejected: 2.0 * v }
        }
        DpoForm::ApoZero => Slope { loss: sigmoid(-a) + sigmoid(b), chosen: -beta * bump(a), rejected: beta * bump(b) },
        DpoForm::ApoDown => {
            let gap = a - b;
            Slope { loss: sigmoid(a) + sigmoid(-gap), chosen: beta * (bump(a) - bump(gap)), rejected: beta * bump(gap) }
        }
        DpoForm::Discopop { tau } => {
            let (mix, rest) = (sigmoid(x / tau), sigmoid(-x / tau));
            // e^{−x}·m as one power: apart, the first overflows where the second vanishes.
            let tail = (log_sigmoid(x / tau) - x).exp();
            let loss = -log_sigmoid(x) * rest + tail;
            let slope = -sigmoid(-x) * rest + log_sigmoid(x) * mix * rest / tau - tail + tail * rest / tau;
            margin((loss, slope))
        }
        DpoForm::Dpop { lambda } => {
            let short = (-c.ratio).max(0.0);
            let (loss, slope) = smoothed(beta * (c.ratio - r.ratio - lambda * short), 0.0);
            let lift = if c.ratio < 0.0 { 1.0 + lambda } else { 1.0 };
            Slope { loss, chosen: slope * beta * lift, rejected: -slope * beta }
        }
        DpoForm::Sft | DpoForm::Aot | DpoForm::AotUnpaired => Slope::default(),
    }
}

/// What `aot` needs of a pair beside its sides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    /// For `aot` the policy's margin S_c − S_r, for `aot_unpaired` the chosen log-ratio.
    pub upper: f64,
    /// For `aot` the reference's margin, for `aot_unpaired` the rejected log-ratio.
    pub lower: f64,
    /// ε of the pair.
    pub epsilon: f64,
}

/// The losses by rank, laid on the pairs that hold the ranks: the loss and the chosen slope on the pair of the upper value.
/// For `aot` both slopes go to that pair (the lower value is the reference's, a constant) with its ε; for `aot_unpaired`
/// the rejected slope goes to the pair of the lower value, and ε is the mean of the two pairs'.
pub(super) fn by_rank(form: DpoForm, beta: f64, pairs: &[Ranked]) -> Vec<Slope> {
    let ranks = |key: fn(&Ranked) -> f64| {
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|i, j| key(&pairs[*i]).total_cmp(&key(&pairs[*j])));
        order
    };
    let mut out = vec![Slope::default(); pairs.len()];
    for (up, low) in ranks(|p| p.upper).into_iter().zip(ranks(|p| p.lower)) {
        let unpaired = form == DpoForm::AotUnpaired;
        let other = if unpaired { low } else { up };
        let epsilon = f64::midpoint(pairs[up].epsilon, pairs[other].epsilon);
        let (loss, slope) = smoothed(beta * (pairs[up].upper - pairs[low].lower), epsilon);
        out[up].loss += loss;
        out[up].chosen += slope * beta;
        out[other].rejected -= slope * beta;
    }
    out
}
