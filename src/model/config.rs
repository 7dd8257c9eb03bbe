//! A model's configuration, read from config.json (or GGUF metadata).
//!
//! Owns the decision whether a model is supported. Refuses by name every architecture and every field that changes
//! the computation and is not implemented: a model is computed correctly or not at all.

use super::error::Error;
use super::family::{self, Family};
use super::fields::{Fields, ids};
use super::layer::{
    LayerParts, LayerPattern, LayerReader, LayerSpec, LinearSpec, NormKind, NormSpec, QkNorm, TensorName, activation,
    activation_names,
};
use super::rope::{self, RopeBounds};
pub use super::rope::{RopeScaling, RopeSpec};
use crate::foreign;
use serde_json::{Map, Value};
use std::convert::Infallible;
use std::path::Path;

/// A decoder's dimensions and options.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The model's family.
    pub family: &'static Family,
    /// What its layers compute.
    pub layer: LayerSpec,
    /// Factor on the embeddings.
    pub embedding_scale: f64,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub ff: usize,
    /// Vocabulary size.
    pub vocab: usize,
    /// Dimensions of a head that RoPE rotates, from the first on.
    pub rotary: usize,
    /// Base of the RoPE frequencies.
    pub rope_theta: f64,
    /// Their scaling.
    pub rope_scaling: RopeScaling,
    /// The RoPE of the layers with a window where it is another one.
    pub local_rope: Option<RopeSpec>,
    /// Added under the root of RMSNorm.
    pub rms_eps: f64,
    /// Whether the output head is tied to the embedding.
    pub tied: bool,
    /// Longest context in tokens; 0 when unknown.
    pub context: usize,
    /// How many tokens, itself included, a token attends to in the layers of [`LayerSpec::windows`]; none where all attend to
    /// the whole context.
    pub window: Option<usize>,
    /// End-of-text tokens in config.json.
    pub eos: Vec<u32>,
    /// The beginning-of-text token in config.json, if any.
    pub bos: Option<u32>,
    /// The padding token in config.json, if any.
    pub pad: Option<u32>,
}

