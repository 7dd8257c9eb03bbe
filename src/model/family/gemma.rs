//! Gemma: Llama with an embedding scale, 1 + the norms' weights, and GELU.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{Activation, LayerSpec};

pub static FAMILY: Family = Family {
    model_types: &["gemma"],
    models: "Gemma",
    class: "GemmaForCausalLM",
    classifier: Some("GemmaForSequenceClassification"),
    layer: || LayerSpec { norm_offset: 1.0, activation: Activation::GeluTanh, ..LayerSpec::default() },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        Ok(())
    },
    // `GemmaConfig` (`models/gemma/configuration_gemma.py`).
    defaults: Defaults { kv_heads: Some(16), head_dim: Some(256), context: 8192, tied: true, ..Defaults::LLAMA },
    embedding_scale: |hidden| (hidden as f64).sqrt(),
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "gemma", tied: Some(true), ..GgufFamily::NONE },
};
