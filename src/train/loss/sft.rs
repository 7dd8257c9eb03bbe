//! Supervised fine-tuning: token losses divided by the scored tokens of the whole accumulation window.
//!
//! `nll` −Σ log π / N; `dft` (Wu et al. 2025) −Σ sg(π)·log π / N, which weights a token by its own detached probability. Using
//! the window's N, not the micro-batch's, makes accumulation equal to a larger batch.

use super::{RowLoss, total};
use crate::domain::choices;

choices! {
    /// The token loss.
    pub enum SftForm {
        /// Negative log-likelihood.
        Nll = "nll",
        /// Dynamic fine-tuning.
        Dft = "dft",
    }
}

/// The SFT loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sft {
    /// The form.
    pub form: SftForm,
}

impl Sft {
    /// The micro-batch's share of the window's loss, and its gradient. `rows`: log-probs of each row's scored tokens.
    /// `divisor`: scored tokens of the window, at least 1, so that an empty window gives 0.
    #[must_use]
    pub fn loss(&self, rows: &[&[f64]], divisor: f64) -> RowLoss {
        let divisor = divisor.max(1.0);
        match self.form {
            SftForm::Nll => RowLoss {
                loss: -rows.iter().map(|row| total(row)).sum::<f64>() / divisor,
                g: rows.iter().map(|row| vec![-1.0 / divisor; row.len()]).collect(),
            },
            SftForm::Dft => RowLoss {
                loss: -rows.iter().flat_map(|row| row.iter()).map(|lp| lp.exp() * lp).sum::<f64>() / divisor,
                g: rows.iter().map(|row| row.iter().map(|lp| -lp.exp() / divisor).collect()).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{near, slopes_match};
    use super::*;

    const ROWS: [&[f64]; 2] = [&[-0.5, -2.0, -0.01], &[-1.25]];

    #[test]
    fn values_by_hand() {
        near(Sft { form: SftForm::Nll }.loss(&ROWS, 10.0).loss, 0.376, 1e-12);
        // (0.5·e^−0.5 + 2·e^−2 + 0.01·e^−0.01 + 1.25·e^−1.25)/4
        near(Sft { form: SftForm::Dft }.loss(&ROWS, 4.0).loss, 0.235_491_85, 1e-8);
    }

    #[test]
    fn a_window_in_parts_is_the_window_at_once() {
        for form in [SftForm::Nll, SftForm::Dft] {
            let at_once = Sft { form }.loss(&ROWS, 4.0);
            let parts = [Sft { form }.loss(&ROWS[..1], 4.0), Sft { form }.loss(&ROWS[1..], 4.0)];
            near(parts[0].loss + parts[1].loss, at_once.loss, 1e-14);
            assert_eq!([parts[0].g.clone(), parts[1].g.clone()].concat(), at_once.g);
        }
        assert_eq!(Sft { form: SftForm::Nll }.loss(&[&[]], 0.0), RowLoss { loss: 0.0, g: vec![vec![]] });
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        let rows: Vec<Vec<f64>> = ROWS.iter().map(|r| r.to_vec()).collect();
        let of = |form, rows: &[Vec<f64>]| {
            let slices: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
            Sft { form }.loss(&slices, 7.0)
        };
        slopes_match(&rows, |rows| {
            let out = of(SftForm::Nll, rows);
            (out.loss, out.g)
        });
        // With the weight detached.
        let held = rows.clone();
        slopes_match(&rows, |rows| {
            let both = held.iter().flatten().zip(rows.iter().flatten());
            (-both.map(|(h, lp)| h.exp() * lp).sum::<f64>() / 7.0, of(SftForm::Dft, &held).g)
        });
    }
}
