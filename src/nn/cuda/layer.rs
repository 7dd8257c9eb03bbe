//! One decoder layer, forward and backward: attention and a gated feed-forward, each with its residual, and norms before or after
//! them as the model's `LayerSpec` says.
//!
//! ```text
//! x ─ (norm) ─ qkv ─ (norm) ─ rotate ─ attention ─ o ─ (norm) ─(+)─ mid ─ (norm) ─ gate up ─ act ─ down ─ (norm) ─(+)─ y
//! └────────────────────────────────────────────────────────────┘  └──────────────────────────────────────────────────┘
//! ```
//!
//! The residual stream and its gradient are f32, everything between in the type of the products.

use super::gradients::{ModuleGroup, Slot, modules_of};
use super::layout::Part;
use super::leaf::{HeadShape, LeafOps};
use super::linear::{FusedLinear, FusedTensors};
use super::norm;
use crate::model::error::Error;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::norm::Norm;
use crate::nn::pass::Mode;
use candle_core::Tensor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the forward saves of a layer: its input, and its activations if the memory budget allows.
pub(super) struct CudaSavedLayer {
    pub(super) x: Tensor,
    pub(super) activations: Option<CountedActivations>,
    pub(super) modules: Option<LayerModules>,
}

/// A layer's activations that the backward reads, besides the input.
pub(super) struct CudaActivations {
    /// `[queries | keys | values]` after RoPE.
    qkv: Tensor,
    /// The same before norms and RoPE, if there are norms.
    raw: Option<Tensor>,
    /// The attention's output, (tokens, heads·head_dim).
    out: Tensor,
    /// Log-sum-exp of each query's attention scores, (tokens, heads).
    lse: Tensor,
    /// Inputs of the norms after attention and after the feed-forward, (tokens, H).
    o_raw: Option<Tensor>,
    down_raw: Option<Tensor>,
    /// The residual stream after attention, (tokens, H).
    mid: Tensor,
    /// `[gate | up]`, (tokens, 2·ff).
    gate_up: Tensor,
    /// drop(x)·Aᵀ of each group's adapters.
    low: [Option<Tensor>; 4],
}

impl CudaActivations {
    /// Bytes.
    pub(super) fn bytes(&self) -> usize {
        let some = [&self.qkv, &self.out, &self.lse, &self.mid, &self.gate_up];
        let all =
            some.into_iter().chain(&self.raw).chain(&self.o_raw).chain(&self.down_raw).chain(self.low.iter().flatten());
        all.map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum()
    }
}

/// Saved activations, whose bytes are counted until they are dropped.
pub(super) struct CountedActivations {
    pub(super) activations: CudaActivations,
    pub(super) bytes: usize,
    pub(super) all: Arc<AtomicUsize>,
}

impl Drop for CountedActivations {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The tensors of a layer's modules, ready for a pass.
pub(super) struct LayerModules {
    index: usize,
    /// Queries, keys and values; output; gate and up; down.
    all: [FusedTensors; 4],
    trained: bool,
}

/// The groups of modules, in order.
const GROUPS: [ModuleGroup; 4] = [ModuleGroup::Qkv, ModuleGroup::Out, ModuleGroup::GateUp, ModuleGroup::Down];

impl LayerModules {
    /// Those of layer `index`.
    pub(super) fn new(ops: &LeafOps, decoder: &Decoder, index: usize, mode: Mode) -> Result<Self, Error> {
        let layer = &decoder.layers()[index];
        let fused = |group| match (group, &layer.fused) {
            (ModuleGroup::Qkv, Some([qkv, _])) => Some(qkv),
            (ModuleGroup::GateUp, Some([_, gate_up])) => Some(gate_up),
            _ => None,
        };
        let of = |group| FusedTensors::new(ops, &modules_of(layer, group), fused(group), mode, decoder.dtype());
        let [qkv, out, gate_up, down] = GROUPS;
        let all = [of(qkv)?, of(out)?, of(gate_up)?, of(down)?];
        Ok(Self { index, all, trained: layer.o.weight.trained().is_some() })
    }

