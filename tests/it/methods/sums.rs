//! A step's gradient is a sum over its rows: how the rows are cut into micro-batches, what they are padded to and in which
//! order they come does not change it. Where a method's own definition says otherwise, that is held to as well.
//!
//! Compared is the whole gradient, tensor by tensor, as the first moments of an unclipped first step have it.

use super::{data, metrics, open, rows_of, settings};
use crate::trl::spec;
use std::collections::BTreeMap;
use tiebreak::domain::{Needs, PairRow, Prompt, PromptBody, RatedRow, SftBody, SftRow, method, methods};
use tiebreak::nn::{stream, uniform};
use tiebreak::train::{Rows, RunRows, SampledAnswer, StepOutcome, Trainer};

/// How far apart two ways to the same gradient may be, relative to its norm: sums of f32 in another order.
const OURS: f64 = 2e-5;

/// A first step: its loss and its gradient by tensor.
struct First {
    loss: f64,
    gradient: BTreeMap<String, Vec<f32>>,
}

/// A round's answers to the prompts that a trainer has.
type Answering<'a> = dyn Fn(&Trainer) -> Vec<SampledAnswer> + 'a;

/// Options over the short run's.
type More = [(&'static str, &'static str)];

/// The first step on `rows`, in their order; `answers` are the round of a method that learns from its own.
fn first(name: &str, more: &More, rows: &RunRows, answers: Option<&Answering<'_>>) -> First {
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
fn apart(a: &First, b: &First) -> f64 {
    assert!(a.gradient.keys().eq(b.gradient.keys()));
    let flat = |x: &First| x.gradient.values().flatten().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let (a, b) = (flat(a), flat(b));
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let size = norm(&mut b.iter().copied());
    assert!(size > 0.0, "no gradient at all");
    norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / size
}

fn same(what: &str, a: &First, b: &First) {
    assert!(apart(a, b) <= OURS, "{what}: the gradients are {} of their norm apart", apart(a, b));
    // A loss of ratios of 1 is a sum of advantages, which is 0: what is left are the last bits of a 1.
    let slack = 1e-6 + 1e-5 * b.loss.abs();
    assert!((a.loss - b.loss).abs() <= slack, "{what}: the losses are {} and {}", a.loss, b.loss);
}

const EIGHT: &More = &[("per_device_train_batch_size", "8"), ("gradient_accumulation_steps", "1")];
const ONES: &More = &[("per_device_train_batch_size", "1"), ("gradient_accumulation_steps", "8")];
const TWOS: &More = &[("per_device_train_batch_size", "2"), ("gradient_accumulation_steps", "4")];

/// Every method in a form whose loss is a sum over rows or tokens of the whole step, and so does not hang on the cut. What is
/// passed by and why is [`CUT`].
const SUMS: &[(&str, &More)] = &[
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

/// The forms that hang on the cut: a mean over the tokens of a micro-batch, the micro-batches counting alike (as TRL has
/// them). Rows whose answers have the same length make the two means one.
const CUT: &[(&str, &More)] = &[
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

/// Pairs of one prompt whose chosen answers are the same tokens in other places.
fn even() -> Vec<PairRow> {
    let mut pairs = one_long();
    for (i, pair) in pairs.iter_mut().enumerate() {
        pair.prompt = PromptBody::user("Count.");
        let count: Vec<String> = (0..8).map(|k| ((k + i) % 8).to_string()).collect();
        pair.chosen = format!(" {}", count.join(" "));
    }
    pairs
}

/// Rows for a method, made of pairs; a method that samples gets two prompts, one of them long.
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
                tags: Vec::new(),
            };
            Rows::Prompts(bodies.into_iter().enumerate().map(row).collect())
        }
    };
    rows_of(rows)
}

