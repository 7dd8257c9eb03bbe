//! Golden values (trainers' formulas in f64), TRL's own numbers, finite differences, and edge cases of the DPO family.

use super::super::tests::{RC, RR, SC, SR, golden, near, slopes_match, spread};
use super::super::{log_sigmoid, sigmoid};
use super::*;

/// Every form, each with the default of its own hyper-parameter.
fn all() -> impl Iterator<Item = DpoTerm> {
    FORMS.iter().map(|form| named(form.name))
}

fn weighted(name: &str, weight: f64) -> DpoTerm {
    DpoTerm { weight, ..named(name) }
}

fn named(name: &str) -> DpoTerm {
    let form = DpoForm::named(name).unwrap_or_else(|| panic!("no loss {name}"));
    let own = form.own.map_or(f64::NAN, |row| row.default.parse().unwrap());
    DpoTerm { form, own, weight: 1.0 }
}

/// Reference log-probs and log Σ π² for `rows`: chosen, rejected, chosen, ….
struct Around {
    reference: Vec<Vec<f64>>,
    collision: Vec<Vec<f64>>,
    epsilon: Vec<Option<f64>>,
}

fn rows() -> Vec<Vec<f64>> {
    golden().into_iter().flat_map(|[c, r, ..]| [c, r]).collect()
}

fn around() -> Around {
    let reference: Vec<_> = golden().into_iter().flat_map(|[.., c, r]| [c, r]).collect();
    let collision = rows().iter().map(|row| spread(-1.1 * row.len() as f64, row.len())).collect();
    Around { reference, collision, epsilon: vec![None; 2] }
}

fn run(dpo: &Dpo, rows: &[Vec<f64>], around: &Around) -> (PairLoss, Tally) {
    let pairs: Vec<_> = (0..rows.len() / 2)
        .map(|i| DpoPair {
            chosen: &rows[2 * i],
            rejected: &rows[2 * i + 1],
            ref_chosen: &around.reference[2 * i],
            ref_rejected: &around.reference[2 * i + 1],
            collision_chosen: &around.collision[2 * i],
            collision_rejected: &around.collision[2 * i + 1],
            epsilon: around.epsilon[i],
        })
        .collect();
    let mut tally = Tally::default();
    (dpo.loss(&pairs, &mut tally), tally)
}

fn flat(out: PairLoss) -> (f64, Vec<Vec<f64>>) {
    (out.loss, out.g.into_iter().flat_map(|g| [g.chosen, g.rejected]).collect())
}

fn smooth(beta: f64, form: DpoTerm, label_smoothing: f64) -> Dpo {
    Dpo { label_smoothing, ..Dpo::new(beta, form) }
}

#[test]
fn golden_values() {
    for (form, beta, epsilon, want) in [
        (named("sigmoid"), 0.1, 0.0, 0.672_672_08),
        (named("sigmoid"), 0.1, 0.1, 0.678_922_08),
        (named("robust"), 0.1, 0.1, 0.664_859_58),
        (named("hinge"), 0.1, 0.0, 0.937_5),
        (named("ipo"), 0.1, 0.0, 24.367_901_48),
        (named("ipo_sum"), 0.1, 0.0, 27.406_25),
        (named("sigmoid_norm"), 5.0, 0.0, 0.708_763_84),
        (named("sigmoid_norm"), 0.1, 0.0, 0.689_739_87),
        (named("apo_zero"), 0.1, 0.0, 0.984_453_61),
        (named("apo_down"), 0.1, 0.0, 0.984_698_16),
        (named("nca_pair"), 0.1, 0.0, 1.376_307_82),
        (named("bco_pair"), 0.1, 0.0, 1.360_701_55),
        (named("sppo_hard"), 0.1, 0.0, 48.281_25),
        (named("exo_pair"), 0.1, 1e-3, 2.666_229_36),
        (named("discopop"), 0.1, 0.0, 0.760_666_12),
        (named("aot"), 0.1, 0.0, 0.672_672_08),
        (named("dpop"), 0.1, 0.0, 4.129_411_85),
        (named("sft"), 0.1, 0.0, 55.5 / 26.0),
    ] {
        near(run(&smooth(beta, form, epsilon), &rows(), &around()).0.loss, want, 1e-8);
    }
    // The two pairs' reference values changed about: ranks differ from pairs.
    let mut swapped = around();
    swapped.reference.rotate_left(2);
    for (i, (c, r)) in RC.into_iter().zip(RR).rev().enumerate() {
        swapped.reference[2 * i] = spread(c, rows()[2 * i].len());
        swapped.reference[2 * i + 1] = spread(r, rows()[2 * i + 1].len());
    }
    near(run(&Dpo::new(0.1, named("aot")), &rows(), &swapped).0.loss, 0.672_672_08, 1e-8);
    near(run(&Dpo::new(0.1, named("sigmoid")), &rows(), &swapped).0.loss, 0.712_302_13, 1e-8);
}

