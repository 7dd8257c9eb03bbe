//! CPO (Xu et al. 2024) and SimPO (Meng et al. 2024): preference without a reference.
//!
//! With r the summed log π of an answer's tokens (`sigmoid`, `hinge`) or their mean (`ipo`, `simpo`) and d = r_c − r_r:
//! `sigmoid` −log σ(βd); `simpo` −log σ(βd − γ); both with label smoothing ε as in cDPO; `hinge` max(0, 1 − βd);
//! `ipo` (d − 1/(2β))². Then `loss = mean over pairs + α·NLL`, NLL the mean −log π over the tokens of all chosen answers of
//! the batch. SimPO proper has α = 0.

use super::dpo::smoothed;
use super::{PairGradient, PairLoss, Tally, rewards, total};

/// The loss on the difference of the two answers' rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CpoForm {
    /// −log σ(βd), d of sums.
    Sigmoid,
    /// max(0, 1 − βd), d of sums.
    Hinge,
    /// (d − 1/(2β))², d of means.
    Ipo,
    /// −log σ(βd − γ), d of means.
    Simpo {
        /// γ, the target margin, already multiplied by β.
        gamma: f64,
    },
}

/// Log-probs of one pair's answer tokens under the policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpoPair<'a> {
    /// The chosen answer's tokens.
    pub chosen: &'a [f64],
    /// The rejected answer's tokens.
    pub rejected: &'a [f64],
    /// The probability of a wrong label, from votes; replaces [`Cpo::label_smoothing`].
    pub epsilon: Option<f64>,
}

/// The CPO loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpo {
    /// Scale of the rewards.
    pub beta: f64,
    /// The form.
    pub form: CpoForm,
    /// ε in 0..0.5, for `sigmoid` and `simpo`.
    pub label_smoothing: f64,
    /// α, the weight of the NLL of the chosen answers.
    pub alpha: f64,
}

impl CpoForm {
    /// Whether an answer's reward is the mean over its tokens instead of the sum.
    #[must_use]
    pub fn takes_means(self) -> bool {
        matches!(self, Self::Ipo | Self::Simpo { .. })
    }

    /// Whether the form uses label smoothing, of the run or of a pair.
    #[must_use]
    pub fn uses_label_smoothing(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Simpo { .. })
    }
}

