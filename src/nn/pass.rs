//! The settings of a pass through the decoder.

/// A pass of the reference backend: whether the graph is tracked, adapters are on, and dropout is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether the graph tracks the trainables.
    pub grad: bool,
    /// Whether the LoRA adapter is on, if there is one.
    pub adapter: bool,
    /// Number of the training pass, which seeds its dropout masks; none: no dropout.
    pub dropout: Option<u64>,
    /// Tokens of the batch before this part of it, which went through the layer separately: their dropout masks are skipped.
    pub skipped: usize,
}

impl Pass {
    /// No gradient, no dropout.
    #[must_use]
    pub fn plain(adapter: bool) -> Self {
        Self { grad: false, adapter, dropout: None, skipped: 0 }
    }
}

/// A pass of the backends without a graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    /// Whether adapters are on.
    pub(super) adapter: bool,
    /// Number of the training pass, which seeds its dropout masks; none: no dropout.
    pub(super) dropout: Option<u64>,
}
