//! The decoder of the Llama, Qwen2 and Qwen3 families, written from operations whose backward is tested.
//!
//! Owns the forward computation, its parameters and which of them are trained. Refuses candle's fused softmax, RMSNorm and
//! RoPE where a gradient flows: they cut the graph without an error. Without a gradient it uses them.
//!
//! **Invariants.** Right padding changes no value: attention is causal, and no real token sees a later one. The trainables
//! stand in one fixed order. With the adapter off, the computation is the base model's, bit for bit.

mod linear;

use super::frozen;
use super::inference;
use crate::model::config::{Config, RopeScaling};
use crate::model::error::Error;
use crate::model::trained::SCORE;
use crate::model::tune::{LINEARS, Tune};
use crate::model::weights::{Weights, trained_dtype};
use candle_core::{D, DType, Device, Tensor, Var};
pub(crate) use linear::{Linear, Lora, Weight};

/// How a forward pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether the trainables are in the graph.
    pub grad: bool,
    /// Whether the LoRA adapter is put on. Without one it makes no difference.
    pub adapter: bool,
    /// Number of the training pass that draws its own dropout masks; none drops nothing.
    pub dropout: Option<u64>,
    /// Tokens of the batch before the ones at hand, which go through a layer apart from them: their dropout masks are skipped.
    pub skipped: usize,
}

impl Pass {
    /// No gradient, no dropout.
    #[must_use]
    pub fn plain(adapter: bool) -> Self {
        Self { grad: false, adapter, dropout: None, skipped: 0 }
    }
}

pub(crate) struct Norm {
    pub(crate) gamma: Weight,
    pub(super) eps: f64,
}

impl Norm {
    /// RMSNorm over the last dimension (Zhang and Sennrich 2019): `x / √(mean x² + eps) ⊙ gamma`.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        if !pass.grad && x.dtype() != DType::F64 {
            return inference::rms_norm(x, &self.gamma.cast(false, x.dtype())?, self.eps);
        }
        // Squares and their mean want more than 16 bits.
        let wide = x.to_dtype(trained_dtype(x.dtype()))?;
        let inverse = (wide.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        let unit = wide.broadcast_mul(&inverse)?;
        let gamma = self.gamma.cast(pass.grad, wide.dtype())?;
        let y = match &self.gamma {
            Weight::Frozen(_) => unit.apply_op1(frozen::Times { constant: gamma })?,
            Weight::Trained(_) => unit.broadcast_mul(&gamma)?,
        };
        Ok(y.to_dtype(x.dtype())?)
    }
}

/// Rotary tables and the causal mask of a span of positions.
pub(super) struct Span {
    /// (T, head_dim/2).
    cos: Tensor,
    /// (T, head_dim/2).
    sin: Tensor,
    /// (T, S): 0 where a query sees a key, −∞ where not; none for one query that sees all.
    mask: Option<Tensor>,
}

/// The parameters of a layer.
pub(crate) struct Layer {
    pub(crate) input_norm: Norm,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
    pub(crate) ff_norm: Norm,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    /// The weights of q, k and v, and of gate and up, one below the other, of which theirs are views; none until
    /// [`Decoder::join`].
    pub(crate) joined: Option<[Tensor; 2]>,
}

/// Keys and values of the tokens seen so far, and what of the adapters is the same for all of them.
pub struct Cache {
    layers: Vec<Held>,
    len: usize,
}

/// What a cache holds of a layer.
struct Held {
    /// (rows, kv_heads, capacity, head_dim).
    keys: Tensor,
    /// As the keys.
    values: Tensor,
    /// DoRA's factors of the linear modules, as the adapter was when the cache was made.
    stretches: [Option<Tensor>; LINEARS.len()],
}

impl Cache {
    /// Tokens seen so far; the same for every row.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps these rows in this order; a row may be named more than once, and so be multiplied.
    ///
    /// # Errors
    /// When a row does not exist.
    pub fn select(&mut self, rows: &[u32]) -> Result<(), Error> {
        for held in &mut self.layers {
            let index = Tensor::new(rows, held.keys.device())?;
            held.keys = held.keys.index_select(&index, 0)?;
            held.values = held.values.index_select(&index, 0)?;
        }
        Ok(())
    }
}

