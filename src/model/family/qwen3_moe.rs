//! Qwen3 with experts, in all layers or in some.

use crate::model::expert_fields::{self, ExpertFields};
use crate::model::family_spec::{Defaults, Family, GgufExperts, GgufFamily, TensorNames};
use crate::model::layer::{ExpertSpec, LayerPattern, LayerSpec, QkNorm};

pub static FAMILY: Family = Family {
    model_types: &["qwen3_moe"],
    models: "Qwen3 with experts: 30B-A3B, Coder",
    class: "Qwen3MoeForCausalLM",
    classifier: Some("Qwen3MoeForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "attention_bias",
        "use_sliding_window",
        "sliding_window",
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
        "moe_intermediate_size",
        "output_router_logits",
    ],
    layer: || LayerSpec {
        qk_norm: QkNorm::Head,
        experts: Some(ExpertSpec {
            count: 128,
            chosen: 8,
            width: 768,
            normalised: false,
            shared: None,
            layers: LayerPattern::All,
        }),
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        if f.flag("use_sliding_window", false) {
            layer.windows = LayerPattern::All;
        }
        let fields = ExpertFields { width: "moe_intermediate_size", normalised: true, some_layers: true };
        expert_fields::read(f, layer, &fields)
    },
    // `Qwen3MoeConfig` (`models/qwen3_moe/configuration_qwen3_moe.py`). Its window of 4096 counts only with
    // `use_sliding_window`.
    defaults: Defaults { kv_heads: Some(4), context: 32_768, sliding_window: Some(4096), ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily {
        architecture: "qwen3moe",
        experts: Some(GgufExperts { normalised: true, own_width: true }),
        ..GgufFamily::NONE
    },
};
