//! One decoder layer, forward and backward: attention and a gated feed-forward, each with its residual, and norms before or after
//! them as the model's `LayerSpec` says.
//!
//! ```text
//! x ─ (norm) ─ q k v ─ (norm) ─ rotate ─ attention ─ o ─ (norm) ─(+)─ mid ─ (norm) ─ gate up ─ act ─ down ─ (norm) ─(+)─ y
//! └──────────────────────────────────────────────────────────────┘  └──────────────────────────────────────────────────┘
//! ```

use super::context::Context;
use super::experts;
use super::gradients::CpuGradients;
use super::linear::{self, Columns};
use super::values::values;
use crate::model::error::Error;
use crate::model::feed_forward::FeedForward;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::linear::Linear;
use crate::nn::memory::kept_on_cpu;
use crate::nn::norm::Norm;
use rayon::prelude::*;
use std::ops::Deref;
use tiebreak_kernels::arena::Buffer;
use tiebreak_kernels::attention::{self, AttentionShape};
use tiebreak_kernels::gate;
use tiebreak_kernels::leaf;
use tiebreak_kernels::product::WriteMode;

/// What the forward saves of a layer: its input, and its activations if the memory budget allows.
pub(super) struct CpuSavedLayer {
    pub(super) x: Buffer,
    pub(super) activations: Option<CpuActivations>,
}

/// A layer's activations that the backward reads, besides the input.
pub(super) struct CpuActivations {
    /// Rotated queries and keys, and values: (heads, tokens, head_dim) each.
    q: Buffer,
    k: Buffer,
    v: Buffer,
    /// Queries and keys before their norms, where there are norms.
    raw: Option<(Buffer, Buffer)>,
    /// The attention's output, (tokens, heads·head_dim).
    out: Buffer,
    /// Log-sum-exp of each query's attention scores, (heads, tokens).
    lse: Buffer,
    /// Inputs of the norms after attention and after the feed-forward, (tokens, H).
    o_raw: Option<Buffer>,
    down_raw: Option<Buffer>,
    /// The residual stream after attention, (tokens, H).
    mid: Buffer,
    /// `[gate | up]`, (tokens, 2·ff).
    gate_up: Buffer,
    /// x·Aᵀ of each module's adapter, in the order of `linears`.
    low: Vec<Option<Buffer>>,
}

/// Bytes of [`CpuActivations`] for a pass of `tokens` tokens.
pub(super) fn bytes(decoder: &Decoder, tokens: usize) -> usize {
    let low: usize = decoder.layers().first().map_or(0, |l| {
        l.linears().iter().filter_map(|l| l.lora.as_ref()).map(|l| l.a.dims().first().copied().unwrap_or(0)).sum()
    });
    kept_on_cpu(decoder.config(), low) * tokens * size_of::<f32>()
}

fn shape<'a>(context: &Context<'_>, layer: &Layer, sinks: Option<&'a [f32]>) -> AttentionShape<'a> {
    let c = context.decoder.config();
    AttentionShape {
        tokens: context.layout.tokens(),
        heads: c.heads,
        kv_heads: c.kv_heads,
        width: c.head_dim,
        scale: c.attention_scale() as f32,
        cap: c.layer.attention_cap.map(|cap| cap as f32),
        window: layer.window,
        sinks,
    }
}

/// The values of the layer's sinks, (heads).
fn sinks(layer: &Layer) -> Result<Option<impl Deref<Target = [f32]> + '_>, Error> {
    layer.sinks.as_ref().map(|sinks| values(sinks.weight.stored())).transpose()
}

/// Modules that read one input write their outputs side by side: each with its first column.
fn columns(modules: &[Linear]) -> impl Iterator<Item = (&Linear, usize)> {
    modules.iter().scan(0, |first, module| {
        let at = *first;
        *first += module.weight.stored().dims().first().copied().unwrap_or(0);
        Some((module, at))
    })
}

