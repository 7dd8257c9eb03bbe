//! Command R and Aya: LayerNorm without bias, attention and feed-forward side by side, a rope of neighbouring pairs.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerSpec, NormKind};

pub static FAMILY: Family = Family {
    model_types: &["cohere"],
    models: "Command R, Aya",
    class: "CohereForCausalLM",
    classifier: None,
    reads: &["num_key_value_heads", "head_dim", "logit_scale", "attention_bias", "use_qk_norm"],
    layer: || LayerSpec {
        norm: NormKind::Centred,
        parallel: true,
        shared_norm: true,
        rope_pairs: true,
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.logits.scale = f.real("logit_scale", 0.0625)?;
        if f.flag("use_qk_norm", false) {
            return Err(f.refuse("`use_qk_norm=true`", "only false is implemented for this family"));
        }
        Ok(())
    },
    // `CohereConfig` (`models/cohere/configuration_cohere.py`).
    defaults: Defaults {
        context: 8192,
        rope_theta: 500_000.0,
        rms_eps: 1e-5,
        eps_key: "layer_norm_eps",
        tied: true,
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily {
        architecture: "command-r",
        tied: Some(true),
        read: |f, layer| layer.logits.scale = f.real("logit_scale").unwrap_or(1.0),
        write: |layer| vec![("logit_scale", layer.logits.scale)],
        ..GgufFamily::NONE
    },
};
