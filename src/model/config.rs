//! What a model is made of, read from config.json (or GGUF metadata).
//!
//! Owns the decision whether a model is supported. Refuses, by its name, every architecture and every field that would change
//! the computation and is not implemented: a model is computed right or not at all.

use super::error::Error;
use serde_json::{Map, Value};
use std::path::Path;

/// The decoder families. They differ in biases and in the norm on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 and 3, SmolLM2, TinyLlama, Mistral without a sliding window.
    Llama,
    /// Qwen2 and Qwen2.5: biases on q, k, v.
    Qwen2,
    /// Qwen3: RMSNorm on each head of q and k.
    Qwen3,
}

impl Family {
    /// Its name in config.json's `model_type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// How rotary frequencies are stretched for longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency divided by the factor.
    Linear(f64),
    /// Each frequency divided by its own number, (head_dim/2): how GGUF files store Llama 3's stretching.
    Divided(Vec<f32>),
    /// Llama 3: low frequencies divided, high ones kept, a smooth passage between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are divided.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// The context length before stretching.
        original: f64,
    },
}

/// A decoder's dimensions and switches.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which family.
    pub family: Family,
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
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Their stretching.
    pub rope_scaling: RopeScaling,
    /// Added under the root of RMSNorm.
    pub rms_eps: f64,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the attention's output.
    pub o_bias: bool,
    /// Bias in the feed-forward layer.
    pub mlp_bias: bool,
    /// RMSNorm on each head of q and k.
    pub qk_norm: bool,
    /// Longest context in tokens; 0 when unknown.
    pub context: usize,
    /// Tokens that end a completion, as config.json names them.
    pub eos: Vec<u32>,
    /// The token that starts a text, if config.json names one.
    pub bos: Option<u32>,
    /// The padding token, if config.json names one.
    pub pad: Option<u32>,
}

/// The fields of a config.json with errors that name file and field.
struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        self.size_or(key, None)
    }

    fn size_or(&self, key: &str, default: Option<usize>) -> Result<usize, Error> {
        match (self.get(key), default) {
            (None, Some(d)) => Ok(d),
            (None, None) => Err(Error::file(self.path, format!("the field `{key}` is missing"))),
            (Some(v), _) => v.as_u64().filter(|n| (1..=1 << 32).contains(n)).map(|n| n as usize).ok_or_else(|| {
                Error::file(self.path, format!("the field `{key}` is {v}, not a positive whole number"))
            }),
        }
    }

    fn real(&self, key: &str, default: f64) -> Result<f64, Error> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v
                .as_f64()
                .filter(|x| x.is_finite() && *x > 0.0)
                .ok_or_else(|| Error::file(self.path, format!("the field `{key}` is {v}, not a positive number"))),
        }
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    fn refuse(&self, what: String, known: &str) -> Error {
        Error::unsupported(self.path, what, known)
    }
}

/// The token ids of a field that may hold one or a list.
pub(crate) fn ids(value: Option<&Value>) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(v) => one(v).into_iter().collect(),
        None => Vec::new(),
    }
}