/// A language model's decoder.
pub struct Decoder {
    config: Config,
    device: Device,
    dtype: DType,
    embed: Weight,
    layers: Vec<Layer>,
    norm: Norm,
    /// None when the head is the embedding.
    head: Option<Weight>,
    frequencies: Vec<f32>,
    trainables: Vec<(String, Var)>,
    /// The scalar head (1, H), for rewards and values; trained with the rest.
    score: Option<Var>,
}

/// Reads parameters and makes the trainables as it goes, so that their order is the model's order.
struct Maker<'a> {
    weights: &'a mut Weights,
    tune: &'a Tune,
    trainables: Vec<(String, Var)>,
    modules: u64,
}

impl Maker<'_> {
    fn norm(&mut self, name: &str, width: usize, eps: f64) -> Result<Norm, Error> {
        Ok(Norm { gamma: self.weight(&format!("{name}.weight"), &[width])?, eps })
    }
}

impl Decoder {
    /// Builds the decoder of `config` from `weights`; `tune` decides what is trained.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape, or the adapter cannot be built.
    pub fn new(config: &Config, weights: &mut Weights, tune: &Tune) -> Result<Self, Error> {
        if let Tune::Lora(spec) = tune {
            spec.check()?;
        }
        let (device, dtype) = (weights.device().clone(), weights.dtype());
        let c = config;
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let mut m = Maker { weights, tune, trainables: Vec::new(), modules: 0 };
        let embed = m.weight("model.embed_tokens.weight", &[c.vocab, c.hidden])?;
        let mut layers = Vec::new();
        for i in 0..c.layers {
            let at = |part: &str| format!("model.layers.{i}.{part}");
            let name = |j: usize| at(&format!("{}.{}", if j < 4 { "self_attn" } else { "mlp" }, LINEARS[j]));
            layers.push(Layer {
                input_norm: m.norm(&at("input_layernorm"), c.hidden, c.rms_eps)?,
                q: m.linear(&name(0), q, c.hidden, c.qkv_bias)?,
                k: m.linear(&name(1), kv, c.hidden, c.qkv_bias)?,
                v: m.linear(&name(2), kv, c.hidden, c.qkv_bias)?,
                o: m.linear(&name(3), c.hidden, q, c.o_bias)?,
                q_norm: if c.qk_norm { Some(m.norm(&at("self_attn.q_norm"), c.head_dim, c.rms_eps)?) } else { None },
                k_norm: if c.qk_norm { Some(m.norm(&at("self_attn.k_norm"), c.head_dim, c.rms_eps)?) } else { None },
                ff_norm: m.norm(&at("post_attention_layernorm"), c.hidden, c.rms_eps)?,
                gate: m.linear(&name(4), c.ff, c.hidden, c.mlp_bias)?,
                up: m.linear(&name(5), c.ff, c.hidden, c.mlp_bias)?,
                down: m.linear(&name(6), c.hidden, c.ff, c.mlp_bias)?,
                joined: None,
            });
            // A configuration with a huge layer count and no weights stops at its first missing layer.
            m.weights.finish()?;
        }
        let norm = m.norm("model.norm", c.hidden, c.rms_eps)?;
        let head = if c.tied { None } else { Some(m.weight("lm_head.weight", &[c.vocab, c.hidden])?) };
        m.weights.finish()?;
        let trainables = m.trainables;
        let frequencies = frequencies(c);
        Ok(Self { config: c.clone(), device, dtype, embed, layers, norm, head, frequencies, trainables, score: None })
    }

    /// Puts a scalar head without bias on the final norm, one number of `first` for each hidden dimension; it is trained.
    /// With `alone` nothing asks for tokens, and a language-model head of its own is not trained.
    ///
    /// # Errors
    /// When there are not as many numbers as hidden dimensions.
    pub(crate) fn add_score(&mut self, first: Vec<f64>, alone: bool) -> Result<(), Error> {
        if let Some(Weight::Trained(v)) = self.head.as_ref().filter(|_| alone) {
            let id = v.as_tensor().id();
            self.trainables.retain(|(_, t)| t.as_tensor().id() != id);
            self.head = Some(Weight::Frozen(v.as_detached_tensor()));
        }
        let head = Tensor::from_vec(first, (1, self.config.hidden), &Device::Cpu)?;
        let head = Var::from_tensor(&head.to_dtype(trained_dtype(self.dtype))?.to_device(&self.device)?)?;
        self.trainables.push((SCORE.into(), head.clone()));
        self.score = Some(head);
        Ok(())
    }