pub(super) fn norm(context: &Context<'_>, norm: &Norm, x: &[f32]) -> Result<Buffer, Error> {
    let mut y = context.arena.take(x.len());
    let (gamma, eps) = (norm.gamma()?, norm.eps as f32);
    let gamma = values(&gamma)?;
    if !norm.centred {
        leaf::rms_norm(x, &gamma, eps, &mut y);
        return Ok(y);
    }
    let mut centred = context.arena.take(x.len());
    centred.copy_from_slice(x);
    leaf::centre(&mut centred, gamma.len());
    leaf::rms_norm(&centred, &gamma, eps, &mut y);
    if let Some(bias) = &norm.bias {
        leaf::add_bias(&mut y, gamma.len(), 0, &values(bias.stored())?);
    }
    Ok(y)
}

/// Adds dL/dx of a norm to `dx`, and dL/d of its weight and bias to the gradients if they are trained.
pub(super) fn norm_back(
    norm: &Norm,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let (gamma, eps) = (norm.gamma()?, norm.eps as f32);
    let gamma = values(&gamma)?;
    if let Some(sum) = norm.bias.as_ref().and_then(|b| b.trained()).and_then(|var| grads.of(var)) {
        for dy in dy.chunks_exact(gamma.len()) {
            leaf::add(sum, dy);
        }
    }
    let dgamma = norm.weight.trained().and_then(|var| grads.of(var));
    if !norm.centred {
        leaf::rms_norm_back(x, &gamma, eps, dy, dx, dgamma);
        return Ok(());
    }
    let (mut centred, mut back) = (x.to_vec(), vec![0.0; x.len()]);
    leaf::centre(&mut centred, gamma.len());
    leaf::rms_norm_back(&centred, &gamma, eps, dy, &mut back, dgamma);
    leaf::centre(&mut back, gamma.len());
    leaf::add(dx, &back);
    Ok(())
}

/// The input of a block: norm(x), or x itself without a norm before the block.
enum BlockInput<'a> {
    Normed(Buffer),
    Plain(&'a [f32]),
}

impl Deref for BlockInput<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Normed(x) => x,
            Self::Plain(x) => x,
        }
    }
}

impl<'a> BlockInput<'a> {
    fn new(context: &Context<'_>, before: Option<&Norm>, x: &'a [f32]) -> Result<Self, Error> {
        before.map_or(Ok(Self::Plain(x)), |n| norm(context, n, x).map(Self::Normed))
    }
}

/// Backward of [`BlockInput`]: adds dL/dx to `dx`.
fn input_back(
    before: Option<&Norm>,
    x: &[f32],
    dh: &[f32],
    dx: &mut [f32],
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    if let Some(norm) = before {
        return norm_back(norm, x, dh, dx, grads);
    }
    leaf::add(dx, dh);
    Ok(())
}

/// The residual connection `x + scale·module(input)`, with the norm after the block if there is one.
/// Returns the new residual stream, the adapter's x·Aᵀ, and the norm's input.
fn residual(
    context: &Context<'_>,
    module: &Linear,
    after: Option<&Norm>,
    input: &[f32],
    x: &[f32],
) -> Result<(Buffer, Option<Buffer>, Option<Buffer>), Error> {
    let all = Columns::all(context.decoder.config().hidden);
    let scale = context.decoder.config().layer.residual_scale as f32;
    if after.is_none() && scale == 1.0 {
        let mut y = context.arena.take(x.len());
        y.copy_from_slice(x);
        let low = linear::forward(context, module, input, &mut y, all, WriteMode::Add)?;
        return Ok((y, low, None));
    }
    let mut raw = context.arena.take(x.len());
    let low = linear::forward(context, module, input, &mut raw, all, WriteMode::Overwrite)?;
    let (y, raw) = joined(context, after, raw, x)?;
    Ok((y, low, raw))
}

