//! Attention of single queries over a KV cache in two spans: a shared prefix, then the row's own tokens.
//!
//! Owns the cache's layout and the arithmetic for queries that attend to every given position. Keys lie in blocks of 16
//! positions, (blocks, kv_heads, width, 16): a SIMD lane is a position and nothing is summed across lanes. Values are
//! (positions, kv_heads · width). Query head h reads key head `h / (heads / kv_heads)`.
//!
//! **Invariant.** A query's result depends only on its own inputs; every sum has one order, however the cache is split.

use crate::attention::soft_cap;
use crate::lanes::{exp, half, max, simd};
use rayon::prelude::*;
use std::ops::Range;

/// Positions of a block of keys, and lanes of everything here.
const BLOCK: usize = 16;

/// A layer's keys and values of consecutive positions.
#[derive(Debug, Default)]
pub struct LayerCache {
    /// (blocks, kv_heads, width, [`BLOCK`]); positions that are not there yet are zero.
    keys: Vec<f32>,
    /// (positions, kv_heads · width).
    values: Vec<f32>,
}

/// The first positions of a cache.
#[derive(Debug, Clone, Copy)]
pub struct KvSpan<'a> {
    keys: &'a [f32],
    values: &'a [f32],
}

impl LayerCache {
    /// Appends a position: `keys` and `values` are (kv_heads · width).
    ///
    /// # Panics
    /// When they differ in length from each other or from the positions before.
    pub fn push(&mut self, keys: &[f32], values: &[f32]) {
        let stride = keys.len();
        assert!(stride > 0 && values.len() == stride && self.values.len().is_multiple_of(stride), "another width");
        let at = self.values.len() / stride;
        if at.is_multiple_of(BLOCK) {
            self.keys.resize((at + BLOCK) * stride, 0.0);
        }
        let block = &mut self.keys[at / BLOCK * BLOCK * stride..];
        for (lanes, key) in block.as_chunks_mut::<BLOCK>().0.iter_mut().zip(keys) {
            lanes[at % BLOCK] = *key;
        }
        self.values.extend_from_slice(values);
    }

    /// The first `positions`, each of `stride` elements (kv_heads · width).
    ///
    /// # Panics
    /// When there are not so many.
    #[must_use]
    pub fn first(&self, positions: usize, stride: usize) -> KvSpan<'_> {
        let blocks = positions.div_ceil(BLOCK) * BLOCK;
        KvSpan { keys: &self.keys[..blocks * stride], values: &self.values[..positions * stride] }
    }
}

impl KvSpan<'_> {
    /// No position.
    pub const NONE: Self = Self { keys: &[], values: &[] };
}

/// The positions that a query attends to.
#[derive(Debug, Clone, Copy)]
pub struct SeenPositions<'a> {
    /// A shared prefix, then the row's own positions up to the query's.
    pub spans: [KvSpan<'a>; 2],
    /// How many of the first ones lie before the window.
    pub skipped: usize,
}

impl SeenPositions<'_> {
    /// The two spans' values that are in the window, with their weights; `weights` has one for each position.
    #[inline(always)]
    fn values<'b>(&'b self, weights: &'b [f32], stride: usize) -> [(&'b [f32], &'b [f32]); 2] {
        let (first, second) = weights.split_at(self.spans[0].values.len() / stride);
        let skipped = [self.skipped.min(first.len()), self.skipped.saturating_sub(first.len()).min(second.len())];
        [
            (&first[skipped[0]..], &self.spans[0].values[skipped[0] * stride..]),
            (&second[skipped[1]..], &self.spans[1].values[skipped[1] * stride..]),
        ]
    }
}

/// The shape of cached attention, and how scores become weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CachedShape<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub width: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Soft cap on the scores.
    pub cap: Option<f32>,
    /// The sink of each query head, (heads): a logit more in the softmax, whose weight meets no value.
    pub sinks: Option<&'a [f32]>,
    /// Whether the weights are rounded to f16, as llama.cpp does where keys and values are f16.
    pub halves: bool,
}

impl CachedShape<'_> {
    /// Heads of this width, scaled by its root.
    #[must_use]
    pub fn full(heads: usize, kv_heads: usize, width: usize) -> Self {
        Self { heads, kv_heads, width, scale: 1.0 / (width as f32).sqrt(), cap: None, sinks: None, halves: false }
    }
}

