//! The description of a model family: how its files are recognised, what its layers compute, and how its tensors are named.

use crate::model::error::Error;
use crate::model::fields::Fields;
use crate::model::gguf_fields::GgufFields;
use crate::model::layer::{LayerSpec, TensorName};

/// A family of models.
pub struct Family {
    /// `model_type` in config.json; the first is the family's own.
    pub model_types: &'static [&'static str],
    /// Models of it, for the README's table.
    pub models: &'static str,
    /// The class that `architectures` in config.json names.
    pub class: &'static str,
    /// The class of `transformers` that puts a score head on its layers; none where there is no such class.
    pub classifier: Option<&'static str>,
    /// The fields of config.json that the class reads besides those that every class reads
    /// (`class_fields.rs`) and those that its [`Defaults`] name.
    pub reads: &'static [&'static str],
    /// What its layers compute by default.
    pub layer: fn() -> LayerSpec,
    /// Reads from config.json what its layers compute, except the activation and `layer_types`.
    pub read: fn(&Fields<'_>, &mut LayerSpec) -> Result<(), Error>,
    /// Defaults of fields that config.json leaves out.
    pub defaults: Defaults,
    /// Factor on the embeddings, by hidden size.
    pub embedding_scale: fn(hidden: usize) -> f64,
    /// Its tensors.
    pub names: TensorNames,
    /// Its GGUF files.
    pub gguf: GgufFamily,
}

impl Family {
    /// Its name: the first of its `model_type`s.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.model_types.first().copied().unwrap_or_default()
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_types == other.model_types
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Defaults of a family's configuration class in `transformers`, for fields that config.json leaves out. A null is
/// not a missing field. Token ids have no default here: they depend on the model's tokenizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Key heads (`num_key_value_heads`); none: as many as query heads.
    pub kv_heads: Option<usize>,
    /// Width of a head (`head_dim`); none: the hidden width divided by the query heads.
    pub head_dim: Option<usize>,
    /// Width of the feed-forward in hidden widths where `intermediate_size` is missing or null; none: the field must be there.
    pub ff_factor: Option<usize>,
    /// Longest context in tokens (`max_position_embeddings`).
    pub context: usize,
    /// Width of the attention window (`sliding_window`); none: full attention.
    pub sliding_window: Option<usize>,
    /// Base of the RoPE frequencies (`rope_theta`).
    pub rope_theta: f64,
    /// The field that names it; empty where the class has no such field and no `rope_scaling`.
    pub theta_key: &'static str,
    /// Epsilon of the norms (`rms_norm_eps`).
    pub rms_eps: f64,
    /// The field that names it.
    pub eps_key: &'static str,
    /// Whether the head is tied to the embedding (`tie_word_embeddings`).
    pub tied: bool,
    /// The field that names the activation; empty where the class has no such field.
    pub activation_key: &'static str,
    /// Base of the RoPE frequencies of sliding layers (`rope_local_base_freq`) where they have their own.
    pub local_theta: Option<f64>,
    /// `rope_parameters` where the file has none, a JSON object; none: an unscaled RoPE.
    pub rope_parameters: Option<&'static str>,
    /// The `quant_method` of quantised weights that are read.
    pub quantisation: Option<&'static str>,
    /// The share of a head that RoPE rotates in layers without a window, by frequencies of whole heads (`proportional`), where
    /// config.json names no rope.
    pub proportional: Option<f64>,
    /// Whether the last layer attends to the whole context whatever `layer_types` says.
    pub full_at_last: bool,
    /// Whether RoPE rotates a share of each head that the file names; else the class knows whole heads alone.
    pub rotates_a_share: bool,
    /// The context before RoPE was scaled (`original_max_position_embeddings`) where the class has the field.
    pub original_context: Option<usize>,
    /// Fields that the class names otherwise than most do: the usual name, and its own.
    pub aliases: &'static [(&'static str, &'static str)],
}

