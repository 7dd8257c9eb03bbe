//! GRPO (Shao et al. 2024) and its reductions: the clipped policy loss without a value model, with a KL penalty.
//!
//! With ρ_t = π_new/π_old at a token, or for every token of an answer exp(mean log π_new/π_old) (GSPO, Zheng et al. 2025):
//! `ℓ_t = −min(ρ_t·A, clip(ρ_t, 1−ε_low, 1+ε_high)·A) + β·k3_t·ρ_t`, k3 = e^d − d − 1, d = log ρ_ref − log π_new, reduced by
//! [`Reduction`]. The factor ρ_t makes the KL's gradient unbiased off policy (TRL's `use_bias_correction_kl`).

use super::{RowLoss, Tally, ratio};
use crate::domain::choices;

choices! {
    /// The level of the importance ratio.
    pub enum RatioLevel {
        /// Per token.
        Token = "token",
        /// Per answer: the geometric mean of its tokens' ratios.
        Sequence = "sequence",
    }
}

/// How token losses are aggregated (TRL's `loss_type`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// Mean over answers of the mean over their tokens.
    Grpo,
    /// Mean over the tokens of the micro-batch.
    Bnpo,
    /// Mean over the tokens of the whole accumulation window (Yu et al. 2025): micro-batches are summed, not averaged.
    Dapo {
        /// Tokens of the window.
        window_tokens: f64,
    },
    /// Sum divided by answers × maximum length, which removes the length bias (Liu et al. 2025).
    DrGrpo {
        /// Maximum tokens of an answer.
        max_completion_length: f64,
    },
}

/// One sampled answer; slices have one value per token.
#[derive(Debug, Clone, Copy)]
pub struct GrpoRow<'a> {
    /// Log-probs under the current policy.
    pub new: &'a [f64],
    /// Log-probs under the sampling policy.
    pub old: &'a [f64],
    /// Log-probs under the reference; read only if β > 0, empty otherwise.
    pub reference: &'a [f64],
    /// The answer's advantage.
    pub advantage: f64,
}

/// The GRPO loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grpo {
    /// ε_low, 0.2.
    pub epsilon_low: f64,
    /// ε_high, by default ε_low.
    pub epsilon_high: f64,
    /// Weight of the KL; 0 needs no reference.
    pub beta: f64,
    /// Whether the KL is multiplied by the ratio.
    pub use_bias_correction_kl: bool,
    /// Token or sequence.
    pub level: RatioLevel,
    /// The reduction.
    pub reduction: Reduction,
}