/// Attention of queries (n, heads · width), each over its own positions, to `out` of the same shape.
///
/// # Panics
/// When the lengths do not fit.
pub fn attend(seen: &[SeenPositions<'_>], q: &[f32], shape: CachedShape<'_>, out: &mut [f32]) {
    let CachedShape { heads, kv_heads, width, .. } = shape;
    let group = heads / kv_heads * width;
    assert!(shape.sinks.is_none_or(|sinks| sinks.len() == heads), "sinks of another size");
    assert!(out.len() == q.len() && q.len() == seen.len() * heads * width, "queries of another size");
    let parts = out.par_chunks_mut(group).zip(q.par_chunks(group)).enumerate();
    parts.with_min_len(kv_heads.div_ceil(2)).for_each_init(Vec::new, |weights, (i, (out, q))| {
        one(&seen[i / kv_heads], q, i % kv_heads, shape, weights, out);
    });
}

/// `sums += x · row`.
#[inline(always)]
fn add(sums: &mut [f32; BLOCK], x: f32, row: &[f32; BLOCK]) {
    for lane in 0..BLOCK {
        sums[lane] = x.mul_add(row[lane], sums[lane]);
    }
}

/// The scores of a query (width) for a block of keys (width, [`BLOCK`]): four sums over interleaved dimensions, which hide the
/// latency of an addition.
#[inline(always)]
fn scores(keys: &[f32], q: &[f32], scale: f32) -> [f32; BLOCK] {
    let mut sums = [[0f32; BLOCK]; 4];
    let (keys, rest) = keys.as_chunks::<BLOCK>().0.as_chunks::<4>();
    let (q, q_rest) = q.as_chunks::<4>();
    let [s0, s1, s2, s3] = &mut sums;
    for ([k0, k1, k2, k3], [x0, x1, x2, x3]) in keys.iter().zip(q) {
        add(s0, *x0, k0);
        add(s1, *x1, k1);
        add(s2, *x2, k2);
        add(s3, *x3, k3);
    }
    for (key, x) in rest.iter().zip(q_rest) {
        add(s0, *x, key);
    }
    let mut out = [0f32; BLOCK];
    for lane in 0..BLOCK {
        out[lane] = ((s0[lane] + s1[lane]) + (s2[lane] + s3[lane])) * scale;
    }
    out
}

/// The weighted sums of 64 dimensions of the values, from `first` on.
#[inline(always)]
fn wide(seen: &SeenPositions<'_>, weights: &[f32], first: usize, stride: usize) -> [[f32; BLOCK]; 4] {
    let mut sums = [[0f32; BLOCK]; 4];
    let [s0, s1, s2, s3] = &mut sums;
    for (weights, values) in seen.values(weights, stride) {
        for (w, row) in weights.iter().zip(values.chunks_exact(stride)) {
            if let [v0, v1, v2, v3, ..] = row[first..].as_chunks::<BLOCK>().0 {
                add(s0, *w, v0);
                add(s1, *w, v1);
                add(s2, *w, v2);
                add(s3, *w, v3);
            }
        }
    }
    sums
}

/// As [`wide`], of up to 16 dimensions.
#[inline(always)]
fn narrow(seen: &SeenPositions<'_>, weights: &[f32], dimensions: Range<usize>, stride: usize) -> [f32; BLOCK] {
    let mut sums = [0f32; BLOCK];
    for (weights, values) in seen.values(weights, stride) {
        for (w, row) in weights.iter().zip(values.chunks_exact(stride)) {
            let values = &row[dimensions.clone()];
            match values.first_chunk::<BLOCK>() {
                Some(values) => add(&mut sums, *w, values),
                None => {
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = w.mul_add(*value, *sum);
                    }
                }
            }
        }
    }
    sums
}

/// Writes sums times the inverse of all weights.
#[inline(always)]
fn put(out: &mut [f32], sums: &[f32; BLOCK], inverse: f32) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum * inverse;
    }
}

/// e^(x − max) of a row in place; returns the inverse of their sum with that of the sink.
#[inline(always)]
fn softmax(row: &mut [f32], sink: Option<f32>) -> f32 {
    let top = sink.map_or(max(row), |sink| max(row).max(sink));
    let mut sums = [0f32; BLOCK];
    let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for lane in 0..BLOCK {
            block[lane] = exp(block[lane] - top);
            sums[lane] += block[lane];
        }
    }
    for (x, sum) in rest.iter_mut().zip(&mut sums) {
        *x = exp(*x - top);
        *sum += *x;
    }
    let sum = sums.iter().sum::<f32>();
    1.0 / sink.map_or(sum, |sink| sum + exp(sink - top))
}

