//! A model's configuration, read from config.json (or GGUF metadata).
//!
//! Owns the decision whether a model is supported. Refuses by name every architecture and every field that changes
//! the computation and is not implemented: a model is computed correctly or not at all.

use super::attention_windows;
use super::class_fields;
use super::error::Error;
use super::family::{self, ExpertNames, Family, PerLayerNames};
use super::feed_forward::{Experts, FeedForward, Mlp};
use super::fields::{Fields, ids};
use super::layer::{
    ExpertSpec, LayerParts, LayerPattern, LayerReader, LayerSpec, LinearSpec, NormSpec, PerLayerParts, QkNorm,
    TensorName, activation, activation_names,
};
use super::layer_kinds::{KeySource, LayerKinds, PerLayerSpec};
use super::rope::{self, RopeBounds};
pub use super::rope::{RopeScaling, RopeSpec};
use crate::foreign;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::convert::Infallible;
use std::path::Path;

/// Layers that are asked whether they have experts; a damaged file may name any number, and what it says of those beyond is one
/// kind's.
const LOOKED_AT: usize = 4096;

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

/// A tensor of a layer.
struct LayerTensor {
    name: TensorName,
    expert: Option<usize>,
    /// `.weight`, `.bias`, or nothing.
    end: &'static str,
    shape: Vec<usize>,
}

/// A layer's tensors, in the order of [`Config::read_layer`].
struct TensorShapes {
    all: Vec<LayerTensor>,
    /// Of experts the first only.
    distinct: bool,
}

impl LayerReader for TensorShapes {
    type Linear = ();
    type Norm = ();
    type Error = Infallible;

    fn linear(&mut self, spec: &LinearSpec) -> Result<(), Infallible> {
        let &LinearSpec { name, expert, out, width, bias, .. } = spec;
        if self.distinct && expert.is_some_and(|expert| expert > 0) {
            return Ok(());
        }
        self.all.push(LayerTensor { name, expert, end: ".weight", shape: vec![out, width] });
        self.all.extend(bias.then(|| LayerTensor { name, expert, end: ".bias", shape: vec![out] }));
        Ok(())
    }

    fn norm(&mut self, spec: &NormSpec) -> Result<(), Infallible> {
        let &NormSpec { name, width, bias } = spec;
        self.all.push(LayerTensor { name, expert: None, end: ".weight", shape: vec![width] });
        self.all.extend(bias.then(|| LayerTensor { name, expert: None, end: ".bias", shape: vec![width] }));
        Ok(())
    }

    fn factor(&mut self, name: TensorName) -> Result<f64, Infallible> {
        self.all.push(LayerTensor { name, expert: None, end: "", shape: vec![1] });
        Ok(1.0)
    }
}

impl Config {
    /// The linear modules that may have adapters in some layer, in the model's order: those of [`LINEARS`](super::tune::LINEARS),
    /// or the fused ones. In a model with experts those of attention: peft on transformers 5 puts an adapter that names modules of
    /// a feed-forward on the experts. The sizes are the first layer's.
    #[must_use]
    pub fn linears(&self) -> Vec<LinearSpec> {
        let (first, value) = (self.linears_of(0), self.family.names.linears[2]);
        let none = self.layer.kinds.keys_as_values && self.layer.windows == LayerPattern::None;
        if none || self.family.names.fused.is_some() || first.iter().any(|spec| spec.name == value) {
            return first;
        }
        // The first layer's keys are its values, others have values.
        let (q_k, rest) = first.split_at(2);
        let value = q_k.last().map(|key| LinearSpec { name: value, ..*key });
        q_k.iter().copied().chain(value).chain(rest.iter().copied()).collect()
    }

    /// Those of layer `i`.
    #[must_use]
    pub fn linears_of(&self, i: usize) -> Vec<LinearSpec> {
        let mut all = self.attention_linears(i);
        if self.layer.experts.is_none() {
            all.extend(self.dense(i));
        }
        all
    }

