//! The configuration that a GGUF file's metadata describe.
//!
//! Owns the keys below the architecture's name, with the defaults of llama.cpp where a file is silent. The exporter reads its own
//! metadata back through it before it writes. Refuses architectures and RoPE scalings that are not implemented.

use crate::model::config::{Config, RopeScaling, RopeSpec};
use crate::model::error::Error;
use crate::model::expert_fields::MOST as MOST_EXPERTS;
use crate::model::family::{self, Family};
use crate::model::gguf_fields::GgufFields;
use crate::model::layer::{ExpertSpec, LayerPattern, LayerSpec, NormKind, TensorName};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// The base of RoPE's frequencies in llama.cpp where a file names none, of all layers and of those with a window.
const ROPE_BASE: f64 = 10_000.0;

/// YaRN's `beta_fast` and `beta_slow` in llama.cpp.
const YARN_BETAS: (f64, f64) = (32.0, 1.0);

/// Keys of YaRN that llama.cpp does not read for the architectures here, and what it computes instead.
const YARN_KEYS: [(&str, f64); 5] = [
    ("ext_factor", 1.0),
    ("attn_factor", 1.0),
    ("log_multiplier", 0.0),
    ("beta_fast", YARN_BETAS.0),
    ("beta_slow", YARN_BETAS.1),
];

/// The divisors of RoPE's frequencies (Llama 3).
pub(in crate::model) const ROPE_FREQS: &str = "rope_freqs.weight";

/// LongRoPE's factors of rows within the original context, and of longer ones.
pub(in crate::model) const ROPE_FACTORS: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

/// What a file says: its metadata, and its tensors by their names in GGUF.
pub(in crate::model) struct Description<'a> {
    /// The file, for messages.
    pub(in crate::model) path: &'a Path,
    /// The metadata.
    pub(in crate::model) meta: &'a HashMap<String, Value>,
    /// A tensor's shape, outermost dimension first.
    pub(in crate::model) shape: &'a dyn Fn(&str) -> Option<Vec<usize>>,
    /// A tensor's numbers.
    pub(in crate::model) floats: &'a dyn Fn(&str) -> Result<Vec<f32>, Error>,
}

impl Description<'_> {
    fn has(&self, name: &str) -> bool {
        (self.shape)(name).is_some()
    }

    fn id(&self, key: &str) -> Option<u32> {
        self.meta.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
    }
}

