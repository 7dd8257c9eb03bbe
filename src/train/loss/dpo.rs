//! DPO and its relatives (Rafailov et al. 2023): a weighted sum of [`DpoForm`]s over log-ratios to a frozen reference.
//!
//! With a = Σ log π(c) − log ρ(c) and b the same of the rejected answer, `loss = Σ_k w_k · mean over pairs of ℓ_k(a, b)`.
//! Options for any form: an f-divergence instead of the log-ratio (Wang et al. 2024); LD-DPO (Liu et al. 2024), which weights
//! tokens beyond the shorter answer's length by α in policy and reference; WPO (Zhou et al. 2024), which weights a pair by
//! the policy's probability of both answers; and a per-pair ε from contrary votes instead of the run's.
//!
//! Differs from TRL 1.16: label smoothing acts on `sigmoid` and `sigmoid_norm` (TRL silently ignores it there), and `ipo_sum`
//! and `dpop` exist.

mod divergence;
mod forms;
mod pair;

pub use divergence::Divergence;
pub use forms::{DpoForm, FORMS};

pub(crate) use forms::{FormulaValues, NAMES};
pub(super) use pair::smoothed;

use super::{PairGradient, PairLoss, Tally, rewards, total};
use forms::{FormLoss, RankedBy};
use pair::{AnswerSide, PairInput, PairSums, Slope};

/// Log-probs of one pair's answer tokens under the policy and the reference; policy and reference of equal length.
#[derive(Debug, Clone, Copy, Default)]
pub struct DpoPair<'a> {
    /// log π of the chosen answer's tokens.
    pub chosen: &'a [f64],
    /// log π of the rejected answer's tokens.
    pub rejected: &'a [f64],
    /// log ρ of the chosen answer's tokens.
    pub ref_chosen: &'a [f64],
    /// log ρ of the rejected answer's tokens.
    pub ref_rejected: &'a [f64],
    /// log Σ_v π_v² at each of the chosen answer's tokens; read only with [`Dpo::wpo`], empty otherwise.
    pub collision_chosen: &'a [f64],
    /// log Σ_v π_v² at each of the rejected answer's tokens; read only with [`Dpo::wpo`], empty otherwise.
    pub collision_rejected: &'a [f64],
    /// The probability of a wrong label, from votes; replaces [`Dpo::label_smoothing`].
    pub epsilon: Option<f64>,
}

/// One term of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpoTerm {
    /// The form.
    pub form: &'static DpoForm,
    /// The value of its own hyper-parameter (`DpoForm::own`); unused without one.
    pub own: f64,
    /// Its weight.
    pub weight: f64,
}

/// The DPO loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Dpo {
    /// Strength of the KL regularisation towards the reference.
    pub beta: f64,
    /// The terms of the sum.
    pub terms: Vec<DpoTerm>,
    /// ε in 0..0.5 for the forms that use it (`DpoForm::smoothing`); above 0 for `exo_pair`.
    pub label_smoothing: f64,
    /// Replaces the log-ratio in forms that support it (`DpoForm::divergence`).
    pub divergence: Divergence,
    /// Weight in 0..=1 of the tokens beyond the shorter answer's length; 1 is plain DPO.
    pub ld_alpha: f64,
    /// Whether pairs are weighted by WPO's exp(mean log π − log Σ π²) of both answers, in every form but `sft`. The weight is
    /// detached.
    pub wpo: bool,
}

impl Dpo {
    /// One form without options.
    #[must_use]
    pub fn new(beta: f64, term: DpoTerm) -> Self {
        Self {
            beta,
            terms: vec![term],
            label_smoothing: 0.0,
            divergence: Divergence::ReverseKl,
            ld_alpha: 1.0,
            wpo: false,
        }
    }

    /// The loss where the policy equals the reference: ln 2 for `sigmoid`. None where it depends on the data: with `sft`,
    /// `exo_pair` (pairs may have their own ε) or WPO.
    #[must_use]
    pub fn loss_at_reference(&self) -> Option<f64> {
        if self.wpo || !self.terms.iter().all(|term| term.form.known_at_reference) {
            return None;
        }
        let side = AnswerSide { tokens: 1.0, ratio: 0.0, score: 0.0, slope: 1.0 };
        let of = |term: &DpoTerm| match term.form.loss {
            FormLoss::Pair(loss) => loss(&self.input(term, self.label_smoothing, side, side)).loss,
            // All sorted values are 0.
            FormLoss::Ranked(_) => smoothed(0.0, self.label_smoothing).0,
            FormLoss::Sft => 0.0,
        };
        Some(self.terms.iter().map(|term| term.weight * of(term)).sum())
    }

