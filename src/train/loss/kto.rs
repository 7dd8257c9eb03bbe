//! KTO (Ethayarajh et al. 2024): single answers, each desirable or not, against a frozen reference.
//!
//! With a = Σ log π − log ρ over an answer's tokens and z = max(0, mean of the same sum over a pool of mismatched answers),
//! detached: `kto` w_D·(1 − σ(β(a − z))) for a desirable answer, w_U·(1 − σ(β(z − a))) for an undesirable one;
//! `apo_zero_unpaired` (D'Oosterlinck et al. 2024) the same with z = 0. The loss is the mean over all answers.

use super::{RowLoss, Tally, sigmoid, total};
use crate::domain::choices;

choices! {
    /// The two forms.
    pub enum KtoForm {
        /// With the pool's KL as baseline.
        Kto = "kto",
        /// Without a baseline; needs no pool.
        ApoZeroUnpaired = "apo_zero_unpaired",
    }
}

/// One answer and its label; both slices have equal length.
#[derive(Debug, Clone, Copy)]
pub struct KtoRow<'a> {
    /// log π of the answer's tokens.
    pub policy: &'a [f64],
    /// log ρ of the answer's tokens.
    pub reference: &'a [f64],
    /// The label: desirable or undesirable.
    pub desirable: bool,
}

/// The KTO loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// Strength of the KL regularisation towards the reference.
    pub beta: f64,
    /// The form.
    pub form: KtoForm,
    /// w_D.
    pub desirable_weight: f64,
    /// w_U.
    pub undesirable_weight: f64,
}

impl Kto {
    /// The loss where the policy equals the reference, for these counts of rows: half the mean weight.
    #[must_use]
    pub fn loss_at_reference(&self, desirable: usize, undesirable: usize) -> f64 {
        let sum = self.desirable_weight * desirable as f64 + self.undesirable_weight * undesirable as f64;
        0.5 * sum / (desirable + undesirable) as f64
    }

    /// The pool's KL: the mean of its summed log π − log ρ, at least 0; 0 for an empty pool.
    #[must_use]
    pub fn kl(&self, pool: &[f64]) -> f64 {
        if self.form == KtoForm::ApoZeroUnpaired || pool.is_empty() {
            return 0.0;
        }
        (total(pool) / pool.len() as f64).max(0.0)
    }

