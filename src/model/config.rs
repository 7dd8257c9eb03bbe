//! A model's configuration, read from config.json (or GGUF metadata).
//!
//! Owns the decision whether a model is supported. Refuses by name every architecture and every field that changes
//! the computation and is not implemented: a model is computed correctly or not at all.

use super::error::Error;
use super::family::{self, Family};
use super::fields::{Fields, ids};
use super::layer::{
    LayerParts, LayerReader, LayerSpec, LinearSpec, NormSpec, QkNorm, TensorName, activation, activation_names,
};
use serde_json::Value;
use std::convert::Infallible;
use std::path::Path;

/// How RoPE frequencies are scaled for longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Unscaled.
    None,
    /// Every frequency divided by the factor.
    Linear(f64),
    /// Each frequency divided by its own factor, (head_dim/2): how GGUF files store Llama 3's scaling.
    Divided(Vec<f32>),
    /// Llama 3: low frequencies divided, high ones unchanged, interpolated between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Frequencies with wavelengths above `original / low` are divided.
        low: f64,
        /// Frequencies with wavelengths below `original / high` are unchanged.
        high: f64,
        /// The context length before scaling.
        original: f64,
    },
}

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
    /// Base of the RoPE frequencies.
    pub rope_theta: f64,
    /// Their scaling.
    pub rope_scaling: RopeScaling,
    /// Added under the root of RMSNorm.
    pub rms_eps: f64,
    /// Whether the output head is tied to the embedding.
    pub tied: bool,
    /// Longest context in tokens, no longer than the attention window; 0 when unknown.
    pub context: usize,
    /// Width of the attention window that cuts the context; none for full attention.
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

    /// The linear modules of a layer, in the order of [`LINEARS`](super::tune::LINEARS).
    #[must_use]
    pub fn linears(&self) -> [LinearSpec; 7] {
        let (h, q, kv, ff) = (self.hidden, self.q_width(), self.kv_width(), self.ff);
        let LayerSpec { qkv_bias, o_bias, mlp_bias, .. } = self.layer;
        let (sizes, biases) = (
            [(q, h), (kv, h), (kv, h), (h, q), (ff, h), (ff, h), (h, ff)],
            [qkv_bias, qkv_bias, qkv_bias, o_bias, mlp_bias, mlp_bias, mlp_bias],
        );
        std::array::from_fn(|index| {
            let (out, width) = sizes[index];
            LinearSpec { index, name: self.family.names.linears[index], out, width, bias: biases[index] }
        })
    }

    /// Reads a layer's parts in the model's order: the single traversal for the loader, the packed decoder, merging and checks.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read_layer<R: LayerReader>(&self, reader: &mut R) -> Result<LayerParts<R::Linear, R::Norm>, R::Error> {
        let (names, spec) = (&self.family.names, &self.layer);
        let linears = self.linears();
        let norm = |reader: &mut R, on: bool, name: TensorName, width: usize| {
            on.then(|| reader.norm(&NormSpec { name, width })).transpose()
        };
        let (before, after) = (spec.norms.before(), spec.norms.after());
        let (q_width, k_width) = match spec.qk_norm {
            QkNorm::Width => (self.q_width(), self.kv_width()),
            QkNorm::Head | QkNorm::No => (self.head_dim, self.head_dim),
        };
        let qk = spec.qk_norm != QkNorm::No;
        Ok(LayerParts {
            attention_norm: norm(reader, before, names.attention_norm, self.hidden)?,
            q: reader.linear(&linears[0])?,
            k: reader.linear(&linears[1])?,
            v: reader.linear(&linears[2])?,
            o: reader.linear(&linears[3])?,
            q_norm: norm(reader, qk, names.q_norm, q_width)?,
            k_norm: norm(reader, qk, names.k_norm, k_width)?,
            attention_out_norm: norm(reader, after, names.attention_out_norm, self.hidden)?,
            mlp_norm: norm(reader, before, names.mlp_norm, self.hidden)?,
            gate: reader.linear(&linears[4])?,
            up: reader.linear(&linears[5])?,
            down: reader.linear(&linears[6])?,
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
        let linear = |name: TensorName| names.linears.contains(&name) || name == names.embedding || name == names.head;
        self.named(tensor).is_some_and(|(_, name)| !linear(name))
    }

    /// Reads `DIR/config.json`.
    ///
    /// # Errors
    /// When the file is missing or malformed, or asks for something that is not implemented.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, format!("cannot be read: {e}")))?;
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
        let f = Fields { path, map };
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
        if head_dim % 2 != 0 {
            return Err(Error::file(path, format!("head_dim {head_dim} is odd, but RoPE needs it even")));
        }
        // The older key wins, as in `transformers`: model cards tell people to add it.
        let rope = f.get("rope_scaling").or(f.get("rope_parameters"));
        let theta = rope.and_then(|r| r.get("rope_theta")).and_then(Value::as_f64);
        // Null and 0 mean unknown.
        let positions = match f.map.get("max_position_embeddings") {
            None => defaults.context,
            Some(value) => value.as_u64().unwrap_or(0) as usize,
        };
        // Within the window, attention is full: shorter rows are computed exactly, longer ones do not fit the context.
        let window = window(&f, family)?.filter(|window| positions == 0 || *window < positions);
        let context = window.unwrap_or(positions);
        Ok(Self {
            family,
            layer,
            embedding_scale: (family.embedding_scale)(hidden),
            hidden,
            layers: f.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            ff: f.size("intermediate_size")?,
            vocab: f.size("vocab_size")?,
            rope_theta: match theta {
                Some(t) => t,
                None => f.real("rope_theta", defaults.rope_theta)?,
            },
            rope_scaling: scaling(&f, rope, positions)?,
            rms_eps: f.real("rms_norm_eps", defaults.rms_eps)?,
            tied: f.flag("tie_word_embeddings", defaults.tied),
            context,
            window,
            eos: ids(f.get("eos_token_id")),
            bos: ids(f.get("bos_token_id")).first().copied(),
            pad: ids(f.get("pad_token_id")).first().copied(),
        })
    }

    /// The number of parameters, a tied head counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let size = |shape: &Vec<usize>| shape.iter().product::<usize>();
        let layer: usize = self.tensor_shapes().iter().map(|(.., shape)| size(shape)).sum();
        let tables = if self.tied { 1 } else { 2 };
        (self.layers * layer + tables * self.vocab * self.hidden + self.hidden) as u64
    }
}

