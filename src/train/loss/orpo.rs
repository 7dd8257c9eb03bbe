//! ORPO (Hong et al. 2024): an SFT term plus β times the log odds ratio of the two answers; no reference.
//!
//! With A the mean log-prob of an answer's tokens and odds = p/(1−p), p = e^A:
//! `log_odds = (A_c − A_r) − (log(1−e^{A_c}) − log(1−e^{A_r}))`, `loss = NLL − β·mean log σ(log_odds)`.
//! Unlike TRL, A is clamped to at most −1e-6 inside log(1−e^A): at A = 0 (every token has probability 1) its gradient is NaN.

use super::{PairGradient, PairLoss, Tally, log_sigmoid, rewards, sigmoid, total};
use crate::domain::choices;

/// The upper clamp of the mean log-prob in the odds.
const CEILING: f64 = -1e-6;

choices! {
    /// The tokens of the SFT term.
    pub enum OrpoNll {
        /// Mean over the tokens of all prompts and chosen answers of the batch (TRL).
        PromptAndChosen = "prompt_and_chosen",
        /// Mean over the tokens of all chosen answers of the batch.
        CompletionTokenMean = "completion_token_mean",
        /// Mean per chosen answer, then over answers (LLaMA-Factory).
        CompletionSeqMean = "completion_seq_mean",
    }
}

/// Log-probs of one pair's tokens under the policy.
#[derive(Debug, Clone, Copy)]
pub struct OrpoPair<'a> {
    /// The prompt's tokens except the first, on the chosen side; read only by [`OrpoNll::PromptAndChosen`].
    pub prompt: &'a [f64],
    /// The chosen answer's tokens.
    pub chosen: &'a [f64],
    /// The rejected answer's tokens.
    pub rejected: &'a [f64],
}

/// The ORPO loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orpo {
    /// Weight of the odds-ratio term (the paper's λ).
    pub beta: f64,
    /// The SFT term.
    pub nll: OrpoNll,
}

/// log(1 − e^x) for x < 0 without cancellation (Mächler 2012).
fn log1mexp(x: f64) -> f64 {
    let x = x.min(CEILING);
    if x < -std::f64::consts::LN_2 { (-x.exp()).ln_1p() } else { (-x.exp_m1()).ln() }
}

/// d log1mexp / dx: −1/(e^{−x} − 1), and 0 above the ceiling, where the function is constant.
fn log1mexp_slope(x: f64) -> f64 {
    if x > CEILING { 0.0 } else { -1.0 / (-x).exp_m1() }
}

impl Orpo {
    /// Loss and gradient of a micro-batch; adds rewards (β·A), mean log-probs, `nll_loss`, `log_odds_ratio` (mean log σ of
    /// the log odds) and `log_odds_chosen` (mean log odds) to `tally`.
    pub fn loss(&self, pairs: &[OrpoPair<'_>], tally: &mut Tally) -> PairLoss {
        let mut out = PairLoss::default();
        let share = 1.0 / pairs.len() as f64;
        let with_prompt = self.nll == OrpoNll::PromptAndChosen;
        let covered: usize =
            pairs.iter().map(|p| p.chosen.len() + if with_prompt { p.prompt.len() } else { 0 }).sum::<usize>();
        let mut nll = 0.0;
        let mut odds_term = 0.0;
        for pair in pairs {
            let (nc, nr) = (pair.chosen.len() as f64, pair.rejected.len() as f64);
            let (sc, sr) = (total(pair.chosen), total(pair.rejected));
            let (ac, ar) = (sc / nc, sr / nr);
            let log_odds = (ac - ar) - (log1mexp(ac) - log1mexp(ar));
            let ratio = log_sigmoid(log_odds);
            odds_term += ratio * share;
            // d(−β·log σ(z)·share)/dz
            let slope = -self.beta * sigmoid(-log_odds) * share;
            let up = slope * (1.0 - log1mexp_slope(ac)) / nc;
            let down = -slope * (1.0 - log1mexp_slope(ar)) / nr;
            let (weight, part) = match self.nll {
                OrpoNll::PromptAndChosen => (1.0 / covered as f64, total(pair.prompt) + sc),
                OrpoNll::CompletionTokenMean => (1.0 / covered as f64, sc),
                OrpoNll::CompletionSeqMean => (share / nc, sc),
            };
            nll -= weight * part;
            let mut chosen = if with_prompt { vec![-weight; pair.prompt.len()] } else { Vec::new() };
            chosen.resize(chosen.len() + pair.chosen.len(), up - weight);
            out.g.push(PairGradient { chosen, rejected: vec![down; pair.rejected.len()] });
            rewards(tally, self.beta * ac, self.beta * ar);
            tally.add("logps/chosen", ac, 1.0);
            tally.add("logps/rejected", ar, 1.0);
            tally.add("log_odds_ratio", ratio, 1.0);
            tally.add("log_odds_chosen", log_odds, 1.0);
        }
        out.loss = nll - self.beta * odds_term;
        tally.add("nll_loss", nll, pairs.len() as f64);
        out
    }
}
