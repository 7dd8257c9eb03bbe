//! Gemma 3's text model: Gemma 2 without soft caps, with norms on queries and keys, and a rope of its own in the layers with a
//! window. A folder of the whole model (`gemma3`) is read by its `text_config`.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::gguf_fields::gemma_attention_scale;
use crate::model::layer::{Activation, LayerPattern, LayerSpec, NormPlacement, QkNorm};

pub static FAMILY: Family = Family {
    model_types: &["gemma3_text"],
    models: "Gemma 3; of a `gemma3` folder the text model",
    class: "Gemma3ForCausalLM",
    classifier: Some("Gemma3TextForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "query_pre_attn_scalar",
        "final_logit_softcapping",
        "sliding_window",
        "layer_types",
        "sliding_window_pattern",
        "rope_local_base_freq",
        "use_bidirectional_attention",
    ],
    layer: || LayerSpec {
        norms: NormPlacement::Sandwich,
        norm_offset: 1.0,
        qk_norm: QkNorm::Head,
        activation: Activation::GeluTanh,
        windows: LayerPattern::ExceptEvery(6),
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.windows = LayerPattern::ExceptEvery(f.count_or("sliding_window_pattern", 6)?);
        layer.attention_scale = Some(f.real("query_pre_attn_scalar", 256.0)?.powf(-0.5));
        layer.logits.cap = f.real_or("final_logit_softcapping", None)?;
        Ok(())
    },
    // `Gemma3TextConfig` (`models/gemma3/configuration_gemma3.py`).
    defaults: Defaults {
        kv_heads: Some(4),
        head_dim: Some(256),
        context: 131_072,
        sliding_window: Some(4096),
        rope_theta: 1_000_000.0,
        tied: true,
        activation_key: "hidden_activation",
        local_theta: Some(10_000.0),
        ..Defaults::LLAMA
    },
    embedding_scale: |hidden| (hidden as f64).sqrt(),
    names: TensorNames::SANDWICH,
    gguf: GgufFamily {
        architecture: "gemma3",
        windows: true,
        read: |f, layer| {
            layer.attention_scale = Some(gemma_attention_scale(f, 62));
            layer.logits.cap = f.real("final_logit_softcapping");
        },
        write: |layer| layer.logits.cap.into_iter().map(|cap| ("final_logit_softcapping", cap)).collect(),
        ..GgufFamily::NONE
    },
};
