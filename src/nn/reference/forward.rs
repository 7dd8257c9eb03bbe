//! The decoder's forward, written with candle operations whose backward is tested.
//!
//! Owns the oracle for every other backend, and token-by-token decoding with a KV cache. Refuses candle's fused softmax, RMSNorm and
//! RoPE where a gradient flows: they cut the graph without an error. Without a gradient it uses them.
//!
//! **Invariants.** Right padding changes no value: attention is causal, and no real token attends to a later one. With the adapter
//! off, the computation is the base model's, bit for bit.

use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::layer::Activation;
use crate::model::tune::LINEARS;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::frozen;
use crate::nn::inference;
use crate::nn::norm::Norm;
use crate::nn::pass::Pass;
use candle_core::{D, Device, Tensor};

/// RoPE tables and the causal mask of a range of positions.
pub(in crate::nn) struct RopeAndMask {
    /// (T, head_dim/2).
    cos: Tensor,
    /// (T, head_dim/2).
    sin: Tensor,
    /// (T, S): 0 where a query attends to a key, −∞ where not; none for a single query that attends to all.
    mask: Option<Tensor>,
}

/// The KV cache of the tokens so far, with DoRA's factors, which do not change from token to token.
pub struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// The cache of one layer.
struct LayerCache {
    /// (rows, kv_heads, capacity, head_dim).
    keys: Tensor,
    /// As the keys.
    values: Tensor,
    /// DoRA's factors of the linear modules, as the adapter was when the cache was made.
    dora_scales: [Option<Tensor>; LINEARS.len()],
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
            let index = Tensor::new(rows, layer_cache.keys.device())?;
            layer_cache.keys = layer_cache.keys.index_select(&index, 0)?;
            layer_cache.values = layer_cache.values.index_select(&index, 0)?;
        }
        Ok(())
    }
}

impl Decoder {
    /// Token ids (B, T) to embeddings (B, T, H).
    pub(in crate::nn) fn embed(&self, ids: &Tensor, grad: bool) -> Result<Tensor, Error> {
        let (b, t) = ids.dims2()?;
        let rows = self.embedding().tensor(grad).index_select(&ids.flatten_all()?, 0)?.to_dtype(self.dtype())?;
        let scale = self.config().embedding_scale;
        let rows = if scale == 1.0 { rows } else { (rows * scale)? };
        Ok(rows.reshape((b, t, self.config().hidden))?)
    }

    /// One layer: (B, T, H) to (B, T, H).
    pub(in crate::nn) fn layer(&self, i: usize, x: &Tensor, rope: &RopeAndMask, pass: &Pass) -> Result<Tensor, Error> {
        self.layers()[i].forward(x, rope, pass, self.config(), None)
    }

    /// The final norm: (N, H) to (N, H).
    pub(crate) fn norm(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        self.last_norm().forward(x, pass)
    }

    /// RoPE tables and mask of `len` positions from `start` on.
    pub(in crate::nn) fn rope_and_mask(&self, start: usize, len: usize) -> Result<RopeAndMask, Error> {
        let (cos, sin) = self.rotary(start..start + len)?;
        let seen = start + len;
        let mask = if len == 1 { None } else { Some(self.mask(len, seen, |i, j| j <= start + i)?) };
        Ok(RopeAndMask { cos, sin, mask })
    }

    /// As [`Decoder::rope_and_mask`] for `len` positions of several documents, which begin at `starts`: positions restart
    /// with each, and none attends to another.
    pub(in crate::nn) fn packed_rope_and_mask(&self, starts: &[usize], len: usize) -> Result<RopeAndMask, Error> {
        let first = |i: usize| starts.iter().rev().find(|s| **s <= i).copied().unwrap_or(0);
        let (cos, sin) = self.rotary((0..len).map(|i| i - first(i)))?;
        let mask = Some(self.mask(len, len, |i, j| j <= i && j >= first(i))?);
        Ok(RopeAndMask { cos, sin, mask })
    }

    /// Cosines and sines, (T, head_dim/2), of these positions.
    fn rotary(&self, positions: impl Iterator<Item = usize>) -> Result<(Tensor, Tensor), Error> {
        let angles = self.angles(positions);
        let half = self.config().head_dim / 2;
        let shape = (angles.len() / half.max(1), half);
        let table = |f: fn(f64) -> f64| -> Result<Tensor, Error> {
            let values: Vec<f64> = angles.iter().map(|a| f(*a)).collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype())?.to_device(self.device())?)
        };
        Ok((table(f64::cos)?, table(f64::sin)?))
    }

    /// (len, seen): 0 where query i attends to key j, −∞ where not.
    fn mask(&self, len: usize, seen: usize, sees: impl Fn(usize, usize) -> bool) -> Result<Tensor, Error> {
        let value = |k: usize| if sees(k / seen, k % seen) { 0.0 } else { f32::NEG_INFINITY };
        let mask: Vec<f32> = (0..len * seen).map(value).collect();
        Ok(Tensor::from_vec(mask, (len, seen), self.device())?.to_dtype(self.dtype())?)
    }

    /// An empty cache for `rows` rows of at most `capacity` tokens, valid until the decoder's next update.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn cache(&self, rows: usize, capacity: usize) -> Result<Cache, Error> {
        let shape = (rows, self.config().kv_heads, capacity, self.config().head_dim);
        let zeros = || Tensor::zeros(shape, self.dtype(), self.device());
        let layer_cache =
            |layer: &Layer| Ok(LayerCache { keys: zeros()?, values: zeros()?, dora_scales: layer.dora_scales()? });
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
        let rope = self.rope_and_mask(cache.len, t)?;
        let mut x = self.embed(ids, false)?;
        for (layer, layer_cache) in self.layers().iter().zip(&cache.layers) {
            x = layer.forward(&x, &rope, &pass, self.config(), Some((layer_cache, cache.len)))?;
        }
        cache.len += t;
        let last = x.narrow(1, t - 1, 1)?.squeeze(1)?.contiguous()?;
        Ok(self.norm(&last, &pass)?.matmul(&self.head()?.t()?)?)
    }
}

