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
use super::norm::{norm, norm_back};
use super::shared::{self, CpuKeys, PerLayerActivations, SharedGradients, SharedInputs};
use super::values::values;
use crate::model::error::Error;
use crate::model::feed_forward::FeedForward;
use crate::model::layer_kinds::KeySource;
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
    /// Rotated queries and keys, and values: (heads, tokens, head_dim) each. Keys and values that are another layer's are empty.
    q: Buffer,
    k: Buffer,
    v: Buffer,
    /// Queries, keys and values before their norms, where there are norms.
    raw: [Option<Buffer>; 3],
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
    /// x·Aᵀ of each module's adapter, in the order of `linears`, without those of the second input.
    low: Vec<Option<Buffer>>,
    /// Those of the second input.
    per_layer: Option<PerLayerActivations>,
}

/// Bytes of [`CpuActivations`] of layer `i` for a pass of `tokens` tokens.
pub(super) fn bytes(decoder: &Decoder, i: usize, tokens: usize) -> usize {
    let linears = decoder.layers()[i].linears();
    let ranks = linears.iter().filter_map(|l| l.lora.as_ref()).map(|l| l.a.dims().first().copied().unwrap_or(0));
    kept_on_cpu(decoder.config(), i, ranks.sum()) * tokens * size_of::<f32>()
}

