//! GPT-OSS: experts with biases and a clamped SwiGLU, and a sink for each query head.

use crate::model::expert_fields::{self, ExpertFields};
use crate::model::family_spec::{Defaults, Family, GgufExperts, GgufFamily, TensorNames};
use crate::model::layer::{Activation, ClampedSwiglu, ExpertSpec, LayerPattern, LayerSpec};

/// What its class takes where a file has no `rope_parameters`.
const YARN: &str = r#"{"rope_type": "yarn", "factor": 32, "beta_fast": 32, "beta_slow": 1, "truncate": false,
    "original_max_position_embeddings": 4096}"#;

pub static FAMILY: Family = Family {
    model_types: &["gpt_oss"],
    models: "GPT-OSS 20B and 120B, also in MXFP4",
    class: "GptOssForCausalLM",
    classifier: Some("GptOssForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "sliding_window",
        "layer_types",
        "attention_bias",
        "swiglu_alpha",
        "swiglu_limit",
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "output_router_logits",
    ],
    layer: || LayerSpec {
        activation: Activation::Clamped(ClampedSwiglu { alpha: 1.702, limit: 7.0 }),
        windows: LayerPattern::ExceptEvery(2),
        sinks: true,
        mlp_bias: true,
        experts: Some(ExpertSpec {
            count: 128,
            chosen: 4,
            width: 2880,
            // The softmax is over the chosen experts' logits, which is the same.
            normalised: true,
            shared: None,
            layers: LayerPattern::All,
        }),
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let number = |key: &str, default: f64| f.real(key, default).map(|x| x as f32);
        let (alpha, limit) = (number("swiglu_alpha", 1.702)?, number("swiglu_limit", 7.0)?);
        layer.activation = Activation::Clamped(ClampedSwiglu { alpha, limit });
        let bias = f.flag("attention_bias", true);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        let fields = ExpertFields { width: "intermediate_size", normalised: false, some_layers: false };
        expert_fields::read(f, layer, &fields)?;
        match &layer.experts {
            Some(_) => Ok(()),
            None => Err(f.refuse("gpt_oss without experts", "name their number in `num_local_experts`")),
        }
    },
    // `GptOssConfig` (`models/gpt_oss/configuration_gpt_oss.py`).
    defaults: Defaults {
        kv_heads: Some(8),
        head_dim: Some(64),
        context: 131_072,
        sliding_window: Some(128),
        rope_theta: 150_000.0,
        rope_parameters: Some(YARN),
        rms_eps: 1e-5,
        quantisation: Some("mxfp4"),
        // It computes its own activation whatever `hidden_act` says.
        activation_key: "",
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::OSS,
    gguf: GgufFamily {
        architecture: "gpt-oss",
        windows: true,
        needs_window: true,
        experts: Some(GgufExperts { normalised: true, own_width: true }),
        tied: Some(false),
        biases: true,
        needs_biases: true,
        near_ramp: true,
        ..GgufFamily::NONE
    },
};
