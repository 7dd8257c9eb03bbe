//! PPO (Schulman et al. 2017; on language models: Ziegler et al. 2019, Huang et al. 2024): rewards by token, clipped losses.
//!
//! Each sampled token gets a KL penalty, `reward_t = −coef·kl_t` with kl_t = log π_old − log ρ (k1) or
//! e^{log ρ − log π_old} − 1 − (log ρ − log π_old) (k3); the answer's score is added at its last token, the EOS
//! token if there is one. With ratio = π_new/π_old, `policy = mean max(−A·ratio, −A·clip(ratio, 1 ± ε))`,
//! `value = ½·mean max((V − R)², (clip(V, V_old ± ε_v) − R)²)`, `loss = policy + vf_coef·value`; means over the tokens of the
//! batch, which must be sampled without top-k and top-p for kl_t to be valid.
//!
//! Differs from TRL 1.12: the score is on the last token instead of the one after it, and means exclude padding.

use super::{Tally, ratio, total};

/// The estimator of a token's KL to the reference (Schulman 2020, "Approximating KL divergence").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KlEstimator {
    /// log π − log ρ: unbiased, may be negative.
    K1,
    /// e^d − 1 − d, d = log ρ − log π: unbiased for samples of π, never negative.
    K3,
}

impl KlEstimator {
    /// The estimate at a sampled token from its log-probs under the policy and the reference.
    #[must_use]
    pub fn at(self, policy: f64, reference: f64) -> f64 {
        let d = reference - policy;
        match self {
            Self::K1 => -d,
            Self::K3 => ratio(d).0 - 1.0 - d,
        }
    }
}

/// The rewards of one answer's tokens: −coef·kl each, plus `score` at the last. Empty for an empty answer.
#[must_use]
pub fn token_rewards(old: &[f64], reference: &[f64], score: f64, coef: f64, kl: KlEstimator) -> Vec<f64> {
    let mut out: Vec<f64> = old.iter().zip(reference).map(|(o, r)| -coef * kl.at(*o, *r)).collect();
    if let Some(last) = out.last_mut() {
        *last += score;
    }
    out
}

/// One sampled answer, for the metrics of a rollout.
#[derive(Debug, Clone, Copy)]
pub struct Rollout<'a> {
    /// log π_old of its tokens.
    pub old: &'a [f64],
    /// log ρ of its tokens.
    pub reference: &'a [f64],
    /// Its score.
    pub score: f64,
}

/// Adds TRL's `objective/*` of a batch of answers to `tally`, each a mean over answers: `kl` (summed over tokens), `entropy`
/// (summed −log π of the sampled tokens), `non_score_reward` (−coef·kl), `scores`, `rlhf_reward` (their sum). Returns the mean
/// `objective/kl` for the adaptive coefficient; 0 without answers.
pub fn rollout_metrics(rollouts: &[Rollout<'_>], coef: f64, estimator: KlEstimator, tally: &mut Tally) -> f64 {
    let mut sum = 0.0;
    for one in rollouts {
        let kl: f64 = one.old.iter().zip(one.reference).map(|(o, r)| estimator.at(*o, *r)).sum();
        sum += kl;
        tally.add("objective/kl", kl, 1.0);
        tally.add("objective/entropy", -total(one.old), 1.0);
        tally.add("objective/non_score_reward", -coef * kl, 1.0);
        tally.add("objective/rlhf_reward", one.score - coef * kl, 1.0);
        tally.add("objective/scores", one.score, 1.0);
    }
    sum / (rollouts.len() as f64).max(1.0)
}

/// Adaptive coefficient of the KL penalty with a target KL (Ziegler et al. 2019):
/// `coef ← coef·(1 + clip(KL/target − 1, ±0.2)·n/horizon)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveKl {
    /// The current coefficient.
    pub coef: f64,
    /// Target KL per answer in nats; usually 6.
    pub target: f64,
    /// Horizon in answers; usually 10000.
    pub horizon: f64,
}

impl AdaptiveKl {
    /// Updates from the mean KL of `answers` sampled answers.
    pub fn update(&mut self, kl: f64, answers: usize) {
        let error = (kl / self.target - 1.0).clamp(-0.2, 0.2);
        self.coef *= 1.0 + error * answers as f64 / self.horizon;
    }
}

/// One sampled answer in training; every slice has one value per token.
#[derive(Debug, Clone, Copy)]
pub struct PpoRow<'a> {
    /// Log-probs under the current policy.
    pub new: &'a [f64],
    /// Log-probs under the sampling policy, from the same forward pass as `new`.
    pub old: &'a [f64],
    /// Advantages, whitened or not.
    pub advantages: &'a [f64],
    /// Values of the current value head.
    pub values: &'a [f64],
    /// Values at sampling time.
    pub old_values: &'a [f64],
    /// Returns.
    pub returns: &'a [f64],
}