/// Names and shapes of a layer's tensors, in the order of [`Config::read_layer`].
struct TensorShapes(Vec<(TensorName, &'static str, Vec<usize>)>);

impl LayerReader for TensorShapes {
    type Linear = ();
    type Norm = ();
    type Error = Infallible;

    fn linear(&mut self, spec: &LinearSpec) -> Result<(), Infallible> {
        self.0.push((spec.name, ".weight", vec![spec.out, spec.width]));
        if spec.bias {
            self.0.push((spec.name, ".bias", vec![spec.out]));
        }
        Ok(())
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<(), Infallible> {
        self.0.push((spec.name, ".weight", vec![spec.width]));
        if spec.bias {
            self.0.push((spec.name, ".bias", vec![spec.width]));
        }
        Ok(())
    }
}

impl Config {
    /// Width of a token's queries.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a token's keys, and of its values.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The linear modules of a layer in the model's order: those of [`LINEARS`](super::tune::LINEARS), or the fused ones.
    #[must_use]
    pub fn linears(&self) -> Vec<LinearSpec> {
        let (h, q, kv, ff) = (self.hidden, self.q_width(), self.kv_width(), self.ff);
        let LayerSpec { qkv_bias, o_bias, mlp_bias, .. } = self.layer;
        let names = &self.family.names;
        let [q_name, k_name, v_name, o_name, gate, up, down] = names.linears;
        let of = |name, out, width, bias| LinearSpec { name, out, width, bias };
        let output = of(o_name, h, q, o_bias);
        let last = of(down, h, ff, mlp_bias);
        let inner = if self.layer.gated { 2 * ff } else { ff };
        if let Some([qkv, gate_up]) = names.fused {
            return vec![of(qkv, q + 2 * kv, h, qkv_bias), output, of(gate_up, inner, h, mlp_bias), last];
        }
        let [q, k, v] = [of(q_name, q, h, qkv_bias), of(k_name, kv, h, qkv_bias), of(v_name, kv, h, qkv_bias)];
        let mut all = vec![q, k, v, output, of(gate, ff, h, mlp_bias)];
        all.extend(self.layer.gated.then(|| of(up, ff, h, mlp_bias)));
        all.push(last);
        all
    }

    /// How many of a layer's linear modules make queries, keys and values.
    fn attention_inputs(&self) -> usize {
        if self.family.names.fused.is_some() { 1 } else { 3 }
    }

    /// Whether norms have a bias.
    #[must_use]
    pub fn norm_bias(&self) -> bool {
        self.layer.norm == NormKind::Layer
    }

    /// The rope of layer `i`: 0 the model's, 1 the one of layers with a window; none if the layer does not rotate.
    #[must_use]
    pub fn rope_of(&self, i: usize) -> Option<usize> {
        let local = self.local_rope.is_some() && self.layer.windows.has(i);
        self.layer.rope.has(i).then_some(usize::from(local))
    }

    /// The window of layer `i`; none if it attends to the whole context.
    #[must_use]
    pub fn window_of(&self, i: usize) -> Option<usize> {
        self.window.filter(|_| self.layer.windows.has(i))
    }

    /// The factor on the attention's scores.
    #[must_use]
    pub fn attention_scale(&self) -> f64 {
        self.layer.attention_scale.unwrap_or_else(|| 1.0 / (self.head_dim as f64).sqrt())
    }

    /// Reads a layer's parts in the model's order: the single traversal for the loader, the packed decoder, merging and checks.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read_layer<R: LayerReader>(&self, reader: &mut R) -> Result<LayerParts<R::Linear, R::Norm>, R::Error> {
        let (names, spec) = (&self.family.names, &self.layer);
        let linears = self.linears();
        let (qkv, rest) = linears.split_at(self.attention_inputs());
        let norm = |reader: &mut R, on: bool, name: TensorName, width: usize| {
            let bias = self.norm_bias();
            on.then(|| reader.norm(&NormSpec { name, width, bias })).transpose()
        };
        let (before, after) = (spec.norms.before(), spec.norms.after());
        let (q_width, k_width) = match spec.qk_norm {
            QkNorm::Width => (self.q_width(), self.kv_width()),
            QkNorm::Head | QkNorm::No => (self.head_dim, self.head_dim),
        };
        let qk = spec.qk_norm != QkNorm::No;
        Ok(LayerParts {
            attention_norm: norm(reader, before, names.attention_norm, self.hidden)?,
            qkv: qkv.iter().map(|spec| reader.linear(spec)).collect::<Result<_, _>>()?,
            o: reader.linear(&rest[0])?,
            q_norm: norm(reader, qk, names.q_norm, q_width)?,
            k_norm: norm(reader, qk, names.k_norm, k_width)?,
            attention_out_norm: norm(reader, after, names.attention_out_norm, self.hidden)?,
            mlp_norm: norm(reader, before && !spec.shared_norm, names.mlp_norm, self.hidden)?,
            gate_up: rest[1..rest.len() - 1].iter().map(|spec| reader.linear(spec)).collect::<Result<_, _>>()?,
            down: reader.linear(&rest[rest.len() - 1])?,
            mlp_out_norm: norm(reader, after, names.mlp_out_norm, self.hidden)?,
        })
    }

    fn tensor_shapes(&self) -> Vec<(TensorName, &'static str, Vec<usize>)> {
        let mut tensor_shapes = TensorShapes(Vec::new());
        match self.read_layer(&mut tensor_shapes) {
            Ok(_) => tensor_shapes.0,
            Err(never) => match never {},
        }
    }

    /// The Hugging Face name of a tensor of layer `i`, from its name below the layer.
    #[must_use]
    pub fn layer_name(&self, i: usize, name: TensorName) -> String {
        format!("{}{i}.{}", self.family.names.layer.hf, name.hf)
    }

    /// Every tensor of the model: Hugging Face name and shape, in the model's order. Lazy, so that a hostile
    /// layer count costs no memory.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let names = &self.family.names;
        let tensor_shapes = self.tensor_shapes();
        let layer = move |i: usize| {
            let one = |(name, end, shape): &(TensorName, &str, Vec<usize>)| {
                (format!("{}{end}", self.layer_name(i, *name)), shape.clone())
            };
            tensor_shapes.iter().map(one).collect::<Vec<_>>()
        };
        let table = |name: TensorName| (format!("{}.weight", name.hf), vec![self.vocab, self.hidden]);
        std::iter::once(table(names.embedding))
            .chain((0..self.layers).flat_map(layer))
            .chain(std::iter::once((format!("{}.weight", names.last_norm.hf), vec![self.hidden])))
            .chain(self.norm_bias().then(|| (format!("{}.bias", names.last_norm.hf), vec![self.hidden])))
            .chain((!self.tied).then(|| table(names.head)))
    }

    /// Parses a Hugging Face tensor name: its layer, and its names without number, `.weight` and `.bias`.
    pub(crate) fn named(&self, tensor: &str) -> Option<(Option<usize>, TensorName)> {
        let names = &self.family.names;
        let (stem, _) = tensor.rsplit_once('.')?;
        if let Some(name) = [names.embedding, names.last_norm, names.head].into_iter().find(|name| name.hf == stem) {
            return Some((None, name));
        }
        let (layer, part) = stem.strip_prefix(names.layer.hf)?.split_once('.')?;
        let known = self.tensor_shapes().into_iter().find(|(name, ..)| name.hf == part)?.0;
        Some((Some(layer.parse().ok()?), known))
    }

    /// Whether the tensor is the weight of a norm.
    pub(crate) fn is_norm(&self, tensor: &str) -> bool {
        let names = &self.family.names;
        let linear = |name: TensorName| {
            let fused = names.fused.is_some_and(|fused| fused.contains(&name));
            fused || names.linears.contains(&name) || name == names.embedding || name == names.head
        };
        self.named(tensor).is_some_and(|(_, name)| !linear(name))
    }

    /// Reads `DIR/config.json`.
    ///
    /// # Errors
    /// When the file is missing or malformed, or asks for something that is not implemented.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = foreign::read_text(&path, foreign::CONFIG).map_err(|e| Error::read(&path, &e))?;
        Self::parse(&text, &path)
    }

    /// Parses the text of a config.json; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| Error::file(path, format!("is not valid JSON: {e}")))?;
        let map = value.as_object().ok_or_else(|| Error::file(path, "is not a JSON object"))?;
        let joined = text_part(map);
        let f = Fields { path, map: joined.as_ref().unwrap_or(map) };
        let kind = f.get("model_type").and_then(Value::as_str).unwrap_or("");
        if kind.is_empty() {
            return Err(Error::file(path, "the field `model_type` is missing"));
        }
        let Some(family) = family::by_model_type(kind) else {
            let known = format!("the supported architectures are {}", family::known());
            return Err(f.refuse(format!("the architecture `{kind}`"), &known));
        };
        let defaults = family.defaults;
        let layer = layer(&f, family)?;
        let hidden = f.size("hidden_size")?;
        let heads = f.size("num_attention_heads")?;
        let kv_heads = f.size_or("num_key_value_heads", defaults.kv_heads)?.unwrap_or(heads);
        let head_dim = f.size_or("head_dim", defaults.head_dim)?.unwrap_or((hidden / heads).max(1));
        if heads % kv_heads != 0 {
            return Err(Error::file(path, format!("{heads} query heads cannot share {kv_heads} key heads evenly")));
        }
        if layer.by_head && heads != kv_heads {
            return Err(
                f.refuse(format!("{kv_heads} key heads of {heads} query heads"), "this family has as many of both")
            );
        }
        let rotary = (head_dim as f64 * layer.rotary_share) as usize;
        if !rotary.is_multiple_of(2) || rotary == 0 {
            let part = if rotary == head_dim { "head_dim" } else { "the rotated part of head_dim" };
            return Err(Error::file(path, format!("{part} {rotary} is odd, but RoPE needs it even")));
        }
        // Null and 0 mean unknown.
        let positions = match f.map.get("max_position_embeddings") {
            None => defaults.context,
            Some(value) => value.as_u64().unwrap_or(0) as usize,
        };
        let window = match layer.windows {
            LayerPattern::None => None,
            _ => f.size_or("sliding_window", defaults.sliding_window)?,
        };
        let (rope, local_rope) = rope::read(&f, &defaults, RopeBounds { context: positions, rotary })?;
        Ok(Self {
            family,
            embedding_scale: (family.embedding_scale)(hidden) * layer.embedding_multiplier,
            layer,
            hidden,
            layers: f.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            ff: f.size("intermediate_size")?,
            vocab: f.size("vocab_size")?,
            rotary,
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            local_rope,
            rms_eps: f.real(defaults.eps_key, defaults.rms_eps)?,
            tied: f.flag("tie_word_embeddings", defaults.tied),
            context: positions,
            window: window.filter(|window| positions == 0 || *window < positions),
            eos: ids(f.get("eos_token_id")),
            bos: ids(f.get("bos_token_id")).first().copied(),
            pad: ids(f.get("pad_token_id")).first().copied(),
        })
    }

    /// The number of parameters, a tied head counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        // Fields of a damaged file may be of any size.
        let product = |sizes: &[usize]| sizes.iter().fold(1_u64, |all, n| all.saturating_mul(*n as u64));
        let sum = |all: u64, n: u64| all.saturating_add(n);
        let layer = self.tensor_shapes().iter().map(|(.., shape)| product(shape)).fold(0, sum);
        let tables = product(&[if self.tied { 1 } else { 2 }, self.vocab, self.hidden]);
        let last_norm = product(&[self.hidden, if self.norm_bias() { 2 } else { 1 }]);
        [layer.saturating_mul(self.layers as u64), tables, last_norm].into_iter().fold(0, sum)
    }
}

