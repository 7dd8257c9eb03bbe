//! One decoder layer, forward and back: attention and a gated feed-forward, each with its residual, and norms before or after
//! them as the model's `LayerSpec` says.
//!
//! ```text
//! x ─ (norm) ─ qkv ─ (norm) ─ rotate ─ attention ─ o ─ (norm) ─(+)─ mid ─ (norm) ─ gate up ─ act ─ down ─ (norm) ─(+)─ y
//! └────────────────────────────────────────────────────────────┘  └──────────────────────────────────────────────────┘
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
    /// What a norm after attention reads, and one after the feed-forward, (tokens, H).
    o_raw: Option<Tensor>,
    down_raw: Option<Tensor>,
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
        let all =
            some.into_iter().chain(&self.raw).chain(&self.o_raw).chain(&self.down_raw).chain(self.low.iter().flatten());
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
    let activation = decoder.config().layer.activation;
    let norm = |norm: &Norm, x: &Tensor| (leaves.norm)(x, &norm.gamma()?, norm.eps, dtype);
    let through = |i: usize, x: &Tensor| modules.joint(layer, i).forward(leaves, part, mode, x);
    let input = |before: &Option<Norm>, x: &Tensor| match before {
        Some(before) => norm(before, x),
        None => Ok(x.to_dtype(dtype)?),
    };
    // What a block adds to the residual stream, through a norm where one stands after it, and what that norm reads.
    let residual = |after: &Option<Norm>, x: &Tensor, more: Tensor| match after {
        Some(after) => Ok::<_, Error>(((leaves.plus)(x, &norm(after, &more)?)?, Some(more))),
        None => Ok(((leaves.plus)(x, &more)?, None)),
    };
    let (plain, low_qkv) = through(0, &input(&layer.attention_norm, x)?)?;
    let (normed, raw) = match (&layer.q_norm, &layer.k_norm) {
        (Some(q), Some(k)) => {
            let [queries, keys, values] = shape.split(&plain)?;
            let one =
                |n: &Norm, heads: &Tensor| Ok::<_, Error>(norm(n, &grouped(n, heads)?)?.reshape((part.tokens(), ()))?);
            let parts = [one(q, &queries)?, one(k, &keys)?, values.reshape((part.tokens(), ()))?];
            (Tensor::cat(&parts, 1)?, Some(plain))
        }
        _ => (plain, None),
    };
    let qkv = if layer.rotates { (leaves.turn)(&normed, &part.cos, &part.sin, shape, false)? } else { normed.clone() };
    drop(normed);
    let (out, lse) = (leaves.attend)(&qkv, part, shape)?;
    let (more, low_o) = through(1, &out)?;
    let (mid, o_raw) = residual(&layer.attention_out_norm, x, more)?;
    let (gate_up, low_gate_up) = through(2, &input(&layer.mlp_norm, &mid)?)?;
    let (more, low_down) = through(3, &(leaves.gated)(&gate_up, activation)?)?;
    let (y, down_raw) = residual(&layer.mlp_out_norm, &mid, more)?;
    let low = [low_qkv, low_o, low_gate_up, low_down];
    Ok((y, Rest { qkv, raw, out, lse, o_raw, down_raw, mid, gate_up, low }))
}

