//! Gemma: Llama with an embedding scale, 1 + the norms' weights, and GELU.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{Activation, LayerSpec};

pub static FAMILY: Family = Family {
    model_types: &["gemma"],
    models: "Gemma",
    class: "GemmaForCausalLM",
    classifier: Some("GemmaForSequenceClassification"),
    reads: &["num_key_value_heads", "head_dim", "attention_bias", "use_bidirectional_attention"],
    layer: || LayerSpec { norm_offset: 1.0, activation: Activation::GeluTanh, ..LayerSpec::default() },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        // The first files said `gelu` and meant its approximation: the class takes it so.
        if layer.activation == Activation::Gelu {
            layer.activation = Activation::GeluTanh;
        }
        Ok(())
    },
    // `GemmaConfig` (`models/gemma/configuration_gemma.py`).
    defaults: Defaults { kv_heads: Some(16), head_dim: Some(256), context: 8192, tied: true, ..Defaults::LLAMA },
    embedding_scale: |hidden| (hidden as f64).sqrt(),
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "gemma", tied: Some(true), ..GgufFamily::NONE },
};
