//! Causal attention of segments that may share a prefix, forward and backward, in blocks of queries: no (tokens × tokens)
//! matrix is created.
//!
//! Owns the arithmetic of one layer's attention over heads laid out as (heads, tokens, width). Every query attends to the
//! prefix of its segment and its own segment up to itself, of these to the last `window` where there is one. Query head h reads
//! key head `h / (heads / kv_heads)`. With a soft cap the scores are `cap·tanh(s/cap)`. A head's sink is a logit more in the
//! softmax, whose weight meets no value (Xiao et al. 2023).
//!
//! The backward recomputes each block's weights from the saved log-sum-exp (Dao 2023): with `P = exp(S − lse)` and
//! `D = rowsum(dO ⊙ O)`, `dV = Pᵀ·dO`, `dS = P ⊙ (dO·Vᵀ − D)`, `dQ = dS·K`, `dK = dSᵀ·Q`, with the scale where needed.

use crate::lanes::{dot, exp, max, simd, tanh};
use crate::product::{View, WriteMode, product_here};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a block.
const BLOCK: usize = 64;

/// Consecutive tokens that attend to a prefix and causally to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionSegment {
    /// Tokens that the whole segment attends to; may be empty.
    pub prefix: Range<usize>,
    /// Its own tokens; each attends to those up to itself.
    pub own: Range<usize>,
}

/// The shape of a layer's attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape<'a> {
    /// Tokens.
    pub tokens: usize,
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
    /// How many tokens a query attends to at most, itself included.
    pub window: Option<usize>,
    /// The sink of each query head, (heads).
    pub sinks: Option<&'a [f32]>,
}

impl AttentionShape<'_> {
    /// Full attention of heads of this width, scaled by its root.
    #[must_use]
    pub fn full(tokens: usize, heads: usize, kv_heads: usize, width: usize) -> Self {
        Self {
            tokens,
            heads,
            kv_heads,
            width,
            scale: 1.0 / (width as f32).sqrt(),
            cap: None,
            window: None,
            sinks: None,
        }
    }

    fn sink(&self, head: usize) -> Option<f32> {
        self.sinks.map(|sinks| sinks[head])
    }

    fn kv(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    /// # Panics
    /// When a size overflows, the heads do not share the keys evenly, or a segment reaches beyond the tokens.
    fn check(&self, segments: &[AttentionSegment]) {
        let all = self.tokens.checked_mul(self.width).and_then(|size| size.checked_mul(self.heads.max(self.kv_heads)));
        let valid = all.is_some() && self.heads.is_multiple_of(self.kv_heads) && self.window != Some(0);
        let valid = valid && self.sinks.is_none_or(|sinks| sinks.len() == self.heads);
        assert!(valid, "invalid attention shape");
        let within = |s: &AttentionSegment| s.own.end <= self.tokens && s.prefix.end <= self.tokens;
        assert!(segments.iter().all(within), "a segment reaches beyond the tokens");
    }

    fn of<'a>(&self, all: &'a [f32], head: usize) -> &'a [f32] {
        let size = self.tokens * self.width;
        &all[head * size..(head + 1) * size]
    }
}

/// The weights of a block of queries: prefix columns first, then its own segment's. Keys before the first query's window are
/// left out.
struct Block {
    queries: Range<usize>,
    /// Columns of the prefix.
    prefix: Range<usize>,
    /// Columns of the own segment up to the block's last query.
    own: Range<usize>,
    /// Keys of the segment that are left out.
    skipped: usize,
    /// Position of the first query in its row.
    first: usize,
    window: Option<usize>,
}

impl Block {
    fn new(segment: &AttentionSegment, queries: Range<usize>, window: Option<usize>) -> Self {
        let first = segment.prefix.len() + queries.start - segment.own.start;
        let skipped = window.map_or(0, |window| (first + 1).saturating_sub(window));
        let of_prefix = skipped.min(segment.prefix.len());
        let prefix = segment.prefix.start + of_prefix..segment.prefix.end;
        let own = segment.own.start + skipped - of_prefix..queries.end;
        Self { queries, prefix, own, skipped, first, window }
    }

    fn columns(&self) -> usize {
        self.prefix.len() + self.own.len()
    }

    /// The two ranges of keys with the first column of each.
    fn stretches(&self) -> [(Range<usize>, usize); 2] {
        [(self.prefix.clone(), 0), (self.own.clone(), self.prefix.len())]
    }