simd! {
    /// Rounds to the nearest f16.
    pub fn round_halves(x: &mut [f32]) {
        for x in x {
            *x = half(*x);
        }
    }

    /// The queries of one key head.
    fn one(
        seen: &SeenPositions<'_>,
        q: &[f32],
        head: usize,
        shape: CachedShape<'_>,
        weights: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let CachedShape { kv_heads, width, scale, cap, halves, .. } = shape;
        let stride = kv_heads * width;
        let total: usize = seen.spans.iter().map(|span| span.values.len() / stride).sum();
        // A last block may reach beyond the positions.
        if weights.len() < total + BLOCK {
            weights.resize(total + BLOCK, 0.0);
        }
        let first = head * (q.len() / width);
        for (i, (q, out)) in q.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let mut start = 0;
            for span in &seen.spans {
                for (b, keys) in span.keys.chunks_exact(BLOCK * stride).enumerate() {
                    let at = start + b * BLOCK;
                    if at + BLOCK <= seen.skipped {
                        continue;
                    }
                    let keys = &keys[head * width * BLOCK..(head + 1) * width * BLOCK];
                    weights[at..at + BLOCK].copy_from_slice(&scores(keys, q, scale));
                }
                start += span.values.len() / stride;
            }
            let window = &mut weights[seen.skipped.min(total)..total];
            if let Some(cap) = cap {
                soft_cap(window, cap);
            }
            let mut inverse = softmax(window, shape.sinks.map(|sinks| sinks[first + i]));
            if halves {
                for w in window.iter_mut() {
                    *w = half(*w * inverse);
                }
                inverse = 1.0;
            }
            let weights = &weights[..total];
            let mut at = 0;
            while at + 4 * BLOCK <= width {
                let sums = wide(seen, weights, head * width + at, stride);
                for (out, sums) in out[at..].chunks_exact_mut(BLOCK).zip(&sums) {
                    put(out, sums, inverse);
                }
                at += 4 * BLOCK;
            }
            for out in out[at..].chunks_mut(BLOCK) {
                let dimensions = head * width + at..head * width + at + out.len();
                put(out, &narrow(seen, weights, dimensions, stride), inverse);
                at += BLOCK;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions `from..to` of keys and values, (positions, stride) each.
    fn cache(keys: &[f32], values: &[f32], from: usize, to: usize, stride: usize) -> LayerCache {
        let mut cache = LayerCache::default();
        for at in from..to {
            let row = at * stride..(at + 1) * stride;
            cache.push(&keys[row.clone()], &values[row]);
        }
        cache
    }

    #[test]
    fn attention_equals_its_definition_wherever_the_cache_is_split() {
        for (heads, kv, width, n) in [(4, 2, 5, 7), (9, 3, 64, 53), (7, 1, 48, 33), (2, 2, 33, 16), (8, 2, 80, 1)] {
            let stride = kv * width;
            let keys: Vec<f32> = (0..n * stride).map(|i| (i as f32 * 0.7).sin()).collect();
            let values: Vec<f32> = (0..n * stride).map(|i| (i as f32 * 0.3).cos()).collect();
            let q: Vec<f32> = (0..heads * width).map(|i| (i as f32).sin()).collect();
            let run = |cut: usize, skipped: usize| {
                let (first, own) = (cache(&keys, &values, 0, cut, stride), cache(&keys, &values, cut, n, stride));
                let mut out = vec![0.0; q.len()];
                let spans = [first.first(cut, stride), own.first(n - cut, stride)];
                let seen = SeenPositions { spans, skipped };
                attend(&[seen], &q, CachedShape::full(heads, kv, width), &mut out);
                out
            };
            let whole = run(0, 0);
            for cut in [1, n / 2, n - 1, n] {
                assert_eq!(whole, run(cut, 0), "{heads} {kv} {width} {n}");
            }
            // A window is a cache without the positions before it, to the rounding of the sum of weights.
            for skipped in [n / 3, n / 2, n - 1] {
                let whole = run(0, skipped);
                for cut in [1, n / 2, n - 1, n] {
                    assert_eq!(whole, run(cut, skipped), "{heads} {kv} {width} {n}");
                }
                let left = cache(&keys, &values, skipped, n, stride);
                let mut out = vec![0.0; q.len()];
                let seen = SeenPositions { spans: [KvSpan::NONE, left.first(n - skipped, stride)], skipped: 0 };
                attend(&[seen], &q, CachedShape::full(heads, kv, width), &mut out);
                assert!(out.iter().zip(&whole).all(|(x, y)| (x - y).abs() < 1e-6), "{heads} {kv} {width} {n}");
            }
            for h in 0..heads {
                let group = heads / kv;
                let of = |p: usize, x: &[f32], i: usize| f64::from(x[p * stride + h / group * width + i]);
                let w: Vec<f64> = (0..n)
                    .map(|p| (0..width).map(|i| f64::from(q[h * width + i]) * of(p, &keys, i)).sum::<f64>())
                    .map(|s| (s / (width as f64).sqrt()).exp())
                    .collect();
                for i in 0..width {
                    let want = (0..n).map(|p| w[p] * of(p, &values, i)).sum::<f64>() / w.iter().sum::<f64>();
                    assert!((f64::from(whole[h * width + i]) - want).abs() < 1e-5);
                }
            }
        }
    }

    /// A sink takes its share of every weight: the outputs are those without it, times Σ e^s / (Σ e^s + e^sink).
    #[test]
    fn a_sink_takes_its_share_of_the_weights() {
        let (heads, kv, width, n) = (4, 2, 5, 37);
        let stride = kv * width;
        let keys: Vec<f32> = (0..n * stride).map(|i| (i as f32 * 0.7).sin()).collect();
        let values: Vec<f32> = (0..n * stride).map(|i| (i as f32 * 0.3).cos()).collect();
        let q: Vec<f32> = (0..heads * width).map(|i| (i as f32).sin()).collect();
        let all = cache(&keys, &values, 0, n, stride);
        let seen = SeenPositions { spans: [KvSpan::NONE, all.first(n, stride)], skipped: 3 };
        let sinks = [0.5, -2.0, 3.0, 8.0];
        let [mut plain, mut sunk] = [vec![0.0; q.len()], vec![0.0; q.len()]];
        let shape = CachedShape::full(heads, kv, width);
        attend(&[seen], &q, shape, &mut plain);
        attend(&[seen], &q, CachedShape { sinks: Some(&sinks), ..shape }, &mut sunk);
        for h in 0..heads {
            let score = |p: usize| {
                let key = &keys[p * stride + h / (heads / kv) * width..][..width];
                let dot: f64 = key.iter().zip(&q[h * width..]).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum();
                (dot / (width as f64).sqrt()).exp()
            };
            let sum: f64 = (3..n).map(score).sum();
            let share = sum / (sum + f64::from(sinks[h]).exp());
            for i in h * width..(h + 1) * width {
                let want = f64::from(plain[i]) * share;
                assert!((f64::from(sunk[i]) - want).abs() < 1e-6, "{h} {i}: {} and not {want}", sunk[i]);
            }
        }
    }

    #[test]
    fn weights_are_rounded_to_f16_where_asked() {
        // Two keys, of which the second has e^-1 of the first's weight: 0.73106 and 0.26894.
        let mut cache = LayerCache::default();
        for (key, value) in [(1.0, [1.0, 0.0]), (0.0, [0.0, 1.0])] {
            cache.push(&[key, 0.0], &value);
        }
        let run = |halves: bool| {
            let (mut out, shape) = ([0.0; 2], CachedShape { scale: 1.0, halves, ..CachedShape::full(1, 1, 2) });
            attend(
                &[SeenPositions { spans: [KvSpan::NONE, cache.first(2, 2)], skipped: 0 }],
                &[1.0, 0.0],
                shape,
                &mut out,
            );
            out
        };
        let exact = run(false);
        assert!((exact[0] - 0.731_058_6).abs() < 1e-6);
        assert_eq!(run(true), exact.map(half));
        assert_ne!(run(true), exact);
        let mut rounded = exact;
        round_halves(&mut rounded);
        assert_eq!(run(true), rounded);
    }

    #[test]
    fn a_query_that_sees_the_first_positions_reads_no_later_one() {
        let (n, stride) = (40, 6);
        let keys: Vec<f32> = (0..n * stride).map(|i| (i as f32 * 0.7).sin()).collect();
        let values: Vec<f32> = (0..n * stride).map(|i| (i as f32 * 0.3).cos()).collect();
        let all = cache(&keys, &values, 0, n, stride);
        let q = [0.3; 12];
        for seen in [1, 15, 16, 17, 39] {
            let run = |cache: &LayerCache| {
                let mut out = vec![0.0; 12];
                let seen = SeenPositions { spans: [KvSpan::NONE, cache.first(seen, stride)], skipped: 0 };
                attend(&[seen], &q, CachedShape::full(4, 2, 3), &mut out);
                out
            };
            assert_eq!(run(&all), run(&cache(&keys, &values, 0, seen, stride)));
        }
    }
}