    /// Loss and gradient of a micro-batch; adds rewards, summed log-probs and `kl/chosen` to `tally`.
    ///
    /// Rewards are β times the log-ratios for every form; rewards and log-probs are weighted by `ld_alpha`, as in TRL.
    /// `kl/chosen` is the mean of log π − log ρ over the chosen answers' tokens, positive where they have become likelier. It
    /// is measured on the data, not on samples of the policy, so it is not an unbiased KL estimate and may be negative.
    pub fn loss(&self, pairs: &[DpoPair<'_>], tally: &mut Tally) -> PairLoss {
        let pair_sums: Vec<PairSums> = pairs.iter().map(|pair| self.sums(pair)).collect();
        let share = 1.0 / pairs.len() as f64;
        let chosen_tokens: f64 = pair_sums.iter().map(|s| s.chosen.tokens).sum();
        let mut out = PairLoss::default();
        let mut slopes = vec![Slope::default(); pairs.len()];
        // dL/dlogp of every chosen token, from `sft`.
        let mut sft_slope = 0.0;
        for term in &self.terms {
            let weight = term.weight;
            let losses = match term.form.loss {
                FormLoss::Sft => {
                    sft_slope -= weight / chosen_tokens;
                    out.loss -= weight * pairs.iter().map(|pair| total(pair.chosen)).sum::<f64>() / chosen_tokens;
                    continue;
                }
                FormLoss::Pair(loss) => pairs
                    .iter()
                    .zip(&pair_sums)
                    .map(|(pair, s)| loss(&self.input(term, self.epsilon(term, pair), s.chosen, s.rejected)))
                    .collect(),
                FormLoss::Ranked(by) => {
                    let epsilons: Vec<f64> = pairs.iter().map(|pair| self.epsilon(term, pair)).collect();
                    by_rank(by, self.beta, &pair_sums, &epsilons)
                }
            };
            for ((sum, one), s) in slopes.iter_mut().zip(losses).zip(&pair_sums) {
                let scale = weight * share * s.weight;
                out.loss += scale * one.loss;
                sum.chosen += scale * one.chosen;
                sum.rejected += scale * one.rejected;
            }
        }
        for ((pair, s), slope) in pairs.iter().zip(&pair_sums).zip(slopes) {
            let spread = |slope: f64, tokens: usize, plus: f64| {
                (0..tokens).map(|t| slope * if t < s.shared { 1.0 } else { self.ld_alpha } + plus).collect()
            };
            out.g.push(PairGradient {
                chosen: spread(slope.chosen, pair.chosen.len(), sft_slope),
                rejected: spread(slope.rejected, pair.rejected.len(), 0.0),
            });
            rewards(tally, self.beta * s.chosen.ratio, self.beta * s.rejected.ratio);
            tally.add("logps/chosen", s.logp_chosen, 1.0);
            tally.add("logps/rejected", s.logp_rejected, 1.0);
            let n = s.chosen.tokens;
            tally.add("kl/chosen", (total(pair.chosen) - total(pair.ref_chosen)) / n, n);
        }
        out
    }

    /// ε of a pair: its own if it has one, else the run's.
    fn epsilon(&self, term: &DpoTerm, pair: &DpoPair<'_>) -> f64 {
        pair.epsilon.map_or(self.label_smoothing, |own| (term.form.epsilon)(own, self.label_smoothing))
    }

    fn input(&self, term: &DpoTerm, epsilon: f64, c: AnswerSide, r: AnswerSide) -> PairInput {
        PairInput { beta: self.beta, epsilon, own: term.own, c, r }
    }

    /// Sums of a pair's log-probs.
    fn sums(&self, pair: &DpoPair<'_>) -> PairSums {
        let shared = pair.chosen.len().min(pair.rejected.len());
        let sum = |x: &[f64]| {
            let (head, tail) = x.split_at(shared.min(x.len()));
            total(head) + self.ld_alpha * total(tail)
        };
        let (logp_chosen, logp_rejected) = (sum(pair.chosen), sum(pair.rejected));
        let side = |tokens: usize, ratio: f64| {
            let (score, slope) = self.divergence.score(ratio);
            AnswerSide { tokens: tokens as f64, ratio, score, slope }
        };
        let own = |logp: &[f64], collision: &[f64]| ((total(logp) - total(collision)) / logp.len() as f64).exp();
        let weight = if self.wpo {
            own(pair.chosen, pair.collision_chosen) * own(pair.rejected, pair.collision_rejected)
        } else {
            1.0
        };
        let (ref_chosen, ref_rejected) = (sum(pair.ref_chosen), sum(pair.ref_rejected));
        PairSums {
            chosen: side(pair.chosen.len(), logp_chosen - ref_chosen),
            rejected: side(pair.rejected.len(), logp_rejected - ref_rejected),
            logp_chosen,
            logp_rejected,
            ref_margin: ref_chosen - ref_rejected,
            shared,
            weight,
        }
    }
}

/// Ranked losses, assigned to pairs: loss and chosen slope go to the pair that holds the upper value. For `aot` both slopes
/// go to that pair (the lower value is the reference's, a constant) with its ε; for `aot_unpaired` the rejected slope goes to
/// the pair of the lower value, and ε is the mean of the two pairs'.
fn by_rank(by: RankedBy, beta: f64, pairs: &[PairSums], epsilons: &[f64]) -> Vec<Slope> {
    let (upper, lower): (Vec<f64>, Vec<f64>) = pairs.iter().map(by.values).unzip();
    let ranks = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
        order
    };
    let mut out = vec![Slope::default(); pairs.len()];
    for (up, low) in ranks(&upper).into_iter().zip(ranks(&lower)) {
        let other = if by.unpaired { low } else { up };
        let epsilon = f64::midpoint(epsilons[up], epsilons[other]);
        let (loss, slope) = smoothed(beta * (upper[up] - lower[low]), epsilon);
        out[up].loss += loss;
        out[up].chosen += slope * beta;
        out[other].rejected -= slope * beta;
    }
    out
}

#[cfg(test)]
mod tests;
