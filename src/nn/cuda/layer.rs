//! One decoder layer, forward and back: norm, attention, residual; norm, SwiGLU, residual.
//!
//! ```text
//! x ─ norm ─ qkv ─ (norm) ─ turn ─ attention ─ o ─(+)─ mid ─ norm ─ gate up ─ SwiGLU ─ down ─(+)─ y
//! └────────────────────────────────────────────────┘  └───────────────────────────────────────────┘
//! ```
//!
//! The residual stream and its gradient are f32, what lies between in the type of the products.

use super::gradients::{Place, Slot, at};
use super::layout::Part;
use super::leaf::{Leaves, Shape};
use super::linear::{Modules as Joint, Tensors};
use crate::model::error::Error;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::norm::Norm;
use crate::nn::pass::Mode;
use candle_core::Tensor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is kept of a layer: its input, and where there is room the rest of what its way back needs.
pub(super) struct Saved {
    pub(super) x: Tensor,
    pub(super) rest: Option<Kept>,
    pub(super) modules: Option<Modules>,
}

/// What the way back needs beside the input.
pub(super) struct Rest {
    /// `[queries | keys | values]`, turned.
    qkv: Tensor,
    /// The same before norms and turning, where there are norms.
    raw: Option<Tensor>,
    /// The attention's output, (tokens, heads·head_dim).
    out: Tensor,
    /// Log-sums of the attention's weights, (tokens, heads).
    lse: Tensor,
    /// The residual stream after attention, (tokens, H).
    mid: Tensor,
    /// `[gate | up]`, (tokens, 2·ff).
    gate_up: Tensor,
    /// drop(x)·Aᵀ of the modules.
    low: [Option<Tensor>; 4],
}

impl Rest {
    /// Bytes.
    pub(super) fn bytes(&self) -> usize {
        let some = [&self.qkv, &self.out, &self.lse, &self.mid, &self.gate_up];
        let all = some.into_iter().chain(&self.raw).chain(self.low.iter().flatten());
        all.map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum()
    }
}

/// What is kept, and counted as long as it is.
pub(super) struct Kept {
    pub(super) rest: Rest,
    pub(super) bytes: usize,
    pub(super) all: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The numbers of a layer's modules, ready for a pass.
pub(super) struct Modules {
    index: usize,
    /// Queries, keys and values; output; gate and up; down.
    all: [Tensors; 4],
    trained: bool,
}

/// The modules' places.
const PLACES: [Place; 4] = [Place::Qkv, Place::Out, Place::GateUp, Place::Down];

impl Modules {
    /// Those of layer `index`.
    pub(super) fn new(leaves: &Leaves, decoder: &Decoder, index: usize, mode: Mode) -> Result<Self, Error> {
        let layer = &decoder.layers()[index];
        let joined = |place| match (place, &layer.joined) {
            (Place::Qkv, Some([qkv, _])) => Some(qkv),
            (Place::GateUp, Some([_, gate_up])) => Some(gate_up),
            _ => None,
        };
        let of = |place| Tensors::new(leaves, &at(layer, place), joined(place), mode, decoder.dtype());
        let [qkv, out, gate_up, down] = PLACES;
        let all = [of(qkv)?, of(out)?, of(gate_up)?, of(down)?];
        Ok(Self { index, all, trained: layer.o.weight.trained().is_some() })
    }

    /// What may wait for the way back: nothing, where weights are trained and copies of them would pile up.
    pub(super) fn kept(self) -> Option<Self> {
        Some(self).filter(|m| !m.trained)
    }

    fn joint<'a>(&self, layer: &'a Layer, i: usize) -> Joint<'a> {
        Joint::of(at(layer, PLACES[i]), self.all[i].clone())
    }
}

pub(super) fn shape(decoder: &Decoder) -> Shape {
    let c = decoder.config();
    Shape { heads: c.heads, kv_heads: c.kv_heads, width: c.head_dim }
}

