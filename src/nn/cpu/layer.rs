//! One decoder layer, forward and back: norm, attention, residual; norm, SwiGLU, residual.
//!
//! ```text
//! x ─ norm ─ q k v ─ (norm) ─ rotate ─ attention ─ o ─(+)─ mid ─ norm ─ gate up ─ SwiGLU ─ down ─(+)─ y
//! └──────────────────────────────────────────────────┘  └───────────────────────────────────────────┘
//! ```

use super::context::Context;
use super::gradients::Sums;
use super::linear::{self, Columns};
use super::values::values;
use crate::model::error::Error;
use crate::nn::decoder::{Decoder, Layer};
use crate::nn::norm::Norm;
use rayon::prelude::*;
use tiebreak_kernels::arena::Buffer;
use tiebreak_kernels::attention::{self, Shape};
use tiebreak_kernels::leaf;
use tiebreak_kernels::product::Onto;

/// What is kept of a layer: its input, and where there is room the rest of what its way back needs.
pub(super) struct Saved {
    pub(super) x: Buffer,
    pub(super) rest: Option<Rest>,
}

/// What the way back needs beside the input.
pub(super) struct Rest {
    /// Rotated queries and keys, and values: (heads, tokens, head_dim) each.
    q: Buffer,
    k: Buffer,
    v: Buffer,
    /// Queries and keys before their norms, where there are norms.
    raw: Option<(Buffer, Buffer)>,
    /// The attention's output, (tokens, heads·head_dim).
    out: Buffer,
    /// Log-sums of the attention's weights, (heads, tokens).
    lse: Buffer,
    /// The residual stream after attention, (tokens, H).
    mid: Buffer,
    /// `[gate | up]`, (tokens, 2·ff).
    gate_up: Buffer,
    /// x·Aᵀ of the seven modules.
    low: [Option<Buffer>; 7],
}

/// Bytes of [`Rest`] for a pass of `tokens` tokens.
pub(super) fn bytes(decoder: &Decoder, tokens: usize) -> usize {
    let c = decoder.config();
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let raw = if c.qk_norm { q + kv } else { 0 };
    let low: usize = decoder.layers().first().map_or(0, |l| {
        let all = [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down];
        all.iter().filter_map(|l| l.lora.as_ref()).map(|l| l.a.dims().first().copied().unwrap_or(0)).sum()
    });
    (2 * q + 2 * kv + raw + c.heads + c.hidden + 2 * c.ff + low) * tokens * size_of::<f32>()
}

fn shape(context: &Context<'_>) -> Shape {
    let c = context.decoder.config();
    Shape { tokens: context.layout.tokens(), heads: c.heads, kv_heads: c.kv_heads, width: c.head_dim }
}

pub(super) fn norm(context: &Context<'_>, norm: &Norm, x: &[f32]) -> Result<Buffer, Error> {
    let mut y = context.arena.take(x.len());
    leaf::rms_norm(x, &values(norm.gamma.stored())?, norm.eps as f32, &mut y);
    Ok(y)
}

/// Adds dL/dx of a norm to `dx`, and dL/dgamma to its sum where it is trained.
pub(super) fn norm_back(norm: &Norm, x: &[f32], dy: &[f32], dx: &mut [f32], sums: &mut Sums) -> Result<(), Error> {
    let dgamma = norm.gamma.trained().and_then(|var| sums.of(var));
    leaf::rms_norm_back(x, &values(norm.gamma.stored())?, norm.eps as f32, dy, dx, dgamma);
    Ok(())
}

