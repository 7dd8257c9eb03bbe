//! Qwen2 and Qwen2.5: Llama with biases on q, k and v.

use crate::model::attention_windows::of_qwen;
use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::LayerSpec;

pub static FAMILY: Family = Family {
    model_types: &["qwen2"],
    models: "Qwen2, Qwen2.5",
    class: "Qwen2ForCausalLM",
    classifier: Some("Qwen2ForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "use_sliding_window",
        "sliding_window",
        "max_window_layers",
        "layer_types",
    ],
    layer: || LayerSpec { qkv_bias: true, ..LayerSpec::default() },
    read: |f, layer| {
        layer.windows = of_qwen(f)?;
        Ok(())
    },
    // `Qwen2Config` (`models/qwen2/configuration_qwen2.py`). Its window of 4096 counts only with `use_sliding_window`,
    // in the layers from `max_window_layers` on.
    defaults: Defaults { kv_heads: Some(32), context: 32_768, sliding_window: Some(4096), ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "qwen2", ..GgufFamily::NONE },
};
