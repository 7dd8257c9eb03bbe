//! Golden values (computed from the formulas in f64 by an independent script), finite differences, and edge cases.

use super::*;

const SC: [f64; 2] = [-20.0, -35.5];
const SR: [f64; 2] = [-24.0, -30.25];
const RC: [f64; 2] = [-21.5, -34.0];
const RR: [f64; 2] = [-22.0, -31.0];
const NC: [usize; 2] = [10, 16];
const NR: [usize; 2] = [12, 9];

/// Token log-probs, unequal but for their sum.
fn spread(sum: f64, n: usize) -> Vec<f64> {
    let mean = sum / n as f64;
    (0..n).map(|i| mean + 0.1 * (i as f64 - (n - 1) as f64 / 2.0) / n as f64).collect()
}

/// Chosen, rejected, reference of chosen, reference of rejected; pair by pair.
type Data = Vec<[Vec<f64>; 4]>;

fn golden() -> Data {
    let row = |i: usize| [spread(SC[i], NC[i]), spread(SR[i], NR[i]), spread(RC[i], NC[i]), spread(RR[i], NR[i])];
    vec![row(0), row(1)]
}

fn dpo(data: &Data, form: DpoForm, beta: f64) -> (PairLoss, Tally) {
    let pairs: Vec<_> = data
        .iter()
        .map(|[c, r, rc, rr]| DpoPair { chosen: c, rejected: r, ref_chosen: rc, ref_rejected: rr })
        .collect();
    let mut tally = Tally::default();
    let out = Dpo { beta, form }.loss(&pairs, &mut tally);
    (out, tally)
}

/// Prompt, chosen, rejected; pair by pair.
type OrpoData = Vec<[Vec<f64>; 3]>;

fn orpo(data: &OrpoData, nll: Nll, beta: f64) -> (PairLoss, Tally) {
    let pairs: Vec<_> = data.iter().map(|[p, c, r]| OrpoPair { prompt: p, chosen: c, rejected: r }).collect();
    let mut tally = Tally::default();
    let out = Orpo { beta, nll }.loss(&pairs, &mut tally);
    (out, tally)
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{got} is not {want}");
}

const FORMS: [DpoForm; 5] = [
    DpoForm::Sigmoid { label_smoothing: 0.0 },
    DpoForm::Sigmoid { label_smoothing: 0.1 },
    DpoForm::Ipo,
    DpoForm::IpoSum,
    DpoForm::Hinge,
];

#[test]
fn dpo_golden_values() {
    for (form, want) in FORMS.into_iter().zip([0.672_672_08, 0.678_922_08, 24.367_901_48, 27.406_25, 0.9375]) {
        near(dpo(&golden(), form, 0.1).0.loss, want, 1e-8);
    }
    let (_, tally) = dpo(&golden(), FORMS[0], 0.1);
    let want = [("rewards/chosen", 0.0), ("rewards/rejected", -0.0625), ("rewards/margins", 0.0625)];
    for (name, value) in want {
        near(tally.mean(name).unwrap(), value, 1e-8);
    }
    near(tally.mean("rewards/accuracies").unwrap(), 0.5, 0.0);
    near(tally.mean("logps/chosen").unwrap(), -27.75, 1e-12);
    near(tally.mean("logps/rejected").unwrap(), -27.125, 1e-12);
    // a = [1.5, −1.5] over 10 and 16 tokens.
    near(tally.mean("kl/chosen").unwrap(), 0.0, 1e-12);
}

#[test]
fn dpo_at_the_reference() {
    let data: Data = golden().into_iter().map(|[c, r, ..]| [c.clone(), r.clone(), c, r]).collect();
    for form in FORMS {
        let (out, tally) = dpo(&data, form, 0.1);
        near(out.loss, Dpo { beta: 0.1, form }.at_reference(), 1e-12);
        assert_eq!(tally.mean("rewards/accuracies"), Some(0.0), "equal rewards are no success");
        assert_eq!(tally.mean("rewards/margins"), Some(0.0));
    }
}