/// (tokens, H) to (tokens, H); with `keep` also what the way back needs.
pub(super) fn forward(
    context: &Context<'_>,
    layer: &Layer,
    x: &[f32],
    keep: Option<&mut Option<Rest>>,
) -> Result<Buffer, Error> {
    let (c, n, arena) = (context.decoder.config(), context.layout.tokens(), context.arena);
    let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let stride = q_width + 2 * kv_width;
    let h = norm(context, &layer.input_norm, x)?;
    let mut qkv = arena.take(n * stride);
    let mut into =
        |module, first| linear::forward(context, module, &h, &mut qkv, Columns { stride, first }, Onto::Fresh);
    let low_q = into(&layer.q, 0)?;
    let low_k = into(&layer.k, q_width)?;
    let low_v = into(&layer.v, q_width + kv_width)?;
    drop(h);
    let tables = (context.layout.cos.as_slice(), context.layout.sin.as_slice());
    let (mut q, mut k, mut v) = (arena.take(n * q_width), arena.take(n * kv_width), arena.take(n * kv_width));
    leaf::heads_out(&qkv, stride, q_width + kv_width, c.head_dim, None, &mut v);
    let mut raw = None;
    if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
        let (mut raw_q, mut raw_k) = (arena.take(n * q_width), arena.take(n * kv_width));
        leaf::heads_out(&qkv, stride, 0, c.head_dim, None, &mut raw_q);
        leaf::heads_out(&qkv, stride, q_width, c.head_dim, None, &mut raw_k);
        turn(&norm(context, q_norm, &raw_q)?, n * c.head_dim, c.head_dim, tables, &mut q);
        turn(&norm(context, k_norm, &raw_k)?, n * c.head_dim, c.head_dim, tables, &mut k);
        raw = Some((raw_q, raw_k));
    } else {
        leaf::heads_out(&qkv, stride, 0, c.head_dim, Some(tables), &mut q);
        leaf::heads_out(&qkv, stride, q_width, c.head_dim, Some(tables), &mut k);
    }
    drop(qkv);
    let (mut apart, mut lse) = (arena.take(n * q_width), arena.take(c.heads * n));
    attention::forward(&context.layout.segments, shape(context), &q, &k, &v, &mut apart, &mut lse);
    let mut out = arena.take(n * q_width);
    leaf::heads_in(&apart, q_width, 0, c.head_dim, None, &mut out);
    drop(apart);
    let mut mid = arena.take(n * c.hidden);
    mid.copy_from_slice(x);
    let low_o = linear::forward(context, &layer.o, &out, &mut mid, Columns::all(c.hidden), Onto::Sum)?;
    let h = norm(context, &layer.ff_norm, &mid)?;
    let mut gate_up = arena.take(n * 2 * c.ff);
    let mut into = |module, first| {
        let at = Columns { stride: 2 * c.ff, first };
        linear::forward(context, module, &h, &mut gate_up, at, Onto::Fresh)
    };
    let low_gate = into(&layer.gate, 0)?;
    let low_up = into(&layer.up, c.ff)?;
    drop(h);
    let mut inner = arena.take(n * c.ff);
    leaf::swiglu(&gate_up, c.ff, &mut inner);
    let mut y = arena.take(n * c.hidden);
    y.copy_from_slice(&mid);
    let low_down = linear::forward(context, &layer.down, &inner, &mut y, Columns::all(c.hidden), Onto::Sum)?;
    if let Some(keep) = keep {
        let low = [low_q, low_k, low_v, low_o, low_gate, low_up, low_down];
        *keep = Some(Rest { q, k, v, raw, out, lse, mid, gate_up, low });
    }
    Ok(y)
}

/// Turns heads that stand alone, (heads, tokens, width), by their positions.
fn turn(x: &[f32], size: usize, width: usize, tables: (&[f32], &[f32]), y: &mut [f32]) {
    y.par_chunks_mut(size)
        .zip(x.par_chunks(size))
        .for_each(|(y, x)| leaf::heads_out(x, width, 0, width, Some(tables), y));
}

/// Turns them back.
fn turn_back(x: &[f32], size: usize, width: usize, tables: (&[f32], &[f32]), y: &mut [f32]) {
    y.par_chunks_mut(size)
        .zip(x.par_chunks(size))
        .for_each(|(y, x)| leaf::heads_in(x, width, 0, width, Some(tables), y));
}

