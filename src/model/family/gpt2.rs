//! GPT-2: learned positions, LayerNorm, a feed-forward without a gate, queries, keys and values in one module, weights as (in, out).

use crate::model::family_spec::{Defaults, Family, GgufFamily, TensorNames};
use crate::model::layer::{Activation, LayerPattern, LayerSpec, NormKind};

pub static FAMILY: Family = Family {
    model_types: &["gpt2"],
    models: "GPT-2, DistilGPT-2",
    class: "GPT2LMHeadModel",
    classifier: Some("GPT2ForSequenceClassification"),
    reads: &["scale_attn_weights", "scale_attn_by_inverse_layer_idx", "add_cross_attention"],
    layer: || LayerSpec {
        norm: NormKind::Layer,
        activation: Activation::GeluTanh,
        gated: false,
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        rope: LayerPattern::None,
        positions: true,
        ..LayerSpec::default()
    },
    read: |f, layer| {
        if !f.flag("scale_attn_weights", true) {
            layer.attention_scale = Some(1.0);
        }
        for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention"] {
            if f.flag(key, false) {
                return Err(f.refuse(format!("`{key}=true`"), "only false is implemented"));
            }
        }
        let (heads, hidden) = (f.size("num_attention_heads")?, f.size("hidden_size")?);
        if !hidden.is_multiple_of(heads) {
            let known = "the class refuses it too: the width must be a multiple of the heads";
            return Err(f.refuse(format!("`n_embd={hidden}` with `n_head={heads}`"), known));
        }
        Ok(())
    },
    // `GPT2Config` (`models/gpt2/configuration_gpt2.py`).
    defaults: Defaults {
        ff_factor: Some(4),
        theta_key: "",
        context: 1024,
        rms_eps: 1e-5,
        eps_key: "layer_norm_epsilon",
        tied: true,
        activation_key: "activation_function",
        aliases: &[
            ("hidden_size", "n_embd"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("max_position_embeddings", "n_positions"),
            ("intermediate_size", "n_inner"),
        ],
        ..Defaults::LLAMA
    },
    embedding_scale: |_| 1.0,
    names: TensorNames::GPT2,
    gguf: GgufFamily { architecture: "gpt2", grouped: false, biases: true, ..GgufFamily::NONE },
};
