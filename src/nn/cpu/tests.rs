//! The fast path against the reference path in f64, over shapes, adapters and layouts drawn at random.

use crate::model::Tune;
use crate::nn::policy::{Batch, Policy, Row};
use crate::nn::toy::{F32, Near, Toy, flat, gradients, lora};
use candle_core::DType;

fn equal(toy: &Toy, tune: &Tune, batch: &Batch, entropy: bool) {
    let exact = Policy::reference(toy.decoder(DType::F64, tune));
    crate::nn::toy::equal(exact, Policy::new(toy.decoder(DType::F32, tune)).unwrap(), batch, entropy, F32);
}

#[test]
fn every_shape_adapter_and_layout_equals_the_reference() {
    for seed in 0..12 {
        let toy = Toy::new(seed);
        for (k, tune) in [lora(false, 0.0), lora(true, 0.0), Tune::Full].iter().enumerate() {
            equal(&toy, tune, &toy.batch(seed), (seed as usize + k).is_multiple_of(2));
            equal(&toy, tune, &toy.packed(seed), false);
        }
    }
}

#[test]
fn layers_of_several_kinds_equal_the_reference() {
    for seed in 60..76 {
        let toy = Toy::of_kinds(seed);
        for (k, tune) in [lora(false, 0.0), lora(true, 0.0), Tune::Full, lora(false, 0.3)].iter().enumerate() {
            // Twice the layers round more: the reference in f32 is as far from f64.
            let near = Near { scores: 1e-4, gradient: 1e-3, floor: 1e-2, whole: 1e-3 };
            let compared = |batch: &Batch, entropy: bool| {
                let exact = Policy::reference(toy.decoder(DType::F64, tune));
                let fast = Policy::new(toy.decoder(DType::F32, tune)).unwrap();
                crate::nn::toy::equal(exact, fast, batch, entropy, near);
            };
            compared(&toy.batch(seed), (seed as usize + k).is_multiple_of(2));
            compared(&toy.packed(seed), false);
        }
    }
}

#[test]
fn dropout_masks_are_the_references() {
    for seed in 20..24 {
        let toy = Toy::new(seed);
        for dora in [false, true] {
            equal(&toy, &lora(dora, 0.3), &toy.batch(seed), false);
        }
    }
}

#[test]
fn recomputed_activations_are_equal_to_the_bit() {
    for (toy, tune) in
        [(Toy::new(31), lora(false, 0.1)), (Toy::of_kinds(61), lora(false, 0.1)), (Toy::of_kinds(62), Tune::Full)]
    {
        recomputed(&toy, &tune);
    }
}

fn recomputed(toy: &Toy, tune: &Tune) {
    let batch = toy.batch(31);
    let g = gradients(&batch, false);
    let run = |room: Option<usize>| {
        let mut policy = Policy::new(toy.decoder(DType::F32, tune)).unwrap();
        if let Some(bytes) = room {
            policy.backend().limit_activations(bytes);
        }
        let (_, tape) = policy.score_train(&batch).unwrap();
        policy.backward(tape, &g).unwrap();
        let all = policy.take_gradients().unwrap();
        all.iter().flatten().flat_map(flat).collect::<Vec<f64>>()
    };
    let whole = run(None);
    assert!(whole.iter().any(|x| *x != 0.0));
    assert!(whole == run(Some(0)));
    assert!(whole == run(Some(40_000)));
}

#[test]
fn a_shared_prefix_is_computed_once() {
    let toy = Toy::new(3);
    let decoder = toy.decoder(DType::F32, &Tune::None);
    let row = |tail: &[u32]| Row::new([&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], tail].concat(), vec![10]);
    let batch = Batch::new(vec![row(&[3, 4]), row(&[5, 6, 7]), Row::new(vec![1, 2], vec![1])]);
    let plan = super::BatchLayout::new(&decoder, &batch, true).unwrap();
    assert_eq!(plan.tokens(), 10 + 2 + 3 + 2);
    assert_eq!(super::BatchLayout::new(&decoder, &batch, false).unwrap().tokens(), 12 + 13 + 2);
}

#[test]
fn the_divergence_from_the_base_equals_the_references() {
    for seed in 40..43 {
        let toy = Toy::new(seed);
        let batch = toy.batch(seed);
        let measure = |policy: Policy| {
            let (head, base) = (policy.decoder().head().unwrap(), policy.states(&batch, false).unwrap().0);
            let (now, targets) = policy.states(&batch, true).unwrap();
            let same = policy.divergence(&base, &head, &base, &targets).unwrap().0;
            (policy.divergence(&base, &head, &now, &targets).unwrap(), same)
        };
        let tune = lora(false, 0.0);
        let ((kl, logp), _) = measure(Policy::reference(toy.decoder(DType::F64, &tune)));
        let ((fast_kl, fast_logp), same) = measure(Policy::new(toy.decoder(DType::F32, &tune)).unwrap());
        assert!(kl.iter().any(|x| *x > 1e-3) && same.iter().all(|x| x.abs() < 1e-6), "{kl:?} {same:?}");
        for (a, b) in fast_kl.iter().chain(&fast_logp).zip(kl.iter().chain(&logp)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}