/// x (tokens, H) in f32 to (tokens, H) in f32, and what the way back needs.
pub(super) fn forward(
    leaves: &Leaves,
    decoder: &Decoder,
    modules: &Modules,
    part: &Part,
    mode: Mode,
    x: &Tensor,
) -> Result<(Tensor, Rest), Error> {
    let layer = &decoder.layers()[modules.index];
    let (shape, dtype) = (shape(decoder), decoder.dtype());
    let norm = |norm: &Norm, x: &Tensor| (leaves.norm)(x, norm.gamma.stored(), norm.eps, dtype);
    let through = |i: usize, x: &Tensor| modules.joint(layer, i).forward(leaves, part, mode, x);
    let (plain, low_qkv) = through(0, &norm(&layer.input_norm, x)?)?;
    let (normed, raw) = match (&layer.q_norm, &layer.k_norm) {
        (Some(q), Some(k)) => {
            let [queries, keys, values] = shape.split(&plain)?;
            let one = |n: &Norm, heads: Tensor| Ok::<_, Error>(norm(n, &heads)?.reshape((part.tokens(), ()))?);
            let parts = [one(q, queries)?, one(k, keys)?, values.reshape((part.tokens(), ()))?];
            (Tensor::cat(&parts, 1)?, Some(plain))
        }
        _ => (plain, None),
    };
    let qkv = (leaves.turn)(&normed, &part.cos, &part.sin, shape, false)?;
    drop(normed);
    let (out, lse) = (leaves.attend)(&qkv, part, shape)?;
    let (more, low_o) = through(1, &out)?;
    let mid = (leaves.plus)(x, &more)?;
    drop(more);
    let (gate_up, low_gate_up) = through(2, &norm(&layer.ff_norm, &mid)?)?;
    let (more, low_down) = through(3, &(leaves.swiglu)(&gate_up)?)?;
    let y = (leaves.plus)(&mid, &more)?;
    Ok((y, Rest { qkv, raw, out, lse, mid, gate_up, low: [low_qkv, low_o, low_gate_up, low_down] }))
}

/// dL/dx from `upstream`, dL/dy, both (tokens, H) in f32, and the trainables' gradients.
pub(super) fn backward(
    leaves: &Leaves,
    decoder: &Decoder,
    modules: &Modules,
    part: &Part,
    mode: Mode,
    (x, kept): (&Tensor, Option<&Kept>),
    upstream: &Tensor,
) -> Result<(Tensor, Vec<(Slot, Tensor)>), Error> {
    let layer = &decoder.layers()[modules.index];
    let (shape, dtype) = (shape(decoder), decoder.dtype());
    let made;
    let rest = if let Some(kept) = kept {
        &kept.rest
    } else {
        made = forward(leaves, decoder, modules, part, mode, x)?.1;
        &made
    };
    let mut grads = Vec::new();
    let norm = |norm: &Norm, x: &Tensor| (leaves.norm)(x, norm.gamma.stored(), norm.eps, dtype);
    let back = |i: usize, x: &Tensor, dy: &Tensor, grads: &mut Vec<(Slot, Tensor)>| {
        let stands = (modules.index, PLACES[i]);
        modules.joint(layer, i).backward(leaves, part, mode, stands, (x, rest.low[i].as_ref()), dy, grads)
    };
    let norm_back = |n: &Norm, place, x: &Tensor, dy: &Tensor, on: Option<&Tensor>, grads: &mut Vec<(Slot, Tensor)>| {
        let trained = n.gamma.trained().is_some();
        let (dx, dgamma) = (leaves.norm_back)(x, n.gamma.stored(), n.eps, dy, on, trained)?;
        grads.extend(dgamma.map(|d| (Slot::Norm(modules.index, place), d)));
        Ok::<_, Error>(dx)
    };
    let dinner = back(3, &(leaves.swiglu)(&rest.gate_up)?, &upstream.to_dtype(dtype)?, &mut grads)?;
    let dgate_up = (leaves.swiglu_back)(&rest.gate_up, &dinner)?;
    drop(dinner);
    let dh = back(2, &norm(&layer.ff_norm, &rest.mid)?, &dgate_up, &mut grads)?;
    drop(dgate_up);
    let upstream = norm_back(&layer.ff_norm, Place::GateUp, &rest.mid, &dh, Some(upstream), &mut grads)?;
    drop(dh);
    let dout = back(1, &rest.out, &upstream.to_dtype(dtype)?, &mut grads)?;
    let dturned = (leaves.attend_back)(&rest.qkv, &rest.out, &rest.lse, &dout, part, shape)?;
    let mut dqkv = (leaves.turn)(&dturned, &part.cos, &part.sin, shape, true)?;
    drop((dout, dturned));
    if let (Some(q), Some(k), Some(raw)) = (&layer.q_norm, &layer.k_norm, &rest.raw) {
        let [queries, keys, _] = shape.split(raw)?;
        let [dqueries, dkeys, dvalues] = shape.split(&dqkv)?;
        let mut one = |n, place, x: &Tensor, dy: &Tensor| {
            let dx = norm_back(n, place, x, dy, None, &mut grads)?;
            Ok::<_, Error>(dx.to_dtype(dtype)?.reshape((part.tokens(), ()))?)
        };
        let (dqueries, dkeys) = (one(q, Place::Query, &queries, &dqueries)?, one(k, Place::Key, &keys, &dkeys)?);
        dqkv = Tensor::cat(&[dqueries, dkeys, dvalues.reshape((part.tokens(), ()))?], 1)?;
    }
    let dh = back(0, &norm(&layer.input_norm, x)?, &dqkv, &mut grads)?;
    let dx = norm_back(&layer.input_norm, Place::Qkv, x, &dh, Some(&upstream), &mut grads)?;
    Ok((dx, grads))
}
