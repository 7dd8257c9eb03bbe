//! Models whose layers are of several kinds: heads, keys and values, and feed-forwards that differ from layer to layer.
//!
//! Owns the description ([`LayerKinds`]) and a layer's resulting sizes ([`LayerShape`]). Refuses to know families and files.

/// Heads of some layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalHeads {
    /// Width of one head.
    pub head_dim: usize,
    /// Key and value heads.
    pub kv_heads: usize,
}

/// The last layers of a model have no keys and values of their own: they attend to those of the last layer before them that has
/// a window, or has none, as they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySharing {
    /// The first of these layers.
    pub first: usize,
    /// The layer whose keys and values those with a window read.
    pub windowed: usize,
    /// The same of those without.
    pub full: usize,
    /// Whether these layers have a feed-forward of twice the width.
    pub double_ff: bool,
}

/// How the layers of a model differ. The default: not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayerKinds {
    /// Heads of the layers without a window, where they are others.
    pub global_heads: Option<GlobalHeads>,
    /// Whether layers without a window have no values of their own: their keys, before norm and RoPE, are the values.
    pub keys_as_values: bool,
    /// The last layers, where they read the keys and values of others.
    pub sharing: Option<KeySharing>,
}

/// A second input of every layer (Gemma 3n, Gemma 4): behind the feed-forward `norm(out(act(gate(x)) ⊙ p))` is added to the
/// stream. `p` of layer i is that part of `(norm(projection(e) / √H) + √width · table[token]) / √2`, where e is the embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerLayerSpec {
    /// Width of a layer's part.
    pub width: usize,
    /// Rows of the table, at least as many as the vocabulary has.
    pub vocab: usize,
}

/// Where a layer's keys and values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// Its own modules.
    Own,
    /// The module of its keys, before norm and RoPE, is that of its values too.
    KeysAlone,
    /// The layer of that number.
    Layer(usize),
}

/// The sizes of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward.
    pub ff: usize,
    /// Where its keys and values come from.
    pub keys: KeySource,
    /// Whether another layer reads its keys and values.
    pub kept: bool,
}

impl LayerShape {
    /// Width of a token's queries.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a token's keys, and of its values.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The layer whose keys and values it reads, if they are not its own.
    #[must_use]
    pub fn source(&self) -> Option<usize> {
        if let KeySource::Layer(i) = self.keys { Some(i) } else { None }
    }
}
