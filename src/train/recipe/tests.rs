//! A recipe's declared separability holds for its loss, and every key of the method table is read.

use super::*;
use crate::domain::{Metrics, PairId, PromptId, method, methods};
use crate::nn::policy::{Row, RowScores};
use crate::nn::random::{normal, stream};
use crate::train::data::Example;
use crate::train::loss::{FORMS, Tally};
use crate::train::reference::Reference;

/// Recipes whose loss separates into parts of a micro-batch, and recipes whose loss does not.
const SEPARABLE: &[(&str, &[(&str, &str)])] = &[
    ("dpo", &[]),
    ("dpo", &[("label_smoothing", "0.1"), ("ld_alpha", "0.5")]),
    ("dpo", &[("use_weighting", "true")]),
    ("dpo", &[("soft_labels", "true")]),
    ("dpo", &[("f_divergence_type", "js_divergence")]),
    ("dpo", &[("loss_type", "sigmoid_norm,hinge,ipo,ipo_sum")]),
    ("dpo", &[("loss_type", "robust,exo_pair"), ("label_smoothing", "0.1")]),
    ("dpo", &[("loss_type", "nca_pair,bco_pair,sppo_hard,apo_zero,apo_down,discopop,dpop")]),
    ("reward", &[("use_margin", "true"), ("soft_labels", "true")]),
    ("cpo", &[("cpo_alpha", "0")]),
    ("cpo", &[("cpo_alpha", "0"), ("loss_type", "ipo")]),
    ("simpo", &[]),
    ("sft", &[]),
];
const WHOLE: &[(&str, &[(&str, &str)])] = &[
    ("dpo", &[("loss_type", "aot")]),
    ("dpo", &[("loss_type", "aot_unpaired")]),
    ("dpo", &[("loss_type", "sigmoid,sft")]),
    ("cpo", &[]),
    ("simpo", &[("cpo_alpha", "0.5")]),
    ("orpo", &[]),
    ("kto", &[]),
];

struct ScoredBatch {
    examples: Vec<Example>,
    scores: Vec<Vec<RowScores>>,
    kl_scores: Vec<Vec<RowScores>>,
    references: Vec<Reference>,
}

/// Seven examples of different lengths with random scores, in the method's form.
fn batch(name: &str, neighbours: bool) -> ScoredBatch {
    let mut rng = stream(5, 1);
    let mut scored = |n: usize| {
        let mut numbers = |by: f64| (0..n).map(|_| by * normal(&mut rng).abs()).collect::<Vec<f64>>();
        RowScores {
            logp: numbers(-0.6),
            entropy: numbers(1.0),
            top1: vec![true; n],
            mean_logit: numbers(1.0),
            collision: numbers(-0.4),
            value: if name == "reward" { numbers(1.0)[..1].to_vec() } else { Vec::new() },
        }
    };
    let mut out =
        ScoredBatch { examples: Vec::new(), scores: Vec::new(), kl_scores: Vec::new(), references: Vec::new() };
    for i in 0..7 {
        let lengths = if matches!(name, "sft" | "kto") { vec![3 + i * 5 % 7] } else { vec![2 + i, 9 - i] };
        let row = |n: &usize| Row::new(vec![1; 2 + n], (2..2 + n).collect());
        out.examples.push(Example {
            id: PairId::new(format!("p{i}")),
            prompt_id: PromptId::new("q"),
            row: i,
            prompt: 2,
            rows: lengths.iter().map(row).collect(),
            kl_rows: Vec::new(),
            margin: Some(0.1 * i as f64),
            agreed: Some(1.0 - 0.05 * i as f64),
            desirable: i % 3 > 0,
        });
        let scores: Vec<RowScores> = lengths.iter().map(|n| scored(*n)).collect();
        let kl_scores = if neighbours { vec![scored(4)] } else { Vec::new() };
        let shifted = |row: &RowScores| row.logp.iter().map(|x| (0.5 + 0.1 * (i * 3 % 7) as f64) * x).collect();
        // Mismatched answers that have become likelier under the policy.
        let surer = |row: &RowScores| row.logp.iter().map(|x| 1.5 * x - 0.1 * i as f64).collect();
        out.references.push(scores.iter().map(shifted).chain(kl_scores.iter().map(surer)).collect());
        out.scores.push(scores);
        out.kl_scores.push(kl_scores);
    }
    out
}