/// The configuration.
///
/// # Errors
/// When the architecture is not supported or a field is missing.
pub(in crate::model) fn config(of: &Description<'_>) -> Result<Config, Error> {
    let part = |key: &str| of.meta.get(key).and_then(Value::as_u64);
    if let Some(parts) = part("split.count").filter(|parts| *parts > 1) {
        let number = part("split.no").map_or_else(|| "one part".into(), |no| format!("part {}", no + 1));
        return Err(Error::file(
            of.path,
            format!(
                "is {number} of {parts} of a split model; join the parts with `llama-gguf-split --merge FIRST-PART OUT.gguf`, \
                 then name that file"
            ),
        ));
    }
    let arch = of.meta.get("general.architecture").and_then(Value::as_str).unwrap_or("");
    let has_experts = GgufFields::new(of.meta, arch).size("expert_count").is_some();
    let Some(family) = family::by_gguf(arch, has_experts) else {
        let known = format!("the supported ones are {}", family::known_gguf());
        return Err(Error::unsupported(of.path, format!("the architecture `{arch}`"), known));
    };
    let f = GgufFields::new(of.meta, arch);
    let size = |key: &str| {
        let missing = || Error::file(of.path, format!("the metadata `{arch}.{key}` is missing or not a number"));
        f.size(key).ok_or_else(missing)
    };
    let positions = f.size("context_length").unwrap_or(0);
    let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let kv_heads = f.size("attention.head_count_kv").unwrap_or(heads);
    let head_dim = f.size("attention.key_length").unwrap_or((hidden / heads).max(1));
    if heads % kv_heads != 0 || !head_dim.is_multiple_of(2) {
        let why = format!("{heads} query heads, {kv_heads} key heads of width {head_dim} do not fit together");
        return Err(Error::file(of.path, why));
    }
    let rotary = f.size("rope.dimension_count").unwrap_or(head_dim);
    // The order of the rows of q and k is known for whole heads.
    if rotary != head_dim && (family.gguf.interleaved || rotary > head_dim || !rotary.is_multiple_of(2)) {
        let what = format!("RoPE on {rotary} of {head_dim} head dimensions");
        return Err(Error::unsupported(of.path, what, "this architecture has it on whole heads"));
    }
    let vocab = match (of.shape)("token_embd.weight").as_deref() {
        Some([vocab, _]) => *vocab,
        _ => return Err(Error::file(of.path, "has no tensor token_embd.weight of two dimensions")),
    };
    let window = f.size("attention.sliding_window").or(family.gguf.window);
    if family.gguf.needs_window && window.is_none() {
        let why = format!("the metadata `{arch}.attention.sliding_window` is missing or not a number");
        return Err(Error::file(of.path, format!("{why}: take a newer file of the model")));
    }
    let mut layer = LayerSpec { rotary_share: rotary as f64 / head_dim as f64, ..(family.layer)() };
    (family.gguf.read)(&f, &mut layer);
    let names = &family.names;
    let bias = |name: TensorName| of.has(&format!("{}0.{}.bias", names.layer.gguf, name.gguf));
    let inner = if layer.experts.is_some() { names.experts.each[1] } else { names.linears[5] };
    (layer.qkv_bias, layer.o_bias, layer.mlp_bias) = (bias(names.linears[0]), bias(names.linears[3]), bias(inner));
    layer.experts = experts(of, &f, family, layer.experts.take(), size("feed_forward_length")?)?;
    layer.windows = match window {
        Some(_) => windows(&f, family, layer.windows),
        None => LayerPattern::None,
    };
    let local = |_| RopeSpec { theta: f.real("rope.freq_base_swa").unwrap_or(ROPE_BASE), scaling: RopeScaling::None };
    let eps = f.get(epsilon_key(&layer)).and_then(Value::as_f64).unwrap_or(family.defaults.rms_eps);
    Ok(Config {
        family,
        embedding_scale: (family.embedding_scale)(hidden) * layer.embedding_multiplier,
        layer,
        hidden,
        layers: size("block_count")?,
        heads,
        kv_heads,
        head_dim,
        ff: size("feed_forward_length")?,
        vocab,
        rope_theta: f.real("rope.freq_base").unwrap_or(ROPE_BASE),
        rotary,
        rope_scaling: rope_scaling(of, &f, family)?,
        local_rope: family.defaults.local_theta.map(local),
        rms_eps: eps,
        tied: !of.has("output.weight"),
        context: positions,
        window: window.filter(|window| positions == 0 || *window < positions),
        eos: of.id("tokenizer.ggml.eos_token_id").into_iter().collect(),
        bos: of.id("tokenizer.ggml.bos_token_id"),
        pad: of.id("tokenizer.ggml.padding_token_id"),
    })
}

/// The key of the norms' epsilon.
pub(in crate::model) fn epsilon_key(layer: &LayerSpec) -> &'static str {
    match layer.norm {
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
        NormKind::Layer | NormKind::Centred => "attention.layer_norm_epsilon",
    }
}

/// The layers with a window: every layer but each n-th, or a list, by the metadata; else as the family has them.
fn windows(f: &GgufFields<'_>, family: &Family, own: LayerPattern) -> LayerPattern {
    let pattern = f.get("attention.sliding_window_pattern").filter(|_| family.gguf.windows);
    match pattern {
        Some(Value::Array(list)) => {
            LayerPattern::Listed(list.iter().map(|on| on.as_bool().unwrap_or(on.as_u64() != Some(0))).collect())
        }
        Some(n) if n.is_u64() => LayerPattern::ExceptEvery(n.as_u64().unwrap_or(0) as usize),
        _ if own == LayerPattern::None => LayerPattern::All,
        _ => own,
    }
}