    /// Puts frozen weights that read the same input into one piece, so that one product serves them; no number changes.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub(crate) fn join(&mut self) -> Result<(), Error> {
        for layer in &mut self.layers {
            let qkv = linear::join(&mut [&mut layer.q, &mut layer.k, &mut layer.v])?;
            let gate_up = linear::join(&mut [&mut layer.gate, &mut layer.up])?;
            layer.joined = qkv.zip(gate_up).map(|(a, b)| [a, b]);
        }
        Ok(())
    }

    /// The scalar head (1, H), where there is one.
    pub(crate) fn score(&self) -> Option<&Var> {
        self.score.as_ref()
    }

    /// What the decoder is made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The trained parameters by name, in a fixed order.
    #[must_use]
    pub fn trainables(&self) -> &[(String, Var)] {
        &self.trainables
    }

    /// The type it computes in: its frozen weights'. What is trained is f32 where that has 16 bits.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// The layers' parameters in order.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The final norm.
    pub(crate) fn last_norm(&self) -> &Norm {
        &self.norm
    }

    /// The embedding (V, H).
    pub(crate) fn embedding(&self) -> &Weight {
        &self.embed
    }

    /// The head (V, H): the embedding itself when tied.
    pub(crate) fn head_weight(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// Layers.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// DoRA's factors of every module that has one, in the trainables' order.
    #[cfg(test)]
    pub(crate) fn stretches(&self) -> Result<Vec<Tensor>, Error> {
        let layers = self.layers.iter().map(Layer::stretches).collect::<Result<Vec<_>, Error>>()?;
        Ok(layers.into_iter().flatten().flatten().collect())
    }

    /// The embedding (V, H) if it is trained.
    pub(super) fn trained_embedding(&self) -> Option<&Var> {
        if let Weight::Trained(v) = &self.embed { Some(v) } else { None }
    }

    /// The head's weight (V, H) if it is trained: the embedding itself when tied.
    pub(crate) fn trained_head(&self) -> Option<&Var> {
        if let Weight::Trained(v) = self.head.as_ref().unwrap_or(&self.embed) { Some(v) } else { None }
    }

    /// The head's weight (V, H) in the type it computes in, outside any graph.
    pub(crate) fn head(&self) -> Result<Tensor, Error> {
        self.head_weight().cast(false, self.dtype)
    }

    /// Token ids (B, T) to their vectors (B, T, H).
    pub(crate) fn embed(&self, ids: &Tensor, grad: bool) -> Result<Tensor, Error> {
        let (b, t) = ids.dims2()?;
        let rows = self.embed.tensor(grad).index_select(&ids.flatten_all()?, 0)?.to_dtype(self.dtype)?;
        Ok(rows.reshape((b, t, self.config.hidden))?)
    }

    /// One layer: (B, T, H) to (B, T, H).
    pub(super) fn layer(&self, i: usize, x: &Tensor, span: &Span, pass: &Pass) -> Result<Tensor, Error> {
        self.layers[i].forward(x, span, pass, &self.config, None)
    }

    /// The final norm: (N, H) to (N, H).
    pub(crate) fn norm(&self, x: &Tensor, pass: &Pass) -> Result<Tensor, Error> {
        self.norm.forward(x, pass)
    }

    /// Rotary tables and mask of `len` positions from `start` on.
    pub(super) fn span(&self, start: usize, len: usize) -> Result<Span, Error> {
        let (cos, sin) = self.rotary(start..start + len)?;
        let seen = start + len;
        let mask = if len == 1 { None } else { Some(self.mask(len, seen, |i, j| j <= start + i)?) };
        Ok(Span { cos, sin, mask })
    }

    /// As [`Decoder::span`] for `len` positions that hold several documents, which begin at `starts`: positions begin anew
    /// with each, and none sees another.
    pub(super) fn packed_span(&self, starts: &[usize], len: usize) -> Result<Span, Error> {
        let first = |i: usize| starts.iter().rev().find(|s| **s <= i).copied().unwrap_or(0);
        let (cos, sin) = self.rotary((0..len).map(|i| i - first(i)))?;
        let mask = Some(self.mask(len, len, |i, j| j <= i && j >= first(i))?);
        Ok(Span { cos, sin, mask })
    }

    /// Cosines and sines, (T, head_dim/2), of these positions.
    fn rotary(&self, positions: impl Iterator<Item = usize>) -> Result<(Tensor, Tensor), Error> {
        let angles = self.angles(positions);
        let half = self.frequencies.len();
        let shape = (angles.len() / half.max(1), half);
        let table = |f: fn(f64) -> f64| -> Result<Tensor, Error> {
            let values: Vec<f64> = angles.iter().map(|a| f(*a)).collect();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?.to_device(&self.device)?)
        };
        Ok((table(f64::cos)?, table(f64::sin)?))
    }

    /// Rotary angles, (T, head_dim/2), of these positions.
    pub(crate) fn angles(&self, positions: impl Iterator<Item = usize>) -> Vec<f64> {
        // The product is rounded to f32 as the models' authors do; at long positions that is visible.
        positions.flat_map(|p| self.frequencies.iter().map(move |f| f64::from(p as f32 * f))).collect()
    }

    /// (len, seen): 0 where query i sees key j, −∞ where not.
    fn mask(&self, len: usize, seen: usize, sees: impl Fn(usize, usize) -> bool) -> Result<Tensor, Error> {
        let value = |k: usize| if sees(k / seen, k % seen) { 0.0 } else { f32::NEG_INFINITY };
        let mask: Vec<f32> = (0..len * seen).map(value).collect();
        Ok(Tensor::from_vec(mask, (len, seen), &self.device)?.to_dtype(self.dtype)?)
    }

    /// An empty cache for `rows` rows of at most `capacity` tokens of the decoder as it is now: after an update, make another.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn cache(&self, rows: usize, capacity: usize) -> Result<Cache, Error> {
        let shape = (rows, self.config.kv_heads, capacity, self.config.head_dim);
        let zeros = || Tensor::zeros(shape, self.dtype, &self.device);
        let held = |layer: &Layer| Ok(Held { keys: zeros()?, values: zeros()?, stretches: layer.stretches()? });
        let layers = self.layers.iter().map(held).collect::<Result<_, Error>>()?;
        Ok(Cache { layers, len: 0 })
    }

    /// Takes the next tokens of every row, (B, T) ids, and gives the logits (B, V) after the last. No gradient.
    ///
    /// # Errors
    /// When the cache has no room or another number of rows.
    pub fn step(&self, ids: &Tensor, cache: &mut Cache, adapter: bool) -> Result<Tensor, Error> {
        let (_, t) = ids.dims2()?;
        let pass = Pass::plain(adapter);
        let span = self.span(cache.len, t)?;
        let mut x = self.embed(ids, false)?;
        for (layer, held) in self.layers.iter().zip(&cache.layers) {
            x = layer.forward(&x, &span, &pass, &self.config, Some((held, cache.len)))?;
        }
        cache.len += t;
        let last = x.narrow(1, t - 1, 1)?.squeeze(1)?.contiguous()?;
        Ok(self.norm(&last, &pass)?.matmul(&self.head()?.t()?)?)
    }
}

