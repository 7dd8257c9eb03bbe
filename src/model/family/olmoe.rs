//! OLMoE: experts, and norms over all queries and all keys.

use crate::model::expert_fields::{self, ExpertFields};
use crate::model::family_spec::{Defaults, Family, GgufExperts, GgufFamily, TensorNames};
use crate::model::layer::{ExpertSpec, LayerPattern, LayerSpec, QkNorm};

pub static FAMILY: Family = Family {
    model_types: &["olmoe"],
    models: "OLMoE 1B-7B",
    class: "OlmoeForCausalLM",
    classifier: None,
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "clip_qkv",
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "output_router_logits",
    ],
    layer: || LayerSpec {
        qk_norm: QkNorm::Width,
        experts: Some(ExpertSpec {
            count: 64,
            chosen: 8,
            width: 2048,
            normalised: false,
            shared: None,
            layers: LayerPattern::All,
        }),
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        if let Some(most) = f.get("clip_qkv") {
            let known = "queries, keys and values are not clipped here; only null is implemented";
            return Err(f.refuse(format!("`clip_qkv={most}`"), known));
        }
        let fields = ExpertFields { width: "intermediate_size", normalised: true, some_layers: false };
        expert_fields::read(f, layer, &fields)
    },
    // `OlmoeConfig` (`models/olmoe/configuration_olmoe.py`).
    defaults: Defaults { context: 4096, rms_eps: 1e-5, ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily {
        architecture: "olmoe",
        experts: Some(GgufExperts { normalised: false, own_width: false }),
        tied: Some(false),
        grouped: false,
        ..GgufFamily::NONE
    },
};
