//! What a recipe says of going back in parts is so of its loss.

use super::*;
use crate::domain::{Metrics, PairId, PromptId, method, methods};
use crate::nn::policy::{Row, RowScores};
use crate::nn::random::{normal, stream};
use crate::train::data::Example;
use crate::train::loss::Tally;
use crate::train::reference::Reference;

/// Recipes whose parts add up, and recipes that have to see a micro-batch whole.
const APART: &[(&str, &[(&str, &str)])] = &[
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

struct Batch {
    examples: Vec<Example>,
    scores: Vec<Vec<RowScores>>,
    aside: Vec<Vec<RowScores>>,
    references: Vec<Reference>,
}

/// Seven examples of unlike lengths with scores at random, as the method has them.
fn batch(name: &str, neighbours: bool) -> Batch {
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
    let mut out = Batch { examples: Vec::new(), scores: Vec::new(), aside: Vec::new(), references: Vec::new() };
    for i in 0..7 {
        let lengths = if matches!(name, "sft" | "kto") { vec![3 + i * 5 % 7] } else { vec![2 + i, 9 - i] };
        let row = |n: &usize| Row::new(vec![1; 2 + n], (2..2 + n).collect());
        out.examples.push(Example {
            id: PairId::new(format!("p{i}")),
            prompt_id: PromptId::new("q"),
            row: i,
            prompt: 2,
            rows: lengths.iter().map(row).collect(),
            aside: Vec::new(),
            margin: Some(0.1 * i as f64),
            agreed: Some(1.0 - 0.05 * i as f64),
            good: i % 3 > 0,
        });
        let scores: Vec<RowScores> = lengths.iter().map(|n| scored(*n)).collect();
        let aside = if neighbours { vec![scored(4)] } else { Vec::new() };
        let shifted = |row: &RowScores| row.logp.iter().map(|x| (0.5 + 0.1 * (i * 3 % 7) as f64) * x).collect();
        // Neighbours of which the policy has become surer.
        let surer = |row: &RowScores| row.logp.iter().map(|x| 1.5 * x - 0.1 * i as f64).collect();
        out.references.push(scores.iter().map(shifted).chain(aside.iter().map(surer)).collect());
        out.scores.push(scores);
        out.aside.push(aside);
    }
    out
}

/// How far the loss and gradients of parts are from those of the whole, as its `apart` or else as a mean of them.
fn off(name: &str, settings: &[(&str, &str)]) -> (Apart, f64) {
    let rows = method(name).unwrap().rows();
    let mut params = Params::defaults(&rows);
    for (key, value) in settings {
        params.set(&rows, name, key, value).unwrap();
    }
    let AnyRecipe::Offline(recipe) = recipe(name, &params).unwrap() else { panic!("{name} has no rows") };
    let all = batch(name, recipe.making(&params).mismatch > 0);
    let seen: Vec<Seen<'_>> = (0..all.examples.len())
        .map(|i| Seen {
            example: &all.examples[i],
            scores: &all.scores[i],
            aside: &all.aside[i],
            reference: Some(&all.references[i]),
        })
        .collect();
    let window = Window { share: 0.5, tokens: all.examples.iter().map(Example::scored).sum() };
    let mut tallies = [Tally::default(), Tally::default()];
    let whole = recipe.loss(&seen, &window, &mut tallies[0]).unwrap();
    let (mut loss, mut g) = (0.0, Vec::new());
    for part in [&seen[..1], &seen[1..3], &seen[3..]] {
        let share = if recipe.apart() == Apart::Sum { 1.0 } else { part.len() as f64 / seen.len() as f64 };
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
    if recipe.apart() != Apart::No {
        let mut both = metrics[0].iter().map(|(name, value)| (value, metrics[1].get(name).unwrap()));
        assert!(far(&mut both) < 1e-12, "{name} {settings:?}: the metrics are others");
    }
    (recipe.apart(), far(&mut g.into_iter().zip(want).chain([(loss, whole.loss)])))
}

#[test]
fn parts_that_go_back_alone_add_up() {
    for (name, settings) in APART {
        let (apart, off) = off(name, settings);
        assert_ne!(apart, Apart::No, "{name} {settings:?}");
        assert!(off < 1e-12, "{name} {settings:?}: {off}");
    }
}

#[test]
fn what_stays_together_has_to() {
    for (name, settings) in WHOLE {
        let (apart, off) = off(name, settings);
        assert_eq!(apart, Apart::No, "{name} {settings:?}");
        assert!(off > 1e-6, "{name} {settings:?}: its parts would add up");
    }
}

#[test]
fn every_method_of_the_table_has_its_row_in_the_registry() {
    let registered: Vec<&str> = RECIPES.iter().map(|row| row.name).collect();
    assert_eq!(registered, methods().iter().map(|m| m.name).collect::<Vec<_>>());
}
