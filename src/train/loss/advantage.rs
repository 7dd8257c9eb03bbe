//! Advantages of answers or tokens over a baseline.
//!
//! Owns group-relative advantages (GRPO, Shao et al. 2024), the leave-one-out baseline (RLOO, Ahmadian et al. 2024),
//! generalised advantage estimation (Schulman et al. 2016) and whitening. Refuses gradients: an advantage is a constant.

use super::{Tally, total};
use crate::domain::choices;

/// Added to a standard deviation before division, as in TRL.
const STD_FLOOR: f64 = 1e-4;

/// Added to the variance in whitening, as in TRL.
const VARIANCE_FLOOR: f64 = 1e-8;

choices! {
    /// The divisor of the differences from the group's mean.
    pub enum RewardScale {
        /// The standard deviation of the group (GRPO).
        Group = "group",
        /// The standard deviation of the whole batch.
        Batch = "batch",
        /// Nothing (Dr. GRPO, Liu et al. 2025).
        None = "none",
    }
}

/// Mean and unbiased standard deviation, ignoring NaN; 0 where there are too few values.
fn spread(values: &[f64]) -> (f64, f64) {
    let known: Vec<f64> = values.iter().copied().filter(|x| !x.is_nan()).collect();
    if known.is_empty() {
        return (0.0, 0.0);
    }
    let n = known.len() as f64;
    let mean = total(&known) / n;
    let square: f64 = known.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, if n > 1.0 { (square / (n - 1.0)).sqrt() } else { 0.0 })
}

/// (r − group mean)/(std + 1e-4), with the unbiased standard deviation selected by `scale`. `rewards` come in groups of `group`.
/// A NaN reward (not scored) is excluded from its group; its advantage is 0.
#[must_use]
pub fn group_advantages(rewards: &[f64], group: usize, scale: RewardScale) -> Vec<f64> {
    let (_, of_batch) = spread(rewards);
    let mut out = Vec::with_capacity(rewards.len());
    for rewards in rewards.chunks(group.max(1)) {
        let (mean, of_group) = spread(rewards);
        let divisor = match scale {
            RewardScale::Group => of_group + STD_FLOOR,
            RewardScale::Batch => of_batch + STD_FLOOR,
            RewardScale::None => 1.0,
        };
        out.extend(rewards.iter().map(|r| if r.is_nan() { 0.0 } else { (r - mean) / divisor }));
    }
    out
}

/// r − mean of the group's other rewards. `rewards` come in groups of `group`. 0 where a reward is NaN or has no others.
#[must_use]
pub fn leave_one_out(rewards: &[f64], group: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(rewards.len());
    for rewards in rewards.chunks(group.max(1)) {
        let known: Vec<f64> = rewards.iter().copied().filter(|x| !x.is_nan()).collect();
        let (sum, others) = (total(&known), known.len() as f64 - 1.0);
        out.extend(rewards.iter().map(|r| if r.is_nan() || others < 1.0 { 0.0 } else { r - (sum - r) / others }));
    }
    out
}

/// Adds `reward`, `reward_std` (over the whole batch) and `frac_reward_zero_std` (share of groups with equal rewards, which
/// give no gradient) to `tally`.
pub fn reward_metrics(rewards: &[f64], group: usize, tally: &mut Tally) {
    let (mean, std) = spread(rewards);
    let weight = rewards.iter().filter(|x| !x.is_nan()).count() as f64;
    tally.add("reward", mean, weight);
    tally.add("reward_std", std, 1.0);
    for rewards in rewards.chunks(group.max(1)) {
        tally.add("frac_reward_zero_std", f64::from(spread(rewards).1 <= 1e-8), 1.0);
    }
}

/// Advantages and returns of one answer's tokens (GAE): δ_t = r_t + γ·V_{t+1} − V_t,
/// A_t = δ_t + γλ·A_{t+1}, R_t = A_t + V_t; V and A after the last token are 0. `rewards` and `values` have equal length.
#[must_use]
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut next) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        next = rewards[t] + gamma * next_value - values[t] + gamma * lambda * next;
        next_value = values[t];
        advantages[t] = next;
    }
    let returns = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
    (advantages, returns)
}

