//! A step's gradient is a sum over its rows: it does not depend on the split into micro-batches, on padding or on order. Where
//! a method's definition depends on them, that is tested too.
//!
//! Compares the full gradient, tensor by tensor, from AdamW's first moments after an unclipped first step.

use super::{data, metrics, open, rows_of, settings};
use crate::trl::spec;
use std::collections::BTreeMap;
use tiebreak::domain::{Needs, PairRow, Prompt, PromptBody, RatedRow, SftBody, SftRow, method, methods};
use tiebreak::nn::{stream, uniform};
use tiebreak::train::{Rows, RunRows, SampledAnswer, StepOutcome, Trainer};

/// Tolerated difference of two computations of a gradient, relative to its norm: f32 sums in another order.
const OURS: f64 = 2e-5;

/// A first step: its loss and its gradient by tensor.
struct First {
    loss: f64,
    gradient: BTreeMap<String, Vec<f32>>,
}

/// Builds a round's answers to the trainer's prompts.
type RoundBuilder<'a> = dyn Fn(&Trainer) -> Vec<SampledAnswer> + 'a;

/// Options on top of the short run's.
type Overrides = [(&'static str, &'static str)];

/// The first step on `rows`, in order; `answers` is the round of an online method.
fn first(name: &str, more: &Overrides, rows: &RunRows, answers: Option<&RoundBuilder<'_>>) -> First {
    let m = method(name).unwrap();
    let mut all = vec![("max_steps", "1"), ("shuffle", "false"), ("max_grad_norm", "0")];
    all.extend(more);
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = open(&spec(name, &settings(m, &all)), rows, dir.path(), None);
    if let Some(answers) = answers {
        trainer.inject_round(answers(&trainer));
    }
    let mut events = Vec::new();
    assert_eq!(trainer.step(&mut events).unwrap(), StepOutcome::Stepped);
    trainer.save(dir.path()).unwrap();
    let moments = dir.path().join("optim.safetensors");
    let moments = candle_core::safetensors::load(moments, &candle_core::Device::Cpu).unwrap();
    let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1().unwrap();
    let gradient = moments.iter().filter_map(|(k, t)| Some((k.strip_prefix("m.")?.into(), values(t))));
    First { loss: metrics(&events)[0].get("loss").unwrap(), gradient: gradient.collect() }
}

/// Norm of the difference relative to the norm, over all tensors.
fn relative_difference(a: &First, b: &First) -> f64 {
    assert!(a.gradient.keys().eq(b.gradient.keys()));
    let flat = |x: &First| x.gradient.values().flatten().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let (a, b) = (flat(a), flat(b));
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let size = norm(&mut b.iter().copied());
    assert!(size > 0.0, "no gradient at all");
    norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / size
}

fn same(what: &str, a: &First, b: &First) {
    assert!(relative_difference(a, b) <= OURS, "{what}: gradients differ by {}", relative_difference(a, b));
    // With ratios of 1 the loss is a sum of advantages, which is 0 up to f32 rounding near 1.
    let slack = 1e-6 + 1e-5 * b.loss.abs();
    assert!((a.loss - b.loss).abs() <= slack, "{what}: the losses are {} and {}", a.loss, b.loss);
}

const EIGHT: &Overrides = &[("per_device_train_batch_size", "8"), ("gradient_accumulation_steps", "1")];
const ONES: &Overrides = &[("per_device_train_batch_size", "1"), ("gradient_accumulation_steps", "8")];
const TWOS: &Overrides = &[("per_device_train_batch_size", "2"), ("gradient_accumulation_steps", "4")];

/// Every method in a form whose loss is a sum over rows or tokens of the whole step, independent of the split. The exceptions
/// are in [`SPLIT_DEPENDENT`].
const SUMS: &[(&str, &Overrides)] = &[
    ("dpo", &[]),
    ("dpo", &[("loss_type", "ipo")]),
    ("orpo", &[("orpo_nll", "completion_seq_mean")]),
    ("sft", &[]),
    ("sft", &[("loss_type", "dft")]),
    ("reward", &[("center_rewards_coefficient", "0.1")]),
    ("ppo", &[("entropy_coef", "0.1")]),
    ("grpo", &[]),
    ("grpo", &[("loss_type", "grpo"), ("beta", "0.1")]),
    ("grpo", &[("loss_type", "dr_grpo")]),
    ("rloo", &[]),
    ("cpo", &[("cpo_alpha", "0")]),
    ("simpo", &[]),
    ("kto", &[("loss_type", "apo_zero_unpaired")]),
];