    /// Loss and gradient of a micro-batch. `pool`: summed log π − log ρ of mismatched answers.
    ///
    /// Adds `rewards/chosen|rejected` (βa of desirable and undesirable answers) and `logps/*` (summed), each weighted by its
    /// answers; `rewards/margins`, if the batch has both; and `kl` for `kto` only: the other form does not measure it (TRL
    /// logs 0).
    pub fn loss(&self, rows: &[KtoRow<'_>], pool: &[f64], tally: &mut Tally) -> RowLoss {
        let mut out = RowLoss::default();
        let share = 1.0 / rows.len() as f64;
        let z = self.kl(pool);
        let mut sides = [(0.0, 0.0); 2];
        for row in rows {
            let logp = total(row.policy);
            let a = logp - total(row.reference);
            let (weight, sign) =
                if row.desirable { (self.desirable_weight, 1.0) } else { (self.undesirable_weight, -1.0) };
            let x = sign * self.beta * (a - z);
            out.loss += share * weight * sigmoid(-x);
            let slope = -share * weight * sign * self.beta * sigmoid(x) * sigmoid(-x);
            out.g.push(vec![slope; row.policy.len()]);
            let side = &mut sides[usize::from(row.desirable)];
            *side = (side.0 + self.beta * a, side.1 + 1.0);
            let names =
                if row.desirable { ("rewards/chosen", "logps/chosen") } else { ("rewards/rejected", "logps/rejected") };
            tally.add(names.0, self.beta * a, 1.0);
            tally.add(names.1, logp, 1.0);
        }
        let [(bad, nbad), (good, ngood)] = sides;
        if nbad > 0.0 && ngood > 0.0 {
            tally.add("rewards/margins", good / ngood - bad / nbad, 1.0);
        }
        if self.form == KtoForm::Kto {
            tally.add("kl", z, rows.len() as f64);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{near, slopes_match, spread};
    use super::*;

    const GOOD: [bool; 4] = [true, false, true, false];
    const LOG_RATIOS: [f64; 4] = [1.5, -2.0, -1.5, 0.75];
    const PLAIN: Kto = Kto { beta: 0.1, form: KtoForm::Kto, desirable_weight: 1.0, undesirable_weight: 1.0 };

    /// Rows with those log-ratios over a reference of −2 a token.
    fn rows() -> Vec<Vec<f64>> {
        LOG_RATIOS.iter().zip([3, 5, 4, 2]).map(|(a, n)| spread(a - 2.0 * n as f64, n)).collect()
    }

    fn kto(kto: Kto, rows: &[Vec<f64>], pool: &[f64]) -> (RowLoss, Tally) {
        let references: Vec<_> = rows.iter().map(|r| vec![-2.0; r.len()]).collect();
        let rows: Vec<_> = rows
            .iter()
            .zip(&references)
            .zip(GOOD)
            .map(|((policy, reference), desirable)| KtoRow { policy, reference, desirable })
            .collect();
        let mut tally = Tally::default();
        (kto.loss(&rows, pool, &mut tally), tally)
    }

    #[test]
    fn golden_values() {
        let (out, tally) = kto(PLAIN, &rows(), &[0.5, -0.15]);
        near(out.loss, 0.492_227_53, 1e-8);
        near(tally.mean("kl").unwrap(), 0.175, 1e-12);
        near(tally.mean("rewards/chosen").unwrap(), 0.0, 1e-12);
        near(tally.mean("rewards/rejected").unwrap(), -0.0625, 1e-12);
        near(tally.mean("rewards/margins").unwrap(), 0.0625, 1e-12);
        near(tally.mean("logps/chosen").unwrap(), -7.0, 1e-12);
        near(tally.mean("logps/rejected").unwrap(), -7.625, 1e-12);
        let apo = Kto { form: KtoForm::ApoZeroUnpaired, ..PLAIN };
        let (out, tally) = kto(apo, &rows(), &[9.0]);
        let want = (sigmoid(-0.15) + sigmoid(-0.2) + sigmoid(0.15) + sigmoid(0.075)) / 4.0;
        near(out.loss, want, 1e-12);
        assert_eq!(tally.mean("kl"), None);
    }

    #[test]
    fn a_negative_kl_counts_as_zero() {
        assert_eq!(PLAIN.kl(&[-1.0, 0.5]), 0.0);
        assert_eq!(PLAIN.kl(&[]), 0.0);
        near(PLAIN.kl(&[1.0, 2.0]), 1.5, 1e-12);
    }

    #[test]
    fn at_the_reference_the_loss_is_half_the_mean_weight() {
        let loss = Kto { desirable_weight: 1.2, undesirable_weight: 0.8, ..PLAIN };
        let at: Vec<_> = rows().iter().map(|r| vec![-2.0; r.len()]).collect();
        near(kto(loss, &at, &[0.0; 4]).0.loss, loss.loss_at_reference(2, 2), 1e-12);
        near(loss.loss_at_reference(1, 3), 0.45, 1e-12);
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        for form in [KtoForm::Kto, KtoForm::ApoZeroUnpaired] {
            let loss = Kto { beta: 0.4, form, desirable_weight: 1.3, undesirable_weight: 0.7 };
            slopes_match(&rows(), |rows| {
                let out = kto(loss, rows, &[1.0, 0.2]).0;
                (out.loss, out.g)
            });
        }
    }

    #[test]
    fn labels_decide_the_gradients_sign() {
        let out = kto(PLAIN, &rows(), &[]).0;
        for (g, good) in out.g.iter().zip(GOOD) {
            assert!(g.iter().all(|x| (*x < 0.0) == good));
        }
    }
}
