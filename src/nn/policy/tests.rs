//! The policy's gradients against finite differences, against plain backpropagation, and its invariances.

use super::*;
use crate::model::{Config, LoraSpec, Tune, Weights};
use crate::nn::reference::{LayerInputs, PaddedBatch};
use crate::nn::{Decoder, Pass, stream, uniform};
use candle_core::{D, DType, Device};
use std::path::Path;

const TINY: &str = r#"{"model_type":"KIND","hidden_size":12,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":4,
    "num_hidden_layers":2,"intermediate_size":20,"vocab_size":23,"rope_theta":100.0,"tie_word_embeddings":TIED}"#;

/// A toy in f64 with every weight random.
fn toy(kind: &str, tied: bool, tune: &Tune) -> Policy {
    let text = TINY.replace("KIND", kind).replace("TIED", if tied { "true" } else { "false" });
    made(&Config::parse(&text, Path::new("toy")).unwrap(), tune)
}

/// One whose layers compute what the seed draws.
fn varied(seed: u64, tune: &Tune) -> Policy {
    let text = TINY.replace("KIND", "llama").replace("TIED", "true");
    let mut config = Config::parse(&text, Path::new("toy")).unwrap();
    crate::nn::toy::vary(&mut stream(seed, 4), &mut config);
    made(&config, tune)
}

fn made(config: &Config, tune: &Tune) -> Policy {
    let mut tensors = std::collections::HashMap::new();
    let names: Vec<(String, Vec<usize>)> = config.tensors().collect();
    for (k, (name, shape)) in names.into_iter().enumerate() {
        let mut rng = stream(5, k as u64);
        let n: usize = shape.iter().product();
        let values: Vec<f64> = (0..n).map(|_| (uniform(&mut rng) - 0.5) * 1.2).collect();
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    }
    let mut weights = Weights::memory(tensors, Path::new("toy"), &Device::Cpu, DType::F64);
    Policy::new(Decoder::new(config, &mut weights, tune).unwrap()).unwrap()
}

fn lora(dropout: f64) -> Tune {
    Tune::Lora(LoraSpec { dropout, seed: 11, ..LoraSpec::plain(2, 3.0) })
}

fn dora(dropout: f64) -> Tune {
    let Tune::Lora(spec) = lora(dropout) else { return Tune::None };
    Tune::Lora(LoraSpec { dora: true, rslora: true, ..spec })
}

/// Fills every trainable with random numbers, so that LoRA's B is not zero.
fn perturb(policy: &Policy) {
    for (k, (_, var)) in policy.trainables().iter().enumerate() {
        let mut rng = stream(99, k as u64);
        let noise: Vec<f64> = (0..var.elem_count()).map(|_| (uniform(&mut rng) - 0.5) * 0.3).collect();
        let noise = Tensor::from_vec(noise, var.shape(), &Device::Cpu).unwrap();
        var.set(&(var.as_tensor() + noise).unwrap()).unwrap();
    }
}

fn batch() -> Batch {
    let row = |ids: &[u32], from: usize| Row::new(ids.to_vec(), (from..ids.len()).collect());
    Batch::new(vec![row(&[1, 5, 9, 2, 7, 22], 3), row(&[4, 3, 8], 1), row(&[6, 6, 12, 13, 1], 2)])
}

/// Arbitrary dL/dlogp for each scored token.
fn weights_of(batch: &Batch) -> Vec<Vec<f64>> {
    let mut k = 0.0;
    let mut next = |_: &usize| {
        k += 1.0;
        (k * 1.7_f64).sin()
    };
    batch.rows.iter().map(|r| r.scored.iter().map(&mut next).collect()).collect()
}

fn gradients(g: &[Vec<f64>]) -> Vec<RowGradient> {
    g.iter().cloned().map(RowGradient::from).collect()
}

fn loss(scores: &TokenScores, g: &[Vec<f64>]) -> f64 {
    scores.rows.iter().zip(g).flat_map(|(r, g)| r.logp.iter().zip(g)).map(|(l, g)| l * g).sum()
}