/// The residual connection `x + scale·raw`, with the norm after the block if there is one. Returns the new residual stream and the
/// norm's input.
fn joined(
    context: &Context<'_>,
    after: Option<&Norm>,
    raw: Buffer,
    x: &[f32],
) -> Result<(Buffer, Option<Buffer>), Error> {
    let scale = context.decoder.config().layer.residual_scale as f32;
    let mut y = context.arena.take(x.len());
    y.copy_from_slice(x);
    let Some(after) = after else {
        leaf::scale_add(&mut y, scale, &raw);
        return Ok((y, None));
    };
    leaf::scale_add(&mut y, scale, &norm(context, after, &raw)?);
    Ok((y, Some(raw)))
}

fn no_experts() -> Error {
    Error::Invalid("the model names no experts; this is a bug".into())
}

/// Backward of [`residual`]: dL/d of the module's output; none where it is `upstream` itself.
fn residual_back(
    context: &Context<'_>,
    after: Option<&Norm>,
    raw: Option<Buffer>,
    upstream: &[f32],
    grads: &mut CpuGradients,
) -> Result<Option<Buffer>, Error> {
    let scale = context.decoder.config().layer.residual_scale as f32;
    let mut scaled = None;
    if scale != 1.0 {
        let mut d = context.arena.zeros(upstream.len());
        leaf::scale_add(&mut d, scale, upstream);
        scaled = Some(d);
    }
    let (Some(after), Some(raw)) = (after, raw) else { return Ok(scaled) };
    let mut d = context.arena.zeros(upstream.len());
    norm_back(after, &raw, scaled.as_deref().unwrap_or(upstream), &mut d, grads)?;
    Ok(Some(d))
}

/// (tokens, H) to (tokens, H); with `save` also the activations for the backward.
pub(super) fn forward(
    context: &Context<'_>,
    layer: &Layer,
    x: &[f32],
    save: Option<&mut Option<CpuActivations>>,
) -> Result<Buffer, Error> {
    let (c, n, arena) = (context.decoder.config(), context.layout.tokens(), context.arena);
    let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let stride = q_width + 2 * kv_width;
    let h = BlockInput::new(context, layer.attention_norm.as_ref(), x)?;
    let mut qkv = arena.take(n * stride);
    let mut low = Vec::new();
    for (module, first) in columns(&layer.qkv) {
        let at = Columns { stride, first };
        low.push(linear::forward(context, module, &h, &mut qkv, at, WriteMode::Overwrite)?);
    }
    drop(h);
    if c.layer.by_head {
        qkv = regrouped(context, &qkv, (c.heads, 3));
    }
    if c.layer.rope_pairs {
        reorder_pairs(context, &mut qkv, true);
    }
    let tables = tables(context, layer);
    let (mut q, mut k, mut v) = (arena.take(n * q_width), arena.take(n * kv_width), arena.take(n * kv_width));
    leaf::split_heads(&qkv, stride, q_width + kv_width, c.head_dim, None, &mut v);
    let mut raw = None;
    if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
        let (mut raw_q, mut raw_k) = (arena.take(n * q_width), arena.take(n * kv_width));
        for (norm_of, raw, first, to) in [(q_norm, &mut raw_q, 0, &mut q), (k_norm, &mut raw_k, q_width, &mut k)] {
            // The norm is over each head, or over all heads at once.
            let width = norm_of.weight.stored().elem_count();
            leaf::split_heads(&qkv, stride, first, width, None, raw);
            rotate(&norm(context, norm_of, raw)?, n, (width, c.head_dim), tables, to);
        }
        raw = Some((raw_q, raw_k));
    } else {
        leaf::split_heads(&qkv, stride, 0, c.head_dim, tables, &mut q);
        leaf::split_heads(&qkv, stride, q_width, c.head_dim, tables, &mut k);
    }
    drop(qkv);
    let (mut apart, mut lse) = (arena.take(n * q_width), arena.take(c.heads * n));
    let sinks = sinks(layer)?;
    attention::forward(
        &context.layout.segments,
        shape(context, layer, sinks.as_deref()),
        &q,
        &k,
        &v,
        &mut apart,
        &mut lse,
    );
    let mut out = arena.take(n * q_width);
    leaf::merge_heads(&apart, q_width, 0, c.head_dim, None, &mut out);
    drop(apart);
    let (mid, low_o, o_raw) = residual(context, &layer.o, layer.attention_out_norm.as_ref(), &out, x)?;
    let before = layer.before_mlp(c.layer.shared_norm);
    let h = BlockInput::new(context, before, if c.layer.parallel { x } else { &mid })?;
    low.push(low_o);
    let (y, gate_up, down_raw) = match (&layer.mlp, &c.layer.experts) {
        (FeedForward::Dense(mlp), _) => {
            let mut gate_up = arena.take(n * 2 * c.ff);
            if !c.layer.gated {
                // Without a gate the activation multiplies 1.
                gate_up.fill(1.0);
            }
            for (module, first) in columns(&mlp.gate_up) {
                let at = Columns { stride: 2 * c.ff, first };
                low.push(linear::forward(context, module, &h, &mut gate_up, at, WriteMode::Overwrite)?);
            }
            drop(h);
            let mut inner = arena.take(n * c.ff);
            gate::gated(c.layer.activation, &gate_up, c.ff, &mut inner);
            let after = layer.mlp_out_norm.as_ref();
            let (y, low_down, down_raw) = residual(context, &mlp.down, after, &inner, &mid)?;
            low.push(low_down);
            (y, gate_up, down_raw)
        }
        (FeedForward::Experts(all), Some(spec)) => {
            let more = experts::forward(context, all, spec, &h)?;
            let (y, down_raw) = joined(context, layer.mlp_out_norm.as_ref(), more, &mid)?;
            // The backward recomputes experts.
            (y, arena.take(0), down_raw)
        }
        (FeedForward::Experts(_), None) => return Err(no_experts()),
    };
    if let Some(save) = save {
        *save = Some(CpuActivations { q, k, v, raw, out, lse, o_raw, down_raw, mid, gate_up, low });
    }
    Ok(y)
}