    /// The columns that query `i` of the block attends to; the others are masked.
    fn sees(&self, i: usize) -> Range<usize> {
        let end = self.first + i + 1;
        let start = self.window.map_or(0, |window| end.saturating_sub(window));
        start.saturating_sub(self.skipped)..end - self.skipped
    }
}

fn blocks(segment: &AttentionSegment, window: Option<usize>) -> impl Iterator<Item = Block> + '_ {
    let block = move |first: usize| Block::new(segment, first..(first + BLOCK).min(segment.own.end), window);
    segment.own.clone().step_by(BLOCK).map(block)
}

/// `scale · Q·Kᵀ` of a block into `s`.
fn scores(s: &mut [f32], block: &Block, q: &[f32], k: &[f32], shape: AttentionShape<'_>) {
    let (w, columns) = (shape.width, block.columns());
    for (keys, first) in block.stretches() {
        if keys.is_empty() {
            continue;
        }
        let size = (block.queries.len(), keys.len(), w);
        let queries = View::rows(&q[block.queries.start * w..], w);
        product_here(
            &mut s[first..],
            columns,
            WriteMode::Overwrite,
            queries,
            View::columns(&k[keys.start * w..], w),
            size,
            shape.scale,
        );
    }
    if let Some(cap) = shape.cap {
        soft_cap(s, cap);
    }
}

/// Attention: `out` (heads, tokens, width) and each query's log-sum-exp `lse` (heads, tokens) from q (heads, tokens,
/// width), k and v (kv_heads, tokens, width). Tokens outside all segments are left unchanged.
///
/// # Panics
/// When the lengths do not fit.
pub fn forward(
    segments: &[AttentionSegment],
    shape: AttentionShape<'_>,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let (w, size) = (shape.width, shape.tokens * shape.width);
    shape.check(segments);
    let all = shape.heads * size;
    assert!(q.len() == all && out.len() == all && lse.len() == shape.heads * shape.tokens, "heads of another size");
    assert!(k.len() == shape.kv_heads * size && v.len() == k.len(), "keys of another size");
    let heads = out.par_chunks_mut(size).zip(lse.par_chunks_mut(shape.tokens)).enumerate();
    heads.for_each_init(Vec::new, |s: &mut Vec<f32>, (head, (out, lse))| {
        let (q, k, v) = (shape.of(q, head), shape.of(k, shape.kv(head)), shape.of(v, shape.kv(head)));
        for block in segments.iter().flat_map(|segment| blocks(segment, shape.window)) {
            let (rows, columns) = (block.queries.len(), block.columns());
            if s.len() < rows * columns {
                s.resize(rows * columns, 0.0);
            }
            let s = &mut s[..rows * columns];
            scores(s, &block, q, k, shape);
            for (i, row) in s.chunks_exact_mut(columns).enumerate() {
                let sees = block.sees(i);
                row[..sees.start].fill(0.0);
                row[sees.end..].fill(0.0);
                lse[block.queries.start + i] = softmax(&mut row[sees], shape.sink(head));
            }
            let out = &mut out[block.queries.start * w..block.queries.end * w];
            let mut write = WriteMode::Overwrite;
            for (keys, first) in block.stretches() {
                if keys.is_empty() {
                    continue;
                }
                let (weights, values) = (View::rows(&s[first..], columns), View::rows(&v[keys.start * w..], w));
                product_here(out, w, write, weights, values, (rows, w, keys.len()), 1.0);
                write = WriteMode::Add;
            }
        }
    });
}

