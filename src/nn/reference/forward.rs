//! The decoder's forward, written with candle operations whose backward is tested.
//!
//! Owns the oracle for every other backend, and token-by-token decoding with a KV cache. Refuses candle's fused softmax, RMSNorm and
//! RoPE where a gradient flows: they cut the graph without an error. Without a gradient it uses them.
//!
//! **Invariants.** Right padding changes no value: attention is causal, and no real token attends to a later one. With the adapter
//! off, the computation is the base model's, bit for bit.

use super::activation::{activated, gated};
use super::experts;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::feed_forward::{FeedForward, Mlp};
use crate::model::layer::PerLayerParts;
use crate::model::layer_kinds::KeySource;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::frozen;
use crate::nn::inference;
use crate::nn::linear::Linear;
use crate::nn::logit_curve::bent;
use crate::nn::norm::Norm;
use crate::nn::pass::Pass;
use crate::nn::per_layer;
use crate::nn::rotary::RowPosition;
use candle_core::{D, Device, Tensor};
use std::collections::BTreeMap;

/// RoPE tables and the causal masks of a range of positions.
pub(in crate::nn) struct RopeAndMask {
    /// Cosines and sines of each RoPE table: (T, rotary/2), or (B, 1, T, rotary/2) where rows have different frequencies.
    tables: Vec<(Tensor, Tensor)>,
    masks: Masks,
}

/// (T, S): 0 where a query attends to a key, −∞ where not; none for a single query that attends to all.
#[derive(Clone)]
struct Masks {
    full: Option<Tensor>,
    /// That of layers with a window.
    windowed: Option<Tensor>,
}

impl RopeAndMask {
    /// Those of `count` rows from `first` on.
    pub(in crate::nn) fn rows(&self, first: usize, count: usize) -> Result<Self, Error> {
        let cut = |t: &Tensor| if t.rank() == 4 { t.narrow(0, first, count) } else { Ok(t.clone()) };
        let tables = self.tables.iter().map(|(cos, sin)| Ok((cut(cos)?, cut(sin)?))).collect::<Result<_, Error>>()?;
        Ok(Self { tables, masks: self.masks.clone() })
    }
}

/// Keys and values, (B, kv_heads, S, head_dim) each.
pub(in crate::nn) type LayerKeys = (Tensor, Tensor);

/// Keys and values that later layers read, by the layer that made them.
pub(super) type KeptKeys = BTreeMap<usize, LayerKeys>;

/// What a layer reads besides the stream.
#[derive(Clone, Copy, Default)]
pub(in crate::nn) struct LayerInputs<'a> {
    /// Its part of the layers' second input, (B, T, width).
    pub(in crate::nn) per_layer: Option<&'a Tensor>,
    /// The keys and values of the layer that it shares them with.
    pub(in crate::nn) keys: Option<&'a LayerKeys>,
}

/// What a layer makes.
pub(in crate::nn) struct LayerOutput {
    /// The stream, (B, T, H).
    pub(in crate::nn) y: Tensor,
    /// The keys and values that it attended to.
    pub(in crate::nn) keys: LayerKeys,
}

/// The KV cache of the tokens so far, with DoRA's factors, which do not change from token to token.
pub struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// The cache of one layer.
struct LayerCache {
    /// (rows, kv_heads, capacity, head_dim) each; none of a layer that reads those of another.
    keys: Option<LayerKeys>,
    /// DoRA's factors of the linear modules, as the adapter was when the cache was made.
    dora_scales: Vec<Option<Tensor>>,
}

impl Cache {
    /// Cached tokens; the same for every row.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is cached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps these rows in this order; a row named more than once is duplicated.
    ///
    /// # Errors
    /// When a row does not exist.
    pub fn select(&mut self, rows: &[u32]) -> Result<(), Error> {
        for layer_cache in &mut self.layers {
            let Some((keys, values)) = &mut layer_cache.keys else { continue };
            let index = Tensor::new(rows, keys.device())?;
            (*keys, *values) = (keys.index_select(&index, 0)?, values.index_select(&index, 0)?);
        }
        Ok(())
    }
}