fn against_differences(mut policy: Policy) {
    perturb(&policy);
    let (batch, g) = (batch(), weights_of(&batch()));
    policy.set_passes(4);
    let (_, tape) = policy.score_train(&batch).unwrap();
    policy.backward(tape, &gradients(&g)).unwrap();
    let grads = policy.take_gradients().unwrap();
    let eps = 1e-5;
    for i in 0..policy.trainables().len() {
        let (name, var) = policy.trainables()[i].clone();
        let grad: Vec<f64> = grads.get(i).expect("no gradient").flatten_all().unwrap().to_vec1().unwrap();
        let at: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
        assert!(grad.iter().any(|x| *x != 0.0) && grad.iter().all(|x| x.is_finite()), "{name}");
        for j in [0, at.len() / 2, at.len() - 1] {
            let mut at_offset = |d: f64| {
                let mut moved = at.clone();
                moved[j] += d;
                var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                policy.set_passes(4);
                loss(&policy.score_train(&batch).unwrap().0, &g)
            };
            let slope = (at_offset(eps) - at_offset(-eps)) / (2.0 * eps);
            at_offset(0.0);
            assert!((slope - grad[j]).abs() < 1e-6 * (1.0 + slope.abs()), "{name}[{j}]: {slope} and {}", grad[j]);
        }
    }
}

#[test]
fn lora_gradients_are_the_slopes_for_every_family() {
    for kind in ["llama", "qwen2", "qwen3"] {
        against_differences(toy(kind, true, &lora(0.0)));
    }
}

/// DoRA's norms are constants of the gradient, so its slopes are those with the norms held fixed: for A and B as if the
/// magnitudes grew with the norms, for the magnitudes as they are.
#[test]
fn dora_gradients_are_the_slopes_with_the_norms_held() {
    let mut policy = toy("qwen2", false, &dora(0.3));
    perturb(&policy);
    let (batch, g) = (batch(), weights_of(&batch()));
    policy.set_passes(4);
    let (_, tape) = policy.score_train(&batch).unwrap();
    policy.backward(tape, &gradients(&g)).unwrap();
    let grads = policy.take_gradients().unwrap();
    let trainables = policy.trainables().to_vec();
    let before = policy.decoder().dora_scales().unwrap();
    let eps = 1e-5;
    for (i, (name, var)) in trainables.iter().enumerate() {
        let grad: Vec<f64> = grads.get(i).expect("no gradient").flatten_all().unwrap().to_vec1().unwrap();
        assert!(grad.iter().any(|x| *x != 0.0), "{name}");
        // Modules stand in the trainables as A, B, lengths.
        let (module, magnitude) = (i / 3, &trainables[i / 3 * 3 + 2].1);
        let (at, lengths) = (var.as_tensor().copy().unwrap(), magnitude.as_tensor().copy().unwrap());
        let flat: Vec<f64> = at.flatten_all().unwrap().to_vec1().unwrap();
        for j in [0, flat.len() / 2, flat.len() - 1] {
            let mut at_offset = |d: f64| {
                let mut moved = flat.clone();
                moved[j] += d;
                var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                if i % 3 < 2 {
                    let grown = before[module].div(&policy.decoder().dora_scales().unwrap()[module]).unwrap();
                    magnitude.set(&(&lengths * grown).unwrap()).unwrap();
                }
                policy.set_passes(4);
                let out = loss(&policy.score_train(&batch).unwrap().0, &g);
                magnitude.set(&lengths).unwrap();
                var.set(&at).unwrap();
                out
            };
            let slope = (at_offset(eps) - at_offset(-eps)) / (2.0 * eps);
            assert!((slope - grad[j]).abs() < 1e-6 * (1.0 + slope.abs()), "{name}[{j}]: {slope} and {}", grad[j]);
        }
    }
}