/// The text part of a configuration of several: its `text_config`, with token ids and the tied head from beside it. None for a
/// plain one.
pub(crate) fn text_part(map: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut text = map.get("text_config")?.as_object()?.clone();
    // A whole model names its end tokens beside the text part.
    for key in ["eos_token_id", "bos_token_id", "pad_token_id"] {
        text.extend(map.get(key).filter(|value| !value.is_null()).map(|value| (key.to_owned(), value.clone())));
    }
    for key in ["tie_word_embeddings", "quantization_config"] {
        if let Some(value) = map.get(key).filter(|_| !text.contains_key(key)) {
            text.insert(key.to_owned(), value.clone());
        }
    }
    if !text.contains_key("model_type") {
        let kind = map.get("model_type").and_then(Value::as_str).unwrap_or_default();
        text.insert("model_type".into(), format!("{kind}_text").into());
    }
    Some(text)
}

/// What the layers compute.
fn layer(f: &Fields<'_>, family: &Family) -> Result<LayerSpec, Error> {
    let mut layer = (family.layer)();
    let key = family.defaults.activation_key;
    if let Some(name) = f.get(key).and_then(Value::as_str) {
        layer.activation = activation(name).ok_or_else(|| {
            f.refuse(format!("the activation `{key}={name}`"), &format!("implemented are {}", activation_names()))
        })?;
    }
    (family.read)(f, &mut layer)?;
    refuse_fields(f, family, &layer)?;
    // Classes whose layers all have the window do not read the list.
    if let Some(list) = f.get("layer_types").and_then(Value::as_array).filter(|_| layer.windows != LayerPattern::All) {
        let layers = f.size("num_hidden_layers")?;
        if list.len() != layers {
            let why = format!("`layer_types` names {} layers, but `num_hidden_layers` is {layers}", list.len());
            return Err(Error::file(f.path, why));
        }
        let sliding: Vec<bool> = list.iter().map(|kind| kind.as_str() == Some("sliding_attention")).collect();
        let some = sliding.iter().any(|sliding| *sliding);
        layer.windows = if some { LayerPattern::Listed(sliding) } else { LayerPattern::None };
    }
    Ok(layer)
}