simd! {
    /// Softmax in place, beside a sink; returns log Σ e^x.
    fn softmax(x: &mut [f32], sink: Option<f32>) -> f32 {
        let top = sink.map_or(max(x), |sink| max(x).max(sink));
        let mut lanes = [0f32; 16];
        let mut parts = x.chunks_exact_mut(16);
        for part in parts.by_ref() {
            for k in 0..16 {
                part[k] = exp(part[k] - top);
                lanes[k] += part[k];
            }
        }
        let mut sum = 0f32;
        for x in parts.into_remainder() {
            *x = exp(*x - top);
            sum += *x;
        }
        sum += lanes.iter().sum::<f32>();
        if let Some(sink) = sink {
            sum += exp(sink - top);
        }
        let inverse = 1.0 / sum;
        for x in x.iter_mut() {
            *x *= inverse;
        }
        top + sum.ln()
    }

    /// Turns scores `p` into weights and dL/dweights `d` into dL/dscores before the cap, for one query with outputs `out` and
    /// dL/dout `dout`.
    fn softmax_backward(p: &mut [f32], d: &mut [f32], cap: Option<f32>, dout: &[f32], out: &[f32], lse: f32) {
        let delta = dot(dout, out);
        let Some(cap) = cap else {
            for (p, d) in p.iter_mut().zip(d) {
                *p = exp(*p - lse);
                *d = *p * (*d - delta);
            }
            return;
        };
        for (p, d) in p.iter_mut().zip(d) {
            let slope = 1.0 - (*p / cap) * (*p / cap);
            *p = exp(*p - lse);
            *d = *p * (*d - delta) * slope;
        }
    }

    /// `cap·tanh(x/cap)` in place.
    pub fn soft_cap(x: &mut [f32], cap: f32) {
        let by = 1.0 / cap;
        for x in x.iter_mut() {
            *x = cap * tanh(*x * by);
        }
    }
}

/// The forward's tensors and the upstream gradient.
#[derive(Debug, Clone, Copy)]
pub struct BackwardInputs<'a> {
    /// (heads, tokens, width).
    pub q: &'a [f32],
    /// (kv_heads, tokens, width).
    pub k: &'a [f32],
    /// (kv_heads, tokens, width).
    pub v: &'a [f32],
    /// (heads, tokens, width).
    pub out: &'a [f32],
    /// (heads, tokens).
    pub lse: &'a [f32],
    /// dL/dout, (heads, tokens, width).
    pub dout: &'a [f32],
}

/// Backward: dL/dq (heads, tokens, width), and dL/dk and dL/dv per query head, (heads, tokens, width)
/// both, which [`fold`] sums over the heads that share keys. All three are overwritten.
///
/// # Panics
/// When the lengths do not fit.
pub fn backward(
    segments: &[AttentionSegment],
    shape: AttentionShape<'_>,
    inputs: BackwardInputs<'_>,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let (w, size) = (shape.width, shape.tokens * shape.width);
    shape.check(segments);
    let all = shape.heads * size;
    let whole = [inputs.q, inputs.out, inputs.dout, &*dq, &*dk, &*dv];
    assert!(
        whole.iter().all(|x| x.len() == all) && inputs.lse.len() == shape.heads * shape.tokens,
        "heads of another size"
    );
    assert!(inputs.k.len() == shape.kv_heads * size && inputs.v.len() == inputs.k.len(), "keys of another size");
    let heads = dq.par_chunks_mut(size).zip(dk.par_chunks_mut(size)).zip(dv.par_chunks_mut(size)).enumerate();
    heads.for_each_init(
        || (Vec::new(), Vec::new()),
        |(p, d): &mut (Vec<f32>, Vec<f32>), (head, ((dq, dk), dv))| {
            let (q, out, dout) = (shape.of(inputs.q, head), shape.of(inputs.out, head), shape.of(inputs.dout, head));
            let (k, v) = (shape.of(inputs.k, shape.kv(head)), shape.of(inputs.v, shape.kv(head)));
            let lse = &inputs.lse[head * shape.tokens..(head + 1) * shape.tokens];
            dk.fill(0.0);
            dv.fill(0.0);
            for block in segments.iter().flat_map(|segment| blocks(segment, shape.window)) {
                let (rows, columns) = (block.queries.len(), block.columns());
                for buffer in [&mut *p, &mut *d] {
                    if buffer.len() < rows * columns {
                        buffer.resize(rows * columns, 0.0);
                    }
                }
                let (p, d) = (&mut p[..rows * columns], &mut d[..rows * columns]);
                let here = block.queries.start * w;
                scores(p, &block, q, k, shape);
                for (keys, first) in block.stretches() {
                    if !keys.is_empty() {
                        let (a, b) = (View::rows(&dout[here..], w), View::columns(&v[keys.start * w..], w));
                        product_here(&mut d[first..], columns, WriteMode::Overwrite, a, b, (rows, keys.len(), w), 1.0);
                    }
                }
                for (i, (p, d)) in p.chunks_exact_mut(columns).zip(d.chunks_exact_mut(columns)).enumerate() {
                    let t = block.queries.start + i;
                    let sees = block.sees(i);
                    let own = t * w..(t + 1) * w;
                    for x in [&mut *p, &mut *d] {
                        x[..sees.start].fill(0.0);
                        x[sees.end..].fill(0.0);
                    }
                    let (p, d) = (&mut p[sees.clone()], &mut d[sees]);
                    softmax_backward(p, d, shape.cap, &dout[own.clone()], &out[own], lse[t]);
                }
                let mut write = WriteMode::Overwrite;
                for (keys, first) in block.stretches() {
                    if keys.is_empty() {
                        continue;
                    }
                    let at = keys.start * w;
                    let (p, d) = (View::rows(&p[first..], columns), View::rows(&d[first..], columns));
                    let back = (keys.len(), w, rows);
                    product_here(
                        &mut dv[at..],
                        w,
                        WriteMode::Add,
                        p.transposed(),
                        View::rows(&dout[here..], w),
                        back,
                        1.0,
                    );
                    product_here(
                        &mut dk[at..],
                        w,
                        WriteMode::Add,
                        d.transposed(),
                        View::rows(&q[here..], w),
                        back,
                        shape.scale,
                    );
                    let size = (rows, w, keys.len());
                    product_here(&mut dq[here..], w, write, d, View::rows(&k[at..], w), size, shape.scale);
                    write = WriteMode::Add;
                }
            }
        },
    );
}