/// The clipped losses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ppo {
    /// ε of the ratio, 0.2.
    pub cliprange: f64,
    /// ε_v of the values, 0.2.
    pub cliprange_value: f64,
    /// Weight of the value loss, 0.1.
    pub vf_coef: f64,
}

/// Loss and gradients of one micro-batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PpoLoss {
    /// policy + vf_coef·value.
    pub loss: f64,
    /// dL/dlogp_t, row by row.
    pub policy: Vec<Vec<f64>>,
    /// dL/dV_t, row by row, including `vf_coef`.
    pub value: Vec<Vec<f64>>,
}

impl Ppo {
    /// Loss and gradients of a micro-batch; adds `loss/policy_avg`, `loss/value_avg`, `policy/approxkl_avg` (½·mean Δ²),
    /// `policy/clipfrac_avg`, `val/clipfrac_avg` and `val/ratio` to `tally`, each by tokens.
    pub fn loss(&self, rows: &[PpoRow<'_>], tally: &mut Tally) -> PpoLoss {
        let tokens = rows.iter().map(|r| r.new.len()).sum::<usize>() as f64;
        let share = 1.0 / tokens.max(1.0);
        let mut out = PpoLoss::default();
        for row in rows {
            let mut policy = Vec::with_capacity(row.new.len());
            let mut value = Vec::with_capacity(row.new.len());
            for t in 0..row.new.len() {
                let delta = row.new[t] - row.old[t];
                let (rho, slope) = ratio(delta);
                let a = row.advantages[t];
                let (plain, clipped) = (-a * rho, -a * rho.clamp(1.0 - self.cliprange, 1.0 + self.cliprange));
                policy.push(if clipped > plain { 0.0 } else { -a * slope * share });
                let (v, old) = (row.values[t], row.old_values[t]);
                let near = v.clamp(old - self.cliprange_value, old + self.cliprange_value);
                let (off, off_near) = ((v - row.returns[t]).powi(2), (near - row.returns[t]).powi(2));
                value.push(if off_near > off { 0.0 } else { self.vf_coef * (v - row.returns[t]) * share });
                let (loss, value_loss) = (plain.max(clipped), 0.5 * off.max(off_near));
                out.loss += share * (loss + self.vf_coef * value_loss);
                tally.add("loss/policy_avg", loss, 1.0);
                tally.add("loss/value_avg", value_loss, 1.0);
                tally.add("policy/approxkl_avg", 0.5 * delta * delta, 1.0);
                tally.add("policy/clipfrac_avg", f64::from(clipped > plain), 1.0);
                tally.add("val/clipfrac_avg", f64::from(off_near > off), 1.0);
                tally.add("val/ratio", rho, 1.0);
            }
            out.policy.push(policy);
            out.value.push(value);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{near, slopes_match};
    use super::super::{gae, whiten};
    use super::*;

    const OLD: [f64; 4] = [-1.0, -0.5, -2.0, -0.1];
    const REFERENCE: [f64; 4] = [-1.2, -0.7, -1.5, -0.1];
    const VALUES: [f64; 4] = [0.1, 0.2, 0.3, 0.15];
    const NEW: [f64; 4] = [-0.9, -0.9, -1.6, -0.1];
    const NEW_VALUES: [f64; 4] = [0.4, 0.1, 0.35, 0.5];
    const PPO: Ppo = Ppo { cliprange: 0.2, cliprange_value: 0.2, vf_coef: 0.1 };

    /// The loss of one answer whose log-probs and values are `rows[0]` and `rows[1]`.
    fn ppo(rows: &[Vec<f64>]) -> (PpoLoss, Tally) {
        let rewards = token_rewards(&OLD, &REFERENCE, 1.0, 0.05, KlEstimator::K1);
        let (advantages, returns) = gae(&rewards, &VALUES, 1.0, 0.95);
        let mut white = vec![advantages];
        whiten(&mut white, true);
        let row = PpoRow {
            new: &rows[0],
            old: &OLD,
            advantages: &white[0],
            values: &rows[1],
            old_values: &VALUES,
            returns: &returns,
        };
        let mut tally = Tally::default();
        (PPO.loss(&[row], &mut tally), tally)
    }

    #[test]
    fn golden_values() {
        let rewards = token_rewards(&OLD, &REFERENCE, 1.0, 0.05, KlEstimator::K1);
        for (got, want) in rewards.iter().zip([-0.01, -0.01, 0.025, 1.0]) {
            near(*got, want, 1e-12);
        }
        let k3 = [0.018_730_75, 0.018_730_75, 0.148_721_27, 0.0];
        for ((old, reference), want) in OLD.into_iter().zip(REFERENCE).zip(k3) {
            near(KlEstimator::K3.at(old, reference), want, 1e-8);
        }
        let (out, tally) = ppo(&[NEW.to_vec(), NEW_VALUES.to_vec()]);
        near(out.loss, 0.137_396_18, 1e-7);
        for (name, want) in [
            ("loss/policy_avg", 0.113_955_56),
            ("loss/value_avg", 0.234_406_17),
            ("policy/clipfrac_avg", 0.25),
            ("policy/approxkl_avg", 0.041_25),
        ] {
            near(tally.mean(name).unwrap(), want, 1e-7);
        }
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        slopes_match(&[NEW.to_vec(), NEW_VALUES.to_vec()], |rows| {
            let out = ppo(rows).0;
            (out.loss, vec![out.policy[0].clone(), out.value[0].clone()])
        });
    }

    #[test]
    fn means_are_over_tokens_of_all_rows() {
        let row = |new: &'static [f64], old: &'static [f64]| PpoRow {
            new,
            old,
            advantages: &[1.0, 1.0, 1.0][..new.len()],
            values: &VALUES[..new.len()],
            old_values: &VALUES[..new.len()],
            returns: &VALUES[..new.len()],
        };
        let out = PPO.loss(&[row(&[-1.0; 3], &[-1.0; 3]), row(&[-1.0], &[-1.0])], &mut Tally::default());
        assert_eq!(out.policy, [vec![-0.25; 3], vec![-0.25]]);
        near(out.loss, -1.0, 1e-12);
        let none = PPO.loss(&[row(&[], &[])], &mut Tally::default());
        assert_eq!(none, PpoLoss { loss: 0.0, policy: vec![vec![]], value: vec![vec![]] });
    }

    #[test]
    fn moving_away_from_the_reference_lowers_the_reward() {
        // Tokens drawn from the policy of a coin, exactly: each face with its probability. The further the policy's coin is
        // from the reference's, the lower the expected reward, whichever way.
        let expected = |p: f64, kl| {
            let face = |q: f64, r: f64| q * token_rewards(&[q.ln()], &[r.ln()], 0.0, 0.05, kl)[0];
            face(p, 0.4) + face(1.0 - p, 0.6)
        };
        for kl in [KlEstimator::K1, KlEstimator::K3] {
            near(expected(0.4, kl), 0.0, 1e-12);
            for path in [[0.4, 0.5, 0.7, 0.95], [0.4, 0.3, 0.2, 0.05]] {
                assert!(path.windows(2).all(|p| expected(p[0], kl) > expected(p[1], kl)));
            }
        }
    }

    #[test]
    fn the_score_is_on_the_last_token() {
        assert_eq!(token_rewards(&[-1.0, -2.0], &[-1.0, -2.0], 3.0, 0.5, KlEstimator::K1), [0.0, 3.0]);
        assert!(token_rewards(&[], &[], 3.0, 0.5, KlEstimator::K1).is_empty());
    }

    #[test]
    fn the_objective_of_a_rollout() {
        let rollouts = [
            Rollout { old: &OLD, reference: &REFERENCE, score: 1.0 },
            Rollout { old: &[-1.0], reference: &[-1.0], score: -0.5 },
        ];
        let mut tally = Tally::default();
        let kl = rollout_metrics(&rollouts, 0.05, KlEstimator::K1, &mut tally);
        near(kl, -0.05, 1e-12);
        for (name, want) in [
            ("objective/kl", -0.05),
            ("objective/entropy", 2.3),
            ("objective/non_score_reward", 0.0025),
            ("objective/scores", 0.25),
            ("objective/rlhf_reward", 0.2525),
        ] {
            near(tally.mean(name).unwrap(), want, 1e-12);
        }
    }

    #[test]
    fn the_adaptive_coefficient_follows_its_target() {
        let mut kl = AdaptiveKl { coef: 0.2, target: 6.0, horizon: 1000.0 };
        kl.update(6.6, 100);
        near(kl.coef, 0.2 * 1.01, 1e-12);
        kl.update(600.0, 100);
        near(kl.coef, 0.2 * 1.01 * 1.02, 1e-12);
        kl.update(-3.0, 500);
        near(kl.coef, 0.2 * 1.01 * 1.02 * 0.9, 1e-12);
    }
}
