//! Gemma 4's text model: Gemma 3 with heads of another width in the layers without a window, norms on values, and a factor on each
//! layer's output. The small models have a second input of every layer, and last layers that read the keys of earlier ones. A folder
//! of the whole model (`gemma4`) is read by its `text_config`. Refuses the model with experts.

use crate::model::attention_windows::listed;
use crate::model::error::Error;
use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::fields::Fields;
use crate::model::layer::{Activation, LayerPattern, LayerSpec, NormPlacement, QkNorm};
use crate::model::layer_kinds::{GlobalHeads, KeySharing, PerLayerSpec};
use serde_json::Value;

/// Without `layer_types` all layers but every sixth have a window.
const PERIOD: usize = 6;
/// `global_head_dim` of the class.
const GLOBAL_DIM: usize = 512;
/// `hidden_size_per_layer_input`.
const PER_LAYER: usize = 256;
/// `vocab_size_per_layer_input`.
const PER_LAYER_ROWS: usize = 262_144;

pub static FAMILY: Family = Family {
    model_types: &["gemma4_text"],
    models: "Gemma 4 without experts (31B, E2B, E4B); of a `gemma4` folder the text model",
    class: "Gemma4ForCausalLM",
    classifier: None,
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "final_logit_softcapping",
        "sliding_window",
        "layer_types",
        "use_bidirectional_attention",
        "global_head_dim",
        "num_global_key_value_heads",
        "per_layer_config",
        "hidden_size_per_layer_input",
        "vocab_size_per_layer_input",
        "attention_k_eq_v",
        "num_kv_shared_layers",
        "use_double_wide_mlp",
        "enable_moe_block",
    ],
    layer: || LayerSpec {
        norms: NormPlacement::Sandwich,
        qk_norm: QkNorm::Head,
        activation: Activation::GeluTanh,
        windows: LayerPattern::ExceptEvery(PERIOD),
        attention_scale: Some(1.0),
        value_norm: true,
        output_factor: true,
        ..LayerSpec::default()
    },
    read,
    // `Gemma4TextConfig` (`models/gemma4/configuration_gemma4.py`).
    defaults: Defaults {
        kv_heads: Some(4),
        head_dim: Some(256),
        context: 131_072,
        sliding_window: Some(512),
        rope_theta: 1_000_000.0,
        theta_key: "",
        full_at_last: true,
        tied: true,
        activation_key: "hidden_activation",
        local_theta: Some(10_000.0),
        proportional: Some(0.25),
        ..Defaults::LLAMA
    },
    embedding_scale: |hidden| (hidden as f64).sqrt(),
    names: TensorNames::SANDWICH,
    gguf: GgufFamily::NONE,
};

fn read(f: &Fields<'_>, layer: &mut LayerSpec) -> Result<(), Error> {
    if f.flag("enable_moe_block", false) {
        return Err(f.refuse("`enable_moe_block=true`", "of Gemma 4 the models without experts are implemented"));
    }
    // `vision` is about the tokens of images; text is causal.
    if let Some(which) = f.get("use_bidirectional_attention").filter(|which| which.as_str() != Some("vision")) {
        let what = format!("`use_bidirectional_attention={which}`");
        return Err(f.refuse(what, "causal attention is implemented: null or \"vision\""));
    }
    let bias = f.flag("attention_bias", false);
    (layer.qkv_bias, layer.o_bias) = (bias, bias);
    layer.logits.cap = f.real_or("final_logit_softcapping", None)?;
    layer.windows = windows(f)?;
    layer.kinds.keys_as_values = f.flag("attention_k_eq_v", false);
    layer.kinds.global_heads = Some(global_heads(f, layer)?);
    layer.kinds.sharing = sharing(f, layer)?;
    let width = f.count_or("hidden_size_per_layer_input", PER_LAYER)?;
    let rows = f.size_or("vocab_size_per_layer_input", Some(PER_LAYER_ROWS))?.unwrap_or(PER_LAYER_ROWS);
    let vocab = f.size("vocab_size")?;
    layer.per_layer = (width > 0).then_some(PerLayerSpec { width, vocab: rows });
    if layer.per_layer.is_some() && rows < vocab {
        let why = format!("`vocab_size_per_layer_input` is {rows}, less than the {vocab} tokens of `vocab_size`");
        return Err(Error::file(f.path, why));
    }
    Ok(())
}