impl Layer {
    /// DoRA's factors of the linear modules, in the order of [`LINEARS`].
    fn stretches(&self) -> Result<[Option<Tensor>; LINEARS.len()], Error> {
        let of = |linear: &Linear| linear.stretch();
        Ok([of(&self.q)?, of(&self.k)?, of(&self.v)?, of(&self.o)?, of(&self.gate)?, of(&self.up)?, of(&self.down)?])
    }

    /// `cached` is what is held of this layer and how many positions of it are filled.
    fn forward(
        &self,
        x: &Tensor,
        span: &Span,
        pass: &Pass,
        c: &Config,
        cached: Option<(&Held, usize)>,
    ) -> Result<Tensor, Error> {
        let (b, t, _) = x.dims3()?;
        let stretch = |i: usize| cached.and_then(|(held, _)| held.stretches[i].as_ref());
        let h = self.input_norm.forward(x, pass)?;
        // (B, T, heads·hd) to (B, heads, T, hd).
        let split = |y: Tensor, heads: usize, norm: Option<&Norm>| -> Result<Tensor, Error> {
            let y = y.reshape((b, t, heads, c.head_dim))?;
            let y = if let Some(norm) = norm { norm.forward(&y, pass)? } else { y };
            Ok(y.transpose(1, 2)?.contiguous()?)
        };
        let q = rotate(&split(self.q.forward(&h, pass, stretch(0))?, c.heads, self.q_norm.as_ref())?, span, pass)?;
        let k = rotate(&split(self.k.forward(&h, pass, stretch(1))?, c.kv_heads, self.k_norm.as_ref())?, span, pass)?;
        let v = split(self.v.forward(&h, pass, stretch(2))?, c.kv_heads, None)?;
        let (k, v) = match cached {
            None => (k, v),
            Some((held, filled)) => {
                held.keys.slice_set(&k, 2, filled)?;
                held.values.slice_set(&v, 2, filled)?;
                (held.keys.narrow(2, 0, filled + t)?, held.values.narrow(2, 0, filled + t)?)
            }
        };
        let a = attend(&q, &k, &v, span, pass)?;
        let a = a.transpose(1, 2)?.reshape((b, t, c.heads * c.head_dim))?;
        let x = (x + self.o.forward(&a, pass, stretch(3))?)?;
        let h = self.ff_norm.forward(&x, pass)?;
        let inner = (self.gate.forward(&h, pass, stretch(4))?.silu()? * self.up.forward(&h, pass, stretch(5))?)?;
        Ok((&x + self.down.forward(&inner, pass, stretch(6))?)?)
    }
}