/// Eight answers, four to a prompt, of `length(k)` tokens, worth what their number says.
fn round(trainer: &Trainer, length: &dyn Fn(usize) -> usize) -> Vec<SampledAnswer> {
    let mut rng = stream(11, 0);
    let answer = |k: usize| {
        let prompt = &trainer.examples()[k / 4].rows[0].ids;
        let mut ids = prompt.clone();
        // Plain tokens; the specials come first.
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
fn step(name: &str, more: &[&More], pairs: &[PairRow], length: &dyn Fn(usize) -> usize, backwards: bool) -> First {
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
        assert!(SUMS.iter().any(|(name, _)| *name == m.name), "{} is not tried", m.name);
    }
}

/// However many rows each of its batches has, an update that tokens bound is the mean over all of its rows.
#[test]
fn batches_that_tokens_bound_teach_what_one_batch_does() {
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
fn a_round_that_is_sampled_is_the_same_in_every_cut() {
    for m in methods().iter().filter(|m| m.needs == Needs::Prompts) {
        let rows = data(m.needs);
        same(m.name, &first(m.name, EIGHT, &rows, None), &first(m.name, ONES, &rows, None));
    }
}

#[test]
fn means_over_the_tokens_of_a_micro_batch_hang_on_the_cut_unless_answers_are_equally_long() {
    let (ragged_pairs, even_pairs) = (uneven(), even());
    for (name, form) in CUT {
        let what = format!("{name} {form:?}");
        let of = |cut: &More, pairs: &[PairRow], length: &dyn Fn(usize) -> usize| {
            step(name, &[form, cut], pairs, length, false)
        };
        same(&what, &of(EIGHT, &even_pairs, &|_| 7), &of(ONES, &even_pairs, &|_| 7));
        let far = apart(&of(EIGHT, &ragged_pairs, &ragged), &of(ONES, &ragged_pairs, &ragged));
        assert!(far > 100.0 * OURS, "{what}: a sum after all ({far}); it belongs to the others");
    }
}

/// Pairs whose chosen answers differ in length.
fn uneven() -> Vec<PairRow> {
    let mut pairs = one_long();
    pairs[5].chosen = std::mem::replace(&mut pairs[5].rejected, "No.".into());
    pairs
}

/// KTO's baseline is measured on a micro-batch's answers behind each other's prompts. A batch of one has no neighbour and is
/// refused; at the reference every baseline is 0, and then the cut does not matter; past it, it does.
#[test]
fn kto_hangs_on_the_cut_by_its_baseline_alone() {
    let pairs = one_long();
    let refused = {
        let m = method("kto").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let spec = spec("kto", &settings(m, ONES));
        let paths = tiebreak::train::RunPaths::new(dir.path());
        Trainer::open(&spec, &of(m.needs, &pairs), &paths, &mut Vec::new()).err().unwrap().to_string()
    };
    assert!(refused.contains("per_device_train_batch_size to 2"), "{refused}");
    let step = |cut: &More| step("kto", &[cut], &pairs, &ragged, false);
    same("kto at its reference", &step(EIGHT), &step(TWOS));
    // Two steps later the two cuts have measured different baselines.
    let later = |cut: &More| {
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

/// Padding is what the other rows of a batch make it: the batch of eight has one row far longer than the others, a batch of
/// one has none. Here the gradient of the rows beside it is looked at alone: with and without the long row in their batch.
#[test]
fn a_longer_row_beside_them_does_not_change_what_the_others_teach() {
    let pairs = one_long();
    for (name, form) in SUMS {
        let m = method(name).unwrap();
        if m.needs == Needs::Prompts || *name == "sft" {
            // Their sums are divided by the tokens of the whole step or belong to groups: batches of eight and of one, above.
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
            let cut: &More = &[("per_device_train_batch_size", "1")];
            first(name, &[form, cut].concat(), &rows_of(rows), None)
        };
        let cut: &More = &[("per_device_train_batch_size", "2")];
        let together = first(name, &[form, cut].concat(), &two, None);
        let (a, b) = (alone(0), alone(1));
        let mean = |(a, b): (&f32, &f32)| f32::midpoint(*a, *b);
        let gradient = a.gradient.iter().zip(b.gradient.values());
        let gradient = gradient.map(|((k, a), b)| (k.clone(), a.iter().zip(b).map(mean).collect())).collect();
        same(&format!("{name} {form:?}"), &together, &First { loss: f64::midpoint(a.loss, b.loss), gradient });
    }
}

/// KTO is asked at its reference, where the neighbours that the order gives an answer do not count.
#[test]
fn the_order_of_a_batch_does_not_matter_to_any_method() {
    let pairs = one_long();
    for (name, form) in SUMS.iter().chain(CUT).chain(&[("kto", [].as_slice())]) {
        for cut in [EIGHT, ONES].into_iter().take(if *name == "kto" && form.is_empty() { 1 } else { 2 }) {
            let of = |backwards| step(name, &[form, cut], &pairs, &ragged, backwards);
            same(&format!("{name} {form:?} {cut:?}"), &of(false), &of(true));
        }
    }
}