/// Heads (tokens, heads, width) as the groups that a norm is over: each head, or all of them.
fn grouped(norm: &Norm, heads: &Tensor) -> Result<Tensor, Error> {
    Ok(heads.reshape((heads.dim(0)?, (), norm.weight.stored().elem_count()))?)
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
    let activation = decoder.config().layer.activation;
    let input = |before: &Option<Norm>, x: &Tensor| match before {
        Some(before) => (leaves.norm)(x, &before.gamma()?, before.eps, dtype),
        None => Ok(x.to_dtype(dtype)?),
    };
    let back = |i: usize, x: &Tensor, dy: &Tensor, grads: &mut Vec<(Slot, Tensor)>| {
        let stands = (modules.index, PLACES[i]);
        modules.joint(layer, i).backward(leaves, part, mode, stands, (x, rest.low[i].as_ref()), dy, grads)
    };
    let norm_back = |n: &Norm, place, x: &Tensor, dy: &Tensor, on: Option<&Tensor>, grads: &mut Vec<(Slot, Tensor)>| {
        let trained = n.weight.trained().is_some();
        let (dx, dgamma) = (leaves.norm_back)(x, &n.gamma()?, n.eps, dy, on, trained)?;
        grads.extend(dgamma.map(|d| (Slot::Norm(modules.index, place), d)));
        Ok::<_, Error>(dx)
    };
    // dL/d of what a block gave before its norm, from dL/d of the stream behind it.
    let residual_back =
        |after: &Option<Norm>, place, raw: Option<&Tensor>, upstream: &Tensor, grads: &mut Vec<(Slot, Tensor)>| match (
            after, raw,
        ) {
            (Some(after), Some(raw)) => Ok(norm_back(after, place, raw, upstream, None, grads)?.to_dtype(dtype)?),
            _ => Ok::<_, Error>(upstream.to_dtype(dtype)?),
        };
    // dL/d of the stream before a block, from dL/d of what the block reads, on top of what passed it by.
    let input_back =
        |before: &Option<Norm>, place, x: &Tensor, dh: &Tensor, on: &Tensor, grads: &mut Vec<(Slot, Tensor)>| {
            match before {
                Some(before) => norm_back(before, place, x, dh, Some(on), grads),
                None => (leaves.plus)(on, dh),
            }
        };
    let ddown = residual_back(&layer.mlp_out_norm, Place::Down, rest.down_raw.as_ref(), upstream, &mut grads)?;
    let dinner = back(3, &(leaves.gated)(&rest.gate_up, activation)?, &ddown, &mut grads)?;
    drop(ddown);
    let dgate_up = (leaves.gated_back)(&rest.gate_up, &dinner, activation)?;
    drop(dinner);
    let dh = back(2, &input(&layer.mlp_norm, &rest.mid)?, &dgate_up, &mut grads)?;
    drop(dgate_up);
    let upstream = input_back(&layer.mlp_norm, Place::GateUp, &rest.mid, &dh, upstream, &mut grads)?;
    drop(dh);
    let d_o = residual_back(&layer.attention_out_norm, Place::Out, rest.o_raw.as_ref(), &upstream, &mut grads)?;
    let dout = back(1, &rest.out, &d_o, &mut grads)?;
    drop(d_o);
    let dturned = (leaves.attend_back)(&rest.qkv, &rest.out, &rest.lse, &dout, part, shape)?;
    let mut dqkv =
        if layer.rotates { (leaves.turn)(&dturned, &part.cos, &part.sin, shape, true)? } else { dturned.clone() };
    drop((dout, dturned));
    if let (Some(q), Some(k), Some(raw)) = (&layer.q_norm, &layer.k_norm, &rest.raw) {
        let [queries, keys, _] = shape.split(raw)?;
        let [dqueries, dkeys, dvalues] = shape.split(&dqkv)?;
        let mut one = |n: &Norm, place, x: &Tensor, dy: &Tensor| {
            let dx = norm_back(n, place, &grouped(n, x)?, &grouped(n, dy)?, None, &mut grads)?;
            Ok::<_, Error>(dx.to_dtype(dtype)?.reshape((part.tokens(), ()))?)
        };
        let (dqueries, dkeys) = (one(q, Place::Query, &queries, &dqueries)?, one(k, Place::Key, &keys, &dkeys)?);
        dqkv = Tensor::cat(&[dqueries, dkeys, dvalues.reshape((part.tokens(), ()))?], 1)?;
    }
    let dh = back(0, &input(&layer.attention_norm, x)?, &dqkv, &mut grads)?;
    let dx = input_back(&layer.attention_norm, Place::Qkv, x, &dh, &upstream, &mut grads)?;
    Ok((dx, grads))
}
