//! How a pass through the decoder is made.

/// A pass of the reference: what is in the graph, which adapters are on, what dropout drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether the trainables are in the graph.
    pub grad: bool,
    /// Whether the LoRA adapter is put on. Without one it makes no difference.
    pub adapter: bool,
    /// Number of the training pass that draws its own dropout masks; none drops nothing.
    pub dropout: Option<u64>,
    /// Tokens of the batch before the ones at hand, which go through a layer apart from them: their dropout masks are skipped.
    pub skipped: usize,
}

impl Pass {
    /// No gradient, no dropout.
    #[must_use]
    pub fn plain(adapter: bool) -> Self {
        Self { grad: false, adapter, dropout: None, skipped: 0 }
    }
}

/// A pass of the backends that keep no graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    /// Whether adapters are on.
    pub(super) adapter: bool,
    /// Number of the training pass whose dropout masks are drawn; none: no dropout.
    pub(super) dropout: Option<u64>,
}