impl Layer {
    /// `cached` is this layer's cache and its number of filled positions.
    fn forward(
        &self,
        x: &Tensor,
        rope: &RopeAndMask,
        pass: &Pass,
        c: &Config,
        cached: Option<(&LayerCache, usize)>,
    ) -> Result<Tensor, Error> {
        let (b, t, _) = x.dims3()?;
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
            Ok(y.reshape((b, t, heads, c.head_dim))?.transpose(1, 2)?.contiguous()?)
        };
        let turned = |y: Tensor| if self.rotates { rotate(&y, rope, pass) } else { Ok(y) };
        let q = turned(split(self.q.forward(&h, pass, dora_scale(0))?, c.heads, self.q_norm.as_ref())?)?;
        let k = turned(split(self.k.forward(&h, pass, dora_scale(1))?, c.kv_heads, self.k_norm.as_ref())?)?;
        let v = split(self.v.forward(&h, pass, dora_scale(2))?, c.kv_heads, None)?;
        let (k, v) = match cached {
            None => (k, v),
            Some((layer_cache, filled)) => {
                layer_cache.keys.slice_set(&k, 2, filled)?;
                layer_cache.values.slice_set(&v, 2, filled)?;
                (layer_cache.keys.narrow(2, 0, filled + t)?, layer_cache.values.narrow(2, 0, filled + t)?)
            }
        };
        let a = attend(&q, &k, &v, rope, pass)?;
        let a = a.transpose(1, 2)?.reshape((b, t, c.heads * c.head_dim))?;
        let a = normed(&self.attention_out_norm, self.o.forward(&a, pass, dora_scale(3))?)?;
        let x = (x + a)?;
        let h = normed(&self.mlp_norm, x.clone())?;
        let gate = activated(&self.gate.forward(&h, pass, dora_scale(4))?, c.layer.activation)?;
        let inner = (gate * self.up.forward(&h, pass, dora_scale(5))?)?;
        Ok((&x + normed(&self.mlp_out_norm, self.down.forward(&inner, pass, dora_scale(6))?)?)?)
    }
}

/// The function on the feed-forward's gate.
fn activated(x: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    Ok(match activation {
        Activation::Silu => x.silu()?,
        Activation::Gelu => (x * ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?)?.affine(0.5, 0.0)?,
        Activation::GeluTanh => {
            let inner = ((x + (x.sqr()? * x)?.affine(0.044_715, 0.0)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            (x * (inner.tanh()? + 1.0)?)?.affine(0.5, 0.0)?
        }
        Activation::Relu => x.relu()?,
        Activation::ReluSquared => x.relu()?.sqr()?,
    })
}

/// Rotary positions (Su et al. 2021) in the half-split order of Hugging Face: x (B, heads, T, hd).
fn rotate(x: &Tensor, rope: &RopeAndMask, pass: &Pass) -> Result<Tensor, Error> {
    if !pass.grad {
        return inference::rope(x, &rope.cos, &rope.sin);
    }
    let half = x.dim(D::Minus1)? / 2;
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let times = |x: &Tensor, c: &Tensor| x.contiguous()?.apply_op1(frozen::Times { constant: c.clone() });
    let left = (times(&first, &rope.cos)? - times(&second, &rope.sin)?)?;
    let right = (times(&second, &rope.cos)? + times(&first, &rope.sin)?)?;
    Ok(Tensor::cat(&[left, right], D::Minus1)?)
}

/// Scaled dot-product attention. q (B, heads, T, hd), k and v (B, kv_heads, S, hd): the queries that share a key head are
/// stacked along T, so that keys and values are never copied per query head.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, rope: &RopeAndMask, pass: &Pass) -> Result<Tensor, Error> {
    let (b, heads, t, hd) = q.dims4()?;
    let (kv, s) = (k.dim(1)?, k.dim(2)?);
    let group = heads / kv;
    let q = q.reshape((b, kv, group * t, hd))?;
    let scores = q.matmul(&k.t()?)?.affine(1.0 / (hd as f64).sqrt(), 0.0)?;
    let scores = match &rope.mask {
        None => scores,
        Some(mask) => {
            let scores = scores.reshape((b, kv, group, t, s))?.apply_op1(frozen::Plus { constant: mask.clone() })?;
            scores.reshape((b, kv, group * t, s))?
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
    Ok(weights.matmul(&v.contiguous()?)?.reshape((b, heads, t, hd))?)
}
