//! RLOO (Ahmadian et al. 2024): REINFORCE on whole answers with a leave-one-out baseline, clipped as in PPO.
//!
//! The reward includes a KL penalty: `R = reward − β·Σ_t (log π_old − log ρ)`, summed over the answer's tokens (k1). Then
//! `A = R − mean R of the group's other answers` ([`super::leave_one_out`]), ratio = exp Σ_t (log π_new − log π_old), and
//! `loss = mean over answers of −min(ratio·A, clip(ratio, 1−ε_low, 1+ε_high)·A)`.

use super::grpo::{Clips, clipped};
use super::{RowLoss, Tally, ratio, total};

/// One sampled answer; slices have one value per token.
#[derive(Debug, Clone, Copy)]
pub struct RlooRow<'a> {
    /// Log-probs under the current policy.
    pub new: &'a [f64],
    /// Log-probs under the sampling policy.
    pub old: &'a [f64],
    /// The answer's advantage.
    pub advantage: f64,
}

/// The RLOO loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rloo {
    /// Coefficient of the KL penalty, 0.05.
    pub beta: f64,
    /// ε_low, 0.2.
    pub epsilon_low: f64,
    /// ε_high, by default ε_low.
    pub epsilon_high: f64,
}

impl Rloo {
    /// An answer's reward minus β times its KL; if β > 0, adds `kl` to `tally`, by tokens.
    pub fn penalised(&self, reward: f64, old: &[f64], reference: &[f64], tally: &mut Tally) -> f64 {
        if self.beta == 0.0 {
            return reward;
        }
        let kl: f64 = old.iter().zip(reference).map(|(o, r)| o - r).sum();
        let n = (old.len() as f64).max(1.0);
        tally.add("kl", kl / n, old.len() as f64);
        reward - self.beta * kl
    }

    /// Loss and gradient of a micro-batch; adds `clip_ratio/*` to `tally`, by answers, as [`super::Grpo::loss`] does.
    pub fn loss(&self, rows: &[RlooRow<'_>], tally: &mut Tally) -> RowLoss {
        let share = 1.0 / rows.len() as f64;
        let mut out = RowLoss::default();
        let mut clips = Clips::default();
        for row in rows {
            let (rho, slope) = ratio(total(row.new) - total(row.old));
            let (loss, moved) = clipped(rho, row.advantage, self.epsilon_low, self.epsilon_high);
            out.loss += share * loss;
            out.g.push(vec![share * moved * slope; row.new.len()]);
            clips.add(std::iter::once(rho), row.advantage, (self.epsilon_low, self.epsilon_high), tally);
        }
        clips.write(tally);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::leave_one_out;
    use super::super::tests::{near, slopes_match};
    use super::*;

    const RLOO: Rloo = Rloo { beta: 0.05, epsilon_low: 0.2, epsilon_high: 0.2 };
    const OLD: [&[f64]; 4] = [&[-1.0, -0.5], &[-0.7], &[-0.4, -2.0, -0.3], &[-1.0]];
    const ADVANTAGES: [f64; 4] = [0.6, -0.6, 0.4, -0.4];

    fn rloo(rows: &[Vec<f64>]) -> (RowLoss, Tally) {
        let rows: Vec<_> = rows
            .iter()
            .zip(OLD)
            .zip(ADVANTAGES)
            .map(|((new, old), advantage)| RlooRow { new, old, advantage })
            .collect();
        let mut tally = Tally::default();
        (RLOO.loss(&rows, &mut tally), tally)
    }

    /// Log ratios +0.1, −0.5 (held), +0.3 (held), +0.5.
    fn new() -> Vec<Vec<f64>> {
        vec![vec![-0.8, -0.6], vec![-1.2], vec![-0.3, -1.9, -0.2], vec![-0.5]]
    }

    #[test]
    fn values_by_hand() {
        let (out, tally) = rloo(&new());
        let want = (-0.6 * 0.1f64.exp() + 0.6 * 0.8 - 0.4 * 1.2 + 0.4 * 0.5f64.exp()) / 4.0;
        near(out.loss, want, 1e-12);
        near(tally.mean("clip_ratio/low_mean").unwrap(), 0.25, 1e-12);
        near(tally.mean("clip_ratio/region_mean").unwrap(), 0.5, 1e-12);
        assert_eq!(tally.mean("clip_ratio/high_max"), Some(1.0));
        assert_eq!((&out.g[1], &out.g[2]), (&vec![0.0], &vec![0.0; 3]), "a held answer has no gradient");
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        slopes_match(&new(), |rows| {
            let out = rloo(rows).0;
            (out.loss, out.g)
        });
    }

    #[test]
    fn the_kl_penalty_lowers_the_reward() {
        let mut tally = Tally::default();
        near(RLOO.penalised(1.0, &[-1.0, -0.5], &[-1.4, -0.7], &mut tally), 1.0 - 0.05 * 0.6, 1e-12);
        near(tally.mean("kl").unwrap(), 0.3, 1e-12);
        let near_it = RLOO.penalised(1.0, &[-1.0], &[-1.0], &mut tally);
        let far = RLOO.penalised(1.0, &[-0.1], &[-1.0], &mut tally);
        assert!(far < near_it, "surer than the reference costs reward");
        let a = leave_one_out(&[near_it, far], 2);
        assert!(a[0] > 0.0 && a[1] < 0.0);
    }
}
