//! OLMo 2: Llama with norms after each block instead of before, and norms over all queries and all keys.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerSpec, NormPlacement, QkNorm};

pub static FAMILY: Family = Family {
    model_types: &["olmo2"],
    models: "OLMo 2",
    class: "Olmo2ForCausalLM",
    classifier: Some("Olmo2ForSequenceClassification"),
    reads: &["num_key_value_heads", "head_dim", "attention_bias"],
    layer: || LayerSpec { norms: NormPlacement::Post, qk_norm: QkNorm::Width, ..LayerSpec::default() },
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        Ok(())
    },
    // `Olmo2Config` (`models/olmo2/configuration_olmo2.py`).
    defaults: Defaults { rms_eps: 1e-5, ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "olmo2", tied: Some(false), ..GgufFamily::NONE },
};