/// Whitens all tokens of the batch to variance 1 (unbiased); with `shift` also to mean 0. Fewer than two tokens are unchanged.
pub fn whiten(rows: &mut [Vec<f64>], shift: bool) {
    let n = rows.iter().map(Vec::len).sum::<usize>() as f64;
    if n < 2.0 {
        return;
    }
    let mean = rows.iter().map(|r| total(r)).sum::<f64>() / n;
    let square: f64 = rows.iter().flatten().map(|x| (x - mean).powi(2)).sum();
    let scale = 1.0 / (square / (n - 1.0) + VARIANCE_FLOOR).sqrt();
    for x in rows.iter_mut().flatten() {
        *x = (*x - mean) * scale + if shift { 0.0 } else { mean };
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::near;
    use super::*;

    fn all_near(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        got.iter().zip(want).for_each(|(g, w)| near(*g, *w, 1e-6));
    }

    #[test]
    fn group_and_leave_one_out_golden_values() {
        let r = [1.0, 0.0, 0.5, 0.5];
        all_near(&group_advantages(&r, 4, RewardScale::Group), &[1.224_444_94, -1.224_444_94, 0.0, 0.0]);
        all_near(&leave_one_out(&r, 4), &[0.666_666_67, -0.666_666_67, 0.0, 0.0]);
        all_near(&group_advantages(&r, 4, RewardScale::None), &[0.5, -0.5, 0.0, 0.0]);
        // Two groups of two: their means are ½ each, their deviations √½ and 0, the batch's √(½/3).
        let batch = (0.5f64 / 3.0).sqrt() + 1e-4;
        all_near(&group_advantages(&r, 2, RewardScale::Batch), &[0.5 / batch, -0.5 / batch, 0.0, 0.0]);
        let group = 0.5f64.sqrt() + 1e-4;
        all_near(&group_advantages(&r, 2, RewardScale::Group), &[0.5 / group, -0.5 / group, 0.0, 0.0]);
    }

    #[test]
    fn an_answer_without_a_score_is_excluded() {
        let r = [1.0, f64::NAN, 0.0, f64::NAN];
        all_near(&leave_one_out(&r, 4), &[1.0, 0.0, -1.0, 0.0]);
        all_near(&leave_one_out(&r, 2), &[0.0; 4]);
        all_near(&group_advantages(&r, 2, RewardScale::Group), &[0.0; 4]);
        let mut tally = Tally::default();
        reward_metrics(&[1.0, 0.0, 0.5, 0.5, f64::NAN, f64::NAN], 2, &mut tally);
        near(tally.mean("reward").unwrap(), 0.5, 1e-12);
        near(tally.mean("reward_std").unwrap(), (0.5f64 / 3.0).sqrt(), 1e-12);
        near(tally.mean("frac_reward_zero_std").unwrap(), 2.0 / 3.0, 1e-12);
    }

    #[test]
    fn gae_and_whitening_golden_values() {
        let (a, r) = gae(&[-0.01, -0.01, 0.025, 1.0], &[0.1, 0.2, 0.3, 0.15], 1.0, 0.95);
        all_near(&a, &[0.791_456_25, 0.738_375, 0.6825, 0.85]);
        all_near(&r, &[0.891_456_25, 0.938_375, 0.9825, 1.0]);
        let mut rows = vec![a[..1].to_vec(), a[1..].to_vec()];
        whiten(&mut rows, true);
        all_near(&rows.concat(), &[0.360_668_95, -0.379_269_79, -1.158_152_69, 1.176_753_52]);
        let mut kept = vec![a.clone()];
        whiten(&mut kept, false);
        near(total(&kept[0]) / 4.0, total(&a) / 4.0, 1e-12);
        let mut one = vec![vec![], vec![3.0]];
        whiten(&mut one, true);
        assert_eq!(one, [vec![], vec![3.0]]);
    }

    #[test]
    fn gae_is_the_discounted_return_at_lambda_one() {
        let (_, r) = gae(&[0.0, 0.0, 1.0], &[0.3, -0.2, 0.7], 0.9, 1.0);
        all_near(&r, &[0.81, 0.9, 1.0]);
    }
}