/// RoPE cosines and sines of the tokens' positions; none if the layer has no RoPE.
fn tables<'a>(context: &Context<'a>, layer: &Layer) -> Option<(&'a [f32], &'a [f32])> {
    let (cos, sin) = context.layout.rope.get(layer.rope?)?;
    Some((cos, sin))
}

/// Applies RoPE to groups of heads, (groups, tokens, width), where heads have `head` numbers.
fn rotate(x: &[f32], n: usize, (width, head): (usize, usize), tables: Option<(&[f32], &[f32])>, y: &mut [f32]) {
    y.par_chunks_mut(n * width)
        .zip(x.par_chunks(n * width))
        .for_each(|(y, x)| leaf::split_heads(x, width, 0, head, tables, y));
}

/// Backward of [`rotate`].
fn rotate_back(x: &[f32], n: usize, (width, head): (usize, usize), tables: Option<(&[f32], &[f32])>, y: &mut [f32]) {
    y.par_chunks_mut(n * width)
        .zip(x.par_chunks(n * width))
        .for_each(|(y, x)| leaf::merge_heads(x, width, 0, head, tables, y));
}

/// Backward: `upstream` is dL/dy and becomes dL/dx; gradients of trainable parameters are added to `grads`.
pub(super) fn backward(
    context: &Context<'_>,
    layer: &Layer,
    saved: CpuSavedLayer,
    upstream: &mut Buffer,
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let (c, n, arena) = (context.decoder.config(), context.layout.tokens(), context.arena);
    let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let stride = q_width + 2 * kv_width;
    let CpuSavedLayer { x, mut activations } = saved;
    if activations.is_none() {
        forward(context, layer, &x, Some(&mut activations))?;
    }
    let Some(CpuActivations { q, k, v, raw, out, lse, o_raw, down_raw, mid, gate_up, low }) = activations else {
        return Err(Error::Invalid("a layer's activations were not saved; this is a bug".into()));
    };
    let mut low = low.into_iter();
    let low_qkv: Vec<_> = low.by_ref().take(layer.qkv.len()).collect();
    let low_o = low.next().flatten();
    let all = Columns::all(c.hidden);

    let activation = c.layer.activation;
    let ddown = residual_back(context, layer.mlp_out_norm.as_ref(), down_raw, upstream, grads)?;
    let mlp_input = if c.layer.parallel { &x } else { &mid };
    let before = layer.before_mlp(c.layer.shared_norm);
    let h = BlockInput::new(context, before, mlp_input)?;
    let mut dh = arena.take(n * c.hidden);
    match (&layer.mlp, &c.layer.experts) {
        (FeedForward::Dense(mlp), _) => {
            let low_gate_up: Vec<_> = low.by_ref().take(mlp.gate_up.len()).collect();
            let low_down = low.next().flatten();
            let mut inner = arena.take(n * c.ff);
            gate::gated(activation, &gate_up, c.ff, &mut inner);
            let mut dinner = arena.take(n * c.ff);
            let through = (&inner[..], low_down.as_ref());
            let to = (&mut dinner[..], WriteMode::Overwrite);
            linear::backward(context, &mlp.down, through, (ddown.as_deref().unwrap_or(upstream), all), to, grads)?;
            drop((inner, ddown));
            let mut dboth = arena.take(n * 2 * c.ff);
            gate::gated_back(activation, &gate_up, c.ff, &dinner, &mut dboth);
            drop((gate_up, dinner));
            input_gradient(context, &mlp.gate_up, (&h, &low_gate_up), (&dboth, 2 * c.ff), &mut dh, grads)?;
        }
        (FeedForward::Experts(all), Some(spec)) => {
            let upstream = ddown.as_deref().unwrap_or(upstream);
            experts::backward(context, all, spec, (&h, upstream), &mut dh, grads)?;
        }
        (FeedForward::Experts(_), None) => return Err(no_experts()),
    }
    drop(h);
    // In parallel the feed-forward's part does not go through attention.
    let mut beside = if c.layer.parallel { Some(arena.zeros(n * c.hidden)) } else { None };
    let to: &mut [f32] = match &mut beside {
        Some(beside) => beside,
        None => upstream,
    };
    input_back(before, mlp_input, &dh, to, grads)?;
    drop(mid);

    let d_o = residual_back(context, layer.attention_out_norm.as_ref(), o_raw, upstream, grads)?;
    let mut dout = arena.take(n * q_width);
    let to = (&mut dout[..], WriteMode::Overwrite);
    linear::backward(context, &layer.o, (&out, low_o.as_ref()), (d_o.as_deref().unwrap_or(upstream), all), to, grads)?;
    drop(d_o);
    let (mut out_heads, mut dout_heads) = (arena.take(n * q_width), arena.take(n * q_width));
    leaf::split_heads(&out, q_width, 0, c.head_dim, None, &mut out_heads);
    leaf::split_heads(&dout, q_width, 0, c.head_dim, None, &mut dout_heads);
    drop((out, dout));
    let (mut dq, mut dk, mut dv) = (arena.take(n * q_width), arena.take(n * q_width), arena.take(n * q_width));
    let inputs = attention::BackwardInputs { q: &q, k: &k, v: &v, out: &out_heads, lse: &lse, dout: &dout_heads };
    let sinks = sinks(layer)?;
    let shape = shape(context, layer, sinks.as_deref());
    attention::backward(&context.layout.segments, shape, inputs, &mut dq, &mut dk, &mut dv);
    let trained = layer.sinks.as_ref().and_then(|sinks| sinks.weight.trained());
    if let Some(dsinks) = trained.and_then(|var| grads.of(var)) {
        attention::sinks_backward(&context.layout.segments, shape, inputs, dsinks);
    }
    drop((out_heads, dout_heads, q, k, v, lse));
    let (mut dk_all, mut dv_all) = (arena.take(n * kv_width), arena.take(n * kv_width));
    attention::fold(&dk, shape, &mut dk_all);
    attention::fold(&dv, shape, &mut dv_all);
    drop((dk, dv));
    let mut dqkv = arena.take(n * stride);
    let tables = tables(context, layer);
    leaf::merge_heads(&dv_all, stride, q_width + kv_width, c.head_dim, None, &mut dqkv);
    if let (Some(q_norm), Some(k_norm), Some((raw_q, raw_k))) = (&layer.q_norm, &layer.k_norm, &raw) {
        for (d, raw, norm, first) in [(&dq, raw_q, q_norm, 0), (&dk_all, raw_k, k_norm, q_width)] {
            let width = norm.weight.stored().elem_count();
            let mut back = arena.take(d.len());
            rotate_back(d, n, (width, c.head_dim), tables, &mut back);
            let mut draw = arena.zeros(d.len());
            norm_back(norm, raw, &back, &mut draw, grads)?;
            leaf::merge_heads(&draw, stride, first, width, None, &mut dqkv);
        }
    } else {
        leaf::merge_heads(&dq, stride, 0, c.head_dim, tables, &mut dqkv);
        leaf::merge_heads(&dk_all, stride, q_width, c.head_dim, tables, &mut dqkv);
    }
    drop((dq, dk_all, dv_all));
    let h = BlockInput::new(context, layer.attention_norm.as_ref(), &x)?;
    if c.layer.rope_pairs {
        reorder_pairs(context, &mut dqkv, false);
    }
    if c.layer.by_head {
        dqkv = regrouped(context, &dqkv, (3, c.heads));
    }
    input_gradient(context, &layer.qkv, (&h, &low_qkv), (&dqkv, stride), &mut dh, grads)?;
    if let Some(beside) = beside {
        leaf::add(upstream, &beside);
    }
    input_back(layer.attention_norm.as_ref(), &x, &dh, upstream, grads)
}

