//! A configuration as the metadata of a GGUF file.
//!
//! Owns the keys below the architecture's name and the proof that they say everything: the metadata are read back, and the
//! configuration must be the model's. Refuses what a file of the architecture cannot say, by name.

use crate::model::config::{Config, RopeScaling};
use crate::model::error::Error;
use crate::model::gguf::architecture::{self, Description, ROPE_FACTORS, ROPE_FREQS, epsilon_key, yarn_attention};
use crate::model::gguf::gguf_name;
use crate::model::gguf::write::{MetaValue, as_read};
use crate::model::language_model::LanguageModel;
use crate::model::layer::{Activation, LayerPattern, LayerSpec};
use std::collections::HashMap;

/// The keys of a model that was no GGUF file.
///
/// # Errors
/// When a file cannot say what the model computes.
pub(super) fn keys(model: &LanguageModel) -> Result<Vec<(String, MetaValue)>, Error> {
    let c = &model.config;
    if c.context == 0 {
        let why =
            "names no longest context (max_position_embeddings), which a GGUF file must name: add it to config.json";
        return Err(Error::file(&model.path, why));
    }
    check_rope(model)?;
    let keys = of(c);
    let mut meta = as_read(&keys);
    meta.insert("general.architecture".into(), c.family.gguf.architecture.into());
    let factors: HashMap<&str, Vec<f32>> = factors(c).into_iter().collect();
    let shapes: HashMap<String, Vec<usize>> =
        c.tensors().filter_map(|(name, shape)| Some((gguf_name(&name, c)?, shape))).collect();
    let read = architecture::config(&Description {
        path: &model.path,
        meta: &meta,
        shape: &|name| shapes.get(name).cloned().or_else(|| factors.get(name).map(|list| vec![list.len()])),
        floats: &|name| Ok(factors.get(name).cloned().unwrap_or_default()),
    })?;
    match unsaid(c, &read) {
        None => Ok(keys),
        Some(what) => Err(refused(model, what)),
    }
}

fn refused(model: &LanguageModel, what: &str) -> Error {
    let known = "merge with --format hf and convert the folder with llama.cpp's convert_hf_to_gguf.py";
    let architecture = model.config.family.gguf.architecture;
    Error::unsupported(&model.path, format!("writing {what} as GGUF ({architecture})"), known)
}

/// Refuses a scaling of RoPE that is not written.
fn check_rope(model: &LanguageModel) -> Result<(), Error> {
    match model.config.rope_scaling {
        RopeScaling::Yarn { truncate: false, .. } if !model.config.family.gguf.near_ramp => {
            Err(refused(model, "RoPE scaled by yarn with truncate=false"))
        }
        RopeScaling::LongRope { .. } if !model.config.family.gguf.long_factors => {
            Err(refused(model, "RoPE scaled by longrope"))
        }
        _ => Ok(()),
    }
}

