//! Qwen3: Llama with RMSNorm on each head of q and k.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerPattern, LayerSpec, QkNorm};

pub static FAMILY: Family = Family {
    model_types: &["qwen3"],
    models: "Qwen3, dense",
    class: "Qwen3ForCausalLM",
    classifier: Some("Qwen3ForSequenceClassification"),
    layer: || LayerSpec { qk_norm: QkNorm::Head, ..LayerSpec::default() },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.mlp_bias = f.flag("mlp_bias", false);
        if f.flag("use_sliding_window", false) {
            layer.windows = LayerPattern::From(f.count_or("max_window_layers", 28)?);
        }
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