impl Config {
    /// Every tensor of the model by its Hugging Face name, with its shape, in the model's order. Lazy, so that a hostile
    /// count of layers costs no memory.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        let c = self;
        let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let layer = move |i: usize| {
            let linear = |block: &str, part: &str, out: usize, width: usize, bias: bool| {
                let name = format!("{block}.{part}");
                std::iter::once((format!("{name}.weight"), vec![out, width]))
                    .chain(bias.then(|| (format!("{name}.bias"), vec![out])))
            };
            let norm = |name: &str, width: usize| std::iter::once((format!("{name}.weight"), vec![width]));
            let heads = |name: &str| c.qk_norm.then(|| (format!("self_attn.{name}.weight"), vec![c.head_dim]));
            let parts: Vec<_> = norm("input_layernorm", c.hidden)
                .chain(linear("self_attn", "q_proj", q, c.hidden, c.qkv_bias))
                .chain(linear("self_attn", "k_proj", kv, c.hidden, c.qkv_bias))
                .chain(linear("self_attn", "v_proj", kv, c.hidden, c.qkv_bias))
                .chain(linear("self_attn", "o_proj", c.hidden, q, c.o_bias))
                .chain(heads("q_norm"))
                .chain(heads("k_norm"))
                .chain(norm("post_attention_layernorm", c.hidden))
                .chain(linear("mlp", "gate_proj", c.ff, c.hidden, c.mlp_bias))
                .chain(linear("mlp", "up_proj", c.ff, c.hidden, c.mlp_bias))
                .chain(linear("mlp", "down_proj", c.hidden, c.ff, c.mlp_bias))
                .collect();
            parts.into_iter().map(move |(part, shape)| (format!("model.layers.{i}.{part}"), shape))
        };
        std::iter::once(("model.embed_tokens.weight".to_owned(), vec![c.vocab, c.hidden]))
            .chain((0..c.layers).flat_map(layer))
            .chain(std::iter::once(("model.norm.weight".to_owned(), vec![c.hidden])))
            .chain((!c.tied).then(|| ("lm_head.weight".to_owned(), vec![c.vocab, c.hidden])))
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
        let family = match kind {
            "llama" | "mistral" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "" => return Err(Error::file(path, "the field `model_type` is missing")),
            other => {
                let known = "the supported architectures are llama, mistral, qwen2 and qwen3";
                return Err(f.refuse(format!("the architecture `{other}`"), known));
            }
        };
        refuse_fields(&f, kind)?;
        let hidden = f.size("hidden_size")?;
        let heads = f.size("num_attention_heads")?;
        let kv_heads = f.size_or("num_key_value_heads", Some(heads))?;
        let head_dim = f.size_or("head_dim", Some((hidden / heads).max(1)))?;
        if heads % kv_heads != 0 {
            return Err(Error::file(path, format!("{heads} query heads cannot share {kv_heads} key heads evenly")));
        }
        if head_dim % 2 != 0 {
            return Err(Error::file(path, format!("head_dim {head_dim} is odd, rotary positions need it even")));
        }
        let rope = f.get("rope_parameters").or(f.get("rope_scaling"));
        let theta = rope.and_then(|r| r.get("rope_theta")).and_then(Value::as_f64);
        let context = f.get("max_position_embeddings").and_then(Value::as_u64).unwrap_or(0) as usize;
        let attention_bias = f.flag("attention_bias", false);
        Ok(Self {
            family,
            hidden,
            layers: f.size("num_hidden_layers")?,
            heads,
            kv_heads,
            head_dim,
            ff: f.size("intermediate_size")?,
            vocab: f.size("vocab_size")?,
            rope_theta: match theta {
                Some(t) => t,
                None => f.real("rope_theta", 10_000.0)?,
            },
            rope_scaling: scaling(&f, rope, context)?,
            rms_eps: f.real("rms_norm_eps", 1e-6)?,
            tied: f.flag("tie_word_embeddings", false),
            qkv_bias: attention_bias || family == Family::Qwen2,
            o_bias: attention_bias && family != Family::Qwen2,
            mlp_bias: f.flag("mlp_bias", false),
            qk_norm: family == Family::Qwen3,
            context,
            eos: ids(f.get("eos_token_id")),
            bos: ids(f.get("bos_token_id")).first().copied(),
            pad: ids(f.get("pad_token_id")).first().copied(),
        })
    }

    /// Numbers in the weights, a tied head counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let (h, f) = (self.hidden, self.ff);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut layer = h * (q + 2 * kv) + q * h + 3 * h * f + 2 * h;
        layer += if self.qkv_bias { q + 2 * kv } else { 0 } + if self.o_bias { h } else { 0 };
        layer += if self.mlp_bias { 2 * f + h } else { 0 } + if self.qk_norm { 2 * self.head_dim } else { 0 };
        let tables = if self.tied { 1 } else { 2 };
        (self.layers * layer + tables * self.vocab * h + h) as u64
    }
}

/// Fields that change the computation and are not implemented.
fn refuse_fields(f: &Fields, kind: &str) -> Result<(), Error> {
    if let Some(act) = f.get("hidden_act").and_then(Value::as_str).filter(|a| *a != "silu") {
        return Err(f.refuse(format!("the activation `hidden_act={act}`"), "only silu is implemented"));
    }
    // Qwen configs carry a window that is switched off; Mistral's is on whenever it is set.
    let window_on =
        if kind == "mistral" { f.get("sliding_window").is_some() } else { f.flag("use_sliding_window", false) };
    if window_on {
        let w = f.get("sliding_window").map_or_else(|| "true".into(), Value::to_string);
        return Err(f.refuse(format!("sliding-window attention (`sliding_window={w}`)"), "only full attention is"));
    }
    let types = f.get("layer_types").and_then(Value::as_array);
    if let Some(other) = types.into_iter().flatten().filter_map(Value::as_str).find(|t| *t != "full_attention") {
        return Err(f.refuse(format!("`layer_types` with `{other}`"), "only full_attention is implemented"));
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
        assert!(two.qkv_bias && !two.o_bias && !two.qk_norm && two.eos == [1, 2]);
        let three = parse(r#""model_type":"qwen3","head_dim":32"#).unwrap();
        assert!(three.qk_norm && !three.qkv_bias && three.head_dim == 32);
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_its_name() {
        for (rest, name) in [
            (r#""model_type":"gemma3""#, "gemma3"),
            (r#""model_type":"mistral","sliding_window":4096"#, "sliding_window=4096"),
            (r#""model_type":"llama","rope_scaling":{"rope_type":"yarn","factor":4}"#, "yarn"),
            (r#""model_type":"llama","hidden_act":"gelu""#, "hidden_act=gelu"),
            (r#""model_type":"llama","quantization_config":{"bits":4}"#, "quantization_config"),
            (r#""model_type":"qwen2","layer_types":["sliding_attention"]"#, "sliding_attention"),
        ] {
            let said = parse(rest).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains("m/config.json"), "{said}");
        }
        let said = Config::parse("{\"model_type\":\"llama\"}", Path::new("c")).unwrap_err().to_string();
        assert!(said.contains("`hidden_size` is missing"), "{said}");
    }
}