/// Forms that depend on the split: a mean over a micro-batch's tokens, with equal weight per micro-batch (as in TRL). With
/// answers of equal length both means are the same.
const SPLIT_DEPENDENT: &[(&str, &Overrides)] = &[
    ("orpo", &[("orpo_nll", "prompt_and_chosen")]),
    ("orpo", &[("orpo_nll", "completion_token_mean")]),
    ("cpo", &[]),
    ("simpo", &[("cpo_alpha", "1")]),
    ("grpo", &[("loss_type", "bnpo")]),
];

/// The pairs of `data`, one of them with a rejected answer ten times as long as any other.
fn one_long() -> Vec<PairRow> {
    let Rows::Pairs(mut pairs) = data(Needs::Pairs).rows else { panic!("not pairs") };
    pairs.truncate(8);
    pairs[5].rejected = "The river is wide here, and the news is slow in the evening. ".repeat(2);
    pairs
}

/// Pairs of one prompt whose chosen answers are permutations of the same tokens.
fn even() -> Vec<PairRow> {
    let mut pairs = one_long();
    for (i, pair) in pairs.iter_mut().enumerate() {
        pair.prompt = PromptBody::user("Count.");
        let count: Vec<String> = (0..8).map(|k| ((k + i) % 8).to_string()).collect();
        pair.chosen = format!(" {}", count.join(" "));
    }
    pairs
}

/// Rows for a method, from pairs; an online method gets two prompts, one of them long.
fn of(needs: Needs, pairs: &[PairRow]) -> RunRows {
    let rows = match needs {
        Needs::Pairs => Rows::Pairs(pairs.to_vec()),
        // The rejected answers: among them is the long one.
        Needs::Examples => Rows::Examples(
            pairs
                .iter()
                .map(|p| SftRow {
                    id: p.pair.clone(),
                    prompt_id: p.prompt_id.clone(),
                    body: SftBody::Completion { prompt: p.prompt.clone(), completion: p.rejected.clone() },
                })
                .collect(),
        ),
        // Good and bad by turns, the long one bad.
        Needs::Ratings => Rows::Ratings(
            pairs
                .iter()
                .enumerate()
                .map(|(i, p)| RatedRow {
                    cut: false,
                    turns: [].into(),
                    id: p.pair.clone(),
                    prompt_id: p.prompt_id.clone(),
                    prompt: p.prompt.clone(),
                    completion: if i % 2 == 0 { p.chosen.clone() } else { p.rejected.clone() },
                    good: i % 2 == 0,
                })
                .collect(),
        ),
        Needs::Prompts => {
            let long = "The river is wide here, and the news is slow in the evening. ".repeat(2);
            let bodies = [PromptBody::user("What is a tuple?"), PromptBody::user(long)];
            let row = |(i, body): (usize, PromptBody)| Prompt {
                id: tiebreak::domain::PromptId::new(format!("p{i}")),
                body,
                source: "test".into(),
                tags: [].into(),
            };
            Rows::Prompts(bodies.into_iter().enumerate().map(row).collect())
        }
    };
    rows_of(rows)
}

/// Eight answers, four per prompt, of `length(k)` tokens, with fixed rewards.
fn round(trainer: &Trainer, length: &dyn Fn(usize) -> usize) -> Vec<SampledAnswer> {
    let mut rng = stream(11, 0);
    let answer = |k: usize| {
        let prompt = &trainer.examples()[k / 4].rows[0].ids;
        let mut ids = prompt.clone();
        // No special tokens, which come first.
        ids.extend((0..length(k)).map(|_| 10 + (uniform(&mut rng) * 200.0) as u32));
        let reward = [0.1, 0.9, 0.4, 0.3, 0.7, 0.2, 0.8, 0.5][k];
        SampledAnswer {
            row: k / 4,
            prompt: prompt.len(),
            ids,
            ended: k.is_multiple_of(2),
            reward,
            ..SampledAnswer::default()
        }
    };
    (0..8).map(answer).collect()
}