impl Decoder {
    /// Token ids (B, T) to embeddings (B, T, H). `first` is the position of each row's first token; `starts` are those where a row's
    /// documents begin, if it has several.
    pub(in crate::nn) fn embed(
        &self,
        ids: &Tensor,
        (first, starts): (usize, &[usize]),
        grad: bool,
    ) -> Result<Tensor, Error> {
        let (b, t) = ids.dims2()?;
        let rows = self.embedding().tensor(grad).index_select(&ids.flatten_all()?, 0)?.to_dtype(self.dtype())?;
        let scale = self.config().embedding_scale;
        let rows = if scale == 1.0 { rows } else { (rows * scale)? };
        let rows = rows.reshape((b, t, self.config().hidden))?;
        let start = |i: usize| starts.iter().rev().find(|s| **s <= i).copied().unwrap_or(0);
        let places: Vec<u32> = (0..t).map(|i| (first + i - start(i)) as u32).collect();
        self.check_position(places.iter().max().map_or(0, |last| *last as usize))?;
        let Some(table) = self.positions() else { return Ok(rows) };
        let places = Tensor::new(places, ids.device())?;
        Ok(rows.broadcast_add(&table.tensor(grad).index_select(&places, 0)?.to_dtype(self.dtype())?)?)
    }

    /// One layer of the stream (B, T, H).
    pub(in crate::nn) fn layer(
        &self,
        i: usize,
        x: &Tensor,
        inputs: LayerInputs<'_>,
        rope: &RopeAndMask,
        pass: &Pass,
    ) -> Result<LayerOutput, Error> {
        self.layers()[i].forward(x, inputs, rope, pass, self.config(), None)
    }

    /// The layers' second input, (B, T, layers, width), from token ids (B, T) and their embeddings; none where they have none.
    pub(super) fn per_layer_inputs(&self, ids: &Tensor, x: &Tensor, pass: &Pass) -> Result<Option<Tensor>, Error> {
        self.per_layer().map(|inputs| inputs.forward(ids, x, pass)).transpose()
    }

    /// The final norm: (N, H) to (N, H).
    pub(crate) fn norm(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        self.last_norm().forward(x, pass)
    }

    /// RoPE tables and masks of rows of these lengths, padded to `len`.
    pub(in crate::nn) fn rope_and_mask(&self, lengths: &[usize], len: usize) -> Result<RopeAndMask, Error> {
        let rotary = self.rotary();
        let long: Vec<bool> = lengths.iter().map(|n| rotary.is_long(*n)).collect();
        let row = |long: bool| (0..len).map(move |at| RowPosition { at, long });
        let tables = if long.windows(2).all(|pair| pair[0] == pair[1]) {
            self.tables(|| row(long.first().copied().unwrap_or(false)), &[len])?
        } else {
            self.tables(|| long.iter().flat_map(|long| row(*long)), &[long.len(), 1, len])?
        };
        Ok(RopeAndMask { tables, masks: self.masks(len, len, |i, j| j <= i, |i, j| i - j)? })
    }

    /// The same of the next `len` positions of rows that have `start` tokens.
    fn rope_and_mask_after(&self, start: usize, len: usize) -> Result<RopeAndMask, Error> {
        let long = self.rotary().is_long(start + len);
        if start > 0 && long != self.rotary().is_long(start) {
            return Err(Error::Invalid(format!(
                "a row that grows beyond {start} tokens needs the frequencies of long rows from its first token on; start it again"
            )));
        }
        let positions = || (start..start + len).map(move |at| RowPosition { at, long });
        let tables = self.tables(positions, &[len])?;
        let mut masks = self.masks(len, start + len, |i, j| j <= start + i, |i, j| start + i - j)?;
        if len == 1 {
            masks.full = None;
        }
        Ok(RopeAndMask { tables, masks })
    }

    /// As [`Decoder::rope_and_mask`] for `len` positions of several documents, which begin at `starts`: positions restart
    /// with each, and none attends to another.
    pub(in crate::nn) fn packed_rope_and_mask(&self, starts: &[usize], len: usize) -> Result<RopeAndMask, Error> {
        let first = |i: usize| starts.iter().rev().find(|s| **s <= i).copied().unwrap_or(0);
        let end = |i: usize| starts.iter().find(|s| **s > i).copied().unwrap_or(len);
        let position = |i: usize| RowPosition { at: i - first(i), long: self.rotary().is_long(end(i) - first(i)) };
        let tables = self.tables(|| (0..len).map(position), &[len])?;
        Ok(RopeAndMask { tables, masks: self.masks(len, len, |i, j| j <= i && j >= first(i), |i, j| i - j)? })
    }

