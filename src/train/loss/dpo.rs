//! DPO and its relatives (Rafailov et al. 2023): a weighted sum of [`DpoForm`]s over log-ratios to a frozen reference.
//!
//! With a = Σ log π(c) − log ρ(c) and b the same of the rejected answer, `loss = Σ_k w_k · mean over pairs of ℓ_k(a, b)`.
//! On top of any form: an f-divergence instead of the log-ratio (Wang et al. 2024); LD-DPO (Liu et al. 2024), which counts
//! the tokens beyond the shorter answer's length by α, for policy and reference alike; WPO (Zhou et al. 2024), which weighs
//! a pair by how much the policy would say it itself; and a pair's own share ε of contrary votes instead of the run's.
//!
//! Differs from TRL 1.16: label smoothing acts on `sigmoid` and `sigmoid_norm` (TRL leaves it out there without a word),
//! and `ipo_sum` and `dpop` exist.

mod divergence;
mod form;

pub use divergence::Divergence;
pub use form::DpoForm;

pub(super) use form::smoothed;

use super::{PairGradient, PairLoss, Tally, rewards, total};
use form::{Ranked, Side, Slope};

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
    /// The probability that the label is wrong, from votes; in the place of [`Dpo::label_smoothing`].
    pub epsilon: Option<f64>,
}

/// The DPO loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Dpo {
    /// How hard to stay near the reference.
    pub beta: f64,
    /// The forms with their weights.
    pub terms: Vec<(DpoForm, f64)>,
    /// ε in 0..0.5 for the forms that use it ([`DpoForm::uses_label_smoothing`]); above 0 for `exo_pair`.
    pub label_smoothing: f64,
    /// What stands in for the log-ratio in the forms that take it ([`DpoForm::takes_divergence`]).
    pub divergence: Divergence,
    /// Weight in 0..=1 of the tokens beyond the shorter answer's length; 1 is plain DPO.
    pub ld_alpha: f64,
    /// Whether pairs are weighed by WPO's exp(mean log π − log Σ π²) of both answers, in every form but `sft`, which is of
    /// no pair; no gradient goes through the weight.
    pub wpo: bool,
}

impl Dpo {
    /// One form and nothing on top.
    #[must_use]
    pub fn new(beta: f64, form: DpoForm) -> Self {
        Self {
            beta,
            terms: vec![(form, 1.0)],
            label_smoothing: 0.0,
            divergence: Divergence::ReverseKl,
            ld_alpha: 1.0,
            wpo: false,
        }
    }

    /// What the loss is where the policy is the reference: ln 2 for `sigmoid`. None where that depends on the data: with
    /// `sft`, `exo_pair` (pairs may have their own ε) or WPO.
    #[must_use]
    pub fn at_reference(&self) -> Option<f64> {
        let of_data = |form: &DpoForm| matches!(form, DpoForm::Sft | DpoForm::ExoPair);
        if self.wpo || self.terms.iter().any(|(form, _)| of_data(form)) {
            return None;
        }
        let side = Side { tokens: 1.0, ratio: 0.0, score: 0.0, slope: 1.0 };
        let of = |form: DpoForm| {
            // Sorted log-ratios that are all 0 differ by 0.
            let form = if form.sorts_batch() { DpoForm::Sigmoid } else { form };
            form::of_pair(form, self.beta, self.label_smoothing, &side, &side).loss
        };
        Some(self.terms.iter().map(|(form, weight)| weight * of(*form)).sum())
    }

