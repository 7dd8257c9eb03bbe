//! Granite 3 and later dense ones: Llama with factors on embeddings, scores, residuals and logits.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::LayerSpec;

pub static FAMILY: Family = Family {
    model_types: &["granite"],
    models: "Granite 3, dense",
    class: "GraniteForCausalLM",
    classifier: None,
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "mlp_bias",
        "embedding_multiplier",
        "attention_multiplier",
        "residual_multiplier",
        "logits_scaling",
    ],
    layer: LayerSpec::default,
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.mlp_bias = f.flag("mlp_bias", false);
        layer.embedding_multiplier = f.real("embedding_multiplier", 1.0)?;
        layer.attention_scale = Some(f.real("attention_multiplier", 1.0)?);
        layer.residual_scale = f.real("residual_multiplier", 1.0)?;
        layer.logits.scale = 1.0 / f.real("logits_scaling", 1.0)?;
        Ok(())
    },
    // `GraniteConfig` (`models/granite/configuration_granite.py`).
    defaults: Defaults::LLAMA,
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily {
        architecture: "granite",
        interleaved: true,
        biases: true,
        read: |f, layer| {
            layer.embedding_multiplier = f.real("embedding_scale").unwrap_or(1.0);
            layer.attention_scale = f.real("attention.scale");
            layer.residual_scale = f.real("residual_scale").unwrap_or(1.0);
            layer.logits.scale = 1.0 / f.real("logit_scale").unwrap_or(1.0);
        },
        write: |layer| {
            let attention = layer.attention_scale.map(|scale| ("attention.scale", scale));
            let others = [
                ("embedding_scale", layer.embedding_multiplier),
                ("residual_scale", layer.residual_scale),
                ("logit_scale", 1.0 / layer.logits.scale),
            ];
            others.into_iter().chain(attention).collect()
        },
        ..GgufFamily::NONE
    },
};