fn of(c: &Config) -> Vec<(String, MetaValue)> {
    let size = |n: usize| MetaValue::U32(n as u32);
    let real = |x: f64| MetaValue::F32(x as f32);
    let mut keys = vec![
        ("block_count", size(c.layers)),
        ("context_length", size(c.context)),
        ("embedding_length", size(c.hidden)),
        ("feed_forward_length", size(c.ff)),
        ("attention.head_count", size(c.heads)),
        ("attention.head_count_kv", size(c.kv_heads)),
        ("attention.key_length", size(c.head_dim)),
        ("attention.value_length", size(c.head_dim)),
        (epsilon_key(&c.layer), real(c.rms_eps)),
        ("vocab_size", size(c.vocab)),
    ];
    if c.layer.rope != LayerPattern::None {
        keys.push(("rope.dimension_count", size(c.rotary)));
        keys.push(("rope.freq_base", real(c.rope_theta)));
    }
    match c.rope_scaling {
        RopeScaling::Linear(factor) => {
            keys.push(("rope.scaling.type", MetaValue::Text("linear".into())));
            keys.push(("rope.scaling.factor", real(factor)));
        }
        RopeScaling::Yarn { factor, original, attention, .. } => {
            keys.push(("rope.scaling.type", MetaValue::Text("yarn".into())));
            keys.push(("rope.scaling.factor", real(factor)));
            keys.push(("rope.scaling.original_context_length", size(original as usize)));
            keys.push(("rope.scaling.attn_factor", real(attention / yarn_attention(factor))));
        }
        RopeScaling::LongRope { original, attention, .. } => {
            keys.push(("rope.scaling.original_context_length", size(original)));
            keys.push(("rope.scaling.attn_factor", real(attention)));
        }
        _ => {}
    }
    if let Some(rope) = &c.local_rope {
        keys.push(("rope.freq_base_swa", real(rope.theta)));
    }
    // One that is as wide as the context is none.
    let whole = c.family.gguf.needs_window.then_some(c.context);
    if let Some(window) = c.window.or(whole).filter(|_| c.family.gguf.windows) {
        keys.push(("attention.sliding_window", size(window)));
        let on = |pattern: &LayerPattern| (0..c.layers).map(|i| pattern.has(i)).collect::<Vec<_>>();
        let list = on(&c.layer.windows);
        if list != on(&(c.family.layer)().windows) {
            keys.push(("attention.sliding_window_pattern", MetaValue::Bools(list)));
        }
    }
    if let (Some(spec), Some(read)) = (&c.layer.experts, c.family.gguf.experts) {
        keys.push(("expert_count", size(spec.count)));
        keys.push(("expert_used_count", size(spec.chosen)));
        if read.own_width {
            keys.push(("expert_feed_forward_length", size(spec.width)));
        }
        keys.extend(spec.shared.map(|width| ("expert_shared_feed_forward_length", size(width))));
    }
    keys.extend((c.family.gguf.write)(&c.layer).into_iter().map(|(key, x)| (key, real(x))));
    keys.extend((c.family.gguf.write_flags)(&c.layer).into_iter().map(|(key, on)| (key, MetaValue::Bool(on))));
    let prefix = c.family.gguf.architecture;
    keys.into_iter().map(|(key, value)| (format!("{prefix}.{key}"), value)).collect()
}

/// What the configuration that was read back does not have of the model's. Files hold f32.
fn unsaid(own: &Config, read: &Config) -> Option<&'static str> {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs();
    let cap = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => near(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    let sizes = |c: &Config| [c.hidden, c.layers, c.heads, c.kv_heads, c.head_dim, c.ff, c.vocab, c.context];
    let on = |c: &Config, pattern: &LayerPattern| (0..c.layers).map(|i| pattern.has(i)).collect::<Vec<_>>();
    let windows = |c: &Config| (0..c.layers).map(|i| c.window_of(i)).collect::<Vec<_>>();
    let local = match (&own.local_rope, &read.local_rope) {
        (Some(a), Some(b)) => near(a.theta, b.theta) && a.scaling == b.scaling,
        (a, b) => a == b,
    };
    let (a, b) = (&own.layer, &read.layer);
    let gguf = &own.family.gguf;
    // What is left of a layer when everything above is taken from the model.
    let rest = LayerSpec {
        rope: a.rope.clone(),
        experts: a.experts.clone(),
        windows: a.windows.clone(),
        rotary_share: a.rotary_share,
        attention_scale: a.attention_scale,
        attention_cap: a.attention_cap,
        residual_scale: a.residual_scale,
        embedding_multiplier: a.embedding_multiplier,
        logits: a.logits,
        activation: if gguf.near_gelu && a.activation == Activation::Gelu { a.activation } else { b.activation },
        ..b.clone()
    };
    let of_experts =
        |c: &Config| c.layer.experts.as_ref().map(|e| (e.normalised, e.shared, e.count, e.chosen, e.width));
    let sparse = |c: &Config| {
        (0..c.layers).map(|i| c.layer.experts.as_ref().is_some_and(|e| e.layers.has(i))).collect::<Vec<_>>()
    };
    let checks = [
        (sparse(own) == sparse(read), "experts in some of its layers"),
        (of_experts(own) == of_experts(read), "the widths of its experts, or their factors (norm_topk_prob)"),
        (sizes(own) == sizes(read), "its sizes"),
        (near(own.rms_eps, read.rms_eps), "the epsilon of its norms"),
        (own.rotary == read.rotary || a.rope == LayerPattern::None, "RoPE on a part of each head"),
        (near(own.rope_theta, read.rope_theta) || a.rope == LayerPattern::None, "the base of its RoPE"),
        (same_yarn(&own.rope_scaling, &read.rope_scaling), "RoPE scaled by yarn with these numbers"),
        (local, "the RoPE of its layers with a window"),
        (on(own, &a.rope) == on(read, &b.rope), "RoPE in these layers"),
        (!gguf.windows || windows(own) == windows(read), "its attention windows"),
        (near(own.attention_scale(), read.attention_scale()), "its factor on attention scores"),
        (cap(a.attention_cap, b.attention_cap) && cap(a.logits.cap, b.logits.cap), "its soft caps"),
        (
            near(own.embedding_scale, read.embedding_scale)
                && near(a.residual_scale, b.residual_scale)
                && near(a.logits.scale, b.logits.scale),
            "its factors on embeddings, residuals or logits",
        ),
        (gguf.biases || !(a.o_bias || a.mlp_bias), "its biases"),
        (!gguf.needs_biases || (a.qkv_bias && a.o_bias && a.mlp_bias), "linear modules without a bias"),
        (gguf.grouped || own.heads == own.kv_heads, "fewer key heads than query heads"),
        (gguf.tied.is_none_or(|tied| tied == own.tied), if own.tied { "a tied head" } else { "a head of its own" }),
        (*a == rest, "its activation or biases"),
    ];
    checks.into_iter().find(|(said, _)| !said).map(|(_, what)| what)
}

