//! Phi-3, Phi-3.5 and Phi-4: queries, keys and values in one module, gate and up in one, a rope that may rotate a part of
//! each head and have other factors for long rows.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerPattern, LayerSpec};
use serde_json::Value;

pub static FAMILY: Family = Family {
    model_types: &["phi3"],
    class: "Phi3ForCausalLM",
    layer: || LayerSpec { windows: LayerPattern::All, ..LayerSpec::default() },
    read: |f, layer| {
        let rope = |key: &str| f.get(key).filter(|rope| rope.as_object().is_some_and(|map| !map.is_empty()));
        let within =
            rope("rope_scaling").or(rope("rope_parameters")).and_then(|rope| rope.get("partial_rotary_factor"));
        let share = within.or(f.get("partial_rotary_factor")).and_then(Value::as_f64).unwrap_or(1.0);
        if !(0.0..=1.0).contains(&share) {
            return Err(f.refuse(format!("`partial_rotary_factor={share}`"), "it is a share from 0 to 1"));
        }
        layer.rotary_share = share;
        Ok(())
    },
    // `Phi3Config` (`models/phi3/configuration_phi3.py`).
    defaults: Defaults { context: 4096, rms_eps: 1e-5, original_context: Some(4096), ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::FUSED,
    gguf: GgufFamily::NONE,
};
