//! SmolLM3: Llama without rope in every fourth layer.

use crate::model::error::Error;
use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerPattern, LayerSpec};
use serde_json::Value;

pub static FAMILY: Family = Family {
    model_types: &["smollm3"],
    models: "SmolLM3",
    class: "SmolLM3ForCausalLM",
    classifier: Some("SmolLM3ForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "mlp_bias",
        "use_sliding_window",
        "sliding_window",
        "no_rope_layers",
        "no_rope_layer_interval",
        "layer_types",
    ],
    layer: || LayerSpec { rope: LayerPattern::ExceptEvery(4), ..LayerSpec::default() },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.mlp_bias = f.flag("mlp_bias", false);
        let sliding = f.flag("use_sliding_window", false) && f.get("sliding_window").is_some();
        let (rope, windows) = match f.get("no_rope_layers").and_then(Value::as_array) {
            None => {
                let n = f.count_or("no_rope_layer_interval", 4)?;
                (LayerPattern::ExceptEvery(n), LayerPattern::Every(n))
            }
            Some(list) => {
                let on: Vec<bool> = list.iter().map(|v| v.as_bool().unwrap_or(v.as_u64() != Some(0))).collect();
                let layers = f.size("num_hidden_layers")?;
                if on.len() < layers {
                    let why =
                        format!("`no_rope_layers` names {} layers, but `num_hidden_layers` is {layers}", on.len());
                    return Err(Error::file(f.path, why));
                }
                (LayerPattern::Listed(on.clone()), LayerPattern::Listed(on.iter().map(|on| !on).collect()))
            }
        };
        layer.rope = rope;
        if sliding {
            layer.windows = windows;
        }
        Ok(())
    },
    // `SmolLM3Config` (`models/smollm3/configuration_smollm3.py`).
    defaults: Defaults { kv_heads: Some(4), context: 32_768, rope_theta: 2_000_000.0, tied: true, ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "smollm3", interleaved: true, ..GgufFamily::NONE },
};
