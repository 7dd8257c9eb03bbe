//! Decoding on the CPU: packed weights, and one forward pass for tokens of many rows at different positions.
//!
//! Owns the packed model, built from a `Decoder` (with its current adapters) or directly from a model's
//! files without an f32 copy. Refuses gradients and other devices; `Decoder` is its oracle.
//!
//! **Quantised weights.** Where a file's matrices are quantised, the arithmetic is llama.cpp's on a CPU: a product's inputs
//! are rounded to 8 bits as it rounds them, and queries, keys, values and attention weights to f16.
//!
//! **Invariant.** A token's results depend only on its row's tokens, to the bit: not on other rows, on
//! prefill or single step, on the length of the row's shared prefix, or on the number of threads.

mod build;
mod experts;
mod linear;
mod norm;
mod per_layer;
mod queue;

use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::layer::LayerParts;
use crate::model::layer_kinds::KeySource;
use crate::nn::logit_curve::bend_slice;
use crate::nn::rotary::{Rotary, RowPosition};
use linear::{PackedLinear, apart, linear, multiply};
use norm::PackedNorm;
use per_layer::{PackedPerLayer, close_layer};
pub use queue::{PromptRequest, Queue};
use rayon::prelude::*;
use std::sync::Arc;
use tiebreak_kernels::cached::{CachedShape, KvSpan, LayerCache, SeenPositions, attend, round_halves};
use tiebreak_kernels::leaf;
use tiebreak_kernels::packed::Matrix;

/// A layer.
type PackedLayer = LayerParts<PackedLinear, PackedNorm>;

/// A language model packed for decoding.
pub struct PackedDecoder {
    config: Config,
    embed: Matrix,
    /// Learned position embeddings, (context, H); empty where the model has none.
    positions: Vec<f32>,
    per_layer: Option<PackedPerLayer>,
    layers: Vec<PackedLayer>,
    norm: PackedNorm,
    /// None when the head is tied to the embedding.
    head: Option<Matrix>,
    rotary: Rotary,
    /// Whether the layers' matrices are quantised.
    quantised: bool,
}

/// Keys and values of consecutive positions.
#[derive(Debug, Default)]
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
    /// Whether the keys have the RoPE frequencies of long rows.
    long: bool,
}

/// A row's KV cache: a prefix that it may share with other rows, and its own continuation.
#[derive(Debug, Default)]
pub(super) struct RowCache {
    /// The shared prefix.
    pub(crate) prefix: Arc<KvCache>,
    /// The positions after it.
    pub(crate) own: KvCache,
}

impl RowCache {
    /// A row that continues from `prefix`.
    pub(crate) fn after(prefix: &Arc<KvCache>) -> Self {
        Self { prefix: prefix.clone(), own: KvCache { long: prefix.long, ..KvCache::default() } }
    }

    /// Cached tokens.
    pub(crate) fn len(&self) -> usize {
        self.prefix.len + self.own.len
    }

    /// Keys and values of a layer up to and including own position `last`, of these the last `window`.
    fn seen(&self, layer: usize, last: usize, stride: usize, window: Option<usize>) -> SeenPositions<'_> {
        let skipped = window.map_or(0, |window| (self.prefix.len + last + 1).saturating_sub(window));
        let shared = match self.prefix.len {
            0 => KvSpan::NONE,
            len => self.prefix.layers[layer].first(len, stride),
        };
        SeenPositions { spans: [shared, self.own.layers[layer].first(last + 1, stride)], skipped }
    }
}