#[test]
fn dpo_gradients_are_the_finite_differences() {
    for form in FORMS {
        let (out, _) = dpo(&golden(), form, 0.1);
        for (i, side, t) in [(0, 0, 3), (0, 1, 11), (1, 0, 0), (1, 1, 8)] {
            let at = |h: f64| {
                let mut data = golden();
                data[i][side][t] += h;
                dpo(&data, form, 0.1).0.loss
            };
            let g = if side == 0 { out.g[i].chosen[t] } else { out.g[i].rejected[t] };
            near(g, (at(1e-5) - at(-1e-5)) / 2e-5, 1e-7);
            assert!(g != 0.0);
        }
    }
}

#[test]
fn a_satisfied_hinge_pair_has_no_gradient() {
    let data: Data = vec![[vec![-1.0], vec![-9.0], vec![-2.0], vec![-2.0]]];
    let (out, _) = dpo(&data, DpoForm::Hinge, 1.0);
    assert_eq!((out.loss, out.g[0].chosen[0], out.g[0].rejected[0]), (0.0, 0.0, 0.0));
}

fn orpo_golden() -> OrpoData {
    golden().into_iter().map(|[c, r, ..]| [spread(-7.0, 4), c, r]).collect()
}

#[test]
fn orpo_golden_values() {
    let (out, tally) = orpo(&orpo_golden(), Nll::CompletionSeqMean, 0.1);
    near(tally.mean("log_odds_chosen").unwrap(), 0.611_086_42, 1e-8);
    near(tally.mean("log_odds_ratio").unwrap(), -0.475_670_37, 1e-8);
    let nll = f64::midpoint(20.0 / 10.0, 35.5 / 16.0);
    near(tally.mean("nll_loss").unwrap(), nll, 1e-12);
    near(out.loss - nll, 0.047_567_04, 1e-7);
    near(tally.mean("rewards/chosen").unwrap(), -0.1 * nll, 1e-12);
    near(tally.mean("logps/chosen").unwrap(), -nll, 1e-12);
    let token = orpo(&orpo_golden(), Nll::CompletionTokenMean, 0.1).1.mean("nll_loss").unwrap();
    near(token, 55.5 / 26.0, 1e-12);
    let all = orpo(&orpo_golden(), Nll::PromptAndChosen, 0.1).1.mean("nll_loss").unwrap();
    near(all, (55.5 + 14.0) / 34.0, 1e-12);
}

#[test]
fn orpo_gradients_are_the_finite_differences() {
    for nll in [Nll::PromptAndChosen, Nll::CompletionTokenMean, Nll::CompletionSeqMean] {
        let (out, _) = orpo(&orpo_golden(), nll, 0.3);
        for (i, side, t) in [(0, 0, 2), (0, 1, 3), (1, 1, 15), (0, 2, 11), (1, 2, 0)] {
            let at = |h: f64| {
                let mut data = orpo_golden();
                data[i][side][t] += h;
                orpo(&data, nll, 0.3).0.loss
            };
            let skip = if nll == Nll::PromptAndChosen { 4 } else { 0 };
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
            let loss = |h: f64| orpo(&data(h), Nll::CompletionSeqMean, 1.0).0;
            // From below only: at the ceiling the function is constant above.
            let h = 1e-6 * mean.abs();
            let slope = (3.0 * loss(0.0).loss - 4.0 * loss(-h).loss + loss(-2.0 * h).loss) / (2.0 * h);
            let g = &loss(0.0).g[0];
            let total: f64 = if side == 1 { g.chosen.iter().sum() } else { g.rejected.iter().sum() };
            assert!((total - slope).abs() <= 1e-5 * slope.abs(), "A = {mean}, side {side}: {total} against {slope}");
        }
    }
    let sure = orpo(&vec![[vec![], vec![0.0; 3], vec![0.0; 2]]], Nll::CompletionSeqMean, 0.1).0;
    assert!(sure.loss.is_finite() && sure.g[0].chosen.iter().chain(&sure.g[0].rejected).all(|g| g.is_finite()));
}

#[test]
fn extreme_margins_stay_finite() {
    for gap in [-1e6, 1e6] {
        let data: Data = vec![[vec![gap], vec![0.0], vec![0.0], vec![0.0]]];
        for form in FORMS {
            let out = dpo(&data, form, 0.1).0;
            assert!(out.loss.is_finite() && out.g[0].chosen[0].is_finite());
        }
    }
    near(log_sigmoid(-1e6), -1e6, 1e-12);
    assert_eq!(sigmoid(-1e6), 0.0);
}
