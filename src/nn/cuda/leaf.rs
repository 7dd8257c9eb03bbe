//! The innermost operations as a table: what each of them means.
//!
//! Every one takes and gives detached tensors; sums are made in f32 whatever the type. `composed` makes them of candle's
//! operations on any device, `kernels` runs faster ones where there are some.

use super::layout::Part;
use crate::model::error::Error;
use crate::model::layer::Activation;
use candle_core::{DType, Device, Tensor};

/// The heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadShape {
    /// Query heads.
    pub(super) heads: usize,
    /// Key and value heads.
    pub(super) kv_heads: usize,
    /// Width of a head.
    pub(super) width: usize,
}

impl HeadShape {
    /// Numbers of a token's queries.
    pub(super) fn queries(self) -> usize {
        self.heads * self.width
    }

    /// Numbers of a token's keys, and of its values.
    pub(super) fn keys(self) -> usize {
        self.kv_heads * self.width
    }

    /// Queries, keys and values of `[queries | keys | values]` (tokens, …), each (tokens, heads, width) in one piece.
    pub(super) fn split(self, qkv: &Tensor) -> Result<[Tensor; 3], Error> {
        let n = qkv.dim(0)?;
        let (q, k) = (self.queries(), self.keys());
        let part = |first, heads| -> Result<Tensor, Error> {
            Ok(qkv.narrow(1, first, heads * self.width)?.contiguous()?.reshape((n, heads, self.width))?)
        };
        Ok([part(0, self.heads)?, part(q, self.kv_heads)?, part(q + k, self.kv_heads)?])
    }
}

/// What the logits of some positions say, and what the way back needs.
pub(super) struct DeviceLogitStats {
    /// (n, 5) in f32: log-prob, entropy, 1 where the token is the likeliest, mean logit, log Σ p².
    pub(super) stats: Tensor,
    /// The softmax, (n, V), in the type of products.
    pub(super) p: Tensor,
}

/// How dL/d of what was said becomes dL/dlogits.
pub(super) struct LogitGradInput<'a> {
    /// The tokens, (n).
    pub(super) target: &'a Tensor,
    /// By the log-probs, (n, 1) in f32.
    pub(super) logp: &'a Tensor,
    /// By the entropies, (n, 1) in f32; none: by none.
    pub(super) entropy: Option<&'a Tensor>,
    /// 1 / temperature.
    pub(super) inv_temp: f64,
}

/// A module's own part among several that read one input.
pub(super) struct AdapterPart<'a> {
    /// A (r, in) and B (out, r) in f32 and the adapter's scale.
    pub(super) adapter: Option<(&'a Tensor, &'a Tensor, f64)>,
    /// out.
    pub(super) rows: usize,
    /// Where it is.
    pub(super) device: &'a Device,
}

/// The table.
#[derive(Clone, Copy)]
pub(super) struct LeafOps {
    /// RMSNorm of x (…, H) by gamma (H), in another type: `x / √(mean x² + eps) ⊙ gamma`.
    pub(super) norm: fn(&Tensor, &Tensor, f64, DType) -> Result<Tensor, Error>,
    /// dL/dx in f32, on top of another where one is given, and dL/dgamma where it is asked for, from x, gamma, eps and dL/dy.
    pub(super) norm_back: NormBack,
    /// Rotary positions of the queries and keys in `[queries | keys | values]`; turned back with `true`.
    pub(super) rotate: fn(&Tensor, &Tensor, &Tensor, HeadShape, bool) -> Result<Tensor, Error>,
    /// Attention: (tokens, heads·width) and the log-sums of its weights (tokens, heads) in f32, from turned queries, keys and
    /// values.
    pub(super) attend: Attend,
    /// dL/d of the turned queries, keys and values, from them, the output, its log-sums and dL/d of the output.
    pub(super) attend_back: AttendBack,
    /// `act(gate) ⊙ up` of `[gate | up]`.
    pub(super) gated: fn(&Tensor, Activation) -> Result<Tensor, Error>,
    /// dL/d`[gate | up]` from it and dL/d of what it gave.
    pub(super) gated_back: fn(&Tensor, &Tensor, Activation) -> Result<Tensor, Error>,
    /// What logits (n, V) in f32 say of tokens (n), divided by the temperature, with the softmax in another type.
    pub(super) logit_stats: fn(&Tensor, &Tensor, f64, DType) -> Result<DeviceLogitStats, Error>,
    /// x + y in f32.
    pub(super) add_f32: fn(&Tensor, &Tensor) -> Result<Tensor, Error>,
    /// dL/dlogits in another type.
    pub(super) logits_backward: fn(&Tensor, &LogitGradInput<'_>, DType) -> Result<Tensor, Error>,
    /// a·b in f32.
    pub(super) product_f32: fn(&Tensor, &Tensor) -> Result<Tensor, Error>,
    /// y + a·b.
    pub(super) add_product: fn(Tensor, &Tensor, &Tensor) -> Result<Tensor, Error>,
    /// The adapters of several modules as one: (R, in) of every A, one below the other, and (out, R) of every scale·B on the
    /// diagonal.
    pub(super) stack_adapters: StackAdapters,
}

type StackAdapters = fn(&[AdapterPart<'_>], DType) -> Result<(Tensor, Tensor), Error>;
type Attend = fn(&Tensor, &Part, HeadShape) -> Result<(Tensor, Tensor), Error>;
type AttendBack = fn(&Tensor, &Tensor, &Tensor, &Tensor, &Part, HeadShape) -> Result<Tensor, Error>;
type NormBack = fn(&Tensor, &Tensor, f64, &Tensor, Option<&Tensor>, bool) -> Result<(Tensor, Option<Tensor>), Error>;
