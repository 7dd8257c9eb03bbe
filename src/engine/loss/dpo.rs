//! DPO and its relatives (Rafailov et al. 2023; IPO: Azar et al. 2023; hinge: SLiC, Zhao et al. 2023; smoothing: cDPO).
//!
//! With a = Σ log π(c) − log ρ(c), b the same of the rejected answer, δ = a − b: `sigmoid` −log σ(βδ), smoothed
//! −(1−ε)·log σ(βδ) − ε·log σ(−βδ); `hinge` max(0, 1 − βδ); `ipo` (a/n_c − b/n_r − 1/(2β))²; `ipo_sum` (δ − 1/(2β))².
//! Unlike TRL ≥ 0.29, label smoothing acts on `sigmoid` and is not silently left out.

use super::{PairGradient, PairLoss, Tally, log_sigmoid, rewards, sigmoid};

/// Shape of the loss over the margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DpoForm {
    /// −log σ(βδ), with the given share of labels taken to be wrong.
    Sigmoid {
        /// ε in 0..0.5; 0 is plain DPO.
        label_smoothing: f64,
    },
    /// Squared distance of the mean-token margin from 1/(2β), as IPO's authors have it.
    Ipo,
    /// Squared distance of the summed margin from 1/(2β).
    IpoSum,
    /// max(0, 1 − βδ).
    Hinge,
}

/// Log-probs of one pair's answer tokens under the policy and the reference; policy and reference of equal length.
#[derive(Debug, Clone, Copy)]
pub struct DpoPair<'a> {
    /// log π of the chosen answer's tokens.
    pub chosen: &'a [f64],
    /// log π of the rejected answer's tokens.
    pub rejected: &'a [f64],
    /// log ρ of the chosen answer's tokens.
    pub ref_chosen: &'a [f64],
    /// log ρ of the rejected answer's tokens.
    pub ref_rejected: &'a [f64],
}

/// The DPO loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// How hard to stay near the reference.
    pub beta: f64,
    /// The shape.
    pub form: DpoForm,
}

impl Dpo {
    /// What the loss is where the policy is the reference: ln 2, 1 or 1/(4β²).
    #[must_use]
    pub fn at_reference(&self) -> f64 {
        match self.form {
            DpoForm::Sigmoid { .. } => std::f64::consts::LN_2,
            DpoForm::Hinge => 1.0,
            DpoForm::Ipo | DpoForm::IpoSum => (0.5 / self.beta).powi(2),
        }
    }

    /// Loss and gradient of a micro-batch; adds rewards, summed log-probs and `kl/chosen` to `tally`.
    ///
    /// `kl/chosen` is the mean over the chosen answers' tokens of log π − log ρ: how far the policy has gone from the
    /// reference on the data, positive where it has become surer of the chosen answers. It is measured on given answers,
    /// not on samples of the policy, so it is no unbiased KL divergence and may be negative.
    pub fn loss(&self, pairs: &[DpoPair<'_>], tally: &mut Tally) -> PairLoss {
        let mut out = PairLoss::default();
        let share = 1.0 / pairs.len() as f64;
        let beta = self.beta;
        for pair in pairs {
            let sum = |x: &[f64]| x.iter().sum::<f64>();
            let (nc, nr) = (pair.chosen.len(), pair.rejected.len());
            let (sc, sr) = (sum(pair.chosen), sum(pair.rejected));
            let a = sc - sum(pair.ref_chosen);
            let b = sr - sum(pair.ref_rejected);
            let x = beta * (a - b);
            // (loss, dloss/da, −dloss/db)
            let (loss, up, down) = match self.form {
                DpoForm::Sigmoid { label_smoothing: e } => {
                    let loss = -(1.0 - e) * log_sigmoid(x) - e * log_sigmoid(-x);
                    let slope = beta * (e * sigmoid(x) - (1.0 - e) * sigmoid(-x));
                    (loss, slope, slope)
                }
                DpoForm::Hinge => {
                    let slope = if x < 1.0 { -beta } else { 0.0 };
                    ((1.0 - x).max(0.0), slope, slope)
                }
                DpoForm::Ipo => {
                    let (nc, nr) = (nc as f64, nr as f64);
                    let u = a / nc - b / nr - 0.5 / beta;
                    (u * u, 2.0 * u / nc, 2.0 * u / nr)
                }
                DpoForm::IpoSum => {
                    let u = a - b - 0.5 / beta;
                    (u * u, 2.0 * u, 2.0 * u)
                }
            };
            out.loss += loss * share;
            out.g.push(PairGradient { chosen: vec![up * share; nc], rejected: vec![-down * share; nr] });
            rewards(tally, beta * a, beta * b);
            tally.add("logps/chosen", sc, 1.0);
            tally.add("logps/rejected", sr, 1.0);
            tally.add("kl/chosen", a / nc as f64, nc as f64);
        }
        out
    }
}