/// What llama.cpp computes a little otherwise, though the file is written.
pub(super) fn near(c: &Config) -> impl Iterator<Item = &'static str> {
    let gguf = &c.family.gguf;
    let gelu = gguf.near_gelu && c.layer.activation == Activation::Gelu;
    let ramp = gguf.near_ramp && matches!(c.rope_scaling, RopeScaling::Yarn { truncate: false, .. });
    let gelu = gelu.then_some(
        "The model has the exact GELU; llama.cpp computes its approximation by tanh, so log-probs differ a little there.",
    );
    let ramp = ramp.then_some(
        "The model's YaRN has a ramp between whole dimensions (truncate=false); llama.cpp rounds its ends, so log-probs differ a \
         little there.",
    );
    gelu.into_iter().chain(ramp)
}

/// Whether a YaRN that was read back is the model's. Other scalings are checked before they are written.
fn same_yarn(own: &RopeScaling, read: &RopeScaling) -> bool {
    let numbers = |scaling: &RopeScaling| match scaling {
        &RopeScaling::Yarn { factor, fast, slow, original, attention, .. } => {
            Some([factor, fast, slow, original, attention])
        }
        _ => None,
    };
    match (numbers(own), numbers(read)) {
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs()),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// The factors of RoPE's frequencies that are tensors of a file, by their names.
pub(super) fn factors(config: &Config) -> Vec<(&'static str, Vec<f32>)> {
    if let RopeScaling::LongRope { short, long, .. } = &config.rope_scaling {
        let [first, second] = ROPE_FACTORS;
        return vec![(first, short.clone()), (second, long.clone())];
    }
    divisors(config).map(|list| (ROPE_FREQS, list)).into_iter().collect()
}

/// RoPE's divisors by frequency, for a scaling that divides each by its own (`Llama3`: `modeling_rope_utils.py` of `transformers`).
fn divisors(config: &Config) -> Option<Vec<f32>> {
    match &config.rope_scaling {
        // The others are refused by `check_rope`; a dynamic scaling changes nothing within the context.
        RopeScaling::None
        | RopeScaling::Linear(_)
        | RopeScaling::Dynamic(_)
        | RopeScaling::Proportional { .. }
        | RopeScaling::Yarn { .. }
        | RopeScaling::LongRope { .. } => None,
        RopeScaling::Divided(divisors) => Some(divisors.clone()),
        &RopeScaling::Llama3 { factor, low, high, original } => {
            let half = config.head_dim / 2;
            let wavelength = |i: usize| std::f64::consts::TAU * config.rope_theta.powf(i as f64 / half as f64);
            let divisor = |length: f64| {
                if length < original / high {
                    1.0
                } else if length > original / low {
                    factor
                } else {
                    let smooth = (original / length - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            };
            Some((0..half).map(|i| divisor(wavelength(i)) as f32).collect())
        }
    }
}
