//! Qwen2 and Qwen2.5: Llama with biases on q, k and v.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerPattern, LayerSpec};

pub static FAMILY: Family = Family {
    model_types: &["qwen2"],
    models: "Qwen2, Qwen2.5",
    class: "Qwen2ForCausalLM",
    classifier: Some("Qwen2ForSequenceClassification"),
    layer: || LayerSpec { qkv_bias: true, ..LayerSpec::default() },
    read: |f, layer| {
        layer.mlp_bias = f.flag("mlp_bias", false);
        if f.flag("use_sliding_window", false) {
            layer.windows = LayerPattern::From(f.count_or("max_window_layers", 28)?);
        }
        Ok(())
    },
    // `Qwen2Config` (`models/qwen2/configuration_qwen2.py`). Its window of 4096 counts only with `use_sliding_window`,
    // in the layers from `max_window_layers` on.
    defaults: Defaults { kv_heads: Some(32), context: 32_768, sliding_window: Some(4096), ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "qwen2", ..GgufFamily::NONE },
};