#[test]
fn metrics_are_of_the_log_ratios_whatever_the_form() {
    for form in all() {
        let (_, tally) = run(&smooth(0.1, form, 0.1), &rows(), &around());
        for (name, want) in [
            ("rewards/chosen", 0.0),
            ("rewards/rejected", -0.0625),
            ("rewards/margins", 0.0625),
            ("rewards/accuracies", 0.5),
            ("logps/chosen", f64::midpoint(SC[0], SC[1])),
            ("logps/rejected", f64::midpoint(SR[0], SR[1])),
            // a = [1.5, −1.5] over 10 and 16 tokens.
            ("kl/chosen", 0.0),
        ] {
            near(tally.mean(name).unwrap(), want, 1e-8);
        }
    }
}

#[test]
fn at_the_reference() {
    let mut same = around();
    same.reference = rows();
    for form in all() {
        let dpo = smooth(0.1, form, 0.01);
        let (out, tally) = run(&dpo, &rows(), &same);
        match dpo.loss_at_reference() {
            Some(want) => near(out.loss, want, 1e-12),
            None => assert!(["sft", "exo_pair"].contains(&form.form.name), "{form:?}"),
        }
        assert_eq!(tally.mean("rewards/accuracies"), Some(0.0), "equal rewards are no success");
        assert_eq!(tally.mean("rewards/margins"), Some(0.0));
    }
    let two = Dpo { terms: vec![weighted("sigmoid", 0.5), weighted("hinge", 2.0)], ..Dpo::new(0.1, named("sigmoid")) };
    near(two.loss_at_reference().unwrap(), 0.5 * std::f64::consts::LN_2 + 2.0, 1e-12);
    assert_eq!(Dpo { wpo: true, ..two }.loss_at_reference(), None);
}

#[test]
fn gradients_are_the_finite_differences() {
    let plain = around();
    let mut votes = around();
    votes.epsilon = vec![Some(0.3), Some(0.05)];
    for form in all() {
        for around in [&plain, &votes] {
            slopes_match(&rows(), |rows| flat(run(&smooth(0.1, form, 0.1), rows, around).0));
        }
        let tail = Dpo { ld_alpha: 0.3, ..smooth(0.1, form, 0.1) };
        slopes_match(&rows(), |rows| flat(run(&tail, rows, &plain).0));
        if form.form.divergence {
            for divergence in [
                Divergence::ForwardKl,
                Divergence::Js,
                Divergence::Alpha(0.5),
                Divergence::Alpha(1.0),
                Divergence::Alpha(2.0),
            ] {
                let dpo = Dpo { divergence, ..smooth(0.1, form, 0.1) };
                slopes_match(&rows(), |rows| flat(run(&dpo, rows, &plain).0));
            }
        }
    }
}

#[test]
fn the_weight_of_wpo_is_detached() {
    let around = around();
    for form in all().filter(|term| !term.form.sorts_batch()) {
        let dpo = Dpo { wpo: true, ..smooth(0.1, form, 0.1) };
        let (_, want) = flat(run(&dpo, &rows(), &around).0);
        // The weight is held by moving Σ π² along with the policy's log-probs.
        slopes_match(&rows(), |moved| {
            let mut held = super::tests::around();
            for ((collision, now), then) in held.collision.iter_mut().zip(moved).zip(rows()) {
                collision.iter_mut().zip(now).zip(then).for_each(|((s, now), then)| *s += now - then);
            }
            (run(&dpo, moved, &held).0.loss, want.clone())
        });
    }
}

