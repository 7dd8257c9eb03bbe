//! Loss, gradient and metrics of every method against TRL's own (tests/fixtures/trl/make_losses.py).

use super::super::*;
use super::near;
use serde_json::Value;

fn cases(method: &str) -> (Value, Vec<Value>) {
    let all: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/trl/losses.json")).unwrap();
    let part = all[method].clone();
    let cases = part["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    (part, cases)
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(number).collect()
}

fn rows(v: &Value) -> Vec<Vec<f64>> {
    v.as_array().unwrap().iter().map(numbers).collect()
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

/// Compares a result with a case to `tolerance`: loss, gradients, and every metric that TRL logged.
fn compare(case: &Value, loss: f64, g: &[(&str, Vec<Vec<f64>>)], tally: &Tally, tolerance: f64) {
    let what = &case["options"];
    let close = |got: f64, want: f64, tolerance: f64, of: &str| {
        assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{what} {of}: {got} is not {want}");
    };
    close(loss, number(&case["loss"]), tolerance, "loss");
    for (name, got) in g {
        let want = rows(&case[*name]);
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert_eq!(got.len(), want.len());
            got.iter().zip(want).for_each(|(got, want)| close(*got, want, tolerance, name));
        }
    }
    for (name, want) in case["metrics"].as_object().unwrap() {
        let got = tally.mean(name).unwrap_or_else(|| panic!("{what}: no {name}"));
        // TRL counts shares in f32.
        close(got, number(want), tolerance.max(1e-7), name);
    }
}

/// The two sides of pairs' gradients.
fn sides(g: Vec<PairGradient>) -> [(&'static str, Vec<Vec<f64>>); 2] {
    let (chosen, rejected) = g.into_iter().map(|g| (g.chosen, g.rejected)).unzip();
    [("g_chosen", chosen), ("g_rejected", rejected)]
}

#[test]
fn dpo() {
    let (data, cases) = cases("dpo");
    let at = |name: &str| rows(&data[name]);
    let (chosen, rejected) = (at("chosen"), at("rejected"));
    let (ref_chosen, ref_rejected) = (at("ref_chosen"), at("ref_rejected"));
    let (collision_chosen, collision_rejected) = (at("collision_chosen"), at("collision_rejected"));
    let pairs: Vec<_> = (0..chosen.len())
        .map(|i| DpoPair {
            chosen: &chosen[i],
            rejected: &rejected[i],
            ref_chosen: &ref_chosen[i],
            ref_rejected: &ref_rejected[i],
            collision_chosen: &collision_chosen[i],
            collision_rejected: &collision_rejected[i],
            epsilon: None,
        })
        .collect();
    for case in &cases {
        let o = &case["options"];
        let forms = o["loss_type"].as_array().unwrap();
        let own = number(&o["discopop_tau"]);
        let forms = forms.iter().map(|f| DpoTerm { form: DpoForm::named(text(f)).unwrap(), own, weight: 1.0 });
        let weights = o["loss_weights"].as_array().map(|w| w.iter().map(number).collect::<Vec<_>>());
        let weights = weights.unwrap_or_else(|| vec![1.0; forms.len()]);
        let divergence = match text(&o["f_divergence_type"]) {
            "reverse_kl" => Divergence::ReverseKl,
            "forward_kl" => Divergence::ForwardKl,
            "js_divergence" => Divergence::Js,
            _ => Divergence::Alpha(number(&o["f_alpha_divergence_coef"])),
        };
        let dpo = Dpo {
            beta: number(&o["beta"]),
            terms: forms.zip(weights).map(|(term, weight)| DpoTerm { weight, ..term }).collect(),
            label_smoothing: number(&o["label_smoothing"]),
            divergence,
            ld_alpha: o["ld_alpha"].as_f64().unwrap_or(1.0),
            wpo: o["use_weighting"].as_bool().unwrap(),
        };
        let mut tally = Tally::default();
        let out = dpo.loss(&pairs, &mut tally);
        // The α-divergence is f32 in TRL.
        let tolerance = if matches!(divergence, Divergence::Alpha(_)) { 5e-6 } else { 1e-10 };
        compare(case, out.loss, &sides(out.g), &tally, tolerance);
    }
}

#[test]
fn cpo() {
    let (data, cases) = cases("cpo");
    let (chosen, rejected) = (rows(&data["chosen"]), rows(&data["rejected"]));
    let pairs: Vec<_> =
        chosen.iter().zip(&rejected).map(|(chosen, rejected)| CpoPair { chosen, rejected, epsilon: None }).collect();
    for case in &cases {
        let o = &case["options"];
        let form = match text(&o["loss_type"]) {
            "sigmoid" => CpoForm::Sigmoid,
            "hinge" => CpoForm::Hinge,
            "ipo" => CpoForm::Ipo,
            _ => CpoForm::Simpo { gamma: number(&o["simpo_gamma"]) },
        };
        let cpo = Cpo {
            beta: number(&o["beta"]),
            form,
            label_smoothing: number(&o["label_smoothing"]),
            alpha: number(&o["cpo_alpha"]),
        };
        let mut tally = Tally::default();
        let out = cpo.loss(&pairs, &mut tally);
        compare(case, out.loss, &sides(out.g), &tally, 1e-10);
    }
}

#[test]
fn kto() {
    let (data, cases) = cases("kto");
    let (policy, reference) = (rows(&data["rows"]), rows(&data["reference"]));
    for case in &cases {
        let o = &case["options"];
        let form = if text(&o["loss_type"]) == "kto" { KtoForm::Kto } else { KtoForm::ApoZeroUnpaired };
        let labels = numbers(&case["labels"]);
        let rows: Vec<_> = (0..policy.len())
            .map(|i| KtoRow { policy: &policy[i], reference: &reference[i], desirable: labels[i] == 1.0 })
            .collect();
        let kto = Kto {
            beta: number(&o["beta"]),
            form,
            desirable_weight: number(&o["desirable_weight"]),
            undesirable_weight: number(&o["undesirable_weight"]),
        };
        let mut tally = Tally::default();
        let out = kto.loss(&rows, &numbers(&data["pool"]), &mut tally);
        compare(case, out.loss, &[("g", out.g)], &tally, 1e-10);
    }
}

#[test]
fn reward() {
    let (data, cases) = cases("reward");
    let (chosen, rejected, margin) = (numbers(&data["chosen"]), numbers(&data["rejected"]), numbers(&data["margin"]));
    for case in &cases {
        let with = if case["margins"].as_bool().unwrap() { 1.0 } else { 0.0 };
        let pairs: Vec<_> = (0..chosen.len())
            .map(|i| RewardPair { chosen: chosen[i], rejected: rejected[i], margin: with * margin[i], epsilon: 0.0 })
            .collect();
        let mut tally = Tally::default();
        let out = Reward { center_rewards_coefficient: number(&case["coef"]) }.loss(&pairs, &mut tally);
        tally.close();
        near(out.loss, number(&case["loss"]), 1e-10);
        for (i, (c, r)) in out.g.iter().enumerate() {
            near(*c, number(&case["g_chosen"][i]), 1e-10);
            near(*r, number(&case["g_rejected"][i]), 1e-10);
        }
        compare(case, out.loss, &[], &tally, 1e-10);
    }
}

#[test]
fn grpo() {
    let (data, cases) = cases("grpo");
    let (old, new, reference) = (rows(&data["old"]), rows(&data["new"]), rows(&data["reference"]));
    let advantages = numbers(&data["advantages"]);
    let rows: Vec<_> = (0..old.len())
        .map(|i| GrpoRow { new: &new[i], old: &old[i], reference: &reference[i], advantage: advantages[i] })
        .collect();
    for case in &cases {
        let o = &case["options"];
        let grpo = Grpo {
            epsilon_low: 0.2,
            epsilon_high: 0.28,
            beta: number(&o["beta"]),
            use_bias_correction_kl: o["use_bias_correction_kl"].as_bool().unwrap(),
            level: if text(&o["level"]) == "token" { RatioLevel::Token } else { RatioLevel::Sequence },
            reduction: match text(&o["loss_type"]) {
                "grpo" => Reduction::Grpo,
                "bnpo" => Reduction::Bnpo,
                "dapo" => Reduction::Dapo { window_tokens: number(&o["window_tokens"]) },
                _ => Reduction::DrGrpo { max_completion_length: number(&o["max_completion_length"]) },
            },
        };
        let mut tally = Tally::default();
        let out = grpo.loss(&rows, &mut tally);
        compare(case, out.loss, &[("g", out.g)], &tally, 1e-10);
    }
}

#[test]
fn rloo() {
    let (data, cases) = cases("rloo");
    let (old, new, advantages) = (rows(&data["old"]), rows(&data["new"]), numbers(&data["advantages"]));
    let rows: Vec<_> =
        (0..old.len()).map(|i| RlooRow { new: &new[i], old: &old[i], advantage: advantages[i] }).collect();
    let mut tally = Tally::default();
    let out = Rloo { beta: 0.05, epsilon_low: 0.1, epsilon_high: 0.15 }.loss(&rows, &mut tally);
    compare(&cases[0], out.loss, &[("g", out.g)], &tally, 1e-10);
}
