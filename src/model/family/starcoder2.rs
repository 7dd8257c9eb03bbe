//! Starcoder2: LayerNorm, biases everywhere, a window, and a feed-forward without a gate.

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{Activation, LayerPattern, LayerSpec, NormKind};

pub static FAMILY: Family = Family {
    model_types: &["starcoder2"],
    models: "Starcoder2",
    class: "Starcoder2ForCausalLM",
    classifier: Some("Starcoder2ForSequenceClassification"),
    reads: &["num_key_value_heads", "head_dim", "use_bias", "sliding_window"],
    layer: || LayerSpec {
        norm: NormKind::Layer,
        activation: Activation::GeluTanh,
        gated: false,
        windows: LayerPattern::All,
        ..LayerSpec::default()
    },
    read: |f, layer| {
        let bias = f.flag("use_bias", true);
        (layer.qkv_bias, layer.o_bias, layer.mlp_bias) = (bias, bias, bias);
        Ok(())
    },
    // `Starcoder2Config` (`models/starcoder2/configuration_starcoder2.py`).
    defaults: Defaults {
        kv_heads: Some(2),
        context: 4096,
        rms_eps: 1e-5,
        eps_key: "norm_epsilon",
        tied: true,
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::CODE,
    gguf: GgufFamily { architecture: "starcoder2", biases: true, ..GgufFamily::NONE },
};