#[test]
fn an_untrained_dora_is_the_base_model_and_a_cache_holds_its_factors() {
    let policy = toy("qwen3", true, &dora(0.0));
    let both = |p: &Policy| (p.score(&batch(), true).unwrap(), p.score(&batch(), false).unwrap());
    let (with, without) = both(&policy);
    assert_eq!(with, without);
    perturb(&policy);
    let (with, without) = both(&policy);
    assert_eq!(without, policy.score(&batch(), false).unwrap());
    assert_ne!(with, without);
    // Token by token from a cache, the last row says what it says at once.
    let row = &batch().rows[2];
    let mut cache = policy.decoder().cache(1, row.ids.len()).unwrap();
    let mut stepped = Vec::new();
    for (at, id) in row.ids.iter().enumerate().take(row.ids.len() - 1) {
        let ids = Tensor::new(&[[*id]], &Device::Cpu).unwrap();
        let logits = policy.decoder().step(&ids, &mut cache, true).unwrap().squeeze(0).unwrap();
        let logits: Vec<f64> = logits.to_vec1().unwrap();
        if row.scored.contains(&(at + 1)) {
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            stepped.push(logits[row.ids[at + 1] as usize] - sum.ln());
        }
    }
    for (a, b) in stepped.iter().zip(&with.rows[2].logp) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
    assert_eq!(stepped.len(), with.rows[2].logp.len());
}

#[test]
fn gradients_are_the_slopes_wherever_norms_stand_and_whatever_the_activation() {
    for seed in 0..10 {
        against_differences(varied(seed, &Tune::Full));
        against_differences(varied(seed, &lora(0.0)));
    }
}

#[test]
fn the_backward_draws_the_same_dropout_masks() {
    against_differences(toy("llama", true, &lora(0.3)));
}

#[test]
fn full_gradients_are_the_slopes_with_a_tied_and_an_untied_head() {
    against_differences(toy("llama", true, &Tune::Full));
    against_differences(toy("qwen3", false, &Tune::Full));
    against_differences(toy("qwen2", false, &Tune::Full));
}

/// Rows go through a layer apart where they do not fit together; neither scores nor gradients change, nothing is counted
/// twice, and dropout's masks are the whole batch's.
#[test]
fn when_memory_runs_out_fewer_rows_run_at_once_with_the_same_gradients() {
    for tune in [lora(0.4), dora(0.0), Tune::Full] {
        let run = |there_is: usize| {
            let mut policy = toy("llama", true, &tune);
            perturb(&policy);
            policy.backend().limit_tokens(there_is);
            policy.set_passes(4);
            let (scores, tape) = policy.score_train(&batch())?;
            policy.backward(tape, &gradients(&weights_of(&batch())))?;
            let grads = policy.take_gradients().unwrap();
            let flat = |g: &Tensor| g.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            Ok::<_, Error>((scores, grads.iter().map(|g| g.map(flat)).collect::<Vec<_>>(), policy.token_limit()))
        };
        let (scores, grads, narrowed) = run(usize::MAX).unwrap();
        assert_eq!(narrowed, None);
        // Three rows of six tokens: two fit together, then only one.
        for (there_is, left) in [(12, 6), (6, 6)] {
            let (parts, sums, narrowed) = run(there_is).unwrap();
            assert_eq!(narrowed, Some(left));
            for (a, b) in scores.rows.iter().zip(&parts.rows) {
                assert!(a.logp.iter().zip(&b.logp).all(|(x, y)| (x - y).abs() < 1e-12));
            }
            for (a, b) in grads.iter().zip(&sums) {
                let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
                assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-10), "{tune:?}");
            }
        }
        let sentence = run(5).unwrap_err().to_string();
        assert!(sentence.contains("a single sequence of 6 tokens"), "{sentence}");
    }
}

