//! The decoder: its parameters, and which of them are trainable.
//!
//! Owns loading and the order of the trainables. Refuses to compute: the backends do, each in its own folder.
//!
//! **Invariant.** The trainables have one fixed order, the model's.

use super::linear::{self, Linear, Lora, Weight};
use super::norm::Norm;
use super::per_layer::PerLayerInputs;
use super::rotary::Rotary;
use crate::model::config::Config;
use crate::model::error::Error;
use crate::model::feed_forward::{FeedForward, Mlp};
use crate::model::layer::{LayerParts, LayerReader, LinearSpec, LogitCurve, NormKind, NormSpec, TensorName};
use crate::model::layer_kinds::LayerShape;
use crate::model::trained::{LORA_A, LORA_B, MAGNITUDE, SCORE};
use crate::model::tune::Tune;
use crate::model::weights::{Weights, trained_dtype};
use candle_core::{DType, Device, Tensor, Var};
use std::ops::Deref;

/// The parameters of a layer.
pub(crate) struct Layer {
    parts: LayerParts<Linear, Norm>,
    /// Its sizes.
    pub(crate) shape: LayerShape,
    /// The norm on values, which has no parameters: its weight is 1.
    pub(crate) value_norm: Option<Norm>,
    /// The RoPE table of queries and keys; none without RoPE.
    pub(crate) rope: Option<usize>,
    /// How many tokens a token attends to at most; none: all before it.
    pub(crate) window: Option<usize>,
    /// The fused weights of q, k and v, and of gate and up, of which the modules' own are views; none until
    /// [`Decoder::fuse_weights`].
    pub(crate) fused: Option<[Tensor; 2]>,
}

impl Deref for Layer {
    type Target = LayerParts<Linear, Norm>;

    fn deref(&self) -> &Self::Target {
        &self.parts
    }
}

/// A language model's decoder.
pub struct Decoder {
    config: Config,
    device: Device,
    dtype: DType,
    embed: Weight,
    /// Learned position embeddings, (context, H), where the model has them.
    positions: Option<Weight>,
    /// What makes the layers' second input, where they have one.
    per_layer: Option<PerLayerInputs>,
    layers: Vec<Layer>,
    norm: Norm,
    /// None when the head is tied to the embedding.
    head: Option<Weight>,
    rotary: Rotary,
    trainables: Vec<(String, Var)>,
    /// The scalar head (1, H), for rewards and values; trained with the rest.
    score: Option<Var>,
}

/// Reads parameters and creates the trainables in the model's order.
struct DecoderBuilder<'a> {
    config: &'a Config,
    weights: &'a mut Weights,
    tune: &'a Tune,
    /// The layer being read.
    layer: usize,
    trainables: Vec<(String, Var)>,
    modules: u64,
}

impl DecoderBuilder<'_> {
    fn norm_named(&mut self, name: &str, width: usize) -> Result<Norm, Error> {
        let weight = self.weight(&format!("{name}.weight"), &[width])?;
        let bias = self.config.norm_bias().then(|| self.weight(&format!("{name}.bias"), &[width])).transpose()?;
        let centred = self.config.layer.norm != NormKind::Rms;
        Ok(Norm { weight, offset: self.config.layer.norm_offset, eps: self.config.rms_eps, centred, bias })
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Weight, Error> {
        if *self.tune != Tune::Full {
            return Ok(Weight::Frozen(self.weights.take(name, shape)?));
        }
        let var = Var::from_tensor(&self.weights.take_as(name, shape, trained_dtype(self.weights.dtype()))?)?;
        self.trainables.push((name.to_owned(), var.clone()));
        Ok(Weight::Trained(var))
    }
}