/// The layers with a window. The last has none, as in `transformers`.
fn windows(f: &Fields<'_>) -> Result<LayerPattern, Error> {
    let last = f.size("num_hidden_layers")?.saturating_sub(1);
    Ok(listed(f, &FAMILY)?.unwrap_or(LayerPattern::ExceptEveryAnd(PERIOD, last)))
}

/// The heads of layers without a window: from `per_layer_config`, or as the first files name them.
fn global_heads(f: &Fields<'_>, layer: &LayerSpec) -> Result<GlobalHeads, Error> {
    let defaults = FAMILY.defaults;
    let kv_heads =
        f.size_or("num_key_value_heads", defaults.kv_heads)?.map_or_else(|| f.size("num_attention_heads"), Ok)?;
    let Some(each) = f.get("per_layer_config").and_then(Value::as_object) else {
        let own = f.size_if("num_global_key_value_heads")?.filter(|_| layer.kinds.keys_as_values);
        let head_dim = f.size_or("global_head_dim", Some(GLOBAL_DIM))?.unwrap_or(GLOBAL_DIM);
        return Ok(GlobalHeads { head_dim, kv_heads: own.unwrap_or(kv_heads) });
    };
    let head_dim = f.size_or("head_dim", defaults.head_dim)?.unwrap_or(GLOBAL_DIM);
    let usual = GlobalHeads { head_dim, kv_heads };
    let known = "the layers without a window may have another `head_dim` and `num_key_value_heads`, the same in all";
    let mut found = None;
    for (i, fields) in each {
        let at = || f.refuse(format!("`per_layer_config` of layer {i}"), known);
        let (number, fields) = i.parse::<usize>().ok().zip(fields.as_object()).ok_or_else(at)?;
        let size = |key: &str, usual: usize| match fields.get(key) {
            None => Ok(usual),
            Some(value) => value.as_u64().filter(|n| (1..=1 << 32).contains(n)).map(|n| n as usize).ok_or_else(at),
        };
        let own =
            GlobalHeads { head_dim: size("head_dim", head_dim)?, kv_heads: size("num_key_value_heads", kv_heads)? };
        let others = fields.keys().any(|key| !["head_dim", "num_key_value_heads"].contains(&key.as_str()));
        if others || (layer.windows.has(number) && own != usual) || *found.get_or_insert(own) != own {
            return Err(at());
        }
    }
    let layers = f.size("num_hidden_layers")?;
    let full = || (0..layers).filter(|i| !layer.windows.has(*i));
    // A layer that the list leaves out has the usual heads.
    let complete = full().take(each.len() + 1).all(|i| each.contains_key(&i.to_string()));
    match found.filter(|own| *own != usual) {
        Some(_) if !complete => Err(f.refuse("`per_layer_config` of some layers without a window", known)),
        own => Ok(own.unwrap_or(usual)),
    }
}

/// The last layers, which read the keys and values of others.
fn sharing(f: &Fields<'_>, layer: &LayerSpec) -> Result<Option<KeySharing>, Error> {
    let (layers, last) = (f.size("num_hidden_layers")?, f.count_or("num_kv_shared_layers", 0)?);
    if last == 0 {
        return Ok(None);
    }
    let first = layers.saturating_sub(last);
    let before = |windowed: bool| (0..first).rev().find(|i| layer.windows.has(*i) == windowed);
    let any = |windowed: bool| (first..layers).any(|i| layer.windows.has(i) == windowed);
    let source = |windowed: bool, name: &str| match before(windowed) {
        None if any(windowed) || first == 0 => Err(f.refuse(
            format!("`num_kv_shared_layers={last}`"),
            &format!("of {layers} layers none with {name} is left whose keys these could read"),
        )),
        found => Ok(found),
    };
    let (windowed, full) = (source(true, "sliding_attention")?, source(false, "full_attention")?);
    // Of a kind that no layer has, none reads.
    let pair = windowed.or(full).zip(full.or(windowed));
    let double_ff = f.flag("use_double_wide_mlp", false);
    Ok(pair.map(|(windowed, full)| KeySharing { first, windowed, full, double_ff }))
}
