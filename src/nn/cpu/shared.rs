//! What layers read besides the stream: their second input, and keys and values that several of them share; forward and backward.
//!
//! Owns the second input of the whole model and a layer's use of its part. Refuses attention: the layers attend.

use super::context::Context;
use super::embed::embed;
use super::gradients::CpuGradients;
use super::linear::{self, Columns};
use super::norm::{norm, norm_back};
use super::values::values;
use crate::model::error::Error;
use crate::model::layer::PerLayerParts;
use crate::nn::decoder::Layer;
use crate::nn::per_layer::{HALF, PerLayerInputs};
use std::collections::BTreeMap;
use tiebreak_kernels::arena::Buffer;
use tiebreak_kernels::gate;
use tiebreak_kernels::leaf;
use tiebreak_kernels::product::WriteMode;

/// A layer's keys and values after norms and RoPE, (kv_heads, tokens, head_dim) each, or their gradients.
pub(super) type CpuKeys = (Buffer, Buffer);

/// What layers read besides the stream.
#[derive(Default)]
pub(super) struct SharedInputs {
    /// The layers' second input, (tokens, layers · width).
    per_layer: Option<Buffer>,
    /// Keys and values that later layers read, by the layer that made them.
    keys: BTreeMap<usize, CpuKeys>,
}

/// Gradients of what layers read besides the stream, so far.
#[derive(Default)]
pub(super) struct SharedGradients {
    /// dL/d of the layers' second input, where its parameters are trained.
    per_layer: Option<Buffer>,
    /// dL/d of keys and values, by the layer that made them.
    keys: BTreeMap<usize, CpuKeys>,
}

/// What a layer saves of its second input.
pub(super) struct PerLayerActivations {
    /// The stream before it, (tokens, H).
    before: Buffer,
    /// `[gate | part]`, (tokens, 2·width).
    both: Buffer,
    /// The input of the norm, (tokens, H).
    raw: Buffer,
}

impl SharedInputs {
    /// The second input from the embeddings x (tokens, H).
    pub(super) fn new(context: &Context<'_>, x: &[f32]) -> Result<Self, Error> {
        let Some(inputs) = context.decoder.per_layer() else { return Ok(Self::default()) };
        let seen = projected(context, inputs, x)?;
        let mut all = norm(context, &inputs.norm, &seen)?;
        let (table, stacked) = (values(inputs.table.stored())?, stacked(context, inputs));
        let own = inputs.table_scale() as f32;
        for (id, row) in context.layout.ids.iter().zip(all.chunks_exact_mut(stacked)) {
            let of_token = &table[*id as usize * stacked..(*id as usize + 1) * stacked];
            row.iter_mut().zip(of_token).for_each(|(x, t)| *x = (*x + own * t) * HALF as f32);
        }
        Ok(Self { per_layer: Some(all), keys: BTreeMap::new() })
    }

    /// Keeps layer `i`'s keys and values where later layers read them.
    pub(super) fn keep(&mut self, i: usize, keys: Option<CpuKeys>) {
        self.keys.extend(keys.map(|keys| (i, keys)));
    }

    /// The keys and values that the layer shares with another; none where it has its own.
    pub(super) fn keys(&self, layer: &Layer) -> Option<&CpuKeys> {
        self.keys.get(&layer.shape.source()?)
    }
}

impl SharedGradients {
    /// None yet.
    pub(super) fn new(context: &Context<'_>) -> Self {
        let trained = context.decoder.per_layer().filter(|inputs| inputs.table.trained().is_some());
        let per_layer = trained.map(|inputs| context.arena.take(context.layout.tokens() * stacked(context, inputs)));
        Self { per_layer, keys: BTreeMap::new() }
    }

    /// Adds dL/d of the keys and values that the layer shares.
    pub(super) fn add_keys(&mut self, layer: &Layer, (dk, dv): CpuKeys) {
        let Some(source) = layer.shape.source() else { return };
        if let Some((k, v)) = self.keys.get_mut(&source) {
            leaf::add(k, &dk);
            leaf::add(v, &dv);
            return;
        }
        self.keys.insert(source, (dk, dv));
    }

    /// dL/d of layer `i`'s keys and values from the layers that read them.
    pub(super) fn take_keys(&mut self, i: usize) -> Option<CpuKeys> {
        self.keys.remove(&i)
    }

    /// Backward of [`SharedInputs::new`]: adds dL/d of the embeddings to `upstream`, and the gradients of the parameters.
    pub(super) fn backward(
        self,
        context: &Context<'_>,
        upstream: &mut [f32],
        grads: &mut CpuGradients,
    ) -> Result<(), Error> {
        let (Some(inputs), Some(mut d)) = (context.decoder.per_layer(), self.per_layer) else { return Ok(()) };
        scale(&mut d, HALF);
        let (stacked, own) = (stacked(context, inputs), inputs.table_scale() as f32);
        if let Some(sum) = inputs.table.trained().and_then(|var| grads.of(var)) {
            for (id, row) in context.layout.ids.iter().zip(d.chunks_exact(stacked)) {
                leaf::scale_add(&mut sum[*id as usize * stacked..(*id as usize + 1) * stacked], own, row);
            }
        }
        let x = embed(context)?;
        let seen = projected(context, inputs, &x)?;
        let mut dseen = context.arena.zeros(d.len());
        norm_back(&inputs.norm, &seen, &d, &mut dseen, grads)?;
        scale(&mut dseen, PerLayerInputs::projection_scale(context.decoder.config().hidden));
        let (from, to) = ((&dseen[..], Columns::all(stacked)), (upstream, WriteMode::Add));
        linear::backward(context, &inputs.projection, (&x, None), from, to, grads)
    }
}