/// Rows of (outer, inner) heads as rows of (inner, outer) heads.
fn regrouped(context: &Context<'_>, x: &[f32], (outer, inner): (usize, usize)) -> Buffer {
    let width = context.decoder.config().head_dim;
    let stride = outer * inner * width;
    let mut y = context.arena.take(x.len());
    y.par_chunks_exact_mut(stride).zip(x.par_chunks_exact(stride)).for_each(|(y, x)| {
        for (i, x) in x.chunks_exact(width).enumerate() {
            let to = (i % inner * outer + i / inner) * width;
            y[to..to + width].copy_from_slice(x);
        }
    });
    y
}

/// Moves pairs (2i, 2i + 1) of each head of queries and keys to (i, i + half), or back; scores are sums over pairs, in whatever
/// order.
fn reorder_pairs(context: &Context<'_>, qkv: &mut [f32], apart: bool) {
    let c = context.decoder.config();
    let (turned, stride, half) = (c.q_width() + c.kv_width(), c.q_width() + 2 * c.kv_width(), c.head_dim / 2);
    qkv.par_chunks_exact_mut(stride).for_each_init(
        || vec![0.0; c.head_dim],
        |old, row| {
            for head in row[..turned].chunks_exact_mut(c.head_dim) {
                old.copy_from_slice(head);
                for i in 0..half {
                    if apart {
                        (head[i], head[i + half]) = (old[2 * i], old[2 * i + 1]);
                    } else {
                        (head[2 * i], head[2 * i + 1]) = (old[i], old[i + half]);
                    }
                }
            }
        },
    );
}

/// Backward of modules that read one input: writes dL/d of the input `h` into `dh`, from their outputs' gradients side by side,
/// (tokens, stride).
fn input_gradient(
    context: &Context<'_>,
    modules: &[Linear],
    (h, low): (&[f32], &[Option<Buffer>]),
    (dy, stride): (&[f32], usize),
    dh: &mut [f32],
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    for (i, ((module, first), low)) in columns(modules).zip(low).enumerate() {
        let write = if i == 0 { WriteMode::Overwrite } else { WriteMode::Add };
        linear::backward(
            context,
            module,
            (h, low.as_ref()),
            (dy, Columns { stride, first }),
            (&mut *dh, write),
            grads,
        )?;
    }
    Ok(())
}