impl Cpo {
    /// Loss and gradient of a micro-batch; adds rewards (β·r), log-probs (r: sums or means, by form) and,
    /// if α is not 0, `nll_loss` (without α) to `tally`.
    pub fn loss(&self, pairs: &[CpoPair<'_>], tally: &mut Tally) -> PairLoss {
        let mut out = PairLoss::default();
        let share = 1.0 / pairs.len() as f64;
        let beta = self.beta;
        let tokens: f64 = pairs.iter().map(|p| p.chosen.len() as f64).sum();
        let nll = -pairs.iter().map(|p| total(p.chosen)).sum::<f64>() / tokens;
        let nll_slope = -self.alpha / tokens;
        for pair in pairs {
            let divisor = |x: &[f64]| if self.form.takes_means() { x.len() as f64 } else { 1.0 };
            let (nc, nr) = (divisor(pair.chosen), divisor(pair.rejected));
            let (rc, rr) = (total(pair.chosen) / nc, total(pair.rejected) / nr);
            let d = rc - rr;
            let epsilon = pair.epsilon.unwrap_or(self.label_smoothing);
            // The loss and its derivative by d.
            let (loss, slope) = match self.form {
                CpoForm::Sigmoid => scaled(smoothed(beta * d, epsilon), beta),
                CpoForm::Simpo { gamma } => scaled(smoothed(beta * d - gamma, epsilon), beta),
                CpoForm::Hinge => ((1.0 - beta * d).max(0.0), if beta * d < 1.0 { -beta } else { 0.0 }),
                CpoForm::Ipo => {
                    let u = d - 0.5 / beta;
                    (u * u, 2.0 * u)
                }
            };
            out.loss += loss * share;
            out.g.push(PairGradient {
                chosen: vec![slope * share / nc + nll_slope; pair.chosen.len()],
                rejected: vec![-slope * share / nr; pair.rejected.len()],
            });
            rewards(tally, beta * rc, beta * rr);
            tally.add("logps/chosen", rc, 1.0);
            tally.add("logps/rejected", rr, 1.0);
        }
        out.loss += self.alpha * nll;
        if self.alpha != 0.0 {
            tally.add("nll_loss", nll, tokens);
        }
        out
    }
}

/// Converts a derivative by βd into one by d.
fn scaled((loss, slope): (f64, f64), beta: f64) -> (f64, f64) {
    (loss, slope * beta)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{golden, near, slopes_match};
    use super::*;

    fn cpo(cpo: Cpo, rows: &[Vec<f64>], epsilon: Option<f64>) -> (PairLoss, Tally) {
        let pairs: Vec<_> = rows.chunks(2).map(|r| CpoPair { chosen: &r[0], rejected: &r[1], epsilon }).collect();
        let mut tally = Tally::default();
        (cpo.loss(&pairs, &mut tally), tally)
    }

    fn rows() -> Vec<Vec<f64>> {
        golden().into_iter().flat_map(|[c, r, ..]| [c, r]).collect()
    }

    const FORMS: [CpoForm; 4] = [CpoForm::Sigmoid, CpoForm::Hinge, CpoForm::Ipo, CpoForm::Simpo { gamma: 0.5 }];

    #[test]
    fn golden_values() {
        let plain = Cpo { beta: 0.1, form: CpoForm::Sigmoid, label_smoothing: 0.0, alpha: 0.0 };
        let (out, tally) = cpo(plain, &rows(), None);
        near(out.loss, 0.751_363_50, 1e-8);
        near(tally.mean("rewards/chosen").unwrap(), -2.775, 1e-12);
        near(tally.mean("logps/rejected").unwrap(), -27.125, 1e-12);
        assert_eq!(tally.mean("nll_loss"), None, "without its weight there is no NLL");
        let simpo = Cpo { beta: 2.0, form: CpoForm::Simpo { gamma: 0.5 }, ..plain };
        let (out, tally) = cpo(simpo, &rows(), None);
        near(out.loss, 0.564_618_01, 1e-8);
        near(tally.mean("logps/chosen").unwrap(), -f64::midpoint(2.0, 35.5 / 16.0), 1e-12);
        // Token mean over both chosen answers: 55.5 nats over 26 tokens.
        let (out, tally) = cpo(Cpo { alpha: 0.7, ..plain }, &rows(), None);
        near(out.loss, 0.751_363_50 + 0.7 * 55.5 / 26.0, 1e-8);
        near(tally.mean("nll_loss").unwrap(), 55.5 / 26.0, 1e-12);
        near(cpo(Cpo { form: CpoForm::Hinge, ..plain }, &rows(), None).0.loss, 1.0625, 1e-12);
        // d = [0, 30.25/9 − 35.5/16], 1/(2β) = 5.
        let ipo = f64::midpoint(25.0, (30.25 / 9.0 - 35.5 / 16.0 - 5.0f64).powi(2));
        near(cpo(Cpo { form: CpoForm::Ipo, ..plain }, &rows(), None).0.loss, ipo, 1e-12);
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        for form in FORMS {
            for (label_smoothing, own) in [(0.0, None), (0.2, None), (0.2, Some(0.4))] {
                let loss = Cpo { beta: 0.3, form, label_smoothing, alpha: 0.5 };
                slopes_match(&rows(), |rows| {
                    let out = cpo(loss, rows, own).0;
                    (out.loss, out.g.into_iter().flat_map(|g| [g.chosen, g.rejected]).collect())
                });
            }
        }
    }

    #[test]
    fn smoothing_pulls_the_margin_back() {
        let at = |epsilon| {
            let loss = Cpo { beta: 1.0, form: CpoForm::Simpo { gamma: 0.0 }, label_smoothing: 0.0, alpha: 0.0 };
            cpo(loss, &[vec![-1.0], vec![-3.0]], Some(epsilon)).0
        };
        assert!(at(0.0).g[0].chosen[0] < 0.0, "a clear label raises the chosen answer");
        assert!(at(0.45).g[0].chosen[0] > 0.0, "an even vote lowers a margin of two nats");
    }
}