/// Adds to the stream what layer `i` makes of its part of the second input, and multiplies by the layer's factor. Returns what
/// the backward needs.
pub(super) fn close(
    context: &Context<'_>,
    i: usize,
    layer: &Layer,
    shared: &SharedInputs,
    mut y: Buffer,
) -> Result<(Buffer, Option<PerLayerActivations>), Error> {
    let mut saved = None;
    if let (Some(parts), Some(inputs), Some(all)) = (&layer.per_layer, context.decoder.per_layer(), &shared.per_layer) {
        let PerLayerParts { gate, out, norm: after } = parts;
        let (width, stacked, arena) = (inputs.width, stacked(context, inputs), context.arena);
        let mut both = arena.take(context.layout.tokens() * 2 * width);
        let at = Columns { stride: 2 * width, first: 0 };
        linear::forward(context, gate, &y, &mut both, at, WriteMode::Overwrite)?;
        for (both, row) in both.chunks_exact_mut(2 * width).zip(all.chunks_exact(stacked)) {
            both[width..].copy_from_slice(&row[i * width..(i + 1) * width]);
        }
        let (inner, mut raw) = (gated(context, &both, width), arena.take(y.len()));
        let hidden = Columns::all(context.decoder.config().hidden);
        linear::forward(context, out, &inner, &mut raw, hidden, WriteMode::Overwrite)?;
        let mut next = arena.take(y.len());
        next.copy_from_slice(&y);
        leaf::add(&mut next, &norm(context, after, &raw)?);
        saved = Some(PerLayerActivations { before: std::mem::replace(&mut y, next), both, raw });
    }
    if let Some(factor) = layer.factor {
        scale(&mut y, factor);
    }
    Ok((y, saved))
}

/// Backward of [`close`]: `upstream` is dL/d of its output and becomes dL/d of its input.
pub(super) fn close_back(
    context: &Context<'_>,
    i: usize,
    layer: &Layer,
    saved: Option<PerLayerActivations>,
    (upstream, shared): (&mut [f32], &mut SharedGradients),
    grads: &mut CpuGradients,
) -> Result<(), Error> {
    if let Some(factor) = layer.factor {
        scale(upstream, factor);
    }
    let (Some(parts), Some(inputs), Some(saved)) = (&layer.per_layer, context.decoder.per_layer(), saved) else {
        return Ok(());
    };
    let PerLayerActivations { before, both, raw } = saved;
    let PerLayerParts { gate, out, norm: after } = parts;
    let (width, stacked, arena) = (inputs.width, stacked(context, inputs), context.arena);
    let dinner = {
        let mut draw = arena.zeros(raw.len());
        norm_back(after, &raw, upstream, &mut draw, grads)?;
        let (inner, mut dinner) = (gated(context, &both, width), arena.take(both.len() / 2));
        let from = (&draw[..], Columns::all(context.decoder.config().hidden));
        linear::backward(context, out, (&inner, None), from, (&mut dinner, WriteMode::Overwrite), grads)?;
        dinner
    };
    let mut dboth = arena.take(both.len());
    gate::gated_back(context.decoder.config().layer.activation, &both, width, &dinner, &mut dboth);
    if let Some(all) = &mut shared.per_layer {
        for (all, dboth) in all.chunks_exact_mut(stacked).zip(dboth.chunks_exact(2 * width)) {
            all[i * width..(i + 1) * width].copy_from_slice(&dboth[width..]);
        }
    }
    let from = (&dboth[..], Columns { stride: 2 * width, first: 0 });
    linear::backward(context, gate, (&before, None), from, (upstream, WriteMode::Add), grads)
}

/// Numbers of a token's second input.
fn stacked(context: &Context<'_>, inputs: &PerLayerInputs) -> usize {
    context.decoder.depth() * inputs.width
}

/// The projection of embeddings (tokens, H): the input of the norm.
fn projected(context: &Context<'_>, inputs: &PerLayerInputs, x: &[f32]) -> Result<Buffer, Error> {
    let stacked = stacked(context, inputs);
    let mut seen = context.arena.take(context.layout.tokens() * stacked);
    linear::forward(context, &inputs.projection, x, &mut seen, Columns::all(stacked), WriteMode::Overwrite)?;
    scale(&mut seen, PerLayerInputs::projection_scale(context.decoder.config().hidden));
    Ok(seen)
}

fn gated(context: &Context<'_>, both: &[f32], width: usize) -> Buffer {
    let mut inner = context.arena.take(both.len() / 2);
    gate::gated(context.decoder.config().layer.activation, both, width, &mut inner);
    inner
}

fn scale(x: &mut [f32], by: f64) {
    for x in x {
        *x *= by as f32;
    }
}
