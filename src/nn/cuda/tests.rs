//! The accelerator backend, run on the CPU, against the reference in f64.

mod host;

use crate::model::Tune;
use crate::nn::policy::{Batch, Policy, Row};
use crate::nn::toy::{F32, Near, Toy, equal, flat, gradients, lora, same};
use candle_core::{DType, Device};

fn both(toy: &Toy, dtype: DType, tune: &Tune) -> (Policy, Policy) {
    both_on(toy, &Device::Cpu, dtype, tune)
}

fn both_on(toy: &Toy, device: &Device, dtype: DType, tune: &Tune) -> (Policy, Policy) {
    let gpu = Policy::gpu(toy.decoder_on(device, dtype, tune)).unwrap();
    (Policy::reference(toy.decoder(DType::F64, tune)), gpu)
}

/// Tolerances of bf16 for these toys, whose values are as large as their sums.
/// Measured over the models drawn: 0.02 to 0.03 of the norm of all gradients, 0.06 to 0.11 for the one whose norms and squared
/// activations amplify rounding most.
const BF16: Near = Near { scores: 0.1, gradient: 0.3, floor: 0.05, whole: 0.12 };

#[test]
fn every_shape_adapter_and_layout_equals_the_reference() {
    for seed in 0..12 {
        let toy = Toy::new(seed);
        for (k, tune) in [lora(false, 0.0), lora(true, 0.0), Tune::Full].iter().enumerate() {
            let (exact, gpu) = both(&toy, DType::F32, tune);
            equal(exact, gpu, &toy.batch(seed), (seed as usize + k).is_multiple_of(2), F32);
            let (exact, gpu) = both(&toy, DType::F32, tune);
            equal(exact, gpu, &toy.packed(seed), false, F32);
        }
    }
}

#[test]
fn adapters_on_some_modules_alone_equal_the_reference() {
    let toy = Toy::new(5);
    for names in [&["k_proj", "down_proj"][..], &["q_proj", "v_proj", "up_proj"]] {
        let Tune::Lora(mut spec) = lora(true, 0.2) else { panic!("an adapter") };
        spec.targets = names.iter().map(|n| (*n).to_owned()).collect();
        let (exact, gpu) = both(&toy, DType::F32, &Tune::Lora(spec));
        equal(exact, gpu, &toy.batch(5), true, F32);
    }
}

#[test]
fn dropout_masks_are_the_references() {
    for seed in 20..24 {
        let toy = Toy::new(seed);
        for dora in [false, true] {
            let (exact, gpu) = both(&toy, DType::F32, &lora(dora, 0.3));
            equal(exact, gpu, &toy.batch(seed), false, F32);
        }
    }
}

#[test]
fn bf16_is_within_its_precision() {
    for seed in 40..46 {
        let toy = Toy::new(seed).rounded();
        for tune in [lora(false, 0.2), lora(true, 0.0), Tune::Full] {
            let (exact, gpu) = both(&toy, DType::BF16, &tune);
            assert!(gpu.trainables().iter().all(|(_, var)| var.dtype() == DType::F32));
            equal(exact, gpu, &toy.batch(seed), true, BF16);
        }
    }
}

/// The reference path in bf16, scalar head and all: what runs with `engine=reference` on a GPU.
#[test]
fn the_reference_path_takes_bf16_too() {
    let toy = Toy::new(43).rounded();
    for tune in [lora(true, 0.0), Tune::Full] {
        let exact = Policy::reference(toy.decoder(DType::F64, &tune));
        let narrow = Policy::reference(toy.decoder(DType::BF16, &tune));
        same(exact, narrow, &toy.batch(43), true, Near { scores: 0.3, gradient: 0.5, whole: 0.2, ..BF16 });
    }
}