/// Rotary positions (Su et al. 2021) in the half-split order of Hugging Face: x (B, heads, T, hd).
fn rotate(x: &Tensor, span: &Span, pass: &Pass) -> Result<Tensor, Error> {
    if !pass.grad {
        return inference::rope(x, &span.cos, &span.sin);
    }
    let half = x.dim(D::Minus1)? / 2;
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let times = |x: &Tensor, c: &Tensor| x.contiguous()?.apply_op1(frozen::Times { constant: c.clone() });
    let left = (times(&first, &span.cos)? - times(&second, &span.sin)?)?;
    let right = (times(&second, &span.cos)? + times(&first, &span.sin)?)?;
    Ok(Tensor::cat(&[left, right], D::Minus1)?)
}

/// Scaled dot-product attention. q (B, heads, T, hd), k and v (B, kv_heads, S, hd): the queries that share a key head are
/// stacked along T, so that keys and values are never copied per query head.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, span: &Span, pass: &Pass) -> Result<Tensor, Error> {
    let (b, heads, t, hd) = q.dims4()?;
    let (kv, s) = (k.dim(1)?, k.dim(2)?);
    let group = heads / kv;
    let q = q.reshape((b, kv, group * t, hd))?;
    let scores = q.matmul(&k.t()?)?.affine(1.0 / (hd as f64).sqrt(), 0.0)?;
    let scores = match &span.mask {
        None => scores,
        Some(mask) => {
            let scores = scores.reshape((b, kv, group, t, s))?.apply_op1(frozen::Plus { constant: mask.clone() })?;
            scores.reshape((b, kv, group * t, s))?
        }
    };
    let weights = if pass.grad {
        // The maximum is a constant: softmax does not depend on it, and its backward would be a waste.
        let top = scores.detach().max_keepdim(D::Minus1)?.neg()?;
        let e = scores.apply_op1(frozen::Plus { constant: top })?.exp()?;
        e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?
    } else {
        inference::softmax(&scores)?
    };
    Ok(weights.matmul(&v.contiguous()?)?.reshape((b, heads, t, hd))?)
}

/// The rotary frequencies, (head_dim/2), in f32 as the models' authors compute them, stretched as the configuration says.
pub(crate) fn frequencies(c: &Config) -> Vec<f32> {
    let of = |i: usize| 1.0 / (c.rope_theta as f32).powf((2 * i) as f32 / c.head_dim as f32);
    let stretch = |(i, f): (usize, f32)| match &c.rope_scaling {
        RopeScaling::None => f,
        RopeScaling::Divided(by) => f / by.get(i).copied().unwrap_or(1.0),
        &RopeScaling::Linear(factor) => f / factor as f32,
        &RopeScaling::Llama3 { factor, low, high, original } => {
            let wave = std::f64::consts::TAU / f64::from(f);
            if wave < original / high {
                f
            } else if wave > original / low {
                f / factor as f32
            } else {
                let smooth = (original / wave - low) / (high - low);
                ((1.0 - smooth) * f64::from(f) / factor + smooth * f64::from(f)) as f32
            }
        }
    };
    (0..c.head_dim / 2).map(of).enumerate().map(stretch).collect()
}
