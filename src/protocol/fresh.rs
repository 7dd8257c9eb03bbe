//! The shape of a new, untrained model.

use serde::{Deserialize, Serialize};

/// A small Llama with random weights and a tokenizer of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshSpec {
    /// Seed of the weights; the tokenizer is the same for every seed.
    pub seed: u64,
    /// Width of the residual stream; a multiple of twice `heads`.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of the feed-forward layer.
    pub ff: usize,
    /// Maximum vocabulary size, including special tokens and single bytes.
    pub vocab: usize,
    /// Longest context in tokens.
    pub context: usize,
}

impl Default for FreshSpec {
    /// The bundled model `tiny`: about 1.3 M parameters.
    fn default() -> Self {
        Self { seed: 42, hidden: 160, layers: 4, heads: 4, kv_heads: 2, ff: 448, vocab: 1024, context: 512 }
    }
}
