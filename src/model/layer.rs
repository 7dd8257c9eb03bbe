//! A decoder layer as data: its norms, its feed-forward's activation, and its parts.
//!
//! Owns [`LayerSpec`], which every backend, the packed decoder, the loader, merging and the memory formula interpret, and
//! [`LayerParts`], a layer's parameters in any representation. Refuses to know families and files.

use super::feed_forward::FeedForward;
use super::layer_kinds::{LayerKinds, PerLayerSpec};
pub use tiebreak_kernels::gate::{Activation, ClampedSwiglu};

/// Norm placement around attention and the feed-forward: x is the residual stream and f the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// x + f(norm(x)), as in Llama.
    Pre,
    /// x + norm(f(x)), as in OLMo 2.
    Post,
    /// x + norm(f(norm(x))), as in Gemma 2.
    Sandwich,
}

impl NormPlacement {
    /// Whether there is a norm before the block.
    #[must_use]
    pub fn before(self) -> bool {
        self != Self::Post
    }

    /// Whether there is a norm after the block.
    #[must_use]
    pub fn after(self) -> bool {
        self != Self::Pre
    }
}

/// What a norm does besides dividing by the root of the mean square and multiplying by its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Nothing: RMSNorm (Zhang and Sennrich 2019).
    Rms,
    /// It subtracts the mean first and adds a bias: LayerNorm (Ba et al. 2016).
    Layer,
    /// LayerNorm without a bias.
    Centred,
}

/// RMSNorm on queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    No,
    /// On each head, before RoPE, as in Qwen3.
    Head,
    /// Over all heads at once, as in OLMo 2.
    Width,
}

/// Some of a decoder's layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerPattern {
    /// Every one.
    All,
    /// None.
    None,
    /// From this one on.
    From(usize),
    /// The n-th, 2n-th, …
    Every(usize),
    /// All but those of [`LayerPattern::Every`].
    ExceptEvery(usize),
    /// All but those of [`LayerPattern::Every`] and this one.
    ExceptEveryAnd(usize, usize),
    /// Those of [`LayerPattern::Every`] but these.
    EveryBut(usize, Vec<usize>),
    /// Those that are `true`, and all beyond the list.
    Listed(Vec<bool>),
}

impl LayerPattern {
    /// Whether layer `i` is one of them.
    #[must_use]
    pub fn has(&self, i: usize) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::From(first) => i >= *first,
            Self::Every(n) => *n > 0 && (i + 1).is_multiple_of(*n),
            Self::ExceptEvery(n) => !Self::Every(*n).has(i),
            Self::ExceptEveryAnd(n, one) => i != *one && Self::ExceptEvery(*n).has(i),
            Self::EveryBut(n, but) => Self::Every(*n).has(i) && !but.contains(&i),
            Self::Listed(on) => on.get(i).copied().unwrap_or(true),
        }
    }
}

/// Experts in place of the feed-forward (Shazeer et al. 2017). The router's probabilities are a softmax over all experts; a token's
/// result is the sum of the chosen ones' by these probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertSpec {
    /// Experts in a layer.
    pub count: usize,
    /// How many of them a token goes through: those of the largest probabilities.
    pub chosen: usize,
    /// Width of an expert.
    pub width: usize,
    /// Whether the probabilities of the chosen ones are divided by their sum.
    pub normalised: bool,
    /// Width of the expert that every token goes through, multiplied by the sigmoid of its own gate.
    pub shared: Option<usize>,
    /// Which layers have experts; the others have one feed-forward.
    pub layers: LayerPattern,
}

/// What happens to the head's logits: `cap·tanh(scale·z/cap)`, or `scale·z` without a cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitCurve {
    /// Factor: 1/`logits_scaling` in Granite.
    pub scale: f64,
    /// Soft cap: `final_logit_softcapping` in Gemma 2.
    pub cap: Option<f64>,
}

impl LogitCurve {
    /// Logits as the head makes them.
    pub const NONE: Self = Self { scale: 1.0, cap: None };

    /// The factor that may be multiplied into 1/temperature: the whole curve without a cap.
    #[must_use]
    pub fn factor(self) -> f64 {
        if self.cap.is_some() { 1.0 } else { self.scale }
    }
}