#[test]
fn terms_add_up_by_their_weights() {
    let alone = |form| run(&Dpo::new(0.1, form), &rows(), &around()).0;
    let terms = vec![weighted("sigmoid", 0.8), weighted("sft", 0.2), weighted("aot", 1.5)];
    let both = run(&Dpo { terms, ..Dpo::new(0.1, named("sigmoid")) }, &rows(), &around()).0;
    let parts = [alone(named("sigmoid")), alone(named("sft")), alone(named("aot"))];
    let sum = |of: fn(&PairLoss) -> f64| 0.8 * of(&parts[0]) + 0.2 * of(&parts[1]) + 1.5 * of(&parts[2]);
    near(both.loss, sum(|p| p.loss), 1e-12);
    near(both.g[1].chosen[3], sum(|p| p.g[1].chosen[3]), 1e-12);
    near(both.g[1].rejected[3], sum(|p| p.g[1].rejected[3]), 1e-12);
}

#[test]
fn votes_replace_the_runs_label_smoothing() {
    let mut votes = around();
    votes.epsilon = vec![Some(0.1), Some(0.1)];
    for form in all() {
        let own = run(&smooth(0.1, form, 0.05), &rows(), &votes).0;
        let common = run(&smooth(0.1, form, 0.1), &rows(), &around()).0;
        near(own.loss, common.loss, 1e-12);
        let differs = (common.loss - run(&smooth(0.1, form, 0.05), &rows(), &around()).0.loss).abs() > 1e-6;
        assert_eq!(differs, form.form.smoothing, "{form:?}");
    }
    // An even vote and a unanimous one stay finite where the formula divides by 1 − 2ε or takes ln ε.
    votes.epsilon = vec![Some(0.5), Some(0.0)];
    for form in all() {
        let (loss, g) = flat(run(&smooth(0.1, form, 0.01), &rows(), &votes).0);
        assert!(loss.is_finite() && g.iter().flatten().all(|g| g.is_finite()), "{form:?}");
    }
}

#[test]
fn ld_alpha_weights_the_tail_of_the_longer_answer_only() {
    // Pair 0: 10 chosen and 12 rejected tokens, pair 1: 16 and 9.
    let head = |row: &[f64], n: usize| total(&row[..n]);
    let (_, tally) = run(&Dpo { ld_alpha: 0.0, ..Dpo::new(0.1, named("sigmoid")) }, &rows(), &around());
    let want = f64::midpoint(head(&rows()[0], 10), head(&rows()[2], 9));
    near(tally.mean("logps/chosen").unwrap(), want, 1e-12);
    let reference = f64::midpoint(head(&around().reference[0], 10), head(&around().reference[2], 9));
    near(tally.mean("rewards/chosen").unwrap(), 0.1 * (want - reference), 1e-12);
}

#[test]
fn a_satisfied_hinge_pair_has_no_gradient() {
    let around =
        Around { reference: vec![vec![-2.0], vec![-2.0]], collision: vec![vec![], vec![]], epsilon: vec![None] };
    let out = run(&Dpo::new(1.0, named("hinge")), &[vec![-1.0], vec![-9.0]], &around).0;
    assert_eq!((out.loss, out.g[0].chosen[0], out.g[0].rejected[0]), (0.0, 0.0, 0.0));
}

#[test]
fn extreme_margins_stay_finite() {
    let around = Around { reference: vec![vec![0.0], vec![0.0]], collision: vec![vec![], vec![]], epsilon: vec![None] };
    for gap in [-1e6, 1e6] {
        for form in all() {
            for divergence in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Js, Divergence::Alpha(2.0)] {
                let dpo = Dpo { divergence, ..smooth(0.1, form, 0.1) };
                let (loss, g) = flat(run(&dpo, &[vec![gap], vec![0.0]], &around).0);
                assert!(loss.is_finite() && g.iter().flatten().all(|g| g.is_finite()), "{form:?} {divergence:?}");
            }
        }
    }
    near(log_sigmoid(-1e6), -1e6, 1e-12);
    assert_eq!(sigmoid(-1e6), 0.0);
}

#[test]
fn the_methods_choices_are_the_table() {
    let rows = crate::domain::method("dpo").unwrap().rows();
    let row = rows.iter().find(|r| r.key == "loss_type").unwrap();
    let crate::domain::ParamKind::List(words) = row.kind else { panic!("loss_type is no list") };
    assert_eq!(words, FORMS.iter().map(|form| form.name).collect::<Vec<_>>());
    assert_eq!(DpoForm::named("sigmoidal"), None);
    for own in FORMS.iter().filter_map(|form| form.own) {
        assert!(rows.contains(&own), "{} is no option of dpo", own.key);
    }
}
