//! StableLM 2 and 3B: Llama with LayerNorm and a rope that rotates a quarter of each head.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::fields::refuse_head_dim;
use crate::model::layer::{LayerSpec, NormKind};
use crate::model::rope::rotary_share;

pub static FAMILY: Family = Family {
    model_types: &["stablelm"],
    models: "StableLM 2 1.6B and 3B",
    class: "StableLmForCausalLM",
    classifier: Some("StableLmForSequenceClassification"),
    reads: &[
        "num_key_value_heads",
        "head_dim",
        "use_qkv_bias",
        "qk_layernorm",
        "use_parallel_residual",
        "partial_rotary_factor",
    ],
    layer: || LayerSpec { norm: NormKind::Layer, rotary_share: 0.25, ..LayerSpec::default() },
    read: |f, layer| {
        refuse_head_dim(f)?;
        layer.qkv_bias = f.flag("use_qkv_bias", false);
        layer.rotary_share = rotary_share(f, "partial_rotary_factor", 0.25)?;
        for key in ["use_parallel_residual", "qk_layernorm"] {
            if f.flag(key, false) {
                return Err(f.refuse(format!("`{key}=true`"), "only false is implemented for this family"));
            }
        }
        Ok(())
    },
    // `StableLmConfig` (`models/stablelm/configuration_stablelm.py`).
    defaults: Defaults {
        kv_heads: Some(32),
        context: 4096,
        rms_eps: 1e-5,
        eps_key: "layer_norm_eps",
        rotates_a_share: true,
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "stablelm", tied: Some(false), ..GgufFamily::NONE },
};
