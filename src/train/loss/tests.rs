//! Golden values (computed from the formulas in f64 by an independent script), finite differences, and edge cases.

mod trl;

use super::*;

pub(super) const SC: [f64; 2] = [-20.0, -35.5];
pub(super) const SR: [f64; 2] = [-24.0, -30.25];
pub(super) const RC: [f64; 2] = [-21.5, -34.0];
pub(super) const RR: [f64; 2] = [-22.0, -31.0];
const NC: [usize; 2] = [10, 16];
const NR: [usize; 2] = [12, 9];

/// Unequal token log-probs with a given sum.
pub(super) fn spread(sum: f64, n: usize) -> Vec<f64> {
    let mean = sum / n as f64;
    (0..n).map(|i| mean + 0.1 * (i as f64 - (n - 1) as f64 / 2.0) / n as f64).collect()
}

/// Chosen, rejected, reference of chosen, reference of rejected; pair by pair.
pub(super) type Data = Vec<[Vec<f64>; 4]>;

pub(super) fn golden() -> Data {
    let row = |i: usize| [spread(SC[i], NC[i]), spread(SR[i], NR[i]), spread(RC[i], NC[i]), spread(RR[i], NR[i])];
    vec![row(0), row(1)]
}

/// Prompt, chosen, rejected; pair by pair.
type OrpoData = Vec<[Vec<f64>; 3]>;

fn orpo(data: &OrpoData, nll: OrpoNll, beta: f64) -> (PairLoss, Tally) {
    let pairs: Vec<_> = data.iter().map(|[p, c, r]| OrpoPair { prompt: p, chosen: c, rejected: r }).collect();
    let mut tally = Tally::default();
    let out = Orpo { beta, nll }.loss(&pairs, &mut tally);
    (out, tally)
}

pub(super) fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{got} is not {want}");
}

/// Compares the gradient returned by `f` with central differences of its loss, at every token.
pub(super) fn slopes_match(rows: &[Vec<f64>], f: impl Fn(&[Vec<f64>]) -> (f64, Vec<Vec<f64>>)) {
    const H: f64 = 1e-5;
    let (_, g) = f(rows);
    assert_eq!(g.iter().map(Vec::len).collect::<Vec<_>>(), rows.iter().map(Vec::len).collect::<Vec<_>>());
    for i in 0..rows.len() {
        for t in 0..rows[i].len() {
            let at = |h: f64| {
                let mut moved = rows.to_vec();
                moved[i][t] += h;
                f(&moved).0
            };
            near(g[i][t], (at(H) - at(-H)) / (2.0 * H), 1e-8);
        }
    }
}

fn orpo_golden() -> OrpoData {
    golden().into_iter().map(|[c, r, ..]| [spread(-7.0, 4), c, r]).collect()
}

#[test]
fn orpo_golden_values() {
    let (out, tally) = orpo(&orpo_golden(), OrpoNll::CompletionSeqMean, 0.1);
    near(tally.mean("log_odds_chosen").unwrap(), 0.611_086_42, 1e-8);
    near(tally.mean("log_odds_ratio").unwrap(), -0.475_670_37, 1e-8);
    let nll = f64::midpoint(20.0 / 10.0, 35.5 / 16.0);
    near(tally.mean("nll_loss").unwrap(), nll, 1e-12);
    near(out.loss - nll, 0.047_567_04, 1e-7);
    near(tally.mean("rewards/chosen").unwrap(), -0.1 * nll, 1e-12);
    near(tally.mean("logps/chosen").unwrap(), -nll, 1e-12);
    let token = orpo(&orpo_golden(), OrpoNll::CompletionTokenMean, 0.1).1.mean("nll_loss").unwrap();
    near(token, 55.5 / 26.0, 1e-12);
    let all = orpo(&orpo_golden(), OrpoNll::PromptAndChosen, 0.1).1.mean("nll_loss").unwrap();
    near(all, (55.5 + 14.0) / 34.0, 1e-12);
}

#[test]
fn orpo_gradients_are_the_finite_differences() {
    for nll in [OrpoNll::PromptAndChosen, OrpoNll::CompletionTokenMean, OrpoNll::CompletionSeqMean] {
        let (out, _) = orpo(&orpo_golden(), nll, 0.3);
        for (i, side, t) in [(0, 0, 2), (0, 1, 3), (1, 1, 15), (0, 2, 11), (1, 2, 0)] {
            let at = |h: f64| {
                let mut data = orpo_golden();
                data[i][side][t] += h;
                orpo(&data, nll, 0.3).0.loss
            };
            let skip = if nll == OrpoNll::PromptAndChosen { 4 } else { 0 };
            let g = match side {
                0 if skip == 0 => 0.0,
                0 => out.g[i].chosen[t],
                1 => out.g[i].chosen[skip + t],
                _ => out.g[i].rejected[t],
            };
            near(g, (at(1e-5) - at(-1e-5)) / 2e-5, 1e-7);
        }
    }
}

#[test]
fn orpo_where_the_model_is_almost_sure() {
    for mean in [-1e-6, -0.1, -5.0f64] {
        for side in [1, 2] {
            let data = |h: f64| {
                let mut row = [vec![], vec![-0.7; 3], vec![-1.3; 2]];
                row[side] = vec![mean + h; 2];
                vec![row]
            };
            let loss = |h: f64| orpo(&data(h), OrpoNll::CompletionSeqMean, 1.0).0;
            // From below only: at the ceiling the function is constant above.
            let h = 1e-6 * mean.abs();
            let slope = (3.0 * loss(0.0).loss - 4.0 * loss(-h).loss + loss(-2.0 * h).loss) / (2.0 * h);
            let g = &loss(0.0).g[0];
            let total: f64 = if side == 1 { g.chosen.iter().sum() } else { g.rejected.iter().sum() };
            assert!((total - slope).abs() <= 1e-5 * slope.abs(), "A = {mean}, side {side}: {total} against {slope}");
        }
    }
    let sure = orpo(&vec![[vec![], vec![0.0; 3], vec![0.0; 2]]], OrpoNll::CompletionSeqMean, 0.1).0;
    assert!(sure.loss.is_finite() && sure.g[0].chosen.iter().chain(&sure.g[0].rejected).all(|g| g.is_finite()));
}
