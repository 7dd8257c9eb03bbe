//! Qwen2 with experts, beside one that every token goes through.

use crate::model::attention_windows::refuse_unused;
use crate::model::expert_fields::{self, ExpertFields};
use crate::model::family_spec::{Defaults, Family, GgufExperts, GgufFamily, TensorNames};
use crate::model::layer::{ExpertSpec, LayerPattern, LayerSpec};

pub static FAMILY: Family = Family {
    model_types: &["qwen2_moe"],
    models: "Qwen1.5 and Qwen2 with experts: A2.7B, 57B-A14B",
    class: "Qwen2MoeForCausalLM",
    classifier: Some("Qwen2MoeForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "qkv_bias",
        "use_sliding_window",
        "sliding_window",
        "max_window_layers",
        "layer_types",
        "num_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "output_router_logits",
    ],
    layer: || LayerSpec {
        qkv_bias: true,
        experts: Some(ExpertSpec {
            count: 60,
            chosen: 4,
            width: 1408,
            normalised: false,
            shared: Some(5632),
            layers: LayerPattern::All,
        }),
        ..LayerSpec::default()
    },
    read: |f, layer| {
        layer.qkv_bias = f.flag("qkv_bias", true);
        if f.flag("use_sliding_window", false) {
            return Err(f.refuse("`use_sliding_window=true`", "only full attention is implemented for this family"));
        }
        refuse_unused(f)?;
        let fields = ExpertFields { width: "moe_intermediate_size", normalised: true, some_layers: true };
        expert_fields::read(f, layer, &fields)
    },
    // `Qwen2MoeConfig` (`models/qwen2_moe/configuration_qwen2_moe.py`).
    defaults: Defaults { kv_heads: Some(16), context: 32_768, ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily {
        architecture: "qwen2moe",
        experts: Some(GgufExperts { normalised: false, own_width: true }),
        tied: Some(false),
        ..GgufFamily::NONE
    },
};