/// The experts: by the metadata, with llama.cpp's widths where these are silent.
fn experts(
    of: &Description<'_>,
    f: &GgufFields<'_>,
    family: &Family,
    own: Option<ExpertSpec>,
    ff: usize,
) -> Result<Option<ExpertSpec>, Error> {
    let arch = family.gguf.architecture;
    let count = f.size("expert_count");
    let (Some(read), Some(own)) = (family.gguf.experts, own) else {
        let Some(count) = count else { return Ok(None) };
        let what = format!("a mixture of {count} experts of the architecture `{arch}`");
        return Err(Error::unsupported(of.path, what, "use the model's Hugging Face folder"));
    };
    let number = |key: &str, found: Option<usize>| {
        found.ok_or_else(|| Error::file(of.path, format!("the metadata `{arch}.{key}` is missing or not a number")))
    };
    let (count, chosen) = (number("expert_count", count)?, number("expert_used_count", f.size("expert_used_count"))?);
    if count > MOST_EXPERTS || chosen > count {
        let why = format!(
            "`{arch}.expert_used_count` is {chosen} of {count} experts (`{arch}.expert_count`): expected at most as many as \
             there are, and at most {MOST_EXPERTS} experts"
        );
        return Err(Error::file(of.path, why));
    }
    let width = f.size("expert_feed_forward_length").filter(|_| read.own_width);
    let shared = || f.size("expert_shared_feed_forward_length").unwrap_or(ff);
    Ok(Some(ExpertSpec {
        count,
        chosen,
        width: width.unwrap_or(if read.own_width { ff / chosen } else { ff }),
        normalised: read.normalised,
        shared: own.shared.map(|_| shared()),
        layers: LayerPattern::All,
    }))
}

fn rope_scaling(of: &Description<'_>, f: &GgufFields<'_>, family: &Family) -> Result<RopeScaling, Error> {
    // A factor without a type is linear, in llama.cpp too; old files call it `rope.scale_linear`.
    let factor = f.real("rope.scaling.factor").or_else(|| f.real("rope.scale_linear"));
    let default = if factor.is_some_and(|factor| factor != 1.0) { "linear" } else { "none" };
    let kind = f.get("rope.scaling.type").and_then(Value::as_str).unwrap_or(default);
    let [short, long] = ROPE_FACTORS;
    if family.gguf.long_factors && of.has(long) && ["none", "longrope"].contains(&kind) {
        let original = f.size("rope.scaling.original_context_length").ok_or_else(|| {
            let key = "rope.scaling.original_context_length";
            Error::file(of.path, format!("has LongRoPE's factors, but no `{}.{key}`", family.gguf.architecture))
        })?;
        return Ok(RopeScaling::LongRope {
            short: (of.floats)(short)?,
            long: (of.floats)(long)?,
            original,
            attention: f.real("rope.scaling.attn_factor").unwrap_or(1.0),
        });
    }
    match (kind, of.has(ROPE_FREQS)) {
        ("none", false) => Ok(RopeScaling::None),
        ("none", true) => Ok(RopeScaling::Divided((of.floats)(ROPE_FREQS)?)),
        ("linear", false) => Ok(RopeScaling::Linear(factor.unwrap_or(1.0))),
        ("yarn", false) => yarn(of, f, family, factor.unwrap_or(1.0)),
        (other, _) => {
            let known = "none, linear and yarn are implemented";
            Err(Error::unsupported(of.path, format!("the rope scaling `{other}`"), known))
        }
    }
}

/// YaRN as llama.cpp computes it: the bounds of the ramp are whole dimensions, and cosines and sines have the factor
/// 0.1·ln(factor) + 1 beside the file's own.
fn yarn(of: &Description<'_>, f: &GgufFields<'_>, family: &Family, factor: f64) -> Result<RopeScaling, Error> {
    for (key, computed) in YARN_KEYS {
        let key = format!("rope.scaling.yarn_{key}");
        if let Some(other) = f.get(&key).and_then(Value::as_f64).filter(|x| *x != computed) {
            let what = format!("`{}.{key}` {other}", family.gguf.architecture);
            return Err(Error::unsupported(
                of.path,
                what,
                format!("llama.cpp computes {computed} for this architecture"),
            ));
        }
    }
    if factor < 1.0 {
        let key = format!("{}.rope.scaling.factor", family.gguf.architecture);
        return Err(Error::file(of.path, format!("the metadata `{key}` is {factor}: YaRN needs a number from 1 on")));
    }
    let original = f.size("rope.scaling.original_context_length").or_else(|| f.size("context_length"));
    let original = original.ok_or_else(|| {
        let key = format!("{}.rope.scaling.original_context_length", family.gguf.architecture);
        Error::file(of.path, format!("has RoPE scaled by yarn, but no `{key}`"))
    })?;
    Ok(RopeScaling::Yarn {
        factor,
        fast: YARN_BETAS.0,
        slow: YARN_BETAS.1,
        original: original as f64,
        truncate: true,
        attention: f.real("rope.scaling.attn_factor").unwrap_or(1.0) * yarn_attention(factor),
    })
}

/// The factor on cosines and sines that llama.cpp gives YaRN.
pub(in crate::model) fn yarn_attention(factor: f64) -> f64 {
    0.1 * factor.ln() + 1.0
}