#[test]
fn recomputing_layers_equals_plain_backpropagation() {
    for tune in [lora(0.0), Tune::Full] {
        let mut policy = toy("llama", true, &tune);
        perturb(&policy);
        let (batch, g) = (batch(), weights_of(&batch()));
        let (_, tape) = policy.score_train(&batch).unwrap();
        policy.backward(tape, &gradients(&g)).unwrap();
        let ours = policy.take_gradients().unwrap();

        let pass = Pass { grad: true, ..Pass::plain(true) };
        let d = policy.decoder();
        let (ids, scored) = PaddedBatch::pack(d, &batch).unwrap();
        let rope = d.rope_and_mask(&[ids.dim(1).unwrap()], ids.dim(1).unwrap()).unwrap();
        let mut x = d.embed(&ids, (0, &[]), true).unwrap();
        for i in 0..d.depth() {
            x = d.layer(i, &x, LayerInputs::default(), &rope, &pass).unwrap().y;
        }
        let from = Tensor::new(scored.from.as_slice(), &Device::Cpu).unwrap();
        let flat = x.reshape(((), 12)).unwrap().index_select(&from, 0).unwrap();
        let state = d.norm(&flat, &pass).unwrap();
        let head = d.trained_head().map_or(d.head().unwrap(), |v| v.as_tensor().clone());
        let logits = state.matmul(&head.t().unwrap()).unwrap();
        let logp = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
        let target = Tensor::new(scored.target.as_slice(), &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let weights: Vec<f64> = g.concat();
        let weights = Tensor::new(weights.as_slice(), &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let loss = (logp.gather(&target, 1).unwrap() * weights).unwrap().sum_all().unwrap();
        let plain = loss.backward().unwrap();
        for (i, (name, var)) in policy.trainables().iter().enumerate() {
            let (a, b) = (ours.get(i).unwrap(), plain.get(var.as_tensor()).unwrap());
            let worst = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(worst < 1e-12, "{name}: {worst}");
        }
    }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_only_b_has_a_gradient() {
    let mut policy = toy("llama", true, &lora(0.0));
    let batch = batch();
    assert_eq!(policy.score(&batch, true).unwrap(), policy.score(&batch, false).unwrap());
    let (_, tape) = policy.score_train(&batch).unwrap();
    policy.backward(tape, &gradients(&weights_of(&batch))).unwrap();
    let grads = policy.take_gradients().unwrap();
    for (i, (name, _)) in policy.trainables().iter().enumerate() {
        let norm = grads.get(i).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        assert_eq!(norm > 0.0, name.ends_with("lora_B.weight"), "{name}: {norm}");
    }
    assert_eq!(policy.trainables().len(), 2 * 7 * 2);
    assert_eq!(policy.trainables()[0].0, "model.layers.0.self_attn.q_proj.lora_A.weight");
    perturb(&policy);
    assert_ne!(policy.score(&batch, true).unwrap(), policy.score(&batch, false).unwrap());
}

#[test]
fn padding_order_and_other_rows_do_not_change_a_row() {
    let policy = toy("qwen3", true, &lora(0.0));
    perturb(&policy);
    let all = policy.score(&batch(), true).unwrap();
    let mut turned = batch();
    turned.rows.reverse();
    let reversed = policy.score(&turned, true).unwrap();
    for (i, row) in batch().rows.into_iter().enumerate() {
        let alone = policy.score(&Batch::new(vec![row]), true).unwrap();
        for other in [&all.rows[i], &reversed.rows[2 - i]] {
            assert_eq!(alone.rows[0].top1, other.top1);
            for (a, b) in alone.rows[0].logp.iter().zip(&other.logp) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
    }
}

#[test]
fn gradients_add_up_over_batches() {
    let mut policy = toy("llama", false, &Tune::Full);
    let (whole, g) = (batch(), weights_of(&batch()));
    let (_, tape) = policy.score_train(&whole).unwrap();
    policy.backward(tape, &gradients(&g)).unwrap();
    let once = policy.take_gradients().unwrap();
    for (row, g) in whole.rows.into_iter().zip(g) {
        let (_, tape) = policy.score_train(&Batch::new(vec![row])).unwrap();
        policy.backward(tape, &[g.into()]).unwrap();
    }
    let sum = policy.take_gradients().unwrap();
    for (a, b) in once.iter().zip(sum.iter()) {
        let worst = (a.unwrap() - b.unwrap()).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(worst < 1e-12, "{worst}");
    }
}

#[test]
fn rows_that_cannot_be_scored_are_errors() {
    let mut policy = toy("llama", true, &lora(0.0));
    let one = |ids: Vec<u32>, at: usize| Batch::new(vec![Row::new(ids, vec![at])]);
    assert!(policy.score(&Batch::new(Vec::new()), true).is_err());
    assert!(policy.score(&one(vec![1, 2], 0), true).is_err());
    assert!(policy.score(&one(vec![1, 2], 2), true).is_err());
    let message = policy.score(&one(vec![1, 23], 1), true).unwrap_err().to_string();
    assert!(message.contains("token 23") && message.contains("knows 23"), "{message}");
    let (_, tape) = policy.score_train(&one(vec![1, 2], 1)).unwrap();
    assert!(policy.backward(tape, &[vec![].into()]).is_err());
}

/// A toy with a scalar head of random numbers.
fn with_score(tune: &Tune) -> Policy {
    let Policy { mut decoder, .. } = toy("llama", true, tune);
    let mut rng = stream(8, 8);
    decoder.add_score((0..12).map(|_| uniform(&mut rng) - 0.5).collect(), false).unwrap();
    Policy::new(decoder).unwrap()
}

/// Log-probs, entropies and values at a temperature: every gradient is the slope.
#[test]
fn entropy_and_values_have_the_slopes_too() {
    for tune in [lora(0.0), Tune::Full] {
        let mut policy = with_score(&tune);
        perturb(&policy);
        let mut batch = Batch { temperature: 0.7, ..batch() };
        for row in &mut batch.rows {
            row.valued = vec![0, row.ids.len() - 1];
        }
        let g: Vec<RowGradient> = weights_of(&batch)
            .into_iter()
            .map(|logp| RowGradient { entropy: logp.iter().map(|x| 0.3 - x).collect(), value: vec![0.8, -1.1], logp })
            .collect();
        let total = |scores: &TokenScores| -> f64 {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            let of = |(r, g): (&RowScores, &RowGradient)| {
                dot(&r.logp, &g.logp) + dot(&r.entropy, &g.entropy) + dot(&r.value, &g.value)
            };
            scores.rows.iter().zip(&g).map(of).sum()
        };
        let (scores, tape) = policy.score_train(&batch).unwrap();
        assert!(scores.rows.iter().all(|r| r.value.len() == 2));
        policy.backward(tape, &g).unwrap();
        let grads = policy.take_gradients().unwrap();
        let eps = 1e-5;
        for i in 0..policy.trainables().len() {
            let (name, var) = policy.trainables()[i].clone();
            let grad: Vec<f64> = grads.get(i).expect("no gradient").flatten_all().unwrap().to_vec1().unwrap();
            let at: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
            for j in [0, at.len() / 2, at.len() - 1] {
                let at_offset = |d: f64| {
                    let mut moved = at.clone();
                    moved[j] += d;
                    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                    total(&policy.score(&batch, true).unwrap())
                };
                let slope = (at_offset(eps) - at_offset(-eps)) / (2.0 * eps);
                at_offset(0.0);
                assert!((slope - grad[j]).abs() < 1e-6 * (1.0 + slope.abs()), "{name}[{j}]: {slope} and {}", grad[j]);
            }
        }
    }
}

#[test]
fn packed_documents_do_not_see_each_other() {
    let mut policy = toy("qwen3", true, &lora(0.0));
    perturb(&policy);
    let apart = batch();
    let mut packed = Row::default();
    for row in &apart.rows {
        let at = packed.ids.len();
        packed.starts.push(at);
        packed.scored.extend(row.scored.iter().map(|s| s + at));
        packed.ids.extend(&row.ids);
    }
    let g = weights_of(&apart);
    let (scores, tape) = policy.score_train(&apart).unwrap();
    policy.backward(tape, &gradients(&g)).unwrap();
    let want = policy.take_gradients().unwrap();
    let (together, tape) = policy.score_train(&Batch::new(vec![packed.clone()])).unwrap();
    policy.backward(tape, &[g.concat().into()]).unwrap();
    let got = policy.take_gradients().unwrap();
    let flat: Vec<f64> = scores.rows.iter().flat_map(|r| r.logp.clone()).collect();
    assert!(flat.iter().zip(&together.rows[0].logp).all(|(a, b)| (a - b).abs() < 1e-10));
    for (a, b) in want.iter().zip(got.iter()) {
        let values = |t: Option<&Tensor>| t.unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(values(a).iter().zip(values(b)).all(|(x, y)| (x - y).abs() < 1e-9));
    }
    assert!(policy.score(&Batch::new(vec![packed.clone(), packed]), true).is_err(), "two rows, one of them packed");
}

#[test]
fn the_divergence_from_itself_is_0_and_grows() {
    let policy = toy("llama", false, &lora(0.0));
    let head = policy.decoder().head().unwrap();
    let (base, targets) = policy.states(&batch(), false).unwrap();
    let (kl, logp) = policy.divergence(&base, &head, &base, &targets).unwrap();
    assert!(kl.iter().all(|x| x.abs() < 1e-12));
    let scores = policy.score(&batch(), false).unwrap();
    let flat: Vec<f64> = scores.rows.iter().flat_map(|r| r.logp.clone()).collect();
    assert!(flat.iter().zip(&logp).all(|(a, b)| (a - b).abs() < 1e-9));
    perturb(&policy);
    let (now, _) = policy.states(&batch(), true).unwrap();
    let (kl, _) = policy.divergence(&base, &head, &now, &targets).unwrap();
    assert!(kl.iter().all(|x| *x > 0.0), "{kl:?}");
}

/// The same where layers read keys and inputs besides the stream.
#[test]
fn rows_go_apart_through_layers_of_several_kinds() {
    use crate::nn::toy::{Toy, flat, gradients, lora};
    for (seed, tune) in [(60, lora(false, 0.3)), (61, Tune::Full), (62, Tune::Full), (63, lora(true, 0.0))] {
        let toy = Toy::of_kinds(seed);
        let batch = toy.batch(seed);
        let longest = batch.rows.iter().map(|row| row.ids.len()).max().unwrap();
        let run = |there_is: usize| {
            let mut policy = Policy::reference(toy.decoder(DType::F64, &tune));
            policy.backend().limit_tokens(there_is);
            let (scores, tape) = policy.score_train(&batch).unwrap();
            policy.backward(tape, &gradients(&batch, false)).unwrap();
            let made = policy.take_gradients().unwrap();
            let made: Vec<Vec<f64>> = made.iter().map(|g| g.map_or_else(Vec::new, flat)).collect();
            (scores, made, policy.token_limit())
        };
        let ((whole, sums, _), (parts, apart, limit)) = (run(usize::MAX), run(2 * longest));
        assert!(limit.is_some_and(|limit| limit <= 2 * longest));
        for (a, b) in whole.rows.iter().zip(&parts.rows) {
            assert!(a.logp.iter().zip(&b.logp).all(|(x, y)| (x - y).abs() < 1e-10));
        }
        let size = sums.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
        for (a, b) in sums.iter().zip(&apart) {
            assert!(!a.is_empty() && a.len() == b.len());
            assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-9 * size), "{seed}");
        }
    }
}

#[test]
fn a_cache_holds_what_layers_of_several_kinds_share() {
    use crate::nn::toy::{Toy, lora};
    for seed in 60..68 {
        let toy = Toy::of_kinds(seed);
        let policy = Policy::reference(toy.decoder(DType::F64, &lora(false, 0.0)));
        let vocab = policy.decoder().config().vocab as u32;
        let ids: Vec<u32> = (0..30).map(|i| (i * 7 + 3) % vocab).collect();
        let whole = policy.score(&Batch::new(vec![Row::new(ids.clone(), (1..30).collect())]), true).unwrap();
        let mut cache = policy.decoder().cache(1, ids.len()).unwrap();
        // Some tokens at once, then one by one.
        for (at, chunk) in std::iter::once((0, &ids[..9])).chain((9..29).map(|at| (at, &ids[at..=at]))) {
            let chunk = Tensor::new(chunk, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let logits = policy.decoder().step(&chunk, &mut cache, true).unwrap().squeeze(0).unwrap();
            let logits: Vec<f64> = logits.to_vec1().unwrap();
            let next = at + chunk.dim(1).unwrap();
            let logp = logits[ids[next] as usize] - logits.iter().map(|x| x.exp()).sum::<f64>().ln();
            let want = whole.rows[0].logp[next - 1];
            assert!((logp - want).abs() < 1e-8, "{seed}, token {next}: {logp} and not {want}");
        }
    }
}