    /// Cosines and sines of these positions from each RoPE table, (…, rotary/2) with the dimensions `lead` before.
    fn tables<I: Iterator<Item = RowPosition>>(
        &self,
        positions: impl Fn() -> I,
        lead: &[usize],
    ) -> Result<Vec<(Tensor, Tensor)>, Error> {
        let tensor = |values: Vec<f64>, half: usize| -> Result<Tensor, Error> {
            let shape = [lead, &[half]].concat();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype())?.to_device(self.device())?)
        };
        let table = |i: usize| {
            let ((cos, sin), half) = (self.rotary().table(i, positions(), |x| x), self.rotary().half(i));
            Ok((tensor(cos, half)?, tensor(sin, half)?))
        };
        (0..self.rotary().count()).map(table).collect()
    }

    /// The masks of `len` queries and `seen` keys, where `sees` says which keys a query has before it, and `back` how many
    /// tokens before it they are.
    fn masks(
        &self,
        len: usize,
        seen: usize,
        sees: impl Fn(usize, usize) -> bool,
        back: impl Fn(usize, usize) -> usize,
    ) -> Result<Masks, Error> {
        let mask = |window: usize| {
            let value = |k: usize| {
                let (i, j) = (k / seen, k % seen);
                if sees(i, j) && back(i, j) < window { 0.0 } else { f32::NEG_INFINITY }
            };
            let mask: Vec<f32> = (0..len * seen).map(value).collect();
            Ok::<_, Error>(Tensor::from_vec(mask, (len, seen), self.device())?.to_dtype(self.dtype())?)
        };
        let windowed = self.config().window.map(mask).transpose()?;
        Ok(Masks { full: Some(mask(usize::MAX)?), windowed })
    }

    /// An empty cache for `rows` rows of at most `capacity` tokens, valid until the decoder's next update.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn cache(&self, rows: usize, capacity: usize) -> Result<Cache, Error> {
        let zeros = |layer: &Layer| {
            let shape = (rows, layer.shape.kv_heads, capacity, layer.shape.head_dim);
            Ok::<_, Error>(Tensor::zeros(shape, self.dtype(), self.device())?)
        };
        let layer_cache = |layer: &Layer| {
            let keys = match layer.shape.source() {
                None => Some((zeros(layer)?, zeros(layer)?)),
                Some(_) => None,
            };
            Ok(LayerCache { keys, dora_scales: layer.dora_scales()? })
        };
        let layers = self.layers().iter().map(layer_cache).collect::<Result<_, Error>>()?;
        Ok(Cache { layers, len: 0 })
    }

    /// Runs the next tokens of every row, (B, T) ids, and returns the logits (B, V) after the last. No gradient.
    ///
    /// # Errors
    /// When the cache is full or has another number of rows.
    pub fn step(&self, ids: &Tensor, cache: &mut Cache, adapter: bool) -> Result<Tensor, Error> {
        let (_, t) = ids.dims2()?;
        let pass = Pass::plain(adapter);
        let rope = self.rope_and_mask_after(cache.len, t)?;
        let mut x = self.embed(ids, (cache.len, &[]), false)?;
        let (per_layer, mut kept) = (self.per_layer_inputs(ids, &x, &pass)?, KeptKeys::new());
        for (i, (layer, layer_cache)) in self.layers().iter().zip(&cache.layers).enumerate() {
            let part = per_layer.as_ref().map(|all| per_layer::part(all, i)).transpose()?;
            let inputs = LayerInputs {
                per_layer: part.as_ref(),
                keys: layer.shape.source().and_then(|source| kept.get(&source)),
            };
            let made = layer.forward(&x, inputs, &rope, &pass, self.config(), Some((layer_cache, cache.len)))?;
            if layer.shape.kept {
                kept.insert(i, made.keys);
            }
            x = made.y;
        }
        cache.len += t;
        let last = x.narrow(1, t - 1, 1)?.squeeze(1)?.contiguous()?;
        bent(self.logits(), &self.norm(&last, &pass)?.matmul(&self.head()?.t()?)?)
    }
}