/// What the layers of a decoder compute, and what happens before the first and behind the head. The default is Llama's.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// Where the norms are.
    pub norms: NormPlacement,
    /// What every norm is, including the final one.
    pub norm: NormKind,
    /// Offset on the weight of every norm, including the final one: 1 in Gemma.
    pub norm_offset: f64,
    /// The norm on queries and keys.
    pub qk_norm: QkNorm,
    /// Activation of the feed-forward's gate, or of its only inner module.
    pub activation: Activation,
    /// Whether the feed-forward has a gate: `down(act(gate(x)) ⊙ up(x))`, else `down(act(up(x)))`.
    pub gated: bool,
    /// Experts in place of the feed-forward, where the model has them.
    pub experts: Option<ExpertSpec>,
    /// Whether learned position embeddings are added to the tokens' embeddings.
    pub positions: bool,
    /// Whether the feed-forward reads the layer's input instead of the stream after attention (Wang and Komatsuzaki 2021).
    pub parallel: bool,
    /// Whether the feed-forward then also has the norm before attention, and none of its own.
    pub shared_norm: bool,
    /// Whether the fused module's outputs are, head by head, its query, key and value; else all queries, keys and values.
    pub by_head: bool,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the attention's output.
    pub o_bias: bool,
    /// Bias in the feed-forward layer; where it has experts in theirs and in the router.
    pub mlp_bias: bool,
    /// Which layers have RoPE.
    pub rope: LayerPattern,
    /// Whether numbers 2i and 2i + 1 of a head are a RoPE pair, else i and i + rotary/2.
    pub rope_pairs: bool,
    /// The share of a head's dimensions that RoPE rotates, from the first on.
    pub rotary_share: f64,
    /// Which layers attend within the model's window only.
    pub windows: LayerPattern,
    /// Factor on the attention's scores; none: 1/√head_dim.
    pub attention_scale: Option<f64>,
    /// Soft cap on the attention's scores, `cap·tanh(s/cap)`.
    pub attention_cap: Option<f64>,
    /// Whether each query head has a sink: a learned logit more in the softmax of its scores, whose weight meets no value (Xiao et
    /// al. 2023). It is stored like a norm's weight.
    pub sinks: bool,
    /// Factor on what a block adds to the residual stream.
    pub residual_scale: f64,
    /// Factor on the embeddings, beside the family's.
    pub embedding_multiplier: f64,
    /// What happens to the logits.
    pub logits: LogitCurve,
    /// How the layers differ from one another, where they do.
    pub kinds: LayerKinds,
    /// Whether values are divided, head by head, by the root of their mean square.
    pub value_norm: bool,
    /// Whether a layer's output is multiplied by a number from the files, which is not trained.
    pub output_factor: bool,
    /// The layers' second input, where they have one.
    pub per_layer: Option<PerLayerSpec>,
}

impl Default for LayerSpec {
    /// Llama's layer.
    fn default() -> Self {
        Self {
            norms: NormPlacement::Pre,
            norm: NormKind::Rms,
            norm_offset: 0.0,
            qk_norm: QkNorm::No,
            activation: Activation::Silu,
            gated: true,
            experts: None,
            positions: false,
            parallel: false,
            shared_norm: false,
            by_head: false,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            rope: LayerPattern::All,
            rope_pairs: false,
            rotary_share: 1.0,
            windows: LayerPattern::None,
            attention_scale: None,
            attention_cap: None,
            sinks: false,
            residual_scale: 1.0,
            embedding_multiplier: 1.0,
            logits: LogitCurve::NONE,
            kinds: LayerKinds::default(),
            value_norm: false,
            output_factor: false,
            per_layer: None,
        }
    }
}

/// The activations by their names in config.json; the first name of each is the canonical one.
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu", Activation::Gelu),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("relu2", Activation::ReluSquared),
];

/// The activation of that name in config.json.
#[must_use]
pub fn activation(name: &str) -> Option<Activation> {
    ACTIVATIONS.iter().find(|(n, _)| *n == name).map(|(_, a)| *a)
}

/// An activation's name in config.json; empty for one that is no function of the gate alone.
#[must_use]
pub fn activation_name(activation: Activation) -> &'static str {
    ACTIVATIONS.iter().find(|(_, a)| *a == activation).map_or("", |(name, _)| *name)
}

/// The names of all activations, for messages.
#[must_use]
pub fn activation_names() -> String {
    ACTIVATIONS.map(|(name, _)| name).join(", ")
}

/// A tensor's name without `.weight` or `.bias`, in Hugging Face's files and in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorName {
    /// Hugging Face's.
    pub hf: &'static str,
    /// GGUF's.
    pub gguf: &'static str,
}

