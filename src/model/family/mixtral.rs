//! Mixtral: Mistral with experts, whose window its own models do not have.

use crate::model::expert_fields::{self, ExpertFields};
use crate::model::family_spec::{Defaults, Family, GgufExperts, GgufFamily, TensorNames};
use crate::model::layer::{ExpertSpec, LayerPattern, LayerSpec};

pub static FAMILY: Family = Family {
    model_types: &["mixtral"],
    models: "Mixtral 8x7B and 8x22B",
    class: "MixtralForCausalLM",
    classifier: Some("MixtralForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "sliding_window",
        "num_local_experts",
        "num_experts",
        "num_experts_per_tok",
        "output_router_logits",
        "router_jitter_noise",
    ],
    layer: || LayerSpec {
        windows: LayerPattern::All,
        experts: Some(ExpertSpec {
            count: 8,
            chosen: 2,
            width: 14_336,
            normalised: true,
            shared: None,
            layers: LayerPattern::All,
        }),
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let fields = ExpertFields { width: "intermediate_size", normalised: false, some_layers: false };
        expert_fields::read(f, layer, &fields)
    },
    // `MixtralConfig` (`models/mixtral/configuration_mixtral.py`).
    defaults: Defaults {
        kv_heads: Some(8),
        context: 4096 * 32,
        rope_theta: 1_000_000.0,
        rms_eps: 1e-5,
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::MIXTRAL,
    gguf: GgufFamily {
        architecture: "llama",
        experts: Some(GgufExperts { normalised: true, own_width: false }),
        interleaved: true,
        ..GgufFamily::NONE
    },
};
