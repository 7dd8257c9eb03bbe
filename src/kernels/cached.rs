//! Attention of single queries over a KV cache in two spans: a shared prefix, then the row's own tokens.
//!
//! Owns the arithmetic for queries that attend to every given position. Keys and values are (positions, kv_heads · width).
//! Query head h reads key head `h / (heads / kv_heads)`.
//!
//! **Invariant.** A query's result depends only on its own inputs; every sum has one order, however the cache is split.

use crate::attention::soft_cap;
use crate::lanes::{add_scaled, dot, exp, max, simd};
use rayon::prelude::*;

/// The keys and values of consecutive positions.
#[derive(Debug, Clone, Copy)]
pub struct KvSpan<'a> {
    /// (positions, kv_heads · width).
    pub keys: &'a [f32],
    /// As the keys.
    pub values: &'a [f32],
}

/// The shape of cached attention, and how scores become weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CachedShape {
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
}

impl CachedShape {
    /// Heads of this width, scaled by its root.
    #[must_use]
    pub fn full(heads: usize, kv_heads: usize, width: usize) -> Self {
        Self { heads, kv_heads, width, scale: 1.0 / (width as f32).sqrt(), cap: None }
    }
}

/// Attention of queries (n, heads · width), each over its own two spans, to `out` of the same shape.
///
/// # Panics
/// When the lengths do not fit.
pub fn attend(seen: &[[KvSpan<'_>; 2]], q: &[f32], shape: CachedShape, out: &mut [f32]) {
    let CachedShape { heads, kv_heads, width, .. } = shape;
    let group = heads / kv_heads * width;
    assert!(out.len() == q.len() && q.len() == seen.len() * heads * width, "queries of another size");
    let parts = out.par_chunks_mut(group).zip(q.par_chunks(group)).enumerate();
    parts.with_min_len(kv_heads.div_ceil(2)).for_each_init(Vec::new, |weights, (i, (out, q))| {
        one(&seen[i / kv_heads], q, i % kv_heads * width, shape, weights, out);
    });
}

simd! {
    /// The queries of one key head.
    fn one(
        seen: &[KvSpan<'_>; 2],
        q: &[f32],
        first: usize,
        shape: CachedShape,
        weights: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let CachedShape { kv_heads, width, scale, cap, .. } = shape;
        let stride = kv_heads * width;
        for (q, out) in q.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            weights.clear();
            for keys in seen.iter().flat_map(|s| s.keys.chunks_exact(stride)) {
                weights.push(dot(q, &keys[first..first + width]) * scale);
            }
            if let Some(cap) = cap {
                soft_cap(weights, cap);
            }
            let top = max(weights);
            let mut total = 0f32;
            for w in weights.iter_mut() {
                *w = exp(*w - top);
            }
            for w in weights.iter() {
                total += *w;
            }
            out.fill(0.0);
            for (w, values) in weights.iter().zip(seen.iter().flat_map(|s| s.values.chunks_exact(stride))) {
                add_scaled(out, *w, &values[first..first + width]);
            }
            let inverse = 1.0 / total;
            for o in out.iter_mut() {
                *o *= inverse;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_equals_its_definition_wherever_the_cache_is_split() {
        let (heads, kv, width, n) = (4, 2, 5, 7);
        let keys: Vec<f32> = (0..n * kv * width).map(|i| (i as f32 * 0.7).sin()).collect();
        let values: Vec<f32> = (0..n * kv * width).map(|i| (i as f32 * 0.3).cos()).collect();
        let q: Vec<f32> = (0..heads * width).map(|i| (i as f32).sin()).collect();
        let run = |cut: usize| {
            let at = cut * kv * width;
            let span = |k, v| KvSpan { keys: k, values: v };
            let seen = [[span(&keys[..at], &values[..at]), span(&keys[at..], &values[at..])]];
            let mut out = vec![0.0; q.len()];
            attend(&seen, &q, CachedShape::full(heads, kv, width), &mut out);
            out
        };
        let whole = run(0);
        assert_eq!(whole, run(3));
        assert_eq!(whole, run(7));
        for h in 0..heads {
            let of = |p: usize, x: &[f32], i: usize| f64::from(x[p * kv * width + h / 2 * width + i]);
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
