//! Two models of paired comparison in which a tie has a probability of its own: for reporting tie rates, not for ranking.
//!
//! Davidson 1970: P(i) : P(j) : P(tie) = g_i : g_j : ν·√(g_i g_j). Rao and Kupper 1967: P(i) = g_i/(g_i + θ g_j), and
//! what is left is the tie. Strengths are ln g.

use super::super::bradley_terry::{Win, bradley_terry, connected};
use super::super::newton::{Derivatives, minimise};
use super::super::stats::{sigmoid, softplus};
use super::Undefined;

/// Wins that each contender is given against each one it met where the wins alone leave a strength infinite.
pub(super) const PSEUDO_WIN: f64 = 0.5;

/// The outcomes of two contenders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairCounts {
    /// One contender, from 0.
    pub first: usize,
    /// The other.
    pub second: usize,
    /// Wins of the first.
    pub wins: f64,
    /// Wins of the second.
    pub losses: f64,
    /// Ties.
    pub ties: f64,
}

/// Which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TieKind {
    /// Davidson's.
    Davidson,
    /// Rao and Kupper's.
    RaoKupper,
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct TieModel {
    /// Which model.
    pub kind: TieKind,
    /// Strengths in nats; their sum is 0.
    pub strength: Vec<f64>,
    /// ν or θ. Without ties ν is 0 and θ is 1.
    pub tie: f64,
    /// Half a win was added in both directions between those that met, because some contender never lost or never won.
    pub pseudo_win: Option<f64>,
}

impl TieModel {
    /// The probabilities that `i` wins, that `j` wins, and that they tie.
    #[must_use]
    pub fn outcomes(&self, i: usize, j: usize) -> (f64, f64, f64) {
        let d = self.strength[i] - self.strength[j];
        match self.kind {
            TieKind::Davidson => {
                let (a, b) = ((d / 2.0).exp(), (-d / 2.0).exp());
                let all = a + b + self.tie;
                (a / all, b / all, self.tie / all)
            }
            TieKind::RaoKupper => {
                let (a, b) = (sigmoid(d - self.tie.ln()), sigmoid(-d - self.tie.ln()));
                (a, b, 1.0 - a - b)
            }
        }
    }
}

/// Fits Davidson's model to `n` contenders.
///
/// # Errors
/// No outcome, only ties, a contender that met no other, or numbers out of range.
pub fn davidson(n: usize, counts: &[PairCounts]) -> Result<TieModel, Undefined> {
    let (counts, pseudo_win) = prepared(n, counts)?;
    if counts.iter().all(|c| c.ties == 0.0) {
        return Ok(without_ties(n, &counts, TieKind::Davidson, 0.0, pseudo_win));
    }
    // The last parameter is ln ν.
    let loss = |w: &[f64]| {
        counts
            .iter()
            .map(|c| {
                let [a, b, tie] = davidson_logits(w, c);
                let most = a.max(b).max(tie);
                let all = most + ((a - most).exp() + (b - most).exp() + (tie - most).exp()).ln();
                (c.wins + c.losses + c.ties) * all - c.wins * a - c.losses * b - c.ties * tie
            })
            .sum::<f64>()
    };
    let derivatives = |w: &[f64]| {
        let (mut gradient, mut hessian) = blank(n);
        for c in &counts {
            let logits = davidson_logits(w, c);
            let most = logits.iter().fold(f64::MIN, |m, x| m.max(*x));
            let all: f64 = logits.iter().map(|x| (x - most).exp()).sum();
            let games = c.wins + c.losses + c.ties;
            let features = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 1.0]];
            let p: Vec<f64> = logits.iter().map(|x| (x - most).exp() / all).collect();
            let mean: Vec<f64> = (0..3).map(|x| (0..3).map(|k| p[k] * features[k][x]).sum()).collect();
            let at = [c.first, c.second, n];
            let seen = [c.wins, c.losses, c.ties];
            for x in 0..3 {
                gradient[at[x]] += games * mean[x] - (0..3).map(|k| seen[k] * features[k][x]).sum::<f64>();
                for y in 0..3 {
                    let square: f64 = (0..3).map(|k| p[k] * features[k][x] * features[k][y]).sum();
                    hessian[at[x]][at[y]] += games * (square - mean[x] * mean[y]);
                }
            }
        }
        (gradient, hessian)
    };
    let w = minimise(vec![0.0; n + 1], loss, derivatives);
    Ok(model(TieKind::Davidson, &w, pseudo_win))
}

fn davidson_logits(w: &[f64], c: &PairCounts) -> [f64; 3] {
    let (a, b) = (w[c.first], w[c.second]);
    [a, b, w[w.len() - 1] + f64::midpoint(a, b)]
}

