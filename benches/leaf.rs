//! The kernels' leaf operations in the shapes of SmolLM2-135M: `cargo bench --bench leaf`.
#![allow(missing_docs, reason = "Criterion's macros make public functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tiebreak_kernels::attention::{self, AttentionSegment, AttentionShape, BackwardInputs};
use tiebreak_kernels::leaf;
use tiebreak_kernels::logits;
use tiebreak_kernels::product::{View, WriteMode, product};

/// Tokens of a few pairs.
const ROWS: usize = 512;
const HIDDEN: usize = 576;
const FF: usize = 1536;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const WIDTH: usize = 64;
const VOCAB: usize = 49_152;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

/// Bytes read and written of so many f32.
fn bytes(numbers: usize) -> Throughput {
    Throughput::Bytes(4 * numbers as u64)
}

fn norms(c: &mut Criterion) {
    let (x, gamma, dy) = (numbers(ROWS * HIDDEN), numbers(HIDDEN), numbers(ROWS * HIDDEN));
    let mut y = vec![0.0; ROWS * HIDDEN];
    let mut group = c.benchmark_group("rms_norm");
    group.throughput(bytes(2 * ROWS * HIDDEN));
    group.bench_function("forward", |b| b.iter(|| leaf::rms_norm(black_box(&x), &gamma, 1e-5, &mut y)));
    group.throughput(bytes(3 * ROWS * HIDDEN));
    group
        .bench_function("backward", |b| b.iter(|| leaf::rms_norm_back(black_box(&x), &gamma, 1e-5, &dy, &mut y, None)));
    group.finish();
}

fn swiglu(c: &mut Criterion) {
    let (gate_up, dout) = (numbers(ROWS * 2 * FF), numbers(ROWS * FF));
    let (mut out, mut back) = (vec![0.0; ROWS * FF], vec![0.0; ROWS * 2 * FF]);
    let mut group = c.benchmark_group("swiglu");
    group.throughput(bytes(3 * ROWS * FF));
    group.bench_function("forward", |b| b.iter(|| leaf::swiglu(black_box(&gate_up), FF, &mut out)));
    group.throughput(bytes(5 * ROWS * FF));
    group.bench_function("backward", |b| b.iter(|| leaf::swiglu_back(black_box(&gate_up), FF, &dout, &mut back)));
    group.finish();
}

fn rotations(c: &mut Criterion) {
    let (x, cos, sin) = (numbers(ROWS * HIDDEN), numbers(ROWS * WIDTH / 2), numbers(ROWS * WIDTH / 2));
    let mut y = vec![0.0; ROWS * HIDDEN];
    let mut group = c.benchmark_group("heads");
    group.throughput(bytes(2 * ROWS * HIDDEN));
    group.bench_function("out", |b| {
        b.iter(|| leaf::split_heads(black_box(&x), HIDDEN, 0, WIDTH, Some((&cos, &sin)), &mut y));
    });
    group.bench_function("in", |b| {
        b.iter(|| leaf::merge_heads(black_box(&x), HIDDEN, 0, WIDTH, Some((&cos, &sin)), &mut y));
    });
    group.finish();
}

fn head(c: &mut Criterion) {
    let logits = numbers(VOCAB);
    let mut z = logits.clone();
    let mut group = c.benchmark_group("logits");
    group.throughput(bytes(2 * VOCAB));
    group.bench_function("tell", |b| {
        b.iter(|| {
            z.copy_from_slice(&logits);
            let mut softmax = logits::OnlineSoftmax::new(7);
            logits::accumulate(&mut softmax, &mut z, 1.0);
            black_box(softmax.stats())
        });
    });
    group.finish();
}

fn attend(c: &mut Criterion) {
    let shape = AttentionShape::full(ROWS, HEADS, KV_HEADS, WIDTH);
    // A pair: a prompt, and two answers that see it and themselves.
    let segments = [
        AttentionSegment { prefix: 0..0, own: 0..128 },
        AttentionSegment { prefix: 0..128, own: 128..320 },
        AttentionSegment { prefix: 0..128, own: 320..512 },
    ];
    let (q, dout) = (numbers(HEADS * ROWS * WIDTH), numbers(HEADS * ROWS * WIDTH));
    let (k, v) = (numbers(KV_HEADS * ROWS * WIDTH), numbers(KV_HEADS * ROWS * WIDTH));
    let (mut out, mut lse) = (vec![0.0; HEADS * ROWS * WIDTH], vec![0.0; HEADS * ROWS]);
    let mut group = c.benchmark_group("attention");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("forward", |b| {
        b.iter(|| attention::forward(&segments, shape, black_box(&q), &k, &v, &mut out, &mut lse));
    });
    let inputs = BackwardInputs { q: &q, k: &k, v: &v, out: &out, lse: &lse, dout: &dout };
    let size = HEADS * ROWS * WIDTH;
    let (mut dq, mut dk, mut dv) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);
    group.bench_function("backward", |b| {
        b.iter(|| attention::backward(&segments, shape, black_box(inputs), &mut dq, &mut dk, &mut dv));
    });
    group.finish();
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("product");
    group.sample_size(20);
    for (name, inner, out) in [("q_proj", HIDDEN, HIDDEN), ("up_proj", HIDDEN, FF), ("down_proj", FF, HIDDEN)] {
        let (x, w) = (numbers(ROWS * inner), numbers(out * inner));
        let mut y = vec![0.0; ROWS * out];
        // A multiplication and an addition are two operations.
        group.throughput(Throughput::Elements(2 * (ROWS * inner * out) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let (x, w) = (View::rows(black_box(&x), inner), View::columns(&w, inner));
                product(&mut y, out, WriteMode::Overwrite, x, w, (ROWS, out, inner), 1.0);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, norms, swiglu, rotations, head, attend, products);
criterion_main!(benches);