/// The way back: `upstream` is dL/dy and becomes dL/dx; the trainables' parts go to `sums`.
pub(super) fn backward(
    context: &Context<'_>,
    layer: &Layer,
    saved: Saved,
    upstream: &mut Buffer,
    sums: &mut Sums,
) -> Result<(), Error> {
    let (c, n, arena) = (context.decoder.config(), context.layout.tokens(), context.arena);
    let (q_width, kv_width) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let stride = q_width + 2 * kv_width;
    let Saved { x, mut rest } = saved;
    if rest.is_none() {
        forward(context, layer, &x, Some(&mut rest))?;
    }
    let Some(Rest { q, k, v, raw, out, lse, mid, gate_up, low }) = rest else {
        return Err(Error::Asked("a layer's forward was not kept; this is an error of the program".into()));
    };
    let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = low;
    let all = Columns::all(c.hidden);

    let mut inner = arena.take(n * c.ff);
    leaf::swiglu(&gate_up, c.ff, &mut inner);
    let mut dinner = arena.take(n * c.ff);
    let through = (&inner[..], low_down.as_ref());
    let to = (&mut dinner[..], Onto::Fresh);
    linear::backward(context, &layer.down, through, (&*upstream, all), to, sums)?;
    drop(inner);
    let mut dboth = arena.take(n * 2 * c.ff);
    leaf::swiglu_back(&gate_up, c.ff, &dinner, &mut dboth);
    drop((gate_up, dinner));
    let h = norm(context, &layer.ff_norm, &mid)?;
    let mut dh = arena.take(n * c.hidden);
    let at = |first| Columns { stride: 2 * c.ff, first };
    let to = (&mut dh[..], Onto::Fresh);
    linear::backward(context, &layer.gate, (&h, low_gate.as_ref()), (&dboth, at(0)), to, sums)?;
    let to = (&mut dh[..], Onto::Sum);
    linear::backward(context, &layer.up, (&h, low_up.as_ref()), (&dboth, at(c.ff)), to, sums)?;
    drop((h, dboth));
    norm_back(&layer.ff_norm, &mid, &dh, upstream, sums)?;
    drop(mid);

    let mut dout = arena.take(n * q_width);
    let to = (&mut dout[..], Onto::Fresh);
    linear::backward(context, &layer.o, (&out, low_o.as_ref()), (&*upstream, all), to, sums)?;
    let (mut out_heads, mut dout_heads) = (arena.take(n * q_width), arena.take(n * q_width));
    leaf::heads_out(&out, q_width, 0, c.head_dim, None, &mut out_heads);
    leaf::heads_out(&dout, q_width, 0, c.head_dim, None, &mut dout_heads);
    drop((out, dout));
    let (mut dq, mut dk, mut dv) = (arena.take(n * q_width), arena.take(n * q_width), arena.take(n * q_width));
    let seen = attention::Seen { q: &q, k: &k, v: &v, out: &out_heads, lse: &lse, dout: &dout_heads };
    attention::backward(&context.layout.segments, shape(context), seen, &mut dq, &mut dk, &mut dv);
    drop((out_heads, dout_heads, q, k, v, lse));
    let (mut dk_all, mut dv_all) = (arena.take(n * kv_width), arena.take(n * kv_width));
    attention::fold(&dk, shape(context), &mut dk_all);
    attention::fold(&dv, shape(context), &mut dv_all);
    drop((dk, dv));
    let mut dqkv = arena.take(n * stride);
    let tables = (context.layout.cos.as_slice(), context.layout.sin.as_slice());
    leaf::heads_in(&dv_all, stride, q_width + kv_width, c.head_dim, None, &mut dqkv);
    if let (Some(q_norm), Some(k_norm), Some((raw_q, raw_k))) = (&layer.q_norm, &layer.k_norm, &raw) {
        for (d, raw, norm, first) in [(&dq, raw_q, q_norm, 0), (&dk_all, raw_k, k_norm, q_width)] {
            let mut back = arena.take(d.len());
            turn_back(d, n * c.head_dim, c.head_dim, tables, &mut back);
            let mut draw = arena.zeros(d.len());
            norm_back(norm, raw, &back, &mut draw, sums)?;
            leaf::heads_in(&draw, stride, first, c.head_dim, None, &mut dqkv);
        }
    } else {
        leaf::heads_in(&dq, stride, 0, c.head_dim, Some(tables), &mut dqkv);
        leaf::heads_in(&dk_all, stride, q_width, c.head_dim, Some(tables), &mut dqkv);
    }
    drop((dq, dk_all, dv_all));
    let h = norm(context, &layer.input_norm, &x)?;
    let parts = [(&layer.q, low_q, 0), (&layer.k, low_k, q_width), (&layer.v, low_v, q_width + kv_width)];
    for (i, (module, low, first)) in parts.iter().enumerate() {
        let onto = if i == 0 { Onto::Fresh } else { Onto::Sum };
        let at = Columns { stride, first: *first };
        linear::backward(context, module, (&h, low.as_ref()), (&dqkv, at), (&mut dh, onto), sums)?;
    }
    norm_back(&layer.input_norm, &x, &dh, upstream, sums)
}