/// Fits Rao and Kupper's model to `n` contenders.
///
/// # Errors
/// As [`davidson`].
pub fn rao_kupper(n: usize, counts: &[PairCounts]) -> Result<TieModel, Undefined> {
    let (counts, pseudo_win) = prepared(n, counts)?;
    if counts.iter().all(|c| c.ties == 0.0) {
        return Ok(without_ties(n, &counts, TieKind::RaoKupper, 1.0, pseudo_win));
    }
    // The last parameter is η = ln θ > 0; P(tie) = (θ² − 1)·σ(d − η)·σ(−d − η).
    let loss = |w: &[f64]| {
        let eta = w[n];
        if eta <= 0.0 {
            return f64::INFINITY;
        }
        let pairs = counts.iter().map(|c| {
            let d = w[c.first] - w[c.second];
            (c.wins + c.ties) * softplus(eta - d) + (c.losses + c.ties) * softplus(eta + d)
                - c.ties * (2.0 * eta).exp_m1().ln()
        });
        pairs.sum::<f64>()
    };
    let derivatives = |w: &[f64]| {
        let (mut gradient, mut hessian) = blank(n);
        let eta = w[n];
        let rest = -(-2.0 * eta).exp_m1();
        for c in &counts {
            let d = w[c.first] - w[c.second];
            let at = [c.first, c.second, n];
            for (weight, x, direction) in
                [(c.wins + c.ties, eta - d, [-1.0, 1.0, 1.0]), (c.losses + c.ties, eta + d, [1.0, -1.0, 1.0])]
            {
                let p = sigmoid(x);
                for i in 0..3 {
                    gradient[at[i]] += weight * p * direction[i];
                    for j in 0..3 {
                        hessian[at[i]][at[j]] += weight * p * (1.0 - p) * direction[i] * direction[j];
                    }
                }
            }
            gradient[n] -= c.ties * 2.0 / rest;
            hessian[n][n] += c.ties * 4.0 * (-2.0 * eta).exp() / (rest * rest);
        }
        (gradient, hessian)
    };
    let mut start = vec![0.0; n + 1];
    start[n] = 0.5;
    Ok(model(TieKind::RaoKupper, &minimise(start, loss, derivatives), pseudo_win))
}

fn model(kind: TieKind, w: &[f64], pseudo_win: Option<f64>) -> TieModel {
    let (strength, tie) = w.split_at(w.len() - 1);
    let mean = strength.iter().sum::<f64>() / strength.len() as f64;
    TieModel { kind, strength: strength.iter().map(|t| t - mean).collect(), tie: tie[0].exp(), pseudo_win }
}

fn without_ties(n: usize, counts: &[PairCounts], kind: TieKind, tie: f64, pseudo_win: Option<f64>) -> TieModel {
    TieModel { kind, strength: bradley_terry(n, &wins(counts)).strength, tie, pseudo_win }
}

/// Ones tie down the strengths, which are determined up to a constant only.
fn blank(n: usize) -> Derivatives {
    let mut hessian = vec![vec![1.0; n + 1]; n + 1];
    for row in &mut hessian {
        row[n] = 0.0;
    }
    hessian[n].fill(0.0);
    (vec![0.0; n + 1], hessian)
}

fn wins(counts: &[PairCounts]) -> Vec<Win> {
    let each = |c: &PairCounts| {
        [
            Win { winner: c.first, loser: c.second, weight: c.wins },
            Win { winner: c.second, loser: c.first, weight: c.losses },
        ]
    };
    counts.iter().flat_map(each).collect()
}

/// The counts, with a pseudo-win where the wins alone leave a strength infinite.
fn prepared(n: usize, counts: &[PairCounts]) -> Result<(Vec<PairCounts>, Option<f64>), Undefined> {
    for (at, c) in counts.iter().enumerate() {
        if let Some(given) = [c.first, c.second].into_iter().find(|i| *i >= n) {
            return Err(Undefined::NoContender { row: at + 1, given: given + 1, contenders: n });
        }
        if c.first == c.second {
            return Err(Undefined::OneSelf(at + 1));
        }
        if let Some(value) = [c.wins, c.losses, c.ties].into_iter().find(|x| !x.is_finite() || *x < 0.0) {
            return Err(Undefined::Score { row: at + 1, value, expected: "a count" });
        }
    }
    let met: Vec<PairCounts> = counts.iter().copied().filter(|c| c.wins + c.losses + c.ties > 0.0).collect();
    if met.is_empty() {
        return Err(Undefined::Empty);
    }
    if met.iter().all(|c| c.wins + c.losses == 0.0) {
        return Err(Undefined::OnlyTies(met.iter().map(|c| c.ties).sum::<f64>() as usize));
    }
    if connected(n, &wins(&met)) {
        return Ok((met, None));
    }
    let held: Vec<PairCounts> =
        met.iter().map(|c| PairCounts { wins: c.wins + PSEUDO_WIN, losses: c.losses + PSEUDO_WIN, ..*c }).collect();
    if let Some(alone) = first_apart(n, &wins(&held)) {
        return Err(Undefined::NeverMet(alone + 1));
    }
    Ok((held, Some(PSEUDO_WIN)))
}