    /// Loss and gradient of a micro-batch; adds rewards, summed log-probs and `kl/chosen` to `tally`.
    ///
    /// Rewards are β times the log-ratios whatever the form; they and the log-probs are weighed by `ld_alpha`, as in TRL.
    /// `kl/chosen` is the mean over the chosen answers' tokens of log π − log ρ: how far the policy has gone from the
    /// reference on the data, positive where it has become surer of the chosen answers. It is measured on given answers,
    /// not on samples of the policy, so it is no unbiased KL divergence and may be negative.
    pub fn loss(&self, pairs: &[DpoPair<'_>], tally: &mut Tally) -> PairLoss {
        let seen: Vec<Seen> = pairs.iter().map(|pair| self.see(pair)).collect();
        let share = 1.0 / pairs.len() as f64;
        let chosen_tokens: f64 = seen.iter().map(|s| s.chosen.tokens).sum();
        let mut out = PairLoss::default();
        let mut slopes = vec![Slope::default(); pairs.len()];
        // d loss / d log π of every chosen token, from `sft`.
        let mut imitate = 0.0;
        for (form, weight) in &self.terms {
            if *form == DpoForm::Sft {
                imitate -= weight / chosen_tokens;
                out.loss -= weight * pairs.iter().map(|pair| total(pair.chosen)).sum::<f64>() / chosen_tokens;
                continue;
            }
            let losses = self.of_form(*form, pairs, &seen);
            for ((sum, one), s) in slopes.iter_mut().zip(losses).zip(&seen) {
                let scale = weight * share * s.weight;
                out.loss += scale * one.loss;
                sum.chosen += scale * one.chosen;
                sum.rejected += scale * one.rejected;
            }
        }
        for ((pair, s), slope) in pairs.iter().zip(&seen).zip(slopes) {
            let spread = |slope: f64, tokens: usize, plus: f64| {
                (0..tokens).map(|t| slope * if t < s.shared { 1.0 } else { self.ld_alpha } + plus).collect()
            };
            out.g.push(PairGradient {
                chosen: spread(slope.chosen, pair.chosen.len(), imitate),
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

    /// The losses of one form, pair by pair.
    fn of_form(&self, form: DpoForm, pairs: &[DpoPair<'_>], seen: &[Seen]) -> Vec<Slope> {
        let both = pairs.iter().zip(seen);
        let epsilon = |pair: &DpoPair<'_>| form.epsilon(self.label_smoothing, pair.epsilon);
        if form.sorts_batch() {
            let unpaired = form == DpoForm::AotUnpaired;
            let ranked: Vec<_> = both
                .map(|(pair, s)| {
                    let (upper, lower) = if unpaired {
                        (s.chosen.ratio, s.rejected.ratio)
                    } else {
                        (s.logp_chosen - s.logp_rejected, s.ref_margin)
                    };
                    Ranked { upper, lower, epsilon: epsilon(pair) }
                })
                .collect();
            return form::by_rank(form, self.beta, &ranked);
        }
        both.map(|(pair, s)| form::of_pair(form, self.beta, epsilon(pair), &s.chosen, &s.rejected)).collect()
    }

    /// What the forms need of a pair.
    fn see(&self, pair: &DpoPair<'_>) -> Seen {
        let shared = pair.chosen.len().min(pair.rejected.len());
        let sum = |x: &[f64]| {
            let (head, tail) = x.split_at(shared.min(x.len()));
            total(head) + self.ld_alpha * total(tail)
        };
        let (logp_chosen, logp_rejected) = (sum(pair.chosen), sum(pair.rejected));
        let side = |tokens: usize, ratio: f64| {
            let (score, slope) = self.divergence.score(ratio);
            Side { tokens: tokens as f64, ratio, score, slope }
        };
        let own = |logp: &[f64], collision: &[f64]| ((total(logp) - total(collision)) / logp.len() as f64).exp();
        let weight = if self.wpo {
            own(pair.chosen, pair.collision_chosen) * own(pair.rejected, pair.collision_rejected)
        } else {
            1.0
        };
        let (ref_chosen, ref_rejected) = (sum(pair.ref_chosen), sum(pair.ref_rejected));
        Seen {
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

/// A pair, summed up.
struct Seen {
    chosen: Side,
    rejected: Side,
    /// Summed log π of the chosen answer, tail by `ld_alpha`.
    logp_chosen: f64,
    /// The same of the rejected answer.
    logp_rejected: f64,
    /// Summed log ρ of chosen less rejected, tails likewise.
    ref_margin: f64,
    /// Length of the shorter answer.
    shared: usize,
    /// WPO's weight; 1 without.
    weight: f64,
}

#[cfg(test)]
mod tests;