impl Defaults {
    /// `LlamaConfig`'s (`models/llama/configuration_llama.py`).
    pub const LLAMA: Self = Self {
        kv_heads: None,
        head_dim: None,
        ff_factor: None,
        context: 2048,
        sliding_window: None,
        rope_theta: 10_000.0,
        theta_key: "rope_theta",
        rms_eps: 1e-6,
        eps_key: "rms_norm_eps",
        tied: false,
        activation_key: "hidden_act",
        local_theta: None,
        rope_parameters: None,
        quantisation: None,
        proportional: None,
        full_at_last: false,
        rotates_a_share: false,
        original_context: None,
        aliases: &[],
    };
}

/// The GGUF files of a family: what llama.cpp reads of them and how it computes them.
#[derive(Debug, Clone, Copy)]
pub struct GgufFamily {
    /// `general.architecture`, the prefix of its metadata keys; empty where GGUF files of the family are not read.
    pub architecture: &'static str,
    /// Whether rows (2i, 2i+1) of a head of q and k are a RoPE pair, as in Llama's files; else (i, i + head_dim/2).
    pub interleaved: bool,
    /// Whether llama.cpp computes an attention window.
    pub windows: bool,
    /// The window of a file that names none.
    pub window: Option<usize>,
    /// Whether the head must be tied to the embedding, or must not; none: both are read.
    pub tied: Option<bool>,
    /// Whether there may be fewer key heads than query heads.
    pub grouped: bool,
    /// Whether biases of the attention's output and of the feed-forward are read.
    pub biases: bool,
    /// Whether a file must have the biases of all linear modules.
    pub needs_biases: bool,
    /// Whether a file must name a window.
    pub needs_window: bool,
    /// Whether files are made of models with the exact GELU, though llama.cpp computes its approximation by tanh.
    pub near_gelu: bool,
    /// Whether files are made of models whose YaRN has a ramp between dimensions (`truncate` false), though llama.cpp's is at whole ones.
    pub near_ramp: bool,
    /// Whether LongRoPE's factors are read.
    pub long_factors: bool,
    /// Its experts; none where its files have none.
    pub experts: Option<GgufExperts>,
    /// Reads from the metadata what its layers compute, except what all architectures name alike.
    pub read: fn(&GgufFields<'_>, &mut LayerSpec),
    /// The keys of numbers, without the architecture's name, that [`GgufFamily::read`] reads.
    pub write: fn(&LayerSpec) -> Vec<(&'static str, f64)>,
    /// The same of keys that are true or false.
    pub write_flags: fn(&LayerSpec) -> Vec<(&'static str, bool)>,
}

/// The experts of an architecture, which all its layers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgufExperts {
    /// Whether llama.cpp divides the factors of the chosen ones by their sum; files do not say it.
    pub normalised: bool,
    /// Whether their widths have keys of their own; else an expert is as wide as `feed_forward_length`.
    pub own_width: bool,
}

impl GgufFamily {
    /// GGUF files of the family are not read.
    pub const NONE: Self = Self {
        architecture: "",
        interleaved: false,
        windows: false,
        window: None,
        tied: None,
        grouped: true,
        biases: false,
        needs_biases: false,
        needs_window: false,
        near_gelu: false,
        near_ramp: false,
        long_factors: false,
        experts: None,
        read: |_, _| (),
        write: |_| Vec::new(),
        write_flags: |_| Vec::new(),
    };
}

/// Tensor names. Those of a layer follow its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorNames {
    /// (V, H).
    pub embedding: TensorName,
    /// (H).
    pub last_norm: TensorName,
    /// (V, H).
    pub head: TensorName,
    /// The prefix of a layer's number.
    pub layer: TensorName,
    /// Before attention.
    pub attention_norm: TensorName,
    /// After attention.
    pub attention_out_norm: TensorName,
    /// Before the feed-forward.
    pub mlp_norm: TensorName,
    /// After the feed-forward.
    pub mlp_out_norm: TensorName,
    /// On queries.
    pub q_norm: TensorName,
    /// On keys.
    pub k_norm: TensorName,
    /// The sinks of the query heads.
    pub sinks: TensorName,
    /// The linear modules, in the order of [`LINEARS`](crate::model::tune::LINEARS).
    pub linears: [TensorName; 7],
    /// Queries, keys and values as one module, and gate and up as one (or the only inner one), where the family fuses them.
    pub fused: Option<[TensorName; 2]>,
    /// Those of experts.
    pub experts: ExpertNames,
    /// Learned position embeddings, (context, H).
    pub positions: TensorName,
    /// Whether the files hold the linear modules' weights as (in, out).
    pub transposed: bool,
    /// Those of the layers' second input.
    pub per_layer: PerLayerNames,
    /// The factor on a layer's output, a tensor without `.weight`.
    pub factor: TensorName,
}

/// Names of the modules of the layers' second input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerLayerNames {
    /// (rows, layers · width).
    pub table: TensorName,
    /// (layers · width, H).
    pub projection: TensorName,
    /// After it, (width).
    pub projection_norm: TensorName,
    /// Of a layer: (width, H).
    pub gate: TensorName,
    /// Of a layer: (H, width).
    pub out: TensorName,
    /// After it, (H).
    pub out_norm: TensorName,
}

