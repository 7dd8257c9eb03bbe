//! Bradley–Terry: how strong each contender is, from who beat whom.
//!
//! Bradley & Terry 1952: P(i beats j) = σ(t_i − t_j). Owns the fit, and the Elo scale of its result. Refuses to know what
//! contends: models, checkpoints, or the answers to one prompt.

use super::newton::{Derivatives, minimise};
use super::stats::{sigmoid, softplus};

/// Elo points of one nat: 400/ln 10.
const ELO_PER_NAT: f64 = 400.0 / std::f64::consts::LN_10;
/// The rating of a contender of average strength.
const ELO_MEAN: f64 = 1000.0;
/// Weight of the squared strengths in the loss, where the wins alone do not decide the strengths.
const RIDGE: f64 = 0.01;

/// `weight` wins of one contender over another; a tie is half a win for each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Win {
    /// Who won, from 0.
    pub winner: usize,
    /// Who lost.
    pub loser: usize,
    /// How many wins it counts for.
    pub weight: f64,
}

/// The fitted strengths.
#[derive(Debug, Clone, PartialEq)]
pub struct BradleyTerry {
    /// In nats; their sum is 0.
    pub strength: Vec<f64>,
    /// −Σ weight·log σ(t_winner − t_loser).
    pub loss: f64,
    /// Whether some contender never lost to, or never won against, the others, so that a ridge had to hold the strengths.
    pub regularised: bool,
}

impl BradleyTerry {
    /// Strengths on the Elo scale, with a mean of 1000.
    #[must_use]
    pub fn elo(&self) -> Vec<f64> {
        self.strength.iter().map(|t| ELO_MEAN + ELO_PER_NAT * t).collect()
    }

    /// The probability that `i` beats `j`.
    #[must_use]
    pub fn beats(&self, i: usize, j: usize) -> f64 {
        sigmoid(self.strength[i] - self.strength[j])
    }
}

/// The strengths of `n` contenders under which these wins are most likely.
#[must_use]
pub fn bradley_terry(n: usize, wins: &[Win]) -> BradleyTerry {
    let regularised = !connected(n, wins);
    let ridge = if regularised { RIDGE } else { 0.0 };
    let mut t = minimise(vec![0.0; n], |t| penalised(t, wins, ridge), |t| derivatives(t, wins, ridge));
    let mean = t.iter().sum::<f64>() / (n as f64).max(1.0);
    for t in &mut t {
        *t -= mean;
    }
    let loss = penalised(&t, wins, 0.0);
    BradleyTerry { strength: t, loss, regularised }
}

fn penalised(t: &[f64], wins: &[Win], ridge: f64) -> f64 {
    let lost: f64 = wins.iter().map(|w| w.weight * softplus(t[w.loser] - t[w.winner])).sum();
    lost + ridge / 2.0 * t.iter().map(|t| t * t).sum::<f64>()
}

/// Ones are added to the Hessian: strengths are determined up to a constant only.
fn derivatives(t: &[f64], wins: &[Win], ridge: f64) -> Derivatives {
    let n = t.len();
    let mut gradient: Vec<f64> = t.iter().map(|t| ridge * t).collect();
    let mut hessian = vec![vec![1.0; n]; n];
    (0..n).for_each(|i| hessian[i][i] += ridge);
    for w in wins {
        let p = sigmoid(t[w.loser] - t[w.winner]);
        gradient[w.winner] -= w.weight * p;
        gradient[w.loser] += w.weight * p;
        let curve = w.weight * p * (1.0 - p);
        hessian[w.winner][w.winner] += curve;
        hessian[w.loser][w.loser] += curve;
        hessian[w.winner][w.loser] -= curve;
        hessian[w.loser][w.winner] -= curve;
    }
    (gradient, hessian)
}

/// Whether from every contender a chain of wins leads to every other: only then are the strengths finite and unique (Ford 1957).
pub(super) fn connected(n: usize, wins: &[Win]) -> bool {
    let reaches_all = |edges: Vec<(usize, usize)>| {
        let mut reached = vec![false; n];
        let mut open = vec![0];
        while let Some(i) = open.pop() {
            if std::mem::replace(&mut reached[i], true) {
                continue;
            }
            open.extend(edges.iter().filter(|(from, _)| *from == i).map(|(_, to)| *to));
        }
        reached.iter().all(|r| *r)
    };
    let real = || wins.iter().filter(|w| w.weight > 0.0);
    n < 2
        || (reaches_all(real().map(|w| (w.winner, w.loser)).collect())
            && reaches_all(real().map(|w| (w.loser, w.winner)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn win(winner: usize, loser: usize, weight: f64) -> Win {
        Win { winner, loser, weight }
    }

    fn near(got: &[f64], want: &[f64], by: f64) {
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < by), "{got:?} is not {want:?}");
    }

    #[test]
    fn three_models_thirty_games() {
        let wins = [win(0, 1, 7.0), win(1, 0, 3.0), win(0, 2, 8.0), win(2, 0, 2.0), win(1, 2, 6.0), win(2, 1, 4.0)];
        let found = bradley_terry(3, &wins);
        near(&found.strength, &[0.740_570, -0.149_102, -0.591_468], 1e-6);
        near(&[found.loss], &[17.848_669], 1e-6);
        near(&found.elo(), &[1128.650, 974.098, 897.252], 1e-3);
        assert!(!found.regularised);
    }

    #[test]
    fn who_never_loses_is_held_by_the_ridge_and_it_is_said() {
        let found = bradley_terry(3, &[win(0, 1, 5.0), win(1, 2, 5.0)]);
        assert!(found.regularised && found.strength.iter().all(|t| t.is_finite()));
        assert!(found.strength[0] > found.strength[1] && found.strength[1] > found.strength[2]);
        let apart = bradley_terry(4, &[win(0, 1, 1.0), win(1, 0, 1.0), win(2, 3, 1.0), win(3, 2, 1.0)]);
        assert!(apart.regularised, "two groups that never met have no common scale");
        near(&apart.strength, &[0.0; 4], 1e-9);
    }

    #[test]
    fn nothing_to_fit_is_no_error() {
        assert!(bradley_terry(0, &[]).strength.is_empty());
        assert_eq!(bradley_terry(1, &[]).strength, [0.0]);
        assert_eq!(bradley_terry(2, &[]).strength, [0.0, 0.0]);
        near(&[bradley_terry(2, &[win(0, 1, 3.0), win(1, 0, 1.0)]).beats(0, 1)], &[0.75], 1e-9);
    }
}