/// How far the loss and gradients of parts are from those of the whole, as its `apart` or else as a mean of them.
fn split_error(name: &str, settings: &[(&str, &str)]) -> (Separable, f64) {
    let rows = method(name).unwrap().rows();
    let mut params = Params::defaults(&rows);
    for (key, value) in settings {
        params.set(&rows, name, key, value).unwrap();
    }
    let prepared = prepare(name, &params).unwrap();
    let recipe = &prepared.recipe;
    let all = batch(name, prepared.tokenise_options(true).mismatch_block > 0);
    let seen: Vec<ScoredExample<'_>> = (0..all.examples.len())
        .map(|i| ScoredExample {
            example: &all.examples[i],
            scores: &all.scores[i],
            kl_scores: &all.kl_scores[i],
            reference: Some(&all.references[i]),
            answer: None,
        })
        .collect();
    let tokens = all.examples.iter().map(Example::scored).sum::<usize>() as f64;
    let window = UpdateWindow { share: 0.5, tokens };
    let mut tallies = [Tally::default(), Tally::default()];
    let whole = recipe.loss(&seen, &window, &mut tallies[0]).unwrap();
    let (mut loss, mut g) = (0.0, Vec::new());
    for part in [&seen[..1], &seen[1..3], &seen[3..]] {
        let share = if recipe.separable() == Separable::Sum { 1.0 } else { part.len() as f64 / seen.len() as f64 };
        let out = recipe.loss(part, &window, &mut tallies[1]).unwrap();
        loss += share * out.loss;
        g.extend(out.g.into_iter().flat_map(|g| g.logp.into_iter().chain(g.value)).map(|x| share * x));
    }
    let want: Vec<f64> = whole.g.into_iter().flat_map(|g| g.logp.into_iter().chain(g.value)).collect();
    assert_eq!(g.len(), want.len());
    assert!(want.iter().any(|x| *x != 0.0), "{name} {settings:?}");
    let mut metrics = [Metrics::new(), Metrics::new()];
    for (tally, metrics) in tallies.iter_mut().zip(&mut metrics) {
        tally.close();
        tally.write("", metrics);
    }
    let far = |pairs: &mut dyn Iterator<Item = (f64, f64)>| pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    if recipe.separable() != Separable::No {
        let mut both = metrics[0].iter().map(|(name, value)| (value, metrics[1].get(name).unwrap()));
        assert!(far(&mut both) < 1e-12, "{name} {settings:?}: the metrics differ");
    }
    (recipe.separable(), far(&mut g.into_iter().zip(want).chain([(loss, whole.loss)])))
}

#[test]
fn separable_losses_add_up_over_parts() {
    for (name, settings) in SEPARABLE {
        let (apart, off) = split_error(name, settings);
        assert_ne!(apart, Separable::No, "{name} {settings:?}");
        assert!(off < 1e-12, "{name} {settings:?}: {off}");
    }
}

#[test]
fn inseparable_losses_do_not_add_up() {
    for (name, settings) in WHOLE {
        let (apart, off) = split_error(name, settings);
        assert_eq!(apart, Separable::No, "{name} {settings:?}");
        assert!(off > 1e-6, "{name} {settings:?}: it is separable");
    }
}

/// The parse error of these hyper-parameters, ignoring contradictions.
fn unread(registered: &Registered, params: &Params) -> Option<String> {
    let m = &registered.method;
    let said = (registered.new)(params).err().map(|e| e.to_string());
    let shared = || read::<TrainerParams>(params).err().map(|e| e.to_string());
    let mix = || read::<MixParams>(params).err().filter(|_| m.mixes).map(|e| e.to_string());
    let probe = || read::<ProbeParams>(params).err().filter(|_| m.probes).map(|e| e.to_string());
    let rollout = || read::<RolloutParams>(params).err().filter(|_| m.needs == Needs::Prompts).map(|e| e.to_string());
    said.or_else(shared).or_else(mix).or_else(probe).or_else(rollout)
}

#[test]
fn every_key_that_the_table_lists_is_read_by_a_struct() {
    for registered in REGISTRY {
        let rows = registered.method.rows();
        for row in &rows {
            let mut params = Params::defaults(&rows);
            // A form's own hyper-parameter is read only with that form.
            if let Some(form) = FORMS.iter().find(|form| form.own == Some(*row)) {
                params.0.insert("loss_type".into(), form.name.into());
            }
            assert_eq!(unread(registered, &params), None, "{}", registered.method.name);
            params.0.insert(row.key.into(), "?!".into());
            let said = unread(registered, &params).unwrap_or_default();
            assert!(said.contains(row.key), "{}: nothing reads {}: `{said}`", registered.method.name, row.key);
        }
    }
}

#[test]
fn the_method_table_is_the_registry_and_each_recipe_learns_from_what_its_row_says() {
    assert_eq!(methods().len(), REGISTRY.len());
    for m in methods() {
        let prepared = prepare(m.name, &Params::defaults(&m.rows())).unwrap();
        assert_eq!(prepared.recipe.rollout().is_some(), m.needs == Needs::Prompts, "{}", m.name);
        assert_eq!(prepared.rollout.is_some(), m.needs == Needs::Prompts, "{}", m.name);
        assert!(m.reference || !prepared.recipe.needs_reference(), "{}", m.name);
    }
    assert!(prepare("nash_md", &Params::default()).err().unwrap().to_string().contains("nash_md"));
}
