//! Gemma 2: norms on both sides of each block, windows in every other layer, soft caps on scores and logits.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::gguf_fields::gemma_attention_scale;
use crate::model::layer::{Activation, LayerPattern, LayerSpec, NormPlacement};

pub static FAMILY: Family = Family {
    model_types: &["gemma2"],
    models: "Gemma 2",
    class: "Gemma2ForCausalLM",
    classifier: Some("Gemma2ForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "query_pre_attn_scalar",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "sliding_window",
        "layer_types",
        "use_bidirectional_attention",
    ],
    layer: || LayerSpec {
        norms: NormPlacement::Sandwich,
        norm_offset: 1.0,
        activation: Activation::GeluTanh,
        windows: LayerPattern::ExceptEvery(2),
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.attention_scale = Some(f.real("query_pre_attn_scalar", 256.0)?.powf(-0.5));
        layer.attention_cap = f.real_or("attn_logit_softcapping", Some(50.0))?;
        layer.logits.cap = f.real_or("final_logit_softcapping", Some(30.0))?;
        Ok(())
    },
    // `Gemma2Config` (`models/gemma2/configuration_gemma2.py`).
    defaults: Defaults {
        kv_heads: Some(4),
        head_dim: Some(256),
        context: 8192,
        sliding_window: Some(4096),
        tied: true,
        activation_key: "hidden_activation",
        ..Defaults::LLAMA
    },
    embedding_scale: |hidden| (hidden as f64).sqrt(),
    names: TensorNames::SANDWICH,
    gguf: GgufFamily {
        architecture: "gemma2",
        windows: true,
        window: Some(4096),
        tied: Some(true),
        // Without a key llama.cpp has these caps.
        read: |f, layer| {
            layer.attention_scale = Some(gemma_attention_scale(f, 46));
            layer.attention_cap = f.real("attn_logit_softcapping").or(Some(50.0));
            layer.logits.cap = f.real("final_logit_softcapping").or(Some(30.0));
        },
        write: |layer| {
            let caps = [("attn_logit_softcapping", layer.attention_cap), ("final_logit_softcapping", layer.logits.cap)];
            caps.into_iter().filter_map(|(key, cap)| Some((key, cap?))).collect()
        },
        ..GgufFamily::NONE
    },
};