    fn attention_linears(&self, i: usize) -> Vec<LinearSpec> {
        let shape = self.shape_of(i);
        let (h, q, kv) = (self.hidden, shape.q_width(), shape.kv_width());
        let LayerSpec { qkv_bias, o_bias, .. } = self.layer;
        let names = &self.family.names;
        let [q_name, k_name, v_name, o_name, ..] = names.linears;
        let output = linear(o_name, h, q, o_bias);
        if let Some([qkv, _]) = names.fused {
            return vec![linear(qkv, q + 2 * kv, h, qkv_bias), output];
        }
        let mut all = vec![linear(q_name, q, h, qkv_bias)];
        all.extend(shape.source().is_none().then(|| linear(k_name, kv, h, qkv_bias)));
        all.extend((shape.keys == KeySource::Own).then(|| linear(v_name, kv, h, qkv_bias)));
        all.push(output);
        all
    }

    /// The feed-forward of layer `i` without experts.
    fn dense(&self, i: usize) -> Vec<LinearSpec> {
        let (h, ff, bias) = (self.hidden, self.shape_of(i).ff, self.layer.mlp_bias);
        let names = &self.family.names;
        let [.., gate, up, down] = names.linears;
        let of =
            |name, out, width| LinearSpec { adaptable: self.layer.experts.is_none(), ..linear(name, out, width, bias) };
        if let Some([_, gate_up]) = names.fused {
            return vec![of(gate_up, if self.layer.gated { 2 * ff } else { ff }, h), of(down, h, ff)];
        }
        let mut all = vec![of(gate, ff, h)];
        all.extend(self.layer.gated.then(|| of(up, ff, h)));
        all.push(of(down, h, ff));
        all
    }

    /// Gate and output of the layers' second input; none without one.
    fn per_layer_linears(&self) -> Option<[LinearSpec; 2]> {
        let PerLayerSpec { width, .. } = self.layer.per_layer?;
        let names = &self.family.names.per_layer;
        let of = |name, out, width| LinearSpec { adaptable: false, ..linear(name, out, width, false) };
        Some([of(names.gate, width, self.hidden), of(names.out, self.hidden, width)])
    }

    /// The router, and the gate of the expert that every token goes through.
    fn expert_gate(&self, name: TensorName, out: usize) -> LinearSpec {
        let bias = self.layer.mlp_bias && name == self.family.names.experts.router;
        LinearSpec { adaptable: false, ..linear(name, out, self.hidden, bias) }
    }

    /// Gate, up and down of an expert; without a number of the one that every token goes through.
    fn expert(&self, [gate, up, down]: [TensorName; 3], expert: Option<usize>, width: usize) -> Vec<LinearSpec> {
        let bias = self.layer.mlp_bias;
        let of = |name, out, width| LinearSpec { expert, adaptable: false, ..linear(name, out, width, bias) };
        vec![of(gate, width, self.hidden), of(up, width, self.hidden), of(down, self.hidden, width)]
    }

    /// The experts of layer `i`; none if it has one feed-forward.
    #[must_use]
    pub fn experts_of(&self, i: usize) -> Option<&ExpertSpec> {
        self.layer.experts.as_ref().filter(|experts| experts.layers.has(i))
    }

    /// The linear modules that a token goes through in layer `i`, each with how often: an expert stands for those chosen.
    #[must_use]
    pub fn modules_of_token(&self, i: usize) -> Vec<(LinearSpec, usize)> {
        let mut all = self.attention_linears(i);
        all.extend(self.per_layer_linears().into_iter().flatten());
        let Some(experts) = self.experts_of(i) else {
            all.extend(self.dense(i));
            return all.into_iter().map(|spec| (spec, 1)).collect();
        };
        let names = &self.family.names.experts;
        all.push(self.expert_gate(names.router, experts.count));
        if let Some(width) = experts.shared {
            all.extend(self.expert(names.shared, None, width));
            all.push(self.expert_gate(names.shared_gate, 1));
        }
        let each = self.expert(names.each, Some(0), experts.width).into_iter().map(|spec| (spec, experts.chosen));
        all.into_iter().map(|spec| (spec, 1)).chain(each).collect()
    }

    /// Whether nothing is computed beyond the context: positions are learned, or RoPE changes there for all tokens of a row.
    fn ends_at_context(&self) -> bool {
        let local = self.local_rope.as_ref().map(|rope| &rope.scaling);
        let mut ropes = std::iter::once(&self.rope_scaling).chain(local);
        self.layer.positions || ropes.any(|scaling| matches!(scaling, RopeScaling::Dynamic(_)))
    }