/// dL/dsinks (heads), added to `dsinks`: a sink's weight is `exp(sink − lse)`, and what it takes from the others is `D` of each.
/// 0 without sinks.
///
/// # Panics
/// When the lengths do not fit.
pub fn sinks_backward(
    segments: &[AttentionSegment],
    shape: AttentionShape<'_>,
    inputs: BackwardInputs<'_>,
    dsinks: &mut [f32],
) {
    shape.check(segments);
    let w = shape.width;
    assert!(dsinks.len() == shape.heads && inputs.lse.len() == shape.heads * shape.tokens, "heads of another size");
    dsinks.par_iter_mut().enumerate().for_each(|(head, dsink)| {
        let Some(sink) = shape.sink(head) else { return };
        let (out, dout) = (shape.of(inputs.out, head), shape.of(inputs.dout, head));
        let lse = &inputs.lse[head * shape.tokens..(head + 1) * shape.tokens];
        for t in segments.iter().flat_map(|segment| segment.own.clone()) {
            *dsink -= exp(sink - lse[t]) * dot(&dout[t * w..(t + 1) * w], &out[t * w..(t + 1) * w]);
        }
    });
}

/// Sums `parts` (heads, tokens, width) over the query heads that share keys into `whole` (kv_heads, tokens, width).
///
/// # Panics
/// When the lengths do not fit.
pub fn fold(parts: &[f32], shape: AttentionShape<'_>, whole: &mut [f32]) {
    let size = shape.tokens * shape.width;
    let group = shape.heads / shape.kv_heads;
    assert!(whole.len() == shape.kv_heads * size && parts.len() == shape.heads * size, "heads of another size");
    whole.par_chunks_mut(size).zip(parts.par_chunks(size * group)).for_each(|(whole, parts)| {
        whole.copy_from_slice(&parts[..size]);
        for part in parts[size..].chunks_exact(size) {
            for (w, p) in whole.iter_mut().zip(part) {
                *w += p;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 12.9898).sin() * 1.3).collect()
    }

    /// Attention by its definition, in f64.
    fn plain(segments: &[AttentionSegment], shape: AttentionShape<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
        let (n, w) = (shape.tokens, shape.width);
        let mut out = vec![0.0; shape.heads * n * w];
        for head in 0..shape.heads {
            let kv = shape.kv(head);
            for s in segments {
                for t in s.own.clone() {
                    let mut keys: Vec<usize> = s.prefix.clone().chain(s.own.start..=t).collect();
                    keys.drain(..keys.len().saturating_sub(shape.window.unwrap_or(usize::MAX)));
                    let row = |x: &[f64], h: usize, t: usize| x[(h * n + t) * w..(h * n + t + 1) * w].to_vec();
                    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                    let e: Vec<f64> = keys
                        .iter()
                        .map(|j| f64::from(shape.scale) * dot(&row(q, head, t), &row(k, kv, *j)))
                        .map(|s| shape.cap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh()).exp())
                        .collect();
                    let sum = e.iter().sum::<f64>() + shape.sink(head).map_or(0.0, |sink| f64::from(sink).exp());
                    for (e, j) in e.iter().zip(&keys) {
                        for i in 0..w {
                            out[(head * n + t) * w + i] += e / sum * v[(kv * n + j) * w + i];
                        }
                    }
                }
            }
        }
        out
    }

    #[test]
    fn forward_equals_the_definition_and_backward_finite_differences() {
        let full = AttentionShape::full(150, 4, 2, 8);
        agrees(full);
        for window in [1, 5, 64, 70, 200] {
            agrees(AttentionShape { window: Some(window), ..full });
        }
        agrees(AttentionShape { scale: 0.7, cap: Some(1.5), window: Some(20), ..full });
        agrees(AttentionShape { sinks: Some(&[0.3, -1.0, 2.0, 9.0]), ..full });
        agrees(AttentionShape { sinks: Some(&[0.3, -1.0, 2.0, 4.0]), window: Some(20), ..full });
    }

    fn agrees(shape: AttentionShape<'_>) {
        // A prefix with two branches, the longer of more than one block, and a document of its own.
        let segments = [
            AttentionSegment { prefix: 0..0, own: 0..9 },
            AttentionSegment { prefix: 0..9, own: 9..90 },
            AttentionSegment { prefix: 0..9, own: 90..91 },
            AttentionSegment { prefix: 0..0, own: 91..150 },
        ];
        let size = shape.tokens * shape.width;
        let (q, k, v) = (noise(4 * size, 0.1), noise(2 * size, 0.2), noise(2 * size, 0.3));
        let dout = noise(4 * size, 0.4);
        let (mut out, mut lse) = (vec![0.0; 4 * size], vec![0.0; 4 * shape.tokens]);
        forward(&segments, shape, &q, &k, &v, &mut out, &mut lse);
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
        let want = plain(&segments, shape, &wide(&q), &wide(&k), &wide(&v));
        for (a, b) in out.iter().zip(&want) {
            assert!((f64::from(*a) - b).abs() < 2e-6, "{a} {b}");
        }
        let (mut dq, mut dk, mut dv) = (vec![0.0; 4 * size], vec![0.0; 4 * size], vec![0.0; 4 * size]);
        let inputs = BackwardInputs { q: &q, k: &k, v: &v, out: &out, lse: &lse, dout: &dout };
        backward(&segments, shape, inputs, &mut dq, &mut dk, &mut dv);
        let (mut dk2, mut dv2) = (vec![0.0; 2 * size], vec![0.0; 2 * size]);
        fold(&dk, shape, &mut dk2);
        fold(&dv, shape, &mut dv2);
        let loss = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
            plain(&segments, shape, q, k, v).iter().zip(&dout).map(|(o, d)| o * f64::from(*d)).sum()
        };
        if let Some(sinks) = shape.sinks {
            let mut dsinks = vec![0.0; sinks.len()];
            sinks_backward(&segments, shape, inputs, &mut dsinks);
            for (head, got) in dsinks.into_iter().enumerate() {
                let at = |by: f32| {
                    let mut sinks = sinks.to_vec();
                    sinks[head] += by;
                    let by = f64::from(sinks[head]) - f64::from(shape.sinks.unwrap()[head]);
                    let moved = AttentionShape { sinks: Some(&sinks), ..shape };
                    let out = plain(&segments, moved, &wide(&q), &wide(&k), &wide(&v));
                    (by, out.iter().zip(&dout).map(|(o, d)| o * f64::from(*d)).sum::<f64>())
                };
                let ((up, more), (down, less)) = (at(1e-3), at(-1e-3));
                let slope = (more - less) / (up - down);
                assert!((f64::from(got) - slope).abs() < 1e-4 * (1.0 + slope.abs()), "sink {head}: {got} {slope}");
            }
        }
        for i in (0..2 * size).step_by(97) {
            for (which, got) in [(0, dq[i * 2]), (1, dk2[i]), (2, dv2[i])] {
                let at = |by: f64| {
                    let mut all = [wide(&q), wide(&k), wide(&v)];
                    all[which][if which == 0 { i * 2 } else { i }] += by;
                    loss(&all[0], &all[1], &all[2])
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((f64::from(got) - slope).abs() < 2e-5 * (1.0 + slope.abs()), "{which} {i}: {got} {slope}");
            }
        }
    }
}