/// A linear module of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearSpec {
    /// Its name below the layer.
    pub name: TensorName,
    /// The number of its expert, which stands for `{}` in the name.
    pub expert: Option<usize>,
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub width: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// Whether it may have an adapter.
    pub adaptable: bool,
}

impl LinearSpec {
    /// Its name as PEFT's target modules give it: `q_proj` of `self_attn.q_proj`.
    #[must_use]
    pub fn target(&self) -> &'static str {
        self.name.hf.rsplit('.').next().unwrap_or(self.name.hf)
    }
}

/// A norm of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormSpec {
    /// Its name below the layer.
    pub name: TensorName,
    /// Length of its weight.
    pub width: usize,
    /// Whether it has a bias.
    pub bias: bool,
}

/// Reads the parts of a layer in the model's order.
pub trait LayerReader {
    /// A linear module.
    type Linear;
    /// A norm.
    type Norm;
    /// Why a part cannot be read.
    type Error;

    /// A linear module.
    ///
    /// # Errors
    /// When it cannot be read.
    fn linear(&mut self, spec: &LinearSpec) -> Result<Self::Linear, Self::Error>;

    /// A norm.
    ///
    /// # Errors
    /// When it cannot be read.
    fn norm(&mut self, spec: &NormSpec) -> Result<Self::Norm, Self::Error>;

    /// The number of that name, a tensor of one element which is not trained.
    ///
    /// # Errors
    /// When it cannot be read.
    fn factor(&mut self, name: TensorName) -> Result<f64, Self::Error>;
}

/// The modules of a layer's second input.
#[derive(Debug, Clone)]
pub struct PerLayerParts<L, N> {
    /// (width, H).
    pub gate: L,
    /// (H, width).
    pub out: L,
    /// After `out`.
    pub norm: N,
}

/// The parameters of a layer, generic in the types of linear modules and norms.
#[derive(Debug, Clone)]
pub struct LayerParts<L, N> {
    /// Before attention.
    pub attention_norm: Option<N>,
    /// Queries, keys and values: three modules, or one whose outputs are all of them. Where the layer's
    /// [`KeySource`](super::layer_kinds::KeySource) says so, no values, or queries alone.
    pub qkv: Vec<L>,
    /// The attention's output.
    pub o: L,
    /// On queries.
    pub q_norm: Option<N>,
    /// On keys.
    pub k_norm: Option<N>,
    /// The sinks of the query heads.
    pub sinks: Option<N>,
    /// After attention.
    pub attention_out_norm: Option<N>,
    /// Before the feed-forward.
    pub mlp_norm: Option<N>,
    /// The feed-forward.
    pub mlp: FeedForward<L>,
    /// After the feed-forward.
    pub mlp_out_norm: Option<N>,
    /// The second input.
    pub per_layer: Option<PerLayerParts<L, N>>,
    /// The factor on the layer's output.
    pub factor: Option<f64>,
}

impl<L, N> LayerParts<L, N> {
    /// The linear modules that every token goes through, in the model's order; of experts none.
    pub fn linears(&self) -> Vec<&L> {
        let per_layer = self.per_layer.iter().flat_map(|parts| [&parts.gate, &parts.out]);
        self.qkv.iter().chain([&self.o]).chain(self.mlp.whole()).chain(per_layer).collect()
    }

    /// Converts every part.
    ///
    /// # Errors
    /// Those of the functions.
    pub fn map<M, O, E>(
        &self,
        linear: impl Fn(&L) -> Result<M, E>,
        norm: impl Fn(&N) -> Result<O, E>,
    ) -> Result<LayerParts<M, O>, E> {
        let some = |n: &Option<N>| n.as_ref().map(&norm).transpose();
        Ok(LayerParts {
            attention_norm: some(&self.attention_norm)?,
            qkv: self.qkv.iter().map(&linear).collect::<Result<_, E>>()?,
            o: linear(&self.o)?,
            q_norm: some(&self.q_norm)?,
            k_norm: some(&self.k_norm)?,
            sinks: some(&self.sinks)?,
            attention_out_norm: some(&self.attention_out_norm)?,
            mlp_norm: some(&self.mlp_norm)?,
            mlp: self.mlp.map(&linear)?,
            mlp_out_norm: some(&self.mlp_out_norm)?,
            per_layer: match &self.per_layer {
                Some(PerLayerParts { gate, out, norm: after }) => {
                    Some(PerLayerParts { gate: linear(gate)?, out: linear(out)?, norm: norm(after)? })
                }
                None => None,
            },
            factor: self.factor,
        })
    }
}