/// The first contender that no chain of games leads to from contender 0; wins go both ways here.
pub(super) fn first_apart(n: usize, wins: &[Win]) -> Option<usize> {
    let mut reached = vec![false; n];
    let mut open = vec![0];
    while let Some(i) = open.pop() {
        if i < n && !std::mem::replace(&mut reached[i], true) {
            open.extend(wins.iter().filter(|w| w.winner == i).map(|w| w.loser));
            open.extend(wins.iter().filter(|w| w.loser == i).map(|w| w.winner));
        }
    }
    reached.iter().position(|r| !r)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(first: usize, second: usize, wins: f64, losses: f64, ties: f64) -> PairCounts {
        PairCounts { first, second, wins, losses, ties }
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }

    #[test]
    fn twelve_wins_six_losses_four_ties() {
        let counts = [pair(0, 1, 12.0, 6.0, 4.0)];
        let found = davidson(2, &counts).unwrap();
        near(found.strength[0] - found.strength[1], std::f64::consts::LN_2);
        near(found.tie, 0.471_405);
        let (a, b, tie) = found.outcomes(0, 1);
        for (p, k) in [(a, 12.0), (b, 6.0), (tie, 4.0)] {
            near(p, k / 22.0);
        }
        let found = rao_kupper(2, &counts).unwrap();
        near(found.strength[0] - found.strength[1], 0.581_575);
        near(found.tie, 1.490_712);
        let (a, b, tie) = found.outcomes(0, 1);
        for (p, k) in [(a, 12.0), (b, 6.0), (tie, 4.0)] {
            near(p, k / 22.0);
        }
        assert_eq!(found.pseudo_win, None);
        let swapped = rao_kupper(2, &[pair(1, 0, 6.0, 12.0, 4.0)]).unwrap();
        near(swapped.strength[0], found.strength[0]);
    }

    #[test]
    fn three_contenders_fit_their_totals() {
        let counts = [pair(0, 1, 7.0, 3.0, 4.0), pair(0, 2, 8.0, 2.0, 1.0), pair(1, 2, 6.0, 4.0, 5.0)];
        let found = davidson(3, &counts).unwrap();
        near(found.strength.iter().sum(), 0.0);
        // At the optimum the expected number of ties, and each contender's expected score, equal those seen.
        let expect = |c: &PairCounts| {
            let (a, b, tie) = found.outcomes(c.first, c.second);
            let games = c.wins + c.losses + c.ties;
            (a * games, b * games, tie * games)
        };
        near(counts.iter().map(|c| expect(c).2).sum(), 10.0);
        let score: f64 = counts[..2].iter().map(|c| expect(c).0 + expect(c).2 / 2.0).sum();
        near(score, 15.0 + 2.5);
        let found = rao_kupper(3, &counts).unwrap();
        assert!(found.tie > 1.0 && found.strength[0] > found.strength[1]);
    }

    #[test]
    fn without_ties_both_are_bradley_terry() {
        let counts = [pair(0, 1, 3.0, 1.0, 0.0)];
        for found in [davidson(2, &counts).unwrap(), rao_kupper(2, &counts).unwrap()] {
            near(found.outcomes(0, 1).0, 0.75);
            near(found.outcomes(0, 1).2, 0.0);
        }
    }

    #[test]
    fn separated_contenders_get_half_a_win_and_it_is_said() {
        for fit in [davidson, rao_kupper] {
            let found = fit(2, &[pair(0, 1, 5.0, 0.0, 2.0)]).unwrap();
            assert_eq!(found.pseudo_win, Some(0.5));
            let same = fit(2, &[pair(0, 1, 5.5, 0.5, 2.0)]).unwrap();
            assert_eq!((found.strength, found.tie), (same.strength, same.tie));
        }
    }

    #[test]
    fn reasons_are_given() {
        assert_eq!(davidson(2, &[]), Err(Undefined::Empty));
        assert_eq!(davidson(2, &[pair(0, 1, 0.0, 0.0, 9.0)]), Err(Undefined::OnlyTies(9)));
        assert_eq!(davidson(3, &[pair(0, 1, 1.0, 1.0, 1.0)]), Err(Undefined::NeverMet(3)));
        assert_eq!(
            rao_kupper(2, &[pair(0, 2, 1.0, 1.0, 1.0)]),
            Err(Undefined::NoContender { row: 1, given: 3, contenders: 2 })
        );
        assert_eq!(rao_kupper(2, &[pair(1, 1, 1.0, 1.0, 1.0)]), Err(Undefined::OneSelf(1)));
    }
}