impl LayerReader for DecoderBuilder<'_> {
    type Linear = Linear;
    type Norm = Norm;
    type Error = Error;

    fn linear(&mut self, spec: &LinearSpec) -> Result<Linear, Error> {
        let name = self.config.linear_name(self.layer, spec);
        let weight = self.weight(&format!("{name}.weight"), &[spec.out, spec.width])?;
        let bias = if spec.bias { Some(self.weight(&format!("{name}.bias"), &[spec.out])?) } else { None };
        self.modules += 1;
        let adapter = match self.tune {
            Tune::Lora(lora) => lora.adapter_of(&name, spec).map(|adapter| (lora, adapter)),
            _ => None,
        };
        let lora = match adapter {
            Some((lora, adapter)) => {
                let lora = Lora::init(lora, adapter, weight.stored(), self.modules)?;
                self.trainables.push((format!("{name}{LORA_A}"), lora.a.clone()));
                self.trainables.push((format!("{name}{LORA_B}"), lora.b.clone()));
                let lengths = lora.dora.as_ref().map(|d| d.magnitude.clone());
                self.trainables.extend(lengths.map(|m| (format!("{name}{MAGNITUDE}"), m)));
                Some(lora)
            }
            None => None,
        };
        Ok(Linear { weight, bias, lora })
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<Norm, Error> {
        self.norm_named(&self.config.layer_name(self.layer, spec.name), spec.width)
    }

    fn factor(&mut self, name: TensorName) -> Result<f64, Error> {
        self.weights.number(&self.config.layer_name(self.layer, name))
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
            spec.check_modules(&config.linears())?;
        }
        let (device, dtype) = (weights.device().clone(), weights.dtype());
        let (c, names) = (config, &config.family.names);
        let mut m = DecoderBuilder { config, weights, tune, layer: 0, trainables: Vec::new(), modules: 0 };
        let embed = m.weight(&format!("{}.weight", names.embedding.hf), &[c.vocab, c.hidden])?;
        let positions = format!("{}.weight", names.positions.hf);
        let positions = c.layer.positions.then(|| m.weight(&positions, &[c.context, c.hidden])).transpose()?;
        let per_layer = match c.layer.per_layer {
            Some(spec) => {
                let (stacked, names) = (c.layers.saturating_mul(spec.width), &names.per_layer);
                let weight = |name: TensorName| format!("{}.weight", name.hf);
                let table = m.weight(&weight(names.table), &[spec.vocab, stacked])?;
                let projection = m.weight(&weight(names.projection), &[stacked, c.hidden])?;
                let norm = m.norm_named(names.projection_norm.hf, spec.width)?;
                let projection = Linear { weight: projection, bias: None, lora: None };
                Some(PerLayerInputs { width: spec.width, table, projection, norm })
            }
            None => None,
        };
        let mut layers = Vec::new();
        for i in 0..c.layers {
            m.layer = i;
            let (parts, shape) = (c.read_layer(i, &mut m)?, c.shape_of(i));
            let value_norm = if c.layer.value_norm && shape.source().is_none() {
                Some(Norm::without_weight(shape.head_dim, c.rms_eps, dtype, &device)?)
            } else {
                None
            };
            let (rope, window) = (c.rope_of(i), c.window_of(i));
            layers.push(Layer { parts, shape, value_norm, rope, window, fused: None });
            // A configuration with a huge layer count and no weights stops at its first missing layer.
            m.weights.finish()?;
        }
        let norm = m.norm_named(names.last_norm.hf, c.hidden)?;
        let head = format!("{}.weight", names.head.hf);
        let head = if c.tied { None } else { Some(m.weight(&head, &[c.vocab, c.hidden])?) };
        m.weights.finish()?;
        let trainables = m.trainables;
        let rotary = Rotary::new(c);
        Ok(Self {
            config: c.clone(),
            device,
            dtype,
            embed,
            positions,
            per_layer,
            layers,
            norm,
            head,
            rotary,
            trainables,
            score: None,
        })
    }

    /// Adds a trainable scalar head without bias after the final norm, with the initial weights `first`, one per hidden dimension.
    /// With `alone` the model predicts no tokens, and an untied language-model head is not trained.
    ///
    /// # Errors
    /// When the number of weights is not the hidden size.
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

    /// Fuses frozen weights that read the same input into one matrix, so that one product computes them; no value changes.
    ///
    /// # Errors
    /// When memory runs out.
    pub(crate) fn fuse_weights(&mut self) -> Result<(), Error> {
        for layer in &mut self.layers {
            let parts = &mut layer.parts;
            let qkv = linear::fuse_weights(&mut parts.qkv)?;
            let FeedForward::Dense(mlp) = &mut parts.mlp else { continue };
            let gate_up = linear::fuse_weights(&mut mlp.gate_up)?;
            layer.fused = qkv.zip(gate_up).map(|(a, b)| [a, b]);
        }
        Ok(())
    }

    /// The scalar head (1, H), where there is one.
    pub(crate) fn score(&self) -> Option<&Var> {
        self.score.as_ref()
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device it computes on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The trained parameters by name, in a fixed order.
    #[must_use]
    pub fn trainables(&self) -> &[(String, Var)] {
        &self.trainables
    }

    /// The compute type, that of the frozen weights. Trainables are f32 if that type has 16 bits.
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

    /// Learned position embeddings, (context, H), where the model has them.
    pub(crate) fn positions(&self) -> Option<&Weight> {
        self.positions.as_ref()
    }

    /// What makes the layers' second input, where they have one.
    pub(crate) fn per_layer(&self) -> Option<&PerLayerInputs> {
        self.per_layer.as_ref()
    }

    /// Refuses a position beyond the learned ones.
    ///
    /// # Errors
    /// With the model's longest context.
    pub(super) fn check_position(&self, position: usize) -> Result<(), Error> {
        self.config.check_position(position)
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
    pub(crate) fn dora_scales(&self) -> Result<Vec<Tensor>, Error> {
        let layers = self.layers.iter().map(Layer::dora_scales).collect::<Result<Vec<_>, Error>>()?;
        Ok(layers.into_iter().flatten().flatten().collect())
    }

    /// The embedding (V, H) if it is trained.
    pub(crate) fn trained_embedding(&self) -> Option<&Var> {
        if let Weight::Trained(v) = &self.embed { Some(v) } else { None }
    }

    /// The head's weight (V, H) if it is trained: the embedding itself when tied.
    pub(crate) fn trained_head(&self) -> Option<&Var> {
        if let Weight::Trained(v) = self.head.as_ref().unwrap_or(&self.embed) { Some(v) } else { None }
    }

    /// The head's weight (V, H) in the compute type, detached.
    pub(crate) fn head(&self) -> Result<Tensor, Error> {
        self.head_weight().cast(false, self.dtype)
    }

    /// What happens to the head's logits.
    pub(crate) fn logits(&self) -> LogitCurve {
        self.config.layer.logits
    }

    /// The RoPE tables.
    pub(crate) fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// Whether some adapter has dropout.
    pub(crate) fn has_dropout(&self) -> bool {
        let drops = |linear: &&Linear| linear.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0);
        self.layers.iter().any(|layer| layer.linears().iter().any(drops))
    }
}

impl Layer {
    /// Its feed-forward, where it has neither experts nor sinks.
    ///
    /// # Errors
    /// When it has: the accelerator's backend computes neither.
    pub(super) fn dense(&self) -> Result<&Mlp<Linear>, Error> {
        match &self.mlp {
            FeedForward::Dense(mlp) if self.sinks.is_none() => Ok(mlp),
            _ => Err(Error::Invalid("this backend computes neither experts nor sinks; this is a bug".into())),
        }
    }

    /// The norm before the feed-forward.
    pub(super) fn before_mlp(&self, shared: bool) -> Option<&Norm> {
        if shared { self.attention_norm.as_ref() } else { self.mlp_norm.as_ref() }
    }

    /// DoRA's factors of the linear modules, in the order of `linears`.
    pub(super) fn dora_scales(&self) -> Result<Vec<Option<Tensor>>, Error> {
        self.linears().into_iter().map(Linear::dora_scale).collect()
    }
}
