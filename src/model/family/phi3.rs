//! Phi-3, Phi-3.5 and Phi-4: queries, keys and values in one module, gate and up in one, a rope that may rotate a part of
//! each head and have other factors for long rows.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerPattern, LayerSpec};
use crate::model::rope::rotary_share;

pub static FAMILY: Family = Family {
    model_types: &["phi3"],
    models: "Phi-3, Phi-3.5, Phi-4",
    class: "Phi3ForCausalLM",
    classifier: Some("Phi3ForSequenceClassification"),
    reads: &["num_key_value_heads", "head_dim", "sliding_window", "partial_rotary_factor"],
    layer: || LayerSpec { windows: LayerPattern::All, ..LayerSpec::default() },
    read: |f, layer| {
        layer.rotary_share = rotary_share(f, "partial_rotary_factor", 1.0)?;
        Ok(())
    },
    // `Phi3Config` (`models/phi3/configuration_phi3.py`).
    defaults: Defaults {
        context: 4096,
        rms_eps: 1e-5,
        original_context: Some(4096),
        rotates_a_share: true,
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::FUSED,
    gguf: GgufFamily { architecture: "phi3", long_factors: true, ..GgufFamily::NONE },
};
