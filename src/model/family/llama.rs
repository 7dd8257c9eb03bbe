//! Llama 2 and 3, SmolLM2 and TinyLlama.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::LayerSpec;

pub static FAMILY: Family = Family {
    model_types: &["llama"],
    models: "Llama 2 and 3, SmolLM2, TinyLlama",
    class: "LlamaForCausalLM",
    classifier: Some("LlamaForSequenceClassification"),
    reads: &["num_key_value_heads", "head_dim", "attention_bias", "mlp_bias"],
    layer: LayerSpec::default,
    read: |f, layer| {
        let bias = f.flag("attention_bias", false);
        (layer.qkv_bias, layer.o_bias) = (bias, bias);
        layer.mlp_bias = f.flag("mlp_bias", false);
        Ok(())
    },
    defaults: Defaults::LLAMA,
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "llama", interleaved: true, biases: true, ..GgufFamily::NONE },
};
