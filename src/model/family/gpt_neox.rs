//! GPT-NeoX: LayerNorm, a feed-forward without a gate beside attention, and queries, keys and values head by head in one module.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::fields::refuse_head_dim;
use crate::model::layer::{Activation, LayerSpec, NormKind};
use crate::model::rope::rotary_share;

pub static FAMILY: Family = Family {
    model_types: &["gpt_neox"],
    models: "Pythia, GPT-NeoX 20B",
    class: "GPTNeoXForCausalLM",
    classifier: Some("GPTNeoXForSequenceClassification"),
    reads: &["head_dim", "attention_bias", "use_parallel_residual", "rotary_pct"],
    layer: || LayerSpec {
        norm: NormKind::Layer,
        activation: Activation::Gelu,
        gated: false,
        parallel: true,
        by_head: true,
        mlp_bias: true,
        rotary_share: 0.25,
        ..LayerSpec::default()
    },
    read: |f, layer| {
        refuse_head_dim(f)?;
        let bias = f.flag("attention_bias", true);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.parallel = f.flag("use_parallel_residual", true);
        layer.rotary_share = rotary_share(f, "rotary_pct", 0.25)?;
        Ok(())
    },
    // `GPTNeoXConfig` (`models/gpt_neox/configuration_gpt_neox.py`).
    defaults: Defaults {
        theta_key: "rotary_emb_base",
        rms_eps: 1e-5,
        eps_key: "layer_norm_eps",
        rotates_a_share: true,
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::NEOX,
    gguf: GgufFamily {
        architecture: "gptneox",
        tied: Some(false),
        grouped: false,
        biases: true,
        needs_biases: true,
        near_gelu: true,
        // llama.cpp computes GELU by its approximation.
        read: |f, layer| {
            layer.activation = Activation::GeluTanh;
            layer.parallel = f.flag("use_parallel_residual").unwrap_or(true);
        },
        write_flags: |layer| vec![("use_parallel_residual", layer.parallel)],
        ..GgufFamily::NONE
    },
};