/// The first step of a method on rows of `pairs`, or on a round of answers of `length`, in the order of the rows or backwards.
fn step(name: &str, more: &[&Overrides], pairs: &[PairRow], length: &dyn Fn(usize) -> usize, backwards: bool) -> First {
    let m = method(name).unwrap();
    let more: Vec<(&str, &str)> = more.iter().flat_map(|m| m.iter().copied()).collect();
    if m.needs == Needs::Prompts {
        let rows = of(m.needs, &[]);
        let answers = |t: &Trainer| {
            let mut all = round(t, length);
            if backwards {
                all.reverse();
            }
            all
        };
        return first(name, &more, &rows, Some(&answers));
    }
    let mut rows = of(m.needs, pairs);
    if backwards {
        match &mut rows.rows {
            Rows::Pairs(list) => list.reverse(),
            Rows::Examples(list) => list.reverse(),
            Rows::Ratings(list) => list.reverse(),
            Rows::Prompts(list) => list.reverse(),
        }
    }
    first(name, &more, &rows, None)
}

/// Lengths of a round's answers, one far longer than the others.
fn ragged(k: usize) -> usize {
    if k == 5 { 60 } else { 1 + 2 * k }
}

#[test]
fn one_batch_of_eight_is_eight_of_one_under_every_method() {
    let pairs = one_long();
    for (name, form) in SUMS {
        let what = format!("{name} {form:?}");
        let eight = step(name, &[form, EIGHT], &pairs, &ragged, false);
        same(&what, &eight, &step(name, &[form, ONES], &pairs, &ragged, false));
        same(&what, &eight, &step(name, &[form, TWOS], &pairs, &ragged, false));
    }
    for m in methods() {
        assert!(SUMS.iter().any(|(name, _)| *name == m.name), "{} is not tested", m.name);
    }
}

/// With a token budget an update is the mean over all its rows, whatever the batch sizes.
#[test]
fn batches_by_tokens_give_the_gradient_of_one_batch() {
    let pairs = one_long();
    for (name, form) in SUMS {
        let m = method(name).unwrap();
        if m.without.contains(&"max_tokens_per_batch") {
            continue;
        }
        let what = format!("{name} {form:?}");
        let rows = m.rows();
        let size = rows.iter().find(|row| row.key == "per_device_train_batch_size").unwrap().default;
        let under = |budget: &'static str| -> Vec<(&'static str, &'static str)> {
            let cut =
                [("per_device_train_batch_size", size), ("gradient_accumulation_steps", "8"), ("shuffle", "true")];
            [form, &cut[..], &[("max_tokens_per_batch", budget)]].concat()
        };
        let refused = {
            let dir = tempfile::tempdir().unwrap();
            let spec = spec(name, &settings(m, &under("9")));
            let paths = tiebreak::train::RunPaths::new(dir.path());
            Trainer::open(&spec, &of(m.needs, &pairs), &paths, &mut Vec::new()).err().unwrap().to_string()
        };
        // The longest alone fills a batch.
        let least = refused.split_once("set it to ").and_then(|(_, rest)| rest.split_once(' ')).expect(&refused).0;
        let bound = step(name, &[&under(String::leak(least.to_owned()))], &pairs, &ragged, false);
        same(&what, &step(name, &[form, EIGHT], &pairs, &ragged, false), &bound);
    }
}

#[test]
fn a_sampled_round_is_the_same_in_every_split() {
    for m in methods().iter().filter(|m| m.needs == Needs::Prompts) {
        let rows = data(m.needs);
        same(m.name, &first(m.name, EIGHT, &rows, None), &first(m.name, ONES, &rows, None));
    }
}

#[test]
fn means_over_a_micro_batchs_tokens_depend_on_the_split_unless_lengths_are_equal() {
    let (ragged_pairs, even_pairs) = (uneven(), even());
    for (name, form) in SPLIT_DEPENDENT {
        let what = format!("{name} {form:?}");
        let of = |cut: &Overrides, pairs: &[PairRow], length: &dyn Fn(usize) -> usize| {
            step(name, &[form, cut], pairs, length, false)
        };
        same(&what, &of(EIGHT, &even_pairs, &|_| 7), &of(ONES, &even_pairs, &|_| 7));
        let far = relative_difference(&of(EIGHT, &ragged_pairs, &ragged), &of(ONES, &ragged_pairs, &ragged));
        assert!(far > 100.0 * OURS, "{what}: a sum after all ({far}); it belongs to the others");
    }
}

