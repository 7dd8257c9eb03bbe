//! Command R7B: Cohere with windows in three of four layers, which alone have rope.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerPattern, LayerSpec};
use serde_json::Value;

pub static FAMILY: Family = Family {
    model_types: &["cohere2"],
    models: "Command R7B",
    class: "Cohere2ForCausalLM",
    classifier: None,
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "logit_scale",
        "attention_bias",
        "sliding_window",
        "layer_types",
        "sliding_window_pattern",
    ],
    layer: || LayerSpec {
        windows: LayerPattern::ExceptEvery(4),
        rope: LayerPattern::ExceptEvery(4),
        ..(super::cohere::FAMILY.layer)()
    },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.logits.scale = f.real("logit_scale", 0.0625)?;
        let pattern = LayerPattern::ExceptEvery(f.count_or("sliding_window_pattern", 4)?);
        (layer.windows, layer.rope) = (pattern.clone(), pattern);
        // Layers with a window rotate, the others do not.
        if let Some(list) = f.get("layer_types").and_then(Value::as_array) {
            let sliding = list.iter().map(|kind| kind.as_str() == Some("sliding_attention")).collect();
            layer.rope = LayerPattern::Listed(sliding);
        }
        Ok(())
    },
    // `Cohere2Config` (`models/cohere2/configuration_cohere2.py`).
    defaults: Defaults {
        context: 8192,
        sliding_window: Some(4096),
        rms_eps: 1e-5,
        eps_key: "layer_norm_eps",
        tied: true,
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily {
        architecture: "cohere2",
        windows: true,
        needs_window: true,
        tied: Some(true),
        read: |f, layer| layer.logits.scale = f.real("logit_scale").unwrap_or(1.0),
        write: |layer| vec![("logit_scale", layer.logits.scale)],
        ..GgufFamily::NONE
    },
};