    /// What may be saved for the backward: nothing if weights are trained, since copies of them would pile up.
    pub(super) fn kept(self) -> Option<Self> {
        Some(self).filter(|m| !m.trained)
    }

    fn fused<'a>(&self, layer: &'a Layer, i: usize) -> FusedLinear<'a> {
        FusedLinear::of(modules_of(layer, GROUPS[i]), self.all[i].clone())
    }
}

fn shape(decoder: &Decoder, layer: &Layer, part: &Part) -> HeadShape {
    let c = decoder.config();
    let longest = part.segments.iter().map(|s| s.prefix.len() + s.own.len()).max().unwrap_or(0);
    HeadShape {
        heads: c.heads,
        kv_heads: c.kv_heads,
        width: c.head_dim,
        scale: c.attention_scale(),
        cap: c.layer.attention_cap,
        window: layer.window.filter(|window| *window < longest),
    }
}

/// x (tokens, H) in f32 to (tokens, H) in f32, and the activations for the backward.
pub(super) fn forward(
    ops: &LeafOps,
    decoder: &Decoder,
    modules: &LayerModules,
    part: &Part,
    mode: Mode,
    x: &Tensor,
) -> Result<(Tensor, CudaActivations), Error> {
    let layer = &decoder.layers()[modules.index];
    let (shape, dtype) = (shape(decoder, layer, part), decoder.dtype());
    let activation = decoder.config().layer.activation;
    let norm = |norm: &Norm, x: &Tensor| norm::forward(ops, norm, x, dtype);
    let through = |i: usize, x: &Tensor| modules.fused(layer, i).forward(ops, part, mode, x);
    let input = |before: Option<&Norm>, x: &Tensor| match before {
        Some(before) => norm(before, x),
        None => Ok(x.to_dtype(dtype)?),
    };
    let before_mlp = layer.before_mlp(decoder.config().layer.shared_norm);
    // The residual connection, with the norm after the block if there is one; also returns that norm's input.
    let residual = |after: &Option<Norm>, x: &Tensor, more: Tensor| match after {
        Some(after) => Ok::<_, Error>(((ops.add_f32)(x, &scaled(decoder, norm(after, &more)?)?)?, Some(more))),
        None => Ok(((ops.add_f32)(x, &scaled(decoder, more)?)?, None)),
    };
    let (plain, low_qkv) = through(0, &input(layer.attention_norm.as_ref(), x)?)?;
    let plain = if decoder.config().layer.by_head { regrouped(&plain, shape, true)? } else { plain };
    let plain = if decoder.config().layer.rope_pairs { reordered(&plain, shape, true)? } else { plain };
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
    let qkv = match layer.rope.and_then(|i| part.rope.get(i)) {
        Some((cos, sin)) => (ops.rotate)(&normed, cos, sin, shape, false)?,
        None => normed.clone(),
    };
    drop(normed);
    let (out, lse) = (ops.attend)(&qkv, part, shape)?;
    let (more, low_o) = through(1, &out)?;
    let (mid, o_raw) = residual(&layer.attention_out_norm, x, more)?;
    let parallel = decoder.config().layer.parallel;
    let (gate_up, low_gate_up) = through(2, &input(before_mlp, if parallel { x } else { &mid })?)?;
    // Without a gate the activation multiplies 1.
    let gate_up =
        if decoder.config().layer.gated { gate_up } else { Tensor::cat(&[&gate_up, &gate_up.ones_like()?], 1)? };
    let (more, low_down) = through(3, &(ops.gated)(&gate_up, activation)?)?;
    let (y, down_raw) = residual(&layer.mlp_out_norm, &mid, more)?;
    let low = [low_qkv, low_o, low_gate_up, low_down];
    Ok((y, CudaActivations { qkv, raw, out, lse, o_raw, down_raw, mid, gate_up, low }))
}

