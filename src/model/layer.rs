//! A decoder layer as data: its norms, its feed-forward's activation, and its parts.
//!
//! Owns [`LayerSpec`], which every backend, the packed decoder, the loader, merging and the memory formula interpret, and
//! [`LayerParts`], a layer's parameters in any representation. Refuses to know families and files.

pub use tiebreak_kernels::gate::Activation;

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

/// Which layers apply RoPE to queries and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RopeLayers {
    /// Every one.
    All,
    /// Those that are `true`; layers beyond the list do too.
    Listed(Vec<bool>),
}

/// What the layers of a decoder compute. The default is Llama's.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// Where the norms are.
    pub norms: NormPlacement,
    /// Offset on the weight of every norm, including the final one: 1 in Gemma.
    pub norm_offset: f64,
    /// The norm on queries and keys.
    pub qk_norm: QkNorm,
    /// Activation of the feed-forward's gate.
    pub activation: Activation,
    /// Bias on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the attention's output.
    pub o_bias: bool,
    /// Bias in the feed-forward layer.
    pub mlp_bias: bool,
    /// Which layers have RoPE.
    pub rope: RopeLayers,
}

impl Default for LayerSpec {
    /// Llama's layer.
    fn default() -> Self {
        Self {
            norms: NormPlacement::Pre,
            norm_offset: 0.0,
            qk_norm: QkNorm::No,
            activation: Activation::Silu,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            rope: RopeLayers::All,
        }
    }
}

impl LayerSpec {
    /// Whether layer `i` applies RoPE.
    #[must_use]
    pub fn rotates(&self, i: usize) -> bool {
        match &self.rope {
            RopeLayers::All => true,
            RopeLayers::Listed(on) => on.get(i).copied().unwrap_or(true),
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

/// An activation's name in config.json.
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
    /// Its index in [`LINEARS`](super::tune::LINEARS).
    pub index: usize,
    /// Its name below the layer.
    pub name: TensorName,
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub width: usize,
    /// Whether it has a bias.
    pub bias: bool,
}

/// A norm of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormSpec {
    /// Its name below the layer.
    pub name: TensorName,
    /// Length of its weight.
    pub width: usize,
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
}

/// The parameters of a layer, generic in the types of linear modules and norms.
#[derive(Debug, Clone)]
pub struct LayerParts<L, N> {
    /// Before attention.
    pub attention_norm: Option<N>,
    /// Queries.
    pub q: L,
    /// Keys.
    pub k: L,
    /// Values.
    pub v: L,
    /// The attention's output.
    pub o: L,
    /// On queries.
    pub q_norm: Option<N>,
    /// On keys.
    pub k_norm: Option<N>,
    /// After attention.
    pub attention_out_norm: Option<N>,
    /// Before the feed-forward.
    pub mlp_norm: Option<N>,
    /// The gate.
    pub gate: L,
    /// The value that the gate multiplies.
    pub up: L,
    /// The feed-forward's output.
    pub down: L,
    /// After the feed-forward.
    pub mlp_out_norm: Option<N>,
}

impl<L, N> LayerParts<L, N> {
    /// The linear modules, in the order of [`LINEARS`](super::tune::LINEARS).
    pub fn linears(&self) -> [&L; 7] {
        [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down]
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
            q: linear(&self.q)?,
            k: linear(&self.k)?,
            v: linear(&self.v)?,
            o: linear(&self.o)?,
            q_norm: some(&self.q_norm)?,
            k_norm: some(&self.k_norm)?,
            attention_out_norm: some(&self.attention_out_norm)?,
            mlp_norm: some(&self.mlp_norm)?,
            gate: linear(&self.gate)?,
            up: linear(&self.up)?,
            down: linear(&self.down)?,
            mlp_out_norm: some(&self.mlp_out_norm)?,
        })
    }
}