    /// How many tokens may follow a prompt of so many: as many as the context has where it is the end.
    pub(crate) fn room_after(&self, prompt: usize) -> usize {
        if self.ends_at_context() { self.context.saturating_sub(prompt) } else { usize::MAX }
    }

    /// Refuses a position for which the model has learned no embedding, or for which its RoPE is not implemented.
    ///
    /// # Errors
    /// With the model's longest context.
    pub(crate) fn check_position(&self, position: usize) -> Result<(), Error> {
        if !self.ends_at_context() || position < self.context {
            return Ok(());
        }
        let context = self.context;
        Err(Error::Invalid(if self.layer.positions {
            format!("a row is longer than the {context} positions that the model has learned; shorten it")
        } else {
            format!(
                "a row is longer than `max_position_embeddings` ({context}): beyond it the RoPE scaling `dynamic` changes every \
                 frequency, which is not implemented; shorten it"
            )
        }))
    }

    /// The factor on the attention's scores.
    #[must_use]
    pub fn attention_scale(&self) -> f64 {
        self.layer.attention_scale.unwrap_or_else(|| 1.0 / (self.head_dim as f64).sqrt())
    }

    /// Reads the parts of layer `i` in the model's order: the single traversal for the loader, the packed decoder, merging and checks.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read_layer<R: LayerReader>(
        &self,
        i: usize,
        reader: &mut R,
    ) -> Result<LayerParts<R::Linear, R::Norm>, R::Error> {
        let (names, spec) = (&self.family.names, &self.layer);
        let (linears, shape) = (self.attention_linears(i), self.shape_of(i));
        let (qkv, output) = linears.split_at(linears.len() - 1);
        let norm = |reader: &mut R, on: bool, name: TensorName, width: usize| {
            let bias = self.norm_bias();
            on.then(|| reader.norm(&NormSpec { name, width, bias })).transpose()
        };
        let (before, after) = (spec.norms.before(), spec.norms.after());
        let (q_width, k_width) = match spec.qk_norm {
            QkNorm::Width => (shape.q_width(), shape.kv_width()),
            QkNorm::Head | QkNorm::No => (shape.head_dim, shape.head_dim),
        };
        let qk = spec.qk_norm != QkNorm::No;
        let own_keys = qk && shape.source().is_none();
        Ok(LayerParts {
            attention_norm: norm(reader, before, names.attention_norm, self.hidden)?,
            qkv: qkv.iter().map(|spec| reader.linear(spec)).collect::<Result<_, _>>()?,
            o: reader.linear(&output[0])?,
            q_norm: norm(reader, qk, names.q_norm, q_width)?,
            k_norm: norm(reader, own_keys, names.k_norm, k_width)?,
            sinks: norm(reader, spec.sinks, names.sinks, self.heads)?,
            attention_out_norm: norm(reader, after, names.attention_out_norm, self.hidden)?,
            mlp_norm: norm(reader, before && !spec.shared_norm, names.mlp_norm, self.hidden)?,
            mlp: self.read_feed_forward(i, reader)?,
            mlp_out_norm: norm(reader, after, names.mlp_out_norm, self.hidden)?,
            per_layer: match self.per_layer_linears() {
                Some([gate, out]) => {
                    let (gate, out) = (reader.linear(&gate)?, reader.linear(&out)?);
                    let spec = NormSpec { name: names.per_layer.out_norm, width: self.hidden, bias: self.norm_bias() };
                    Some(PerLayerParts { gate, out, norm: reader.norm(&spec)? })
                }
                None => None,
            },
            factor: if spec.output_factor { Some(reader.factor(names.factor)?) } else { None },
        })
    }

    fn read_feed_forward<R: LayerReader>(&self, i: usize, reader: &mut R) -> Result<FeedForward<R::Linear>, R::Error> {
        let Some(experts) = self.experts_of(i) else {
            return Ok(FeedForward::Dense(read_mlp(&self.dense(i), reader)?));
        };
        let names = &self.family.names.experts;
        let router = reader.linear(&self.expert_gate(names.router, experts.count))?;
        let each = |expert: usize| read_mlp(&self.expert(names.each, Some(expert), experts.width), reader);
        let each = (0..experts.count).map(each).collect::<Result<_, _>>()?;
        let shared = match experts.shared {
            None => None,
            Some(width) => {
                let mlp = read_mlp(&self.expert(names.shared, None, width), reader)?;
                Some((mlp, reader.linear(&self.expert_gate(names.shared_gate, 1))?))
            }
        };
        Ok(FeedForward::Experts(Experts { router, each, shared }))
    }

    /// The tensors of layer `i`; with `distinct` those of the first expert only.
    fn tensor_shapes(&self, i: usize, distinct: bool) -> Vec<LayerTensor> {
        let mut tensor_shapes = TensorShapes { all: Vec::new(), distinct };
        match self.read_layer(i, &mut tensor_shapes) {
            Ok(_) => tensor_shapes.all,
            Err(never) => match never {},
        }
    }

    /// The Hugging Face name of a tensor of layer `i`, from its name below the layer.
    #[must_use]
    pub fn layer_name(&self, i: usize, name: TensorName) -> String {
        format!("{}{i}.{}", self.family.names.layer.hf, name.hf)
    }

    /// The Hugging Face name of a linear module of layer `i`.
    #[must_use]
    pub fn linear_name(&self, i: usize, spec: &LinearSpec) -> String {
        numbered(&self.layer_name(i, spec.name), spec.expert)
    }

    /// Every tensor of the model: Hugging Face name and shape, in the model's order. Lazy, so that a hostile
    /// layer count costs no memory.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let names = &self.family.names;
        let layer = move |i: usize| {
            let one = move |LayerTensor { name, expert, end, shape }: LayerTensor| {
                (format!("{}{end}", numbered(&self.layer_name(i, name), expert)), shape)
            };
            self.tensor_shapes(i, false).into_iter().map(one)
        };
        let positions = self.layer.positions.then(|| format!("{}.weight", names.positions.hf));
        let table = |name: TensorName| (format!("{}.weight", name.hf), vec![self.vocab, self.hidden]);
        std::iter::once(table(names.embedding))
            .chain(self.per_layer_tensors())
            .chain(positions.map(|name| (name, vec![self.context, self.hidden])))
            .chain((0..self.layers).flat_map(layer))
            .chain(std::iter::once((format!("{}.weight", names.last_norm.hf), vec![self.hidden])))
            .chain(self.norm_bias().then(|| (format!("{}.bias", names.last_norm.hf), vec![self.hidden])))
            .chain((!self.tied).then(|| table(names.head)))
    }

    /// The tensors of the layers' second input that no layer owns: table, projection and norm.
    fn per_layer_tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + use<> {
        let names = self.family.names.per_layer;
        let all = self.layer.per_layer.map(|PerLayerSpec { width, vocab }| {
            let stacked = self.layers.saturating_mul(width);
            let mut all = vec![
                (names.table, ".weight", vec![vocab, stacked]),
                (names.projection, ".weight", vec![stacked, self.hidden]),
                (names.projection_norm, ".weight", vec![width]),
            ];
            all.extend(self.norm_bias().then(|| (names.projection_norm, ".bias", vec![width])));
            all
        });
        all.into_iter().flatten().map(|(name, end, shape)| (format!("{}{end}", name.hf), shape))
    }

    /// Parses a Hugging Face tensor name: its layer, and its names without number, `.weight` and `.bias`.
    pub(crate) fn named(&self, tensor: &str) -> Option<(Option<usize>, TensorName)> {
        let names = &self.family.names;
        let stem = if tensor.ends_with(names.factor.hf) { tensor } else { tensor.rsplit_once('.')?.0 };
        let per_layer = &names.per_layer;
        let whole = [names.embedding, names.positions, names.last_norm, names.head];
        let whole = whole.into_iter().chain([per_layer.table, per_layer.projection, per_layer.projection_norm]);
        if let Some(name) = whole.clone().find(|name| name.hf == stem) {
            return Some((None, name));
        }
        let (layer, part) = stem.strip_prefix(names.layer.hf)?.split_once('.')?;
        let layer = layer.parse().ok()?;
        let number = part.split('.').find(|word| word.bytes().all(|b| b.is_ascii_digit()));
        let part = number.map_or(Cow::Borrowed(part), |number| part.replacen(number, "{}", 1).into());
        let known = self.tensor_shapes(layer, true).into_iter().find(|tensor| tensor.name.hf == part)?;
        Some((Some(layer), known.name))
    }

    /// Whether the tensor is the weight of a norm.
    pub(crate) fn is_norm(&self, tensor: &str) -> bool {
        let names = &self.family.names;
        let linear = |name: TensorName| {
            let fused = names.fused.is_some_and(|fused| fused.contains(&name));
            let ExpertNames { router, each, shared, shared_gate } = &names.experts;
            let experts = each.contains(&name) || shared.contains(&name) || [*router, *shared_gate].contains(&name);
            let tables = [names.embedding, names.positions, names.head, names.per_layer.table];
            let PerLayerNames { projection, gate, out, .. } = names.per_layer;
            let others = [projection, gate, out, names.factor, names.sinks].contains(&name);
            fused || experts || others || names.linears.contains(&name) || tables.contains(&name)
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
        let map = joined.as_ref().unwrap_or(map);
        let f = Fields { path, map, aliases: &[] };
        let kind = f.get("model_type").and_then(Value::as_str).unwrap_or("");
        if kind.is_empty() {
            return Err(Error::file(path, "the field `model_type` is missing"));
        }
        let Some(family) = family::by_model_type(kind) else {
            let known = format!("the supported architectures are {}", family::known());
            return Err(f.refuse(format!("the architecture `{kind}`"), &known));
        };
        let defaults = family.defaults;
        let map = &class_fields::of_class(map, family);
        let f = Fields { path, map, aliases: defaults.aliases };
        let layer = layer(&f, family)?;
        let hidden = f.size("hidden_size")?;
        let heads = f.size("num_attention_heads")?;
        let kv_heads = f.size_or("num_key_value_heads", defaults.kv_heads)?.unwrap_or(heads);
        let head_dim = f.size_or("head_dim", defaults.head_dim)?.unwrap_or((hidden / heads).max(1));
        if heads % kv_heads != 0 {
            return Err(Error::file(path, format!("{heads} query heads cannot share {kv_heads} key heads evenly")));
        }
        // Without RoPE a table that nothing reads.
        let rotary = if layer.rope == LayerPattern::None { 2 } else { (head_dim as f64 * layer.rotary_share) as usize };
        if !rotary.is_multiple_of(2) || rotary == 0 {
            let key = if f.get("rotary_pct").is_some() { "rotary_pct" } else { "partial_rotary_factor" };
            let share = if rotary == head_dim { String::new() } else { format!(" and `{key}={}`", layer.rotary_share) };
            let what = format!("with `head_dim` {head_dim}{share} RoPE rotates {rotary} dimensions of a head");
            let why = format!("{what}, but it needs an even number");
            return Err(Error::file(path, why));
        }
        // Null and 0 mean unknown.
        let positions = match f.raw("max_position_embeddings") {
            None => defaults.context,
            Some(value) => value.as_u64().unwrap_or(0) as usize,
        };
        if layer.positions && f.size_or("max_position_embeddings", Some(defaults.context))?.is_none() {
            return Err(Error::file(path, "names no longest context, which the table of learned positions must have"));
        }
        let global_dim = layer.kinds.global_heads.map_or(head_dim, |heads| heads.head_dim);
        if let Some(other) = layer.kinds.global_heads.map(|heads| heads.kv_heads).filter(|kv| heads % kv != 0) {
            return Err(Error::file(path, format!("{heads} query heads cannot share {other} key heads evenly")));
        }
        if !global_dim.is_multiple_of(2) {
            return Err(Error::file(path, format!("`global_head_dim` {global_dim} is odd, but RoPE needs it even")));
        }
        let window = attention_windows::width(&f, family, &layer.windows)?;
        let only_experts = layer.experts.as_ref().is_some_and(|experts| experts.layers == LayerPattern::All);
        let global_rotary = if layer.kinds.global_heads.is_some() { global_dim } else { rotary };
        let bounds = RopeBounds { context: positions, rotary: global_rotary, local: rotary };
        let (rope, local_rope) = rope::read(&f, &defaults, bounds)?;
        Ok(Self {
            family,
            embedding_scale: (family.embedding_scale)(hidden) * layer.embedding_multiplier,
            layer,
            hidden,
            layers: f.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            ff: match (f.size_if("intermediate_size")?, defaults.ff_factor) {
                (None, Some(factor)) => factor * hidden,
                // In a model of experts alone the class does not read it.
                (None, None) if only_experts => 0,
                _ => f.size("intermediate_size")?,
            },
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
        let layer = |i: usize| {
            let times = |tensor: &LayerTensor| match (tensor.expert, self.experts_of(i)) {
                (Some(_), Some(experts)) => experts.count as u64,
                _ => 1,
            };
            let shapes = self.tensor_shapes(i, true);
            // A factor on a layer's output is no parameter.
            shapes
                .iter()
                .filter(|tensor| !tensor.end.is_empty())
                .map(|tensor| times(tensor).saturating_mul(product(&tensor.shape)))
                .fold(0, sum)
        };
        // Layers are alike but for experts in some, or for their kinds.
        let experts = self.layer.experts.as_ref().is_some_and(|experts| experts.layers != LayerPattern::All);
        let layers = if experts || self.layer.kinds != LayerKinds::default() {
            let seen = (0..self.layers.min(LOOKED_AT)).map(layer).fold(0, sum);
            let rest = self.layers.saturating_sub(LOOKED_AT) as u64;
            seen.saturating_add(rest.saturating_mul(layer(LOOKED_AT)))
        } else {
            layer(0).saturating_mul(self.layers as u64)
        };
        let per_layer = self.per_layer_tensors().map(|(_, shape)| product(&shape)).fold(0, sum);
        let tables = product(&[if self.tied { 1 } else { 2 }, self.vocab, self.hidden]);
        let positions = if self.layer.positions { product(&[self.context, self.hidden]) } else { 0 };
        let last_norm = product(&[self.hidden, if self.norm_bias() { 2 } else { 1 }]);
        [layers, tables, per_layer, positions, last_norm].into_iter().fold(0, sum)
    }
}

fn linear(name: TensorName, out: usize, width: usize, bias: bool) -> LinearSpec {
    LinearSpec { name, expert: None, out, width, bias, adaptable: true }
}

fn read_mlp<R: LayerReader>(modules: &[LinearSpec], reader: &mut R) -> Result<Mlp<R::Linear>, R::Error> {
    let (gate_up, down) = modules.split_at(modules.len() - 1);
    let gate_up = gate_up.iter().map(|spec| reader.linear(spec)).collect::<Result<_, _>>()?;
    Ok(Mlp { gate_up, down: reader.linear(&down[0])? })
}

/// The name of a module with its expert's number.
fn numbered(name: &str, expert: Option<usize>) -> String {
    expert.map_or_else(|| name.to_owned(), |expert| name.replace("{}", &expert.to_string()))
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
    class_fields::refuse_for_all(f, family)?;
    (family.read)(f, &mut layer)?;
    if f.flag("use_bidirectional_attention", false) {
        return Err(f.refuse("`use_bidirectional_attention=true`", "only causal attention is implemented"));
    }
    refuse_quantisation(f, family)?;
    if let Some(windows) = attention_windows::listed(f, family)? {
        layer.windows = windows;
    }
    Ok(layer)
}

/// Refuses quantised weights that are not read.
fn refuse_quantisation(f: &Fields<'_>, family: &Family) -> Result<(), Error> {
    let Some(asked) = f.get("quantization_config").filter(|value| value.as_u64() != Some(0)) else { return Ok(()) };
    let Some(method) = family.defaults.quantisation else {
        return Err(f.refuse("the field `quantization_config`", "use an unquantised, dense model"));
    };
    if asked.get("quant_method").and_then(Value::as_str) == Some(method) {
        return Ok(());
    }
    let other = asked.get("quant_method").and_then(Value::as_str).unwrap_or("none");
    let known = format!("{} is read with `quant_method={method}` or unquantised", family.name());
    Err(f.refuse(format!("`quantization_config` with `quant_method={other}`"), &known))
}

mod shape;
#[cfg(test)]
mod tests;
