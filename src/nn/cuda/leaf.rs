//! The table of leaf operations, with their definitions.
//!
//! Each takes and returns detached tensors and accumulates in f32 whatever the type. `composed` implements them with candle's
//! operations on any device, `kernels` with CUDA kernels.

use super::layout::Part;
use crate::model::error::Error;
use crate::model::layer::Activation;
use candle_core::{DType, Device, Tensor};

/// The heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct HeadShape {
    /// Query heads.
    pub(super) heads: usize,
    /// Key and value heads.
    pub(super) kv_heads: usize,
    /// Width of a head.
    pub(super) width: usize,
    /// Factor on the scores.
    pub(super) scale: f64,
    /// Soft cap on the scores.
    pub(super) cap: Option<f64>,
    /// How many tokens a query attends to at most, where some row is longer.
    pub(super) window: Option<usize>,
}

impl HeadShape {
    /// Full attention of heads of this width, scaled by its root.
    #[cfg(test)]
    pub(super) fn full(heads: usize, kv_heads: usize, width: usize) -> Self {
        Self { heads, kv_heads, width, scale: 1.0 / (width as f64).sqrt(), cap: None, window: None }
    }

    /// Width of a token's queries.
    pub(super) fn queries(self) -> usize {
        self.heads * self.width
    }

    /// Width of a token's keys, and of its values.
    pub(super) fn keys(self) -> usize {
        self.kv_heads * self.width
    }

    /// Splits `[queries | keys | values]` (tokens, …) into three contiguous tensors (tokens, heads, width).
    pub(super) fn split(self, qkv: &Tensor) -> Result<[Tensor; 3], Error> {
        let n = qkv.dim(0)?;
        let (q, k) = (self.queries(), self.keys());
        let part = |first, heads| -> Result<Tensor, Error> {
            Ok(qkv.narrow(1, first, heads * self.width)?.contiguous()?.reshape((n, heads, self.width))?)
        };
        Ok([part(0, self.heads)?, part(q, self.kv_heads)?, part(q + k, self.kv_heads)?])
    }
}

/// Statistics of logits, and the softmax for the backward.
pub(super) struct DeviceLogitStats {
    /// (n, 5) in f32: log-prob, entropy, 1 where the token is the argmax, mean logit, log Σ p².
    pub(super) stats: Tensor,
    /// The softmax, (n, V), in the type of products.
    pub(super) p: Tensor,
}

/// Inputs of the backward from a token's statistics to dL/dlogits.
pub(super) struct LogitGradInput<'a> {
    /// The tokens, (n).
    pub(super) target: &'a Tensor,
    /// dL/d of the log-probs, (n, 1) in f32.
    pub(super) logp: &'a Tensor,
    /// dL/d of the entropies, (n, 1) in f32; none: all 0.
    pub(super) entropy: Option<&'a Tensor>,
    /// 1 / temperature.
    pub(super) inv_temp: f64,
}

/// One module's adapter among several modules that read one input.
pub(super) struct AdapterPart<'a> {
    /// A (r, in) and B (out, r) in f32 and the adapter's scale.
    pub(super) adapter: Option<(&'a Tensor, &'a Tensor, f64)>,
    /// The module's outputs.
    pub(super) rows: usize,
    /// The device.
    pub(super) device: &'a Device,
}

/// The leaf operations of a device.
#[derive(Clone, Copy)]
pub(super) struct LeafOps {
    /// RMSNorm of x (…, H) by gamma (H), in another type: `x / √(mean x² + eps) ⊙ gamma`.
    pub(super) norm: fn(&Tensor, &Tensor, f64, DType) -> Result<Tensor, Error>,
    /// From x, gamma, eps and dL/dy: dL/dx in f32, added to a given tensor if any, and dL/dgamma if requested.
    pub(super) norm_back: NormBack,
    /// RoPE of the queries and keys in `[queries | keys | values]`; with `true` its backward.
    pub(super) rotate: fn(&Tensor, &Tensor, &Tensor, HeadShape, bool) -> Result<Tensor, Error>,
    /// Attention of `[queries | keys | values]` after RoPE: (tokens, heads·width) and log-sum-exp (tokens, heads) in f32.
    pub(super) attend: Attend,
    /// Backward of attention: dL/d`[queries | keys | values]` from these, the output, its log-sum-exp and dL/d of the output.
    pub(super) attend_back: AttendBack,
    /// `act(gate) ⊙ up` of `[gate | up]`.
    pub(super) gated: fn(&Tensor, Activation) -> Result<Tensor, Error>,
    /// Backward of `gated`: dL/d`[gate | up]` from it and dL/d of the output.
    pub(super) gated_back: fn(&Tensor, &Tensor, Activation) -> Result<Tensor, Error>,
    /// Statistics of logits (n, V) in f32 for tokens (n), at 1/temperature, with the softmax in another type.
    pub(super) logit_stats: fn(&Tensor, &Tensor, f64, DType) -> Result<DeviceLogitStats, Error>,
    /// x + y in f32.
    pub(super) add_f32: fn(&Tensor, &Tensor) -> Result<Tensor, Error>,
    /// dL/dlogits in another type.
    pub(super) logits_backward: fn(&Tensor, &LogitGradInput<'_>, DType) -> Result<Tensor, Error>,
    /// a·b in f32.
    pub(super) product_f32: fn(&Tensor, &Tensor) -> Result<Tensor, Error>,
    /// y + a·b.
    pub(super) add_product: fn(Tensor, &Tensor, &Tensor) -> Result<Tensor, Error>,
    /// The adapters of several modules as one: (R, in) of every A stacked, and (out, R) with every scale·B as a diagonal block.
    pub(super) stack_adapters: StackAdapters,
}

type StackAdapters = fn(&[AdapterPart<'_>], DType) -> Result<(Tensor, Tensor), Error>;
type Attend = fn(&Tensor, &Part, HeadShape) -> Result<(Tensor, Tensor), Error>;
type AttendBack = fn(&Tensor, &Tensor, &Tensor, &Tensor, &Part, HeadShape) -> Result<Tensor, Error>;
type NormBack = fn(&Tensor, &Tensor, f64, &Tensor, Option<&Tensor>, bool) -> Result<(Tensor, Option<Tensor>), Error>;