impl Grpo {
    /// Loss and gradient of a micro-batch; adds `kl` (if β > 0, as in the loss, by tokens) and
    /// `clip_ratio/*` to `tally`: low, high and region means by tokens (by answers at [`RatioLevel::Sequence`]), and the smallest
    /// and largest share of any answer, whose mean over micro-batches is logged, as in TRL.
    pub fn loss(&self, rows: &[GrpoRow<'_>], tally: &mut Tally) -> RowLoss {
        let mut out = RowLoss::default();
        let mut clips = Clips::default();
        let tokens = rows.iter().map(|r| r.new.len()).sum::<usize>() as f64;
        for row in rows {
            let n = (row.new.len() as f64).max(1.0);
            let weight = match self.reduction {
                Reduction::Grpo => 1.0 / (n * rows.len() as f64),
                Reduction::Bnpo => 1.0 / tokens.max(1.0),
                Reduction::Dapo { window_tokens } => 1.0 / window_tokens.max(1.0),
                Reduction::DrGrpo { max_completion_length } => 1.0 / (rows.len() as f64 * max_completion_length),
            };
            let deltas = || row.new.iter().zip(row.old).map(|(n, o)| n - o);
            let of_answer = ratio(deltas().sum::<f64>() / n);
            let mut g = vec![0.0; row.new.len()];
            // dL/d log ratio of the answer, the same for all its tokens.
            let mut shared = 0.0;
            for (t, delta) in deltas().enumerate() {
                let (rho, slope) = if self.level == RatioLevel::Token { ratio(delta) } else { of_answer };
                let (mut loss, moved) = self.clipped(rho, row.advantage);
                let mut by_log_ratio = moved * slope;
                if self.beta != 0.0 {
                    let (k, k_slope) = k3(row.new[t], row.reference[t]);
                    let (factor, factor_slope) = if self.use_bias_correction_kl { (rho, slope) } else { (1.0, 0.0) };
                    loss += self.beta * k * factor;
                    by_log_ratio += self.beta * k * factor_slope;
                    g[t] += weight * self.beta * k_slope * factor;
                    tally.add("kl", k * factor, 1.0);
                }
                out.loss += weight * loss;
                match self.level {
                    RatioLevel::Token => g[t] += weight * by_log_ratio,
                    RatioLevel::Sequence => shared += weight * by_log_ratio / n,
                }
            }
            for x in &mut g {
                *x += shared;
            }
            out.g.push(g);
            let ratios =
                deltas().map(|delta| if self.level == RatioLevel::Token { ratio(delta).0 } else { of_answer.0 });
            let once = if self.level == RatioLevel::Token { row.new.len() } else { row.new.len().min(1) };
            clips.add(ratios.take(once), row.advantage, (self.epsilon_low, self.epsilon_high), tally);
        }
        clips.write(tally);
        out
    }

    /// −min(ρA, clip(ρ)A) and its derivative by ρ.
    fn clipped(&self, rho: f64, advantage: f64) -> (f64, f64) {
        clipped(rho, advantage, self.epsilon_low, self.epsilon_high)
    }
}

/// −min(ρA, clip(ρ, 1−low, 1+high)A) and its derivative by ρ: −A, or 0 where clipped.
pub(super) fn clipped(rho: f64, advantage: f64, low: f64, high: f64) -> (f64, f64) {
    let (plain, clipped) = (rho * advantage, rho.clamp(1.0 - low, 1.0 + high) * advantage);
    if clipped < plain { (-clipped, 0.0) } else { (-plain, -advantage) }
}

/// e^d − d − 1, d = reference − new, and its derivative by `new`.
fn k3(new: f64, reference: f64) -> (f64, f64) {
    let d = reference - new;
    let (value, slope) = ratio(d);
    (value - d - 1.0, 1.0 - slope)
}

/// Shares of clipped ratios, answer by answer.
#[derive(Debug, Default)]
pub(super) struct Clips {
    low: Option<f64>,
    high: Option<f64>,
}

impl Clips {
    /// Counts one answer's ratios; `epsilon`: (low, high).
    pub(super) fn add(
        &mut self,
        ratios: impl Iterator<Item = f64>,
        advantage: f64,
        epsilon: (f64, f64),
        tally: &mut Tally,
    ) {
        let (mut n, mut lows, mut highs) = (0.0, 0.0, 0.0);
        for rho in ratios {
            let low = f64::from(rho < 1.0 - epsilon.0 && advantage < 0.0);
            let high = f64::from(rho > 1.0 + epsilon.1 && advantage > 0.0);
            tally.add("clip_ratio/low_mean", low, 1.0);
            tally.add("clip_ratio/high_mean", high, 1.0);
            tally.add("clip_ratio/region_mean", low + high, 1.0);
            (n, lows, highs) = (n + 1.0, lows + low, highs + high);
        }
        if n > 0.0 {
            self.low = Some(self.low.map_or(lows / n, |x| x.min(lows / n)));
            self.high = Some(self.high.map_or(highs / n, |x| x.max(highs / n)));
        }
    }