/// Pairs whose chosen answers differ in length.
fn uneven() -> Vec<PairRow> {
    let mut pairs = one_long();
    pairs[5].chosen = std::mem::replace(&mut pairs[5].rejected, "No.".into());
    pairs
}

/// KTO's KL baseline is measured on mismatched answers within a micro-batch. A batch of one is refused. At the reference the
/// baseline is 0 and the split does not matter; later it does.
#[test]
fn kto_depends_on_the_split_only_through_its_baseline() {
    let pairs = one_long();
    let refused = {
        let m = method("kto").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let spec = spec("kto", &settings(m, ONES));
        let paths = tiebreak::train::RunPaths::new(dir.path());
        Trainer::open(&spec, &of(m.needs, &pairs), &paths, &mut Vec::new()).err().unwrap().to_string()
    };
    assert!(refused.contains("per_device_train_batch_size to 2"), "{refused}");
    let step = |cut: &Overrides| step("kto", &[cut], &pairs, &ragged, false);
    same("kto at its reference", &step(EIGHT), &step(TWOS));
    // Two steps later the two splits give different baselines.
    let later = |cut: &Overrides| {
        let m = method("kto").unwrap();
        let mut all = vec![("max_steps", "3"), ("shuffle", "false"), ("learning_rate", "2e-2")];
        all.extend(cut);
        let dir = tempfile::tempdir().unwrap();
        let mut trainer = open(&spec("kto", &settings(m, &all)), &of(m.needs, &pairs), dir.path(), None);
        let mut events = Vec::new();
        while trainer.step(&mut events).unwrap() == StepOutcome::Stepped {}
        metrics(&events)[2].get("kl").unwrap()
    };
    assert!((later(EIGHT) - later(TWOS)).abs() > 1e-3);
}

/// Padding depends on the longest row of a batch. Compares the gradient of a row with and without a far longer row in its
/// batch.
#[test]
fn padding_does_not_change_the_gradient() {
    let pairs = one_long();
    for (name, form) in SUMS {
        let m = method(name).unwrap();
        if m.needs == Needs::Prompts || *name == "sft" {
            // Normalised by the step's tokens or by groups: tested above with batches of eight and of one.
            continue;
        }
        // Rows of two with the long one, as one batch: the mean of both alone.
        let two = of(m.needs, &pairs[4..6]);
        let alone = |i: usize| {
            let rows = match &two.rows {
                Rows::Pairs(list) => Rows::Pairs(vec![list[i].clone()]),
                Rows::Ratings(list) => Rows::Ratings(vec![list[i].clone()]),
                _ => unreachable!(),
            };
            let cut: &Overrides = &[("per_device_train_batch_size", "1")];
            first(name, &[form, cut].concat(), &rows_of(rows), None)
        };
        let cut: &Overrides = &[("per_device_train_batch_size", "2")];
        let together = first(name, &[form, cut].concat(), &two, None);
        let (a, b) = (alone(0), alone(1));
        let mean = |(a, b): (&f32, &f32)| f32::midpoint(*a, *b);
        let gradient = a.gradient.iter().zip(b.gradient.values());
        let gradient = gradient.map(|((k, a), b)| (k.clone(), a.iter().zip(b).map(mean).collect())).collect();
        same(&format!("{name} {form:?}"), &together, &First { loss: f64::midpoint(a.loss, b.loss), gradient });
    }
}

/// KTO is tested at its reference, where the assignment of mismatched answers does not matter.
#[test]
fn the_order_of_a_batch_does_not_matter_to_any_method() {
    let pairs = one_long();
    for (name, form) in SUMS.iter().chain(SPLIT_DEPENDENT).chain(&[("kto", [].as_slice())]) {
        for cut in [EIGHT, ONES].into_iter().take(if *name == "kto" && form.is_empty() { 1 } else { 2 }) {
            let of = |backwards| step(name, &[form, cut], &pairs, &ragged, backwards);
            same(&format!("{name} {form:?} {cut:?}"), &of(false), &of(true));
        }
    }
}