impl PackedDecoder {
    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Memory of the weights in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let layer = |l: &PackedLayer| -> usize {
            l.linears().into_iter().chain(l.mlp.routed()).map(|l| l.weight.bytes()).sum()
        };
        size_of_val(&self.positions[..])
            + self.per_layer.as_ref().map_or(0, PackedPerLayer::bytes)
            + self.embed.bytes()
            + self.head.as_ref().map_or(0, Matrix::bytes)
            + self.layers.iter().map(layer).sum::<usize>()
    }

    fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// Runs a prompt: returns its KV cache and the logits (V) after it.
    ///
    /// # Errors
    /// When the prompt is empty, or a token is not in the vocabulary.
    pub(crate) fn prefill(&self, prompt: &[u32]) -> Result<(KvCache, Vec<f32>), Error> {
        if prompt.is_empty() {
            return Err(Error::Invalid(
                "an empty prompt cannot be continued; give it at least one token of text".into(),
            ));
        }
        self.prefill_as(prompt, self.rotary.is_long(prompt.len()))
    }

    fn prefill_as(&self, prompt: &[u32], long: bool) -> Result<(KvCache, Vec<f32>), Error> {
        let mut cache = RowCache::default();
        cache.own.long = long;
        let rows: Vec<usize> = vec![0; prompt.len()];
        let x = self.forward(prompt, &rows, &mut [&mut cache])?;
        let last = &x[x.len() - self.config.hidden..];
        Ok((cache.own, self.logits(last)))
    }

    /// Makes a row's cache anew where its next token makes it a long one, with other RoPE frequencies from its first token on.
    /// `tokens` are the row's tokens so far, of which the last is not yet cached.
    ///
    /// # Errors
    /// As [`PackedDecoder::step`].
    pub(super) fn lengthen(&self, cache: &mut RowCache, tokens: impl Fn() -> Vec<u32>) -> Result<(), Error> {
        if cache.own.long || !self.rotary.is_long(cache.len() + 1) {
            return Ok(());
        }
        let tokens = tokens();
        let (own, _) = self.prefill_as(&tokens[..tokens.len().saturating_sub(1)], true)?;
        *cache = RowCache { prefix: Arc::default(), own };
        Ok(())
    }

    /// Runs one token of each row and returns the logits (rows, V) after it.
    ///
    /// # Errors
    /// When a token is not in the vocabulary.
    pub(super) fn step(&self, tokens: &[u32], rows: &mut [&mut RowCache]) -> Result<Vec<f32>, Error> {
        let each: Vec<usize> = (0..tokens.len()).collect();
        let x = self.forward(tokens, &each, rows)?;
        Ok(self.logits(&x))
    }

    fn logits(&self, x: &[f32]) -> Vec<f32> {
        // A pool thread that waits for others works or spins, and need not be woken.
        let mut z = rayon::scope(|_| multiply(&[self.head()], &self.normed(x, &self.norm)).concat());
        bend_slice(self.config.layer.logits, &mut z);
        z
    }

    fn normed(&self, x: &[f32], norm: &PackedNorm) -> Vec<f32> {
        norm.of(x, self.config.rms_eps as f32)
    }

    /// The last layer's output (n, H) for tokens in the order of their positions within each row; `of` holds each token's row.
    fn forward(&self, tokens: &[u32], of: &[usize], rows: &mut [&mut RowCache]) -> Result<Vec<f32>, Error> {
        let c = &self.config;
        if let Some(token) = tokens.iter().find(|t| **t as usize >= c.vocab) {
            return Err(Error::Invalid(format!("token {token} is not among the model's {} tokens", c.vocab)));
        }
        let mut x = vec![0.0; tokens.len() * c.hidden];
        x.par_chunks_mut(c.hidden).zip(tokens).with_min_len(16).for_each(|(x, t)| self.embed.row(*t as usize, x));
        let scale = c.embedding_scale as f32;
        if scale != 1.0 {
            for x in &mut x {
                *x *= scale;
            }
        }
        // Each token's position in its row's own part, and in the whole row.
        let mut counts: Vec<usize> = rows.iter().map(|r| r.own.len).collect();
        let own: Vec<usize> = of
            .iter()
            .map(|r| {
                counts[*r] += 1;
                counts[*r] - 1
            })
            .collect();
        for row in rows.iter_mut() {
            row.own.layers.resize_with(c.layers, LayerCache::default);
        }
        let at: Vec<usize> = of.iter().zip(&own).map(|(r, o)| rows[*r].prefix.len + o).collect();
        c.check_position(at.iter().max().copied().unwrap_or(0))?;
        if !self.positions.is_empty() {
            for (x, at) in x.chunks_exact_mut(c.hidden).zip(&at) {
                leaf::add(x, &self.positions[at * c.hidden..(at + 1) * c.hidden]);
            }
        }
        let inputs = self.per_layer.as_ref();
        let second = inputs.map_or_else(Vec::new, |inputs| inputs.inputs(tokens, &x, c));
        let position = |(at, r): (&usize, &usize)| RowPosition { at: *at, long: rows[*r].own.long };
        let table = |i: usize| self.rotary.table(i, at.iter().zip(of).map(position), |x| x as f32);
        let tables: Vec<_> = (0..self.rotary.count()).map(table).collect();
        rayon::scope(|_| {
            for (i, layer) in self.layers.iter().enumerate() {
                self.layer(i, layer, &mut x, of, &own, &tables, rows);
                close_layer(c, i, layer, &mut x, &second);
            }
        });
        for (row, count) in rows.iter_mut().zip(counts) {
            row.own.len = count;
        }
        Ok(x)
    }

    #[expect(clippy::too_many_arguments, reason = "a layer, its input, and its tokens' positions")]
    fn layer(
        &self,
        i: usize,
        layer: &PackedLayer,
        x: &mut [f32],
        of: &[usize],
        own: &[usize],
        tables: &[(Vec<f32>, Vec<f32>)],
        rows: &mut [&mut RowCache],
    ) {
        let c = &self.config;
        let sizes = c.shape_of(i);
        let (hd, stride) = (sizes.head_dim, sizes.kv_width());
        let input = |norm: &Option<PackedNorm>, x: &[f32]| norm.as_ref().map(|norm| self.normed(x, norm));
        // The residual connection, with the norm after the block if there is one.
        let scale = c.layer.residual_scale as f32;
        let residual = |norm: &Option<PackedNorm>, x: &mut [f32], more: Vec<f32>| match norm {
            Some(norm) => leaf::scale_add(x, scale, &self.normed(&more, norm)),
            None => leaf::scale_add(x, scale, &more),
        };
        let h = input(&layer.attention_norm, x);
        let qkv: Vec<&PackedLinear> = layer.qkv.iter().collect();
        let widths = [sizes.q_width(), stride, stride];
        let outputs = linear(&qkv, h.as_deref().unwrap_or(x));
        let widths = if sizes.source().is_some() { &widths[..1] } else { &widths };
        let mut qkv = if c.layer.by_head { by_head(&outputs, hd) } else { apart(outputs, widths) }.into_iter();
        // In parallel the feed-forward reads the layer's input.
        let before = if c.layer.shared_norm { &layer.attention_norm } else { &layer.mlp_norm };
        let beside = c.layer.parallel.then(|| input(before, x).unwrap_or_else(|| x.to_vec()));
        let mut next = || qkv.next().unwrap_or_default();
        let (mut q, mut k) = (next(), next());
        let mut v = if sizes.keys == KeySource::KeysAlone { k.clone() } else { next() };
        if let Some(norm) = &layer.q_norm {
            q = self.normed(&q, norm);
        }
        if let Some(norm) = &layer.k_norm {
            k = self.normed(&k, norm);
        }
        if c.layer.value_norm {
            // A norm without a weight.
            let raw = std::mem::take(&mut v);
            v = vec![0.0; raw.len()];
            leaf::rms_norm(&raw, &vec![1.0; hd], c.rms_eps as f32, &mut v);
        }
        if c.layer.rope_pairs {
            (q, k) = (in_order(&q, hd), in_order(&k, hd));
        }
        if let Some((cos, sin)) = c.rope_of(i).and_then(|table| tables.get(table)) {
            rotate(&mut q, sizes.q_width(), hd, cos, sin);
            if !k.is_empty() {
                rotate(&mut k, stride, hd, cos, sin);
            }
        }
        if self.quantised {
            for x in [&mut q, &mut k, &mut v] {
                round_halves(x);
            }
        }
        for ((r, k), v) in of.iter().zip(k.chunks_exact(stride)).zip(v.chunks_exact(stride)) {
            rows[*r].own.layers[i].push(k, v);
        }
        let source = sizes.source().unwrap_or(i);
        let seen: Vec<_> =
            of.iter().zip(own).map(|(r, last)| rows[*r].seen(source, *last, stride, c.window_of(i))).collect();
        let mut out = vec![0.0; q.len()];
        let shape = CachedShape {
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            width: hd,
            scale: c.attention_scale() as f32,
            cap: c.layer.attention_cap.map(|cap| cap as f32),
            sinks: layer.sinks.as_ref().map(|sinks| &sinks.gamma[..]),
            halves: self.quantised,
        };
        attend(&seen, &q, shape, &mut out);
        residual(&layer.attention_out_norm, x, linear(&[&layer.o], &out).concat());
        let h = beside.or_else(|| input(before, x));
        let more = experts::feed_forward(c, &layer.mlp, h.as_deref().unwrap_or(x));
        residual(&layer.mlp_out_norm, x, more);
    }
}