    /// Adds the micro-batch's minimum and maximum.
    pub(super) fn write(&self, tally: &mut Tally) {
        for (name, value) in [("clip_ratio/low_min", self.low), ("clip_ratio/high_max", self.high)] {
            if let Some(value) = value {
                tally.add(name, value, 1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{near, slopes_match};
    use super::*;

    const OLD: [&[f64]; 3] = [&[-1.0, -0.5, -2.0], &[-0.7, -1.1], &[-0.4]];
    const REFERENCE: [&[f64]; 3] = [&[-1.3, -0.2, -1.5], &[-0.9, -1.0], &[-0.8]];
    const ADVANTAGES: [f64; 3] = [1.2, -0.8, 0.3];
    const PLAIN: Grpo = Grpo {
        epsilon_low: 0.2,
        epsilon_high: 0.28,
        beta: 0.0,
        use_bias_correction_kl: true,
        level: RatioLevel::Token,
        reduction: Reduction::Grpo,
    };

    /// Not at the clip bounds; some beyond them on either side.
    fn new() -> Vec<Vec<f64>> {
        vec![vec![-0.6, -0.9, -1.9], vec![-1.2, -0.7], vec![-0.35]]
    }

    fn grpo(grpo: Grpo, rows: &[Vec<f64>]) -> (RowLoss, Tally) {
        let rows: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(i, new)| GrpoRow { new, old: OLD[i], reference: REFERENCE[i], advantage: ADVANTAGES[i] })
            .collect();
        let mut tally = Tally::default();
        (grpo.loss(&rows, &mut tally), tally)
    }

    const REDUCTIONS: [Reduction; 4] = [
        Reduction::Grpo,
        Reduction::Bnpo,
        Reduction::Dapo { window_tokens: 40.0 },
        Reduction::DrGrpo { max_completion_length: 16.0 },
    ];

    #[test]
    fn values_by_hand() {
        // Ratios e^{.4, −.4, .1}, e^{−.5, .4}, e^{.05}; the first is above 1.28, the fourth below 0.8.
        let losses = [
            vec![-1.2 * 1.28, -1.2 * (-0.4f64).exp(), -1.2 * 0.1f64.exp()],
            vec![0.8 * 0.8, 0.8 * 0.4f64.exp()],
            vec![-0.3 * 0.05f64.exp()],
        ];
        let sum: f64 = losses.iter().flatten().sum();
        let mean: f64 = losses.iter().map(|l| l.iter().sum::<f64>() / l.len() as f64).sum::<f64>() / 3.0;
        for (reduction, want) in REDUCTIONS.into_iter().zip([mean, sum / 6.0, sum / 40.0, sum / 48.0]) {
            near(grpo(Grpo { reduction, ..PLAIN }, &new()).0.loss, want, 1e-12);
        }
        let (_, tally) = grpo(PLAIN, &new());
        for (name, want) in [
            ("clip_ratio/low_mean", 1.0 / 6.0),
            ("clip_ratio/high_mean", 1.0 / 6.0),
            ("clip_ratio/region_mean", 2.0 / 6.0),
            ("clip_ratio/low_min", 0.0),
            ("clip_ratio/high_max", 1.0 / 3.0),
        ] {
            near(tally.mean(name).unwrap(), want, 1e-12);
        }
        assert_eq!(tally.mean("kl"), None);
    }

    #[test]
    fn the_kl_is_added_with_weight_beta() {
        let k3 = |d: f64| d.exp() - d - 1.0;
        let d: Vec<f64> = new().concat().iter().zip(REFERENCE.concat()).map(|(n, r)| r - n).collect();
        let rho: Vec<f64> = new().concat().iter().zip(OLD.concat()).map(|(n, o)| (n - o).exp()).collect();
        let at = |beta, use_bias_correction_kl| {
            grpo(Grpo { beta, use_bias_correction_kl, reduction: Reduction::Bnpo, ..PLAIN }, &new())
        };
        let bare = at(0.0, true).0.loss;
        let kl = d.iter().map(|d| k3(*d)).sum::<f64>() / 6.0;
        let (out, tally) = at(0.3, false);
        near(out.loss - bare, 0.3 * kl, 1e-12);
        near(tally.mean("kl").unwrap(), kl, 1e-12);
        let kl = d.iter().zip(rho).map(|(d, rho)| k3(*d) * rho).sum::<f64>() / 6.0;
        near(at(0.3, true).0.loss - bare, 0.3 * kl, 1e-12);
    }

    #[test]
    fn at_the_old_policy_the_loss_is_minus_the_mean_advantage() {
        let old: Vec<Vec<f64>> = OLD.iter().map(|r| r.to_vec()).collect();
        for level in [RatioLevel::Token, RatioLevel::Sequence] {
            let out = grpo(Grpo { level, ..PLAIN }, &old).0;
            near(out.loss, -(1.2 - 0.8 + 0.3) / 3.0, 1e-12);
            // The policy gradient: −A per token, weighed.
            near(out.g[0][1], -1.2 / 9.0, 1e-12);
        }
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        for level in [RatioLevel::Token, RatioLevel::Sequence] {
            for reduction in REDUCTIONS {
                for (beta, use_bias_correction_kl) in [(0.0, true), (0.4, true), (0.4, false)] {
                    let loss = Grpo { beta, use_bias_correction_kl, level, reduction, ..PLAIN };
                    slopes_match(&new(), |rows| {
                        let out = grpo(loss, rows).0;
                        (out.loss, out.g)
                    });
                }
            }
        }
    }

    #[test]
    fn an_extreme_ratio_stays_finite_and_an_empty_answer_adds_nothing() {
        let row = GrpoRow { new: &[-0.1], old: &[-2000.0], reference: &[-2000.0], advantage: -1.0 };
        let far = GrpoRow { new: &[-2000.0], old: &[-0.1], reference: &[-0.1], advantage: 1.0 };
        let none = GrpoRow { new: &[], old: &[], reference: &[], advantage: 1.0 };
        let out = Grpo { beta: 0.1, ..PLAIN }.loss(&[row, far, none], &mut Tally::default());
        assert!(out.loss.is_finite() && out.g.iter().flatten().all(|g| g.is_finite()));
        assert!(out.g[2].is_empty());
    }
}