/// What the layers compute.
fn layer(f: &Fields<'_>, family: &Family) -> Result<LayerSpec, Error> {
    let mut layer = (family.layer)();
    if let Some(name) = f.get("hidden_act").and_then(Value::as_str) {
        layer.activation = activation(name).ok_or_else(|| {
            f.refuse(format!("the activation `hidden_act={name}`"), &format!("implemented are {}", activation_names()))
        })?;
    }
    (family.read)(f, &mut layer)?;
    refuse_fields(f)?;
    Ok(layer)
}

fn layer_types<'a>(f: &'a Fields<'_>) -> impl Iterator<Item = &'a str> {
    f.get("layer_types").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Width of the window of the layers that have one. Qwen's configurations hold a window that is switched off.
fn window(f: &Fields<'_>, family: &Family) -> Result<Option<usize>, Error> {
    let named = layer_types(f).any(|name| name == "sliding_attention");
    if named || f.flag("use_sliding_window", family.defaults.sliding_window.is_some()) {
        return f.size_or("sliding_window", family.defaults.sliding_window);
    }
    Ok(None)
}

/// Refuses fields that change the computation and are not implemented.
fn refuse_fields(f: &Fields<'_>) -> Result<(), Error> {
    let known = ["full_attention", "sliding_attention"];
    if let Some(other) = layer_types(f).find(|name| !known.contains(name)) {
        return Err(
            f.refuse(format!("`layer_types` with `{other}`"), "full_attention and sliding_attention are implemented")
        );
    }
    for key in ["quantization_config", "num_experts", "num_local_experts", "attn_logit_softcapping"] {
        if f.get(key).is_some() {
            return Err(f.refuse(format!("the field `{key}`"), "use an unquantised, dense model"));
        }
    }
    if let Some(p) = f.get("partial_rotary_factor").and_then(Value::as_f64).filter(|p| *p != 1.0) {
        return Err(f.refuse(format!("`partial_rotary_factor={p}`"), "only full rotary heads are implemented"));
    }
    if let Some(p) = f.get("pretraining_tp").and_then(Value::as_u64).filter(|p| *p > 1) {
        return Err(f.refuse(format!("`pretraining_tp={p}`"), "only 1 is implemented"));
    }
    Ok(())
}

fn scaling(f: &Fields, rope: Option<&Value>, context: usize) -> Result<RopeScaling, Error> {
    let Some(rope) = rope else { return Ok(RopeScaling::None) };
    let kind = rope.get("rope_type").or(rope.get("type")).and_then(Value::as_str).unwrap_or("default");
    let number = |key: &str| {
        rope.get(key)
            .and_then(Value::as_f64)
            .filter(|x| *x > 0.0)
            .ok_or_else(|| Error::file(f.path, format!("the rope scaling `{kind}` lacks a positive `{key}`")))
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear(number("factor")?)),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: number("factor")?,
            low: number("low_freq_factor")?,
            high: number("high_freq_factor")?,
            original: number("original_max_position_embeddings")
                .or_else(|e| if context > 0 { Ok(context as f64) } else { Err(e) })?,
        }),
        other => Err(f.refuse(format!("the rope scaling `{other}`"), "default, linear and llama3 are implemented")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#""hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,"num_hidden_layers":2,
        "intermediate_size":96,"vocab_size":300"#;

    fn parse(rest: &str) -> Result<Config, Error> {
        Config::parse(&format!("{{{BASE},{rest}}}"), Path::new("m/config.json"))
    }

    #[test]
    fn both_spellings_of_rope_are_read() {
        let new = parse(r#""model_type":"llama","rope_parameters":{"rope_theta":5e5,"rope_type":"default"}"#).unwrap();
        let old = parse(r#""model_type":"llama","rope_theta":500000.0"#).unwrap();
        assert_eq!(new, old);
        let three = parse(
            r#""model_type":"llama","rope_theta":5e5,"rope_scaling":{"rope_type":"llama3","factor":32,
            "low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}"#,
        )
        .unwrap();
        assert_eq!(three.rope_scaling, RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 });
    }

    #[test]
    fn families_differ_in_bias_and_norm() {
        let two =
            parse(r#""model_type":"qwen2","use_sliding_window":false,"sliding_window":32768,"eos_token_id":[1,2]"#);
        let two = two.unwrap();
        assert!(two.layer.qkv_bias && !two.layer.o_bias && two.layer.qk_norm == QkNorm::No && two.eos == [1, 2]);
        let three = parse(r#""model_type":"qwen3","head_dim":32"#).unwrap();
        assert!(three.layer.qk_norm == QkNorm::Head && !three.layer.qkv_bias && three.head_dim == 32);
        let default = parse(r#""model_type":"qwen3""#).unwrap();
        assert_eq!((default.head_dim, default.kv_heads), (128, 2), "the class's default head_dim");
        let shared = parse(r#""model_type":"qwen3","head_dim":null"#).unwrap();
        assert_eq!(shared.head_dim, 16);
    }

    /// As `transformers` resolves a config.json that leaves a field out, or says null.
    #[test]
    fn a_missing_field_has_the_default_of_the_familys_class() {
        let sizes =
            r#""hidden_size":1024,"num_attention_heads":64,"num_hidden_layers":1,"intermediate_size":9,"vocab_size":9"#;
        let parse = |kind: &str, rest: &str| {
            let text = format!(r#"{{{sizes},"model_type":"{kind}"{rest}}}"#);
            Config::parse(&text, Path::new("c")).unwrap()
        };
        let window = r#","sliding_window":null"#;
        for (kind, rest, kv_heads, head_dim, context) in [
            ("llama", "", 64, 16, 2048),
            ("mistral", window, 8, 16, 131_072),
            ("qwen2", "", 32, 16, 32_768),
            ("qwen3", "", 32, 128, 32_768),
        ] {
            let c = parse(kind, rest);
            assert_eq!((c.kv_heads, c.head_dim, c.context), (kv_heads, head_dim, context), "{kind}");
            assert_eq!(
                (c.rope_theta, c.rms_eps, c.tied, &c.rope_scaling),
                (1e4, 1e-6, false, &RopeScaling::None),
                "{kind}"
            );
            let null = parse(kind, &format!(r#"{rest},"num_key_value_heads":null,"max_position_embeddings":null"#));
            assert_eq!((null.kv_heads, null.context), (64, 0), "{kind}");
        }
    }

    #[test]
    fn every_family_names_each_of_its_tensors_once() {
        for family in family::FAMILIES {
            let config = parse(&format!(r#""model_type":"{}","sliding_window":null"#, family.name())).unwrap();
            let all: Vec<String> = config.tensors().map(|(name, _)| name).collect();
            let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
            assert_eq!(distinct.len(), all.len(), "{family:?}");
            for name in &all {
                assert!(config.named(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn an_attention_window_cuts_the_context() {
        for (rest, context, window) in [
            (r#""model_type":"mistral","sliding_window":1024"#, 1024, Some(1024)),
            (r#""model_type":"mistral""#, 4096, Some(4096)),
            (r#""model_type":"mistral","sliding_window":null,"max_position_embeddings":9"#, 9, None),
            (r#""model_type":"mistral","sliding_window":4096,"max_position_embeddings":4096"#, 4096, None),
            (r#""model_type":"mistral","sliding_window":7,"max_position_embeddings":null"#, 7, Some(7)),
            (r#""model_type":"qwen2","sliding_window":64,"use_sliding_window":false"#, 32_768, None),
            (r#""model_type":"qwen2","sliding_window":64,"use_sliding_window":true"#, 64, Some(64)),
            (
                r#""model_type":"qwen3","sliding_window":64,"layer_types":["full_attention","sliding_attention"]"#,
                64,
                Some(64),
            ),
        ] {
            let config = parse(rest).unwrap();
            assert_eq!((config.context, config.window), (context, window), "{rest}");
        }
    }

    #[test]
    fn the_older_rope_key_wins_over_the_newer() {
        let both = parse(
            r#""model_type":"llama","rope_parameters":{"rope_theta":5e5,"rope_type":"default"},"rope_scaling":{"type":"linear","factor":4}"#,
        );
        let both = both.unwrap();
        assert_eq!((both.rope_scaling, both.rope_theta), (RopeScaling::Linear(4.0), 1e4));
    }

    #[test]
    fn unimplemented_features_are_refused_by_name() {
        for (rest, name) in [
            (r#""model_type":"gemma3""#, "gemma3"),
            (r#""model_type":"llama","rope_scaling":{"rope_type":"yarn","factor":4}"#, "yarn"),
            (r#""model_type":"llama","hidden_act":"quick_gelu""#, "hidden_act=quick_gelu"),
            (r#""model_type":"llama","quantization_config":{"bits":4}"#, "quantization_config"),
            (r#""model_type":"qwen2","layer_types":["linear_attention"]"#, "linear_attention"),
        ] {
            let message = parse(rest).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("m/config.json"), "{message}");
        }
        let message = Config::parse("{\"model_type\":\"llama\"}", Path::new("c")).unwrap_err().to_string();
        assert!(message.contains("`hidden_size` is missing"), "{message}");
    }
}