/// Queries, keys and values of a fused module whose outputs are, head by head, its query, key and value.
fn by_head(outputs: &[Vec<f32>], width: usize) -> Vec<Vec<f32>> {
    let all = outputs.first().map_or(&[][..], Vec::as_slice);
    let part = |i: usize| all.chunks_exact(width).skip(i).step_by(3).flatten().copied().collect();
    (0..3).map(part).collect()
}

/// Pairs (2i, 2i + 1) of each head as (i, i + half); scores are sums over pairs, in whatever order.
fn in_order(x: &[f32], width: usize) -> Vec<f32> {
    let head = |head: &[f32]| -> Vec<f32> {
        let (first, second) = (head.iter().step_by(2), head.iter().skip(1).step_by(2));
        first.chain(second).copied().collect()
    };
    x.chunks_exact(width).flat_map(head).collect()
}

/// RoPE (Su et al. 2021) in the half-split order, in place, of the first 2·half numbers of each head: x (n, heads · hd),
/// tables (n, half).
fn rotate(x: &mut [f32], width: usize, hd: usize, cos: &[f32], sin: &[f32]) {
    let half = cos.len() / (x.len() / width).max(1);
    for ((x, cos), sin) in x.chunks_exact_mut(width).zip(cos.chunks_exact(half)).zip(sin.chunks_exact(half)) {
        for head in x.chunks_exact_mut(hd) {
            let (left, right) = head[..2 * half].split_at_mut(half);
            for (((l, r), c), s) in left.iter_mut().zip(right).zip(cos).zip(sin) {
                (*l, *r) = (*l * c - *r * s, *r * c + *l * s);
            }
        }
    }
}

#[cfg(test)]
mod families;
#[cfg(test)]
mod tests;