/// Refuses fields that change the computation and are not implemented.
fn refuse_fields(f: &Fields<'_>, family: &Family, layer: &LayerSpec) -> Result<(), Error> {
    let known = ["full_attention", "sliding_attention"];
    let kinds = f.get("layer_types").and_then(Value::as_array).into_iter().flatten();
    if let Some(other) = kinds.map(|kind| kind.as_str().unwrap_or("?")).find(|name| !known.contains(name)) {
        return Err(
            f.refuse(format!("`layer_types` with `{other}`"), "full_attention and sliding_attention are implemented")
        );
    }
    for key in ["quantization_config", "num_experts", "num_local_experts"] {
        if f.get(key).is_some() {
            return Err(f.refuse(format!("the field `{key}`"), "use an unquantised, dense model"));
        }
    }
    let unread = [
        ("attn_logit_softcapping", layer.attention_cap.is_none()),
        ("final_logit_softcapping", layer.logits.cap.is_none()),
    ];
    if let Some((key, _)) = unread.into_iter().find(|(key, unread)| *unread && f.get(key).is_some()) {
        return Err(f.refuse(format!("the field `{key}`"), &format!("{} has none", family.name())));
    }
    if f.flag("lm_head_bias", false) {
        return Err(f.refuse("`lm_head_bias`", "only heads without bias are implemented"));
    }
    if f.flag("use_bidirectional_attention", false) {
        return Err(f.refuse("`use_bidirectional_attention`", "only causal attention is implemented"));
    }
    let within = ["rope_parameters", "rope_scaling"].iter().filter_map(|key| f.get(key)?.get("partial_rotary_factor"));
    let mut shares = f.get("partial_rotary_factor").into_iter().chain(within).filter_map(Value::as_f64);
    if let Some(p) = shares.find(|p| *p != layer.rotary_share) {
        return Err(f.refuse(format!("`partial_rotary_factor={p}`"), "this family rotates whole heads"));
    }
    if let Some(p) = f.get("pretraining_tp").and_then(Value::as_u64).filter(|p| *p > 1) {
        return Err(f.refuse(format!("`pretraining_tp={p}`"), "only 1 is implemented"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