impl Layer {
    /// `cached` is this layer's cache and its number of filled positions.
    fn forward(
        &self,
        x: &Tensor,
        inputs: LayerInputs<'_>,
        rope: &RopeAndMask,
        pass: &Pass,
        c: &Config,
        cached: Option<(&LayerCache, usize)>,
    ) -> Result<LayerOutput, Error> {
        let ((b, t, _), shape) = (x.dims3()?, &self.shape);
        let dora_scale = |i: usize| cached.and_then(|(layer_cache, _)| layer_cache.dora_scales[i].as_ref());
        let normed = |norm: &Option<Norm>, x: Tensor| match norm {
            Some(norm) => norm.forward(&x, pass),
            None => Ok(x),
        };
        let h = normed(&self.attention_norm, x.clone())?;
        // (B, T, heads·hd) to (B, heads, T, hd); the norm is over each head, or over all heads at once.
        let split = |y: Tensor, heads: usize, norm: Option<&Norm>| -> Result<Tensor, Error> {
            let y = match norm {
                Some(norm) => norm.forward(&y.reshape((b, t, (), norm.weight.stored().elem_count()))?, pass)?,
                None => y,
            };
            Ok(y.reshape((b, t, heads, shape.head_dim))?.transpose(1, 2)?.contiguous()?)
        };
        // Outputs of modules that read one input, in parts of these widths; module `i` is the first.
        let through = |modules: &[Linear], i: usize, h: &Tensor, widths: &[usize]| -> Result<Vec<Tensor>, Error> {
            let run = |(n, module): (usize, &Linear)| module.forward(h, pass, dora_scale(i + n));
            let all = modules.iter().enumerate().map(run).collect::<Result<Vec<_>, _>>()?;
            let [one] = &all[..] else { return Ok(all) };
            if widths.len() == 1 {
                return Ok(all);
            }
            let mut first = 0;
            let part = |width: &usize| {
                first += width;
                Ok(one.narrow(D::Minus1, first - width, *width)?.contiguous()?)
            };
            widths.iter().map(part).collect()
        };
        let turned = |y: Tensor| match self.rope.and_then(|i| rope.tables.get(i)) {
            Some(table) => rotate(&y, table, pass),
            None => Ok(y),
        };
        let widths = [shape.q_width(), shape.kv_width(), shape.kv_width()];
        let parts = if c.layer.by_head {
            // Head by head its query, key and value.
            let all = self.qkv[0].forward(&h, pass, dora_scale(0))?.reshape((b, t, shape.heads, 3, shape.head_dim))?;
            let part = |i: usize| Ok(all.narrow(3, i, 1)?.contiguous()?.reshape((b, t, shape.q_width()))?);
            (0..3).map(part).collect::<Result<_, Error>>()?
        } else {
            through(&self.qkv, 0, &h, if shape.source().is_some() { &widths[..1] } else { &widths })?
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().ok_or_else(missing);
        // Pairs (2i, 2i + 1) of each head as (i, i + half): scores are sums over pairs, in whatever order.
        let in_order = |y: Tensor| {
            if !c.layer.rope_pairs {
                return Ok::<_, Error>(y);
            }
            let width = y.dim(D::Minus1)?;
            let pairs =
                y.reshape((b, t, width / shape.head_dim, shape.head_dim / 2, 2))?.transpose(3, 4)?.contiguous()?;
            Ok(pairs.reshape((b, t, width))?)
        };
        let q = turned(split(in_order(next()?)?, shape.heads, self.q_norm.as_ref())?)?;
        let keys = match (shape.source(), inputs.keys) {
            (Some(_), Some(shared)) => shared.clone(),
            (Some(_), None) => return Err(missing()),
            (None, _) => {
                let key = next()?;
                let value = if shape.keys == KeySource::KeysAlone { key.clone() } else { next()? };
                let k = turned(split(in_order(key)?, shape.kv_heads, self.k_norm.as_ref())?)?;
                let v = split(value, shape.kv_heads, self.value_norm.as_ref())?;
                match cached.and_then(|(layer_cache, filled)| Some((layer_cache.keys.as_ref()?, filled))) {
                    None => (k, v),
                    Some(((keys, values), filled)) => {
                        keys.slice_set(&k, 2, filled)?;
                        values.slice_set(&v, 2, filled)?;
                        (keys.narrow(2, 0, filled + t)?, values.narrow(2, 0, filled + t)?)
                    }
                }
            }
        };
        let mask = if self.window.is_some() { &rope.masks.windowed } else { &rope.masks.full };
        let sinks = match &self.sinks {
            Some(sinks) => Some(sinks.weight.cast(pass.grad, q.dtype())?),
            None => None,
        };
        let a = attend(&q, &keys.0, &keys.1, (mask.as_ref(), sinks.as_ref()), c, pass)?;
        let a = a.transpose(1, 2)?.reshape((b, t, shape.q_width()))?;
        let o = self.qkv.len();
        let scaled = |y: Tensor| match c.layer.residual_scale {
            1.0 => Ok(y),
            scale => y.affine(scale, 0.0),
        };
        let a = normed(&self.attention_out_norm, self.o.forward(&a, pass, dora_scale(o))?)?;
        let mid = (x + scaled(a)?)?;
        let before = self.before_mlp(c.layer.shared_norm);
        let h = if c.layer.parallel { x.clone() } else { mid.clone() };
        let h = before.map_or(Ok(h.clone()), |norm| norm.forward(&h, pass))?;
        let more = match (&self.mlp, &c.layer.experts) {
            (FeedForward::Dense(Mlp { gate_up, down }), _) => {
                let widths = if c.layer.gated { &[shape.ff, shape.ff][..] } else { &[shape.ff] };
                let inner = match &through(gate_up, o + 1, &h, widths)?[..] {
                    [gate, up] => gated(gate, up, c.layer.activation)?,
                    [only] => activated(only, c.layer.activation)?,
                    _ => return Err(Error::Invalid("gate and up are missing; this is a bug".into())),
                };
                down.forward(&inner, pass, dora_scale(o + 1 + gate_up.len()))?
            }
            (FeedForward::Experts(all), Some(spec)) => experts::forward(all, spec, c.layer.activation, &h, pass)?,
            _ => return Err(Error::Invalid("the model names no experts; this is a bug".into())),
        };
        let mut y = (&mid + scaled(normed(&self.mlp_out_norm, more)?)?)?;
        if let (Some(PerLayerParts { gate, out, norm }), Some(part)) = (&self.per_layer, inputs.per_layer) {
            let inner = (activated(&gate.forward(&y, pass, None)?, c.layer.activation)? * part)?;
            y = (&y + norm.forward(&out.forward(&inner, pass, None)?, pass)?)?;
        }
        if let Some(factor) = self.factor {
            y = y.affine(factor, 0.0)?;
        }
        Ok(LayerOutput { y, keys })
    }
}

fn missing() -> Error {
    Error::Invalid("queries, keys or values are missing; this is a bug".into())
}

/// Rotary positions (Su et al. 2021) in the half-split order of Hugging Face: x (B, heads, T, hd), of which the first numbers
/// of a head are rotated, as many as twice the tables' width.
fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor), pass: &Pass) -> Result<Tensor, Error> {
    let (width, half) = (x.dim(D::Minus1)?, cos.dim(D::Minus1)?);
    if 2 * half < width {
        let turned = rotate(&x.narrow(D::Minus1, 0, 2 * half)?.contiguous()?, &(cos.clone(), sin.clone()), pass)?;
        let rest = x.narrow(D::Minus1, 2 * half, width - 2 * half)?;
        return Ok(Tensor::cat(&[turned, rest], D::Minus1)?.contiguous()?);
    }
    if !pass.grad && cos.rank() == 2 {
        return inference::rope(x, cos, sin);
    }
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let times = |x: &Tensor, c: &Tensor| x.contiguous()?.apply_op1(frozen::Times { constant: c.clone() });
    let left = (times(&first, cos)? - times(&second, sin)?)?;
    let right = (times(&second, cos)? + times(&first, sin)?)?;
    Ok(Tensor::cat(&[left, right], D::Minus1)?)
}