fn shape<'a>(context: &Context<'_>, layer: &Layer, sinks: Option<&'a [f32]>) -> AttentionShape<'a> {
    let c = context.decoder.config();
    AttentionShape {
        tokens: context.layout.tokens(),
        heads: layer.shape.heads,
        kv_heads: layer.shape.kv_heads,
        width: layer.shape.head_dim,
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

/// The columns of a layer's queries, keys and values side by side: those of its keys, of its values, and their count.
fn side_by_side(layer: &Layer) -> (usize, usize, usize) {
    let (q, kv) = (layer.shape.q_width(), layer.shape.kv_width());
    match layer.shape.keys {
        KeySource::Own => (q, q + kv, q + 2 * kv),
        KeySource::KeysAlone => (q, q, q + kv),
        KeySource::Layer(_) => (q, q, q),
    }
}

/// What a layer makes.
pub(super) struct CpuLayerOutput {
    /// The stream, (tokens, H).
    pub(super) y: Buffer,
    /// Its keys and values, where other layers read them.
    pub(super) keys: Option<CpuKeys>,
}

/// Layer `i` of the stream (tokens, H); with `save` also the activations for the backward.
pub(super) fn forward(
    context: &Context<'_>,
    i: usize,
    x: &[f32],
    shared: &SharedInputs,
    save: Option<&mut Option<CpuActivations>>,
) -> Result<CpuLayerOutput, Error> {
    let (c, n, arena) = (context.decoder.config(), context.layout.tokens(), context.arena);
    let layer = &context.decoder.layers()[i];
    let (q_width, hd, ff) = (layer.shape.q_width(), layer.shape.head_dim, layer.shape.ff);
    let (key_at, value_at, stride) = side_by_side(layer);
    let kv_width = if layer.shape.source().is_none() { layer.shape.kv_width() } else { 0 };
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
    // The heads of some columns, with norm and RoPE, and the norm's input.
    let heads = |first: usize, width: usize, norm_of: Option<&Norm>, tables: Option<(&[f32], &[f32])>| {
        let mut to = arena.take(n * width);
        let Some(norm_of) = norm_of.filter(|_| width > 0) else {
            if width > 0 {
                leaf::split_heads(&qkv, stride, first, hd, tables, &mut to);
            }
            return Ok::<_, Error>((to, None));
        };
        // The norm is over each head, or over all heads at once.
        let (mut raw, group) = (arena.take(n * width), norm_of.weight.stored().elem_count());
        leaf::split_heads(&qkv, stride, first, group, None, &mut raw);
        rotate(&norm(context, norm_of, &raw)?, n, (group, hd), tables, &mut to);
        Ok((to, Some(raw)))
    };
    let (q, raw_q) = heads(0, q_width, layer.q_norm.as_ref(), tables)?;
    let (k, raw_k) = heads(key_at, kv_width, layer.k_norm.as_ref(), tables)?;
    let (v, raw_v) = heads(value_at, kv_width, layer.value_norm.as_ref(), None)?;
    drop(qkv);
    let (mut apart, mut lse) = (arena.take(n * q_width), arena.take(layer.shape.heads * n));
    let (keys, values) = attended(layer, shared, (&k, &v))?;
    let sinks = sinks(layer)?;
    let shape = shape(context, layer, sinks.as_deref());
    attention::forward(&context.layout.segments, shape, &q, keys, values, &mut apart, &mut lse);
    let mut out = arena.take(n * q_width);
    leaf::merge_heads(&apart, q_width, 0, hd, None, &mut out);
    drop(apart);
    let (mid, low_o, o_raw) = residual(context, &layer.o, layer.attention_out_norm.as_ref(), &out, x)?;
    let before = layer.before_mlp(c.layer.shared_norm);
    let h = BlockInput::new(context, before, if c.layer.parallel { x } else { &mid })?;
    low.push(low_o);
    let (y, gate_up, down_raw) = match (&layer.mlp, &c.layer.experts) {
        (FeedForward::Dense(mlp), _) => {
            let mut gate_up = arena.take(n * 2 * ff);
            if !c.layer.gated {
                // Without a gate the activation multiplies 1.
                gate_up.fill(1.0);
            }
            for (module, first) in columns(&mlp.gate_up) {
                let at = Columns { stride: 2 * ff, first };
                low.push(linear::forward(context, module, &h, &mut gate_up, at, WriteMode::Overwrite)?);
            }
            drop(h);
            let mut inner = arena.take(n * ff);
            gate::gated(c.layer.activation, &gate_up, ff, &mut inner);
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
    let (y, per_layer) = shared::close(context, i, layer, shared, y)?;
    let keys = layer.shape.kept.then(|| (copied(context, &k), copied(context, &v)));
    if let Some(save) = save {
        let raw = [raw_q, raw_k, raw_v];
        *save = Some(CpuActivations { q, k, v, raw, out, lse, o_raw, down_raw, mid, gate_up, low, per_layer });
    }
    Ok(CpuLayerOutput { y, keys })
}

fn copied(context: &Context<'_>, x: &[f32]) -> Buffer {
    let mut y = context.arena.take(x.len());
    y.copy_from_slice(x);
    y
}

/// The keys and values that the layer attends to: its own, or another's.
fn attended<'a>(
    layer: &Layer,
    shared: &'a SharedInputs,
    own: (&'a [f32], &'a [f32]),
) -> Result<(&'a [f32], &'a [f32]), Error> {
    if layer.shape.source().is_none() {
        return Ok(own);
    }
    let (k, v) = shared.keys(layer).ok_or_else(|| Error::Invalid("shared keys are missing; this is a bug".into()))?;
    Ok((k, v))
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

/// Backward of layer `i`: `upstream` is dL/dy and becomes dL/dx; gradients of trainable parameters are added to `grads`, those of
/// what other layers read too to `dshared`.
pub(super) fn backward(
    context: &Context<'_>,
    i: usize,
    saved: CpuSavedLayer,
    shared: &SharedInputs,
    (upstream, dshared): (&mut Buffer, &mut SharedGradients),
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    let (c, n, arena) = (context.decoder.config(), context.layout.tokens(), context.arena);
    let layer = &context.decoder.layers()[i];
    let (q_width, kv_width) = (layer.shape.q_width(), layer.shape.kv_width());
    let (hd, ff) = (layer.shape.head_dim, layer.shape.ff);
    let CpuSavedLayer { x, mut activations } = saved;
    if activations.is_none() {
        forward(context, i, &x, shared, Some(&mut activations))?;
    }
    let Some(activations) = activations else {
        return Err(Error::Invalid("a layer's activations were not saved; this is a bug".into()));
    };
    let CpuActivations { q, k, v, raw, out, lse, o_raw, down_raw, mid, gate_up, low, per_layer } = activations;
    shared::close_back(context, i, layer, per_layer, (upstream, dshared), grads)?;
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
            let mut inner = arena.take(n * ff);
            gate::gated(activation, &gate_up, ff, &mut inner);
            let mut dinner = arena.take(n * ff);
            let through = (&inner[..], low_down.as_ref());
            let to = (&mut dinner[..], WriteMode::Overwrite);
            linear::backward(context, &mlp.down, through, (ddown.as_deref().unwrap_or(upstream), all), to, grads)?;
            drop((inner, ddown));
            let mut dboth = arena.take(n * 2 * ff);
            gate::gated_back(activation, &gate_up, ff, &dinner, &mut dboth);
            drop((gate_up, dinner));
            input_gradient(context, &mlp.gate_up, (&h, &low_gate_up), (&dboth, 2 * ff), &mut dh, grads)?;
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
    leaf::split_heads(&out, q_width, 0, hd, None, &mut out_heads);
    leaf::split_heads(&dout, q_width, 0, hd, None, &mut dout_heads);
    drop((out, dout));
    let (mut dq, mut dk, mut dv) = (arena.take(n * q_width), arena.take(n * q_width), arena.take(n * q_width));
    let (keys, values) = attended(layer, shared, (&k, &v))?;
    let inputs = attention::BackwardInputs { q: &q, k: keys, v: values, out: &out_heads, lse: &lse, dout: &dout_heads };
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
    if let Some((more_k, more_v)) = dshared.take_keys(i) {
        leaf::add(&mut dk_all, &more_k);
        leaf::add(&mut dv_all, &more_v);
    }
    let (key_at, value_at, stride) = side_by_side(layer);
    let mut dqkv = arena.take(n * stride);
    let tables = tables(context, layer);
    let [raw_q, raw_k, raw_v] = raw;
    // Backward of a part's RoPE and norm, into its columns.
    let mut part = |d: &Buffer, through: Option<(&Norm, &Buffer)>, first: usize, tables, dqkv: &mut Buffer| {
        let Some((norm, raw)) = through else {
            leaf::merge_heads(d, stride, first, hd, tables, dqkv);
            return Ok::<_, Error>(());
        };
        let group = norm.weight.stored().elem_count();
        let mut back = arena.take(d.len());
        rotate_back(d, n, (group, hd), tables, &mut back);
        let mut draw = arena.zeros(d.len());
        norm_back(norm, raw, &back, &mut draw, grads)?;
        leaf::merge_heads(&draw, stride, first, group, None, dqkv);
        Ok(())
    };
    part(&dq, layer.q_norm.as_ref().zip(raw_q.as_ref()), 0, tables, &mut dqkv)?;
    let of_values = layer.value_norm.as_ref().zip(raw_v.as_ref());
    match layer.shape.keys {
        KeySource::Layer(_) => dshared.add_keys(layer, (dk_all, dv_all)),
        source => {
            part(&dk_all, layer.k_norm.as_ref().zip(raw_k.as_ref()), key_at, tables, &mut dqkv)?;
            if source == KeySource::Own {
                part(&dv_all, of_values, value_at, None, &mut dqkv)?;
            } else {
                // The keys' columns are the values' too.
                let mut beside = arena.zeros(dqkv.len());
                part(&dv_all, of_values, value_at, None, &mut beside)?;
                leaf::add(&mut dqkv, &beside);
            }
        }
    }
    drop(dq);
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
