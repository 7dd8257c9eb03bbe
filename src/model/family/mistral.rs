//! Mistral: Llama with a window in every layer and other class defaults. Its GGUF files call themselves `llama` and are read as such.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{LayerPattern, LayerSpec};

pub static FAMILY: Family = Family {
    model_types: &["mistral"],
    models: "Mistral 7B, Zephyr",
    class: "MistralForCausalLM",
    classifier: Some("MistralForSequenceClassification"),
    reads: &["num_key_value_heads", "head_dim", "sliding_window"],
    layer: || LayerSpec { windows: LayerPattern::All, ..LayerSpec::default() },
    read: |_, _| Ok(()),
    // `MistralConfig` (`models/mistral/configuration_mistral.py`): 8 key heads, a window of 4096, a context of 4096 · 32.
    defaults: Defaults { kv_heads: Some(8), context: 4096 * 32, sliding_window: Some(4096), ..Defaults::LLAMA },
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "llama", interleaved: true, biases: true, ..GgufFamily::NONE },
};
