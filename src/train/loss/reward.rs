//! The reward model's loss: Bradley–Terry on scalar scores (Stiennon et al. 2020; margin: Llama 2, Touvron et al. 2023).
//!
//! `loss = −mean log σ(r_c − r_r − margin) + coef·mean (r_c + r_r)²`; the second term keeps scores around 0 (Eisenstein et al.
//! 2023). Scores are raw: a tanh would saturate.

use super::Tally;
use super::dpo::smoothed;

/// The two scores of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RewardPair {
    /// r_c.
    pub chosen: f64,
    /// r_r.
    pub rejected: f64,
    /// The margin; 0 if unknown.
    pub margin: f64,
    /// The probability of a wrong label, from votes; 0 if unknown.
    pub epsilon: f64,
}

/// The loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reward {
    /// Weight of the centring term; 0 disables it, 0.01 is usual.
    pub center_rewards_coefficient: f64,
}

/// Loss and gradient of one micro-batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RewardLoss {
    /// Mean over the pairs.
    pub loss: f64,
    /// (dL/dr_c, dL/dr_r) of each pair.
    pub g: Vec<(f64, f64)>,
}

impl Reward {
    /// Loss and gradient of a micro-batch; adds `accuracy` (strict: equal scores are wrong) and `margin`, each by pairs,
    /// `mean_reward` over all scores, and `min_reward` and `max_reward`, whose mean over micro-batches is logged, as in TRL.
    pub fn loss(&self, pairs: &[RewardPair], tally: &mut Tally) -> RewardLoss {
        let share = 1.0 / pairs.len() as f64;
        let coef = self.center_rewards_coefficient;
        let mut out = RewardLoss::default();
        for pair in pairs {
            let (c, r) = (pair.chosen, pair.rejected);
            let (loss, slope) = smoothed(c - r - pair.margin, pair.epsilon);
            let centre = 2.0 * coef * (c + r);
            out.loss += share * (loss + coef * (c + r) * (c + r));
            out.g.push((share * (slope + centre), share * (centre - slope)));
            tally.add("accuracy", f64::from(c > r), 1.0);
            tally.add("margin", c - r, 1.0);
            tally.add("mean_reward", f64::midpoint(c, r), 2.0);
            tally.extreme("min_reward", c.min(r), f64::min);
            tally.extreme("max_reward", c.max(r), f64::max);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{near, slopes_match};
    use super::*;

    fn reward(coef: f64, scores: &[Vec<f64>], margins: [f64; 2], epsilon: f64) -> (RewardLoss, Tally) {
        let pairs: Vec<_> = scores
            .iter()
            .zip(margins)
            .map(|(s, margin)| RewardPair { chosen: s[0], rejected: s[1], margin, epsilon })
            .collect();
        let mut tally = Tally::default();
        (Reward { center_rewards_coefficient: coef }.loss(&pairs, &mut tally), tally)
    }

    fn scores() -> Vec<Vec<f64>> {
        vec![vec![1.2, 0.4], vec![-0.3, 0.5]]
    }

    #[test]
    fn golden_values() {
        near(reward(0.0, &scores(), [0.0; 2], 0.0).0.loss, 0.771_100_67, 1e-8);
        near(reward(0.0, &scores(), [0.5, 0.0], 0.0).0.loss, 0.862_727_96, 1e-8);
        let (out, mut tally) = reward(0.01, &scores(), [0.0; 2], 0.0);
        near(out.loss, 0.784_100_67, 1e-8);
        tally.close();
        let want =
            [("accuracy", 0.5), ("margin", 0.0), ("min_reward", -0.3), ("mean_reward", 0.45), ("max_reward", 1.2)];
        for (name, value) in want {
            near(tally.mean(name).unwrap(), value, 1e-12);
        }
        let equal = reward(0.0, &[vec![0.0, 0.0]], [0.0; 2], 0.3);
        near(equal.0.loss, std::f64::consts::LN_2, 1e-12);
        assert_eq!(equal.1.mean("accuracy"), Some(0.0), "equal scores are no success");
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        for (coef, epsilon) in [(0.0, 0.0), (0.3, 0.0), (0.01, 0.2)] {
            slopes_match(&scores(), |scores| {
                let out = reward(coef, scores, [0.5, 0.1], epsilon).0;
                (out.loss, out.g.into_iter().map(|(c, r)| vec![c, r]).collect())
            });
        }
    }
}