/// On a GPU, with its kernels: in f32 and in bf16, with head widths that attention's kernels support and others.
#[test]
fn on_a_gpu_it_is_the_reference_too() {
    let Ok(device) = Device::new_cuda(0) else {
        eprintln!("skipped: this build or this machine has no GPU to run the kernels on");
        return;
    };
    // Sums have another order there, and the toys' values are as large as their sums.
    let near = Near { scores: 1e-4, gradient: 1e-3, floor: 0.01, whole: 1e-3 };
    for (seed, head_dim) in [(50, 6), (51, 64), (52, 128), (53, 96), (54, 64), (55, 128)] {
        let toy = Toy::with_heads(seed, head_dim).rounded();
        for tune in [lora(false, 0.2), lora(true, 0.0), Tune::Full] {
            for (dtype, near) in [(DType::F32, near), (DType::BF16, BF16)] {
                for batch in [toy.batch(seed), toy.packed(seed)] {
                    let (exact, gpu) = both_on(&toy, &device, dtype, &tune);
                    equal(exact, gpu, &batch, seed % 2 == 0, near);
                }
            }
        }
    }
}

fn run(toy: &Toy, tune: &Tune, batch: &Batch, before: impl Fn(&mut Policy)) -> (Policy, Vec<f64>) {
    let mut policy = Policy::gpu(toy.decoder(DType::F32, tune)).unwrap();
    before(&mut policy);
    let (_, tape) = policy.score_train(batch).unwrap();
    policy.backward(tape, &gradients(batch, false)).unwrap();
    let all = policy.take_gradients().unwrap();
    (policy, all.iter().flatten().flat_map(flat).collect())
}

#[test]
fn recomputed_activations_are_equal_to_the_bit() {
    let toy = Toy::new(31);
    for tune in [lora(false, 0.1), Tune::Full] {
        let (_, whole) = run(&toy, &tune, &toy.batch(31), |_| {});
        assert!(whole.iter().any(|x| *x != 0.0));
        for room in [0, 40_000] {
            assert!(whole == run(&toy, &tune, &toy.batch(31), |p| p.backend().limit_activations(room)).1);
        }
    }
}

/// Saved activations are dropped first, then families of rows go through a layer separately; neither scores nor gradients
/// change, nothing is counted twice, and dropout masks are the whole batch's.
#[test]
fn when_memory_runs_out_fewer_rows_run_at_once_with_the_same_gradients() {
    let toy = Toy::new(7);
    for tune in [lora(false, 0.3), lora(true, 0.0), Tune::Full] {
        let row = |first: u32, n: u32| Row::new((first..first + n).collect(), (1..n as usize).collect());
        let batch = Batch::new(vec![row(1, 5), row(2, 6), row(3, 4), row(0, 6)]);
        let (policy, whole) = run(&toy, &tune, &batch, |_| {});
        assert_eq!(policy.token_limit(), None);
        for (there_is, left) in [(15, 11), (10, 5), (6, 5)] {
            let (policy, parts) = run(&toy, &tune, &batch, |p| p.backend().limit_tokens(there_is));
            assert_eq!(policy.token_limit(), Some(left));
            let worst = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let most = whole.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            assert!(whole.len() == parts.len() && worst < 1e-5 * most, "{tune:?}: {worst} of {most}");
        }
        let mut policy = Policy::gpu(toy.decoder(DType::F32, &tune)).unwrap();
        policy.backend().limit_tokens(5);
        let sentence = policy.score_train(&batch).err().unwrap().to_string();
        assert!(sentence.contains("a single sequence of 6 tokens"), "{sentence}");
    }
}

#[test]
fn gradients_add_up_over_batches_and_states_are_the_references() {
    let toy = Toy::new(9);
    let batch = toy.batch(9);
    let (exact, mut gpu) = both(&toy, DType::F32, &lora(false, 0.0));
    let (want, targets) = exact.states(&batch, true).unwrap();
    let (got, same) = gpu.states(&batch, true).unwrap();
    assert_eq!(targets, same);
    assert!(flat(&want).iter().zip(flat(&got)).all(|(a, b)| (a - b).abs() < 1e-4), "states");
    let mut pass = |times: usize| -> Vec<f64> {
        for _ in 0..times {
            let (_, tape) = gpu.score_train(&batch).unwrap();
            gpu.backward(tape, &gradients(&batch, false)).unwrap();
        }
        gpu.take_gradients().unwrap().iter().flatten().flat_map(flat).collect()
    };
    let (once, twice) = (pass(1), pass(2));
    assert!(once.iter().zip(&twice).all(|(a, b)| (2.0 * a - b).abs() <= 1e-5 * (1.0 + b.abs())));
    assert!(once.iter().any(|x| x.abs() > 1e-3));
}
