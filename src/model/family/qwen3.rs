//! Qwen3: Llama with RMSNorm on each head of q and k.

use crate::model::attention_windows::of_qwen;
use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerSpec, QkNorm};

pub static FAMILY: Family = Family {
    model_types: &["qwen3"],
    models: "Qwen3, dense",
    class: "Qwen3ForCausalLM",
    classifier: Some("Qwen3ForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "use_sliding_window",
        "sliding_window",
        "max_window_layers",
        "layer_types",
    ],
    layer: || LayerSpec { qk_norm: QkNorm::Head, ..LayerSpec::default() },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.windows = of_qwen(f)?;
        Ok(())
    },
    // `Qwen3Config` (`models/qwen3/configuration_qwen3.py`). Its window of 4096 counts only with `use_sliding_window`,
    // in the layers from `max_window_layers` on.
    defaults: Defaults {
        kv_heads: Some(32),
        head_dim: Some(128),
        context: 32_768,
        sliding_window: Some(4096),
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "qwen3", ..GgufFamily::NONE },
};