/// Names of the modules of experts. `{}` stands for an expert's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertNames {
    /// (experts, H).
    pub router: TensorName,
    /// An expert's gate, up and down.
    pub each: [TensorName; 3],
    /// Gate, up and down of the expert that every token goes through.
    pub shared: [TensorName; 3],
    /// The factor on it, (1, H).
    pub shared_gate: TensorName,
}

const fn name(hf: &'static str, gguf: &'static str) -> TensorName {
    TensorName { hf, gguf }
}

impl TensorNames {
    /// The names that most families share. A family with norms on both sides of the feed-forward has its own `mlp_norm`.
    pub const COMMON: Self = Self {
        embedding: name("model.embed_tokens", "token_embd"),
        last_norm: name("model.norm", "output_norm"),
        head: name("lm_head", "output"),
        layer: name("model.layers.", "blk."),
        attention_norm: name("input_layernorm", "attn_norm"),
        attention_out_norm: name("post_attention_layernorm", "post_attention_norm"),
        mlp_norm: name("post_attention_layernorm", "ffn_norm"),
        mlp_out_norm: name("post_feedforward_layernorm", "post_ffw_norm"),
        q_norm: name("self_attn.q_norm", "attn_q_norm"),
        k_norm: name("self_attn.k_norm", "attn_k_norm"),
        sinks: name("self_attn.sinks", "attn_sinks"),
        linears: [
            name("self_attn.q_proj", "attn_q"),
            name("self_attn.k_proj", "attn_k"),
            name("self_attn.v_proj", "attn_v"),
            name("self_attn.o_proj", "attn_output"),
            name("mlp.gate_proj", "ffn_gate"),
            name("mlp.up_proj", "ffn_up"),
            name("mlp.down_proj", "ffn_down"),
        ],
        fused: None,
        experts: ExpertNames {
            router: name("mlp.gate", "ffn_gate_inp"),
            each: [
                name("mlp.experts.{}.gate_proj", "ffn_gate_exps"),
                name("mlp.experts.{}.up_proj", "ffn_up_exps"),
                name("mlp.experts.{}.down_proj", "ffn_down_exps"),
            ],
            shared: [
                name("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
                name("mlp.shared_expert.up_proj", "ffn_up_shexp"),
                name("mlp.shared_expert.down_proj", "ffn_down_shexp"),
            ],
            shared_gate: name("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
        },
        positions: name("model.embed_positions", "position_embd"),
        transposed: false,
        per_layer: PerLayerNames {
            table: name("model.embed_tokens_per_layer", "per_layer_token_embd"),
            projection: name("model.per_layer_model_projection", "per_layer_model_proj"),
            projection_norm: name("model.per_layer_projection_norm", "per_layer_proj_norm"),
            gate: name("per_layer_input_gate", "inp_gate"),
            out: name("per_layer_projection", "proj"),
            out_norm: name("post_per_layer_input_norm", "post_norm"),
        },
        factor: name("layer_scalar", "layer_output_scale"),
    };

    /// Mixtral's.
    pub const MIXTRAL: Self = Self {
        experts: ExpertNames {
            router: name("block_sparse_moe.gate", "ffn_gate_inp"),
            each: [
                name("block_sparse_moe.experts.{}.w1", "ffn_gate_exps"),
                name("block_sparse_moe.experts.{}.w3", "ffn_up_exps"),
                name("block_sparse_moe.experts.{}.w2", "ffn_down_exps"),
            ],
            ..Self::COMMON.experts
        },
        ..Self::COMMON
    };

    /// GPT-OSS's. Its files hold the experts of a layer in one tensor.
    pub const OSS: Self = Self {
        mlp_norm: name("post_attention_layernorm", "post_attention_norm"),
        experts: ExpertNames { router: name("mlp.router", "ffn_gate_inp"), ..Self::COMMON.experts },
        ..Self::COMMON
    };

    /// GPT-2's.
    pub const GPT2: Self = Self {
        embedding: name("transformer.wte", "token_embd"),
        positions: name("transformer.wpe", "position_embd"),
        last_norm: name("transformer.ln_f", "output_norm"),
        layer: name("transformer.h.", "blk."),
        attention_norm: name("ln_1", "attn_norm"),
        mlp_norm: name("ln_2", "ffn_norm"),
        linears: [
            name("attn.c_attn", "attn_qkv"),
            name("attn.c_attn", "attn_qkv"),
            name("attn.c_attn", "attn_qkv"),
            name("attn.c_proj", "attn_output"),
            name("mlp.c_fc", "ffn_up"),
            name("mlp.c_fc", "ffn_up"),
            name("mlp.c_proj", "ffn_down"),
        ],
        fused: Some([name("attn.c_attn", "attn_qkv"), name("mlp.c_fc", "ffn_up")]),
        transposed: true,
        ..Self::COMMON
    };

    /// GPT-NeoX's.
    pub const NEOX: Self = Self {
        embedding: name("gpt_neox.embed_in", "token_embd"),
        last_norm: name("gpt_neox.final_layer_norm", "output_norm"),
        layer: name("gpt_neox.layers.", "blk."),
        linears: [
            name("attention.query_key_value", "attn_qkv"),
            name("attention.query_key_value", "attn_qkv"),
            name("attention.query_key_value", "attn_qkv"),
            name("attention.dense", "attn_output"),
            name("mlp.dense_h_to_4h", "ffn_up"),
            name("mlp.dense_h_to_4h", "ffn_up"),
            name("mlp.dense_4h_to_h", "ffn_down"),
        ],
        fused: Some([name("attention.query_key_value", "attn_qkv"), name("mlp.dense_h_to_4h", "ffn_up")]),
        ..Self::COMMON
    };

    /// Starcoder2's: one inner module in the feed-forward.
    pub const CODE: Self = Self {
        linears: [
            name("self_attn.q_proj", "attn_q"),
            name("self_attn.k_proj", "attn_k"),
            name("self_attn.v_proj", "attn_v"),
            name("self_attn.o_proj", "attn_output"),
            name("mlp.c_fc", "ffn_up"),
            name("mlp.c_fc", "ffn_up"),
            name("mlp.c_proj", "ffn_down"),
        ],
        ..Self::COMMON
    };

    /// [`TensorNames::COMMON`] with norms on both sides of the feed-forward, as in Gemma 2.
    pub const SANDWICH: Self = Self { mlp_norm: name("pre_feedforward_layernorm", "ffn_norm"), ..Self::COMMON };

    /// [`TensorNames::COMMON`] with fused modules, as in Phi-3.
    pub const FUSED: Self = Self {
        fused: Some([name("self_attn.qkv_proj", "attn_qkv"), name("mlp.gate_up_proj", "ffn_up")]),
        ..Self::COMMON
    };
}
