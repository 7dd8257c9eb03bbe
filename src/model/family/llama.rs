//! Llama 2 and 3, SmolLM2, TinyLlama, and Mistral without a sliding window.

use crate::model::error::Error;
use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::fields::Fields;
use crate::model::layer::LayerSpec;

pub static FAMILY: Family = Family {
    model_types: &["llama", "mistral"],
    class: "LlamaForCausalLM",
    layer: LayerSpec::default,
    read,
    defaults: Defaults::LLAMA,
    embedding_scale: |_| 1.0,
    names: TensorNames::COMMON,
    gguf: GgufFamily { architecture: "llama", interleaved: true },
};

fn read(f: &Fields<'_>, layer: &mut LayerSpec) -> Result<(), Error> {
    let bias = f.flag("attention_bias", false);
    (layer.qkv_bias, layer.o_bias) = (bias, bias);
    layer.mlp_bias = f.flag("mlp_bias", false);
    let mistral = f.get("model_type").is_some_and(|kind| kind == "mistral");
    match f.get("sliding_window").filter(|_| mistral) {
        None => Ok(()),
        Some(w) => Err(f.refuse(format!("sliding-window attention (`sliding_window={w}`)"), "only full attention is")),
    }
}