/// From head by head its query, key and value to all queries, keys and values, or back.
fn regrouped(qkv: &Tensor, shape: HeadShape, apart: bool) -> Result<Tensor, Error> {
    let (n, all) = qkv.dims2()?;
    let (outer, inner) = if apart { (shape.heads, 3) } else { (3, shape.heads) };
    Ok(qkv.reshape((n, outer, inner, shape.width))?.transpose(1, 2)?.contiguous()?.reshape((n, all))?)
}

/// Pairs (2i, 2i + 1) of each head of queries and keys as (i, i + half), or back; scores are sums over pairs, in whatever order.
fn reordered(qkv: &Tensor, shape: HeadShape, apart: bool) -> Result<Tensor, Error> {
    let (n, turned, half) = (qkv.dim(0)?, shape.queries() + shape.keys(), shape.width / 2);
    let (outer, inner) = if apart { (half, 2) } else { (2, half) };
    let heads = qkv.narrow(1, 0, turned)?.contiguous()?.reshape((n, shape.heads + shape.kv_heads, outer, inner))?;
    let heads = heads.transpose(2, 3)?.contiguous()?.reshape((n, turned))?;
    Ok(Tensor::cat(&[heads, qkv.narrow(1, turned, shape.keys())?], 1)?)
}

/// Multiplies what a block adds to the residual stream by its factor.
fn scaled(decoder: &Decoder, x: Tensor) -> Result<Tensor, Error> {
    let scale = decoder.config().layer.residual_scale;
    Ok(if scale == 1.0 { x } else { (x * scale)? })
}

/// Heads (tokens, heads, width), reshaped to what the norm is over: each head, or all heads at once.
fn grouped(norm: &Norm, heads: &Tensor) -> Result<Tensor, Error> {
    Ok(heads.reshape((heads.dim(0)?, (), norm.weight.stored().elem_count()))?)
}