/// Scaled dot-product attention. q (B, heads, T, hd), k and v (B, kv_heads, S, hd): the queries that share a key head are
/// stacked along T, so that keys and values are never copied per query head. `sinks` (heads) are a column more of the scores, whose
/// weights are dropped.
fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    (mask, sinks): (Option<&Tensor>, Option<&Tensor>),
    c: &Config,
    pass: &Pass,
) -> Result<Tensor, Error> {
    let (b, heads, t, hd) = q.dims4()?;
    let (kv, s) = (k.dim(1)?, k.dim(2)?);
    let group = heads / kv;
    let q = q.reshape((b, kv, group * t, hd))?;
    let scores = q.matmul(&k.t()?)?.affine(c.attention_scale(), 0.0)?;
    let scores = match c.layer.attention_cap {
        None => scores,
        Some(cap) => scores.affine(1.0 / cap, 0.0)?.tanh()?.affine(cap, 0.0)?,
    };
    let scores = match mask {
        None => scores,
        Some(mask) => {
            let scores = scores.reshape((b, kv, group, t, s))?.apply_op1(frozen::Plus { constant: mask.clone() })?;
            scores.reshape((b, kv, group * t, s))?
        }
    };
    let scores = match sinks {
        None => scores,
        Some(sinks) => {
            let column = sinks.reshape((1, kv, group, 1, 1))?.broadcast_as((b, kv, group, t, 1))?;
            Tensor::cat(&[scores, column.reshape((b, kv, group * t, 1))?], D::Minus1)?
        }
    };
    let weights = if pass.grad {
        // The maximum is detached: softmax does not depend on it, so its gradient is 0.
        let top = scores.detach().max_keepdim(D::Minus1)?.neg()?;
        let e = scores.apply_op1(frozen::Plus { constant: top })?.exp()?;
        e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?
    } else {
        inference::softmax(&scores)?
    };
    let weights = if sinks.is_some() { weights.narrow(D::Minus1, 0, s)?.contiguous()? } else { weights };
    Ok(weights.matmul(&v.contiguous()?)?.reshape((b, heads, t, hd))?)
}