/// dL/dx from `upstream`, dL/dy, both (tokens, H) in f32, and the trainables' gradients.
pub(super) fn backward(
    ops: &LeafOps,
    decoder: &Decoder,
    modules: &LayerModules,
    part: &Part,
    mode: Mode,
    (x, kept): (&Tensor, Option<&CountedActivations>),
    upstream: &Tensor,
) -> Result<(Tensor, Vec<(Slot, Tensor)>), Error> {
    let layer = &decoder.layers()[modules.index];
    let (shape, dtype) = (shape(decoder, layer, part), decoder.dtype());
    let made;
    let activations = if let Some(kept) = kept {
        &kept.activations
    } else {
        made = forward(ops, decoder, modules, part, mode, x)?.1;
        &made
    };
    let mut grads = Vec::new();
    let activation = decoder.config().layer.activation;
    let before_mlp = layer.before_mlp(decoder.config().layer.shared_norm);
    let shared = decoder.config().layer.shared_norm;
    let mlp_group = if shared { ModuleGroup::Qkv } else { ModuleGroup::GateUp };
    let input = |before: Option<&Norm>, x: &Tensor| match before {
        Some(before) => norm::forward(ops, before, x, dtype),
        None => Ok(x.to_dtype(dtype)?),
    };
    let back = |i: usize, x: &Tensor, dy: &Tensor, grads: &mut Vec<(Slot, Tensor)>| {
        let position = (modules.index, GROUPS[i]);
        modules.fused(layer, i).backward(ops, part, mode, position, (x, activations.low[i].as_ref()), dy, grads)
    };
    let norm_back = |n: &Norm, group, x: &Tensor, dy: &Tensor, on: Option<&Tensor>, grads: &mut Vec<(Slot, Tensor)>| {
        let back = norm::backward(ops, n, x, dy, on)?;
        grads.extend(back.dgamma.map(|d| (Slot::Norm(modules.index, group), d)));
        grads.extend(back.dbias.map(|d| (Slot::NormBias(modules.index, group), d)));
        Ok::<_, Error>(back.dx)
    };
    // Backward of the residual connection: dL/d of the block's output before its norm.
    let residual_back =
        |after: &Option<Norm>, group, raw: Option<&Tensor>, upstream: &Tensor, grads: &mut Vec<(Slot, Tensor)>| match (
            after, raw,
        ) {
            (Some(after), Some(raw)) => {
                let upstream = scaled(decoder, upstream.clone())?;
                Ok(norm_back(after, group, raw, &upstream, None, grads)?.to_dtype(dtype)?)
            }
            _ => Ok::<_, Error>(scaled(decoder, upstream.clone())?.to_dtype(dtype)?),
        };
    // dL/d of the stream before a block: that of the block's input through its norm, plus `on` of the skip connection.
    let input_back =
        |before: Option<&Norm>, group, x: &Tensor, dh: &Tensor, on: &Tensor, grads: &mut Vec<(Slot, Tensor)>| {
            match before {
                Some(before) => norm_back(before, group, x, dh, Some(on), grads),
                None => (ops.add_f32)(on, dh),
            }
        };
    let ddown =
        residual_back(&layer.mlp_out_norm, ModuleGroup::Down, activations.down_raw.as_ref(), upstream, &mut grads)?;
    let dinner = back(3, &(ops.gated)(&activations.gate_up, activation)?, &ddown, &mut grads)?;
    drop(ddown);
    let mut dgate_up = (ops.gated_back)(&activations.gate_up, &dinner, activation)?;
    drop(dinner);
    if !decoder.config().layer.gated {
        dgate_up = dgate_up.narrow(1, 0, dgate_up.dim(1)? / 2)?.contiguous()?;
    }
    let parallel = decoder.config().layer.parallel;
    let mlp_input = if parallel { x } else { &activations.mid };
    let dh = back(2, &input(before_mlp, mlp_input)?, &dgate_up, &mut grads)?;
    drop(dgate_up);
    // In parallel the feed-forward's part does not go through attention.
    let through_mlp = input_back(before_mlp, mlp_group, mlp_input, &dh, upstream, &mut grads)?;
    let upstream = if parallel { upstream.clone() } else { through_mlp.clone() };
    drop(dh);
    let d_o =
        residual_back(&layer.attention_out_norm, ModuleGroup::Out, activations.o_raw.as_ref(), &upstream, &mut grads)?;
    let dout = back(1, &activations.out, &d_o, &mut grads)?;
    drop(d_o);
    let dturned = (ops.attend_back)(&activations.qkv, &activations.out, &activations.lse, &dout, part, shape)?;
    let mut dqkv = match layer.rope.and_then(|i| part.rope.get(i)) {
        Some((cos, sin)) => (ops.rotate)(&dturned, cos, sin, shape, true)?,
        None => dturned.clone(),
    };
    drop((dout, dturned));
    if let (Some(q), Some(k), Some(raw)) = (&layer.q_norm, &layer.k_norm, &activations.raw) {
        let [queries, keys, _] = shape.split(raw)?;
        let [dqueries, dkeys, dvalues] = shape.split(&dqkv)?;
        let mut one = |n: &Norm, group, x: &Tensor, dy: &Tensor| {
            let dx = norm_back(n, group, &grouped(n, x)?, &grouped(n, dy)?, None, &mut grads)?;
            Ok::<_, Error>(dx.to_dtype(dtype)?.reshape((part.tokens(), ()))?)
        };
        let (dqueries, dkeys) =
            (one(q, ModuleGroup::Query, &queries, &dqueries)?, one(k, ModuleGroup::Key, &keys, &dkeys)?);
        dqkv = Tensor::cat(&[dqueries, dkeys, dvalues.reshape((part.tokens(), ()))?], 1)?;
    }
    if decoder.config().layer.rope_pairs {
        dqkv = reordered(&dqkv, shape, false)?;
    }
    if decoder.config().layer.by_head {
        dqkv = regrouped(&dqkv, shape, false)?;
    }
    let before = layer.attention_norm.as_ref();
    let dh = back(0, &input(before, x)?, &dqkv, &mut grads)?;
    let dx = input_back(before, ModuleGroup::Qkv, x, &dh, &through_mlp, &mut grads)?;
    Ok((dx, grads))
}
