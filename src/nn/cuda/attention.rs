//! Causal attention of segments that may share a prefix, with candle's operations, in blocks of queries: no
//! (tokens × tokens) matrix is created.
//!
//! Every query attends to the prefix of its segment and its own segment up to itself, of these to the last `window` where
//! there is one. With a soft cap the scores are `cap·tanh(s/cap)`. Query head h reads key head
//! `h / (heads / kv_heads)`: the queries that share a key head are stacked, so that keys are never copied per query head. The
//! backward recomputes each block's weights from the saved log-sum-exp (Dao 2023): with `P = exp(S − lse)` and
//! `D = rowsum(dO ⊙ O)`, `dV = Pᵀ·dO`, `dS = P ⊙ (dO·Vᵀ − D)`, `dQ = dS·K`, `dK = dSᵀ·Q`, with the scale where needed.

use super::layout::Part;
use super::leaf::HeadShape;
use crate::model::error::Error;
use candle_core::{D, DType, Device, Tensor};
use std::ops::Range;
use tiebreak_kernels::attention::AttentionSegment;

/// Queries of a block.
const BLOCK: usize = 256;

/// A block of queries of a segment.
struct Block {
    queries: Range<usize>,
    /// Keys of the prefix from the first query's window on.
    prefix: Range<usize>,
    /// Keys of the own segment from there up to the block's last query.
    own: Range<usize>,
    /// Keys of the segment that are left out.
    skipped: usize,
    /// Position of the first query in its row.
    first: usize,
    window: usize,
}

fn blocks(segment: &AttentionSegment, window: Option<usize>) -> impl Iterator<Item = Block> + '_ {
    let window = window.unwrap_or(usize::MAX);
    segment.own.clone().step_by(BLOCK).map(move |start| {
        let queries = start..(start + BLOCK).min(segment.own.end);
        let first = segment.prefix.len() + start - segment.own.start;
        let skipped = (first + 1).saturating_sub(window);
        let of_prefix = skipped.min(segment.prefix.len());
        let prefix = segment.prefix.start + of_prefix..segment.prefix.end;
        let own = segment.own.start + skipped - of_prefix..queries.end;
        Block { queries, prefix, own, skipped, first, window }
    })
}

/// Contiguous heads, (heads, tokens, width) in f32, from columns of token rows.
fn heads(x: &Tensor, rows: &Range<usize>, first: usize, heads: usize, width: usize) -> Result<Tensor, Error> {
    let x = x.narrow(0, rows.start, rows.len())?.narrow(1, first, heads * width)?.contiguous()?;
    Ok(x.reshape((rows.len(), heads, width))?.transpose(0, 1)?.contiguous()?.to_dtype(DType::F32)?)
}

/// Back to (tokens, heads·width).
fn flat(x: &Tensor) -> Result<Tensor, Error> {
    let (heads, n, width) = x.dims3()?;
    Ok(x.transpose(0, 1)?.contiguous()?.reshape((n, heads * width))?)
}

impl Block {
    /// Keys or values that the block attends to, (kv_heads, seen, width); `first` is their first column.
    fn seen(&self, qkv: &Tensor, first: usize, shape: HeadShape) -> Result<Tensor, Error> {
        let own = heads(qkv, &self.own, first, shape.kv_heads, shape.width)?;
        if self.prefix.is_empty() {
            return Ok(own);
        }
        Ok(Tensor::cat(&[heads(qkv, &self.prefix, first, shape.kv_heads, shape.width)?, own], 1)?)
    }

    /// Query heads of the block that share a key head, stacked: (kv_heads, group·queries, width) from (tokens, …).
    fn asking(&self, x: &Tensor, shape: HeadShape) -> Result<Tensor, Error> {
        Ok(heads(x, &self.queries, 0, shape.heads, shape.width)?.reshape((shape.kv_heads, (), shape.width))?)
    }

    /// 0 where a query attends to a key, −∞ where not: (queries, seen).
    fn mask(&self, device: &Device) -> Result<Tensor, Error> {
        let (rows, columns) = (self.queries.len(), self.prefix.len() + self.own.len());
        let value = |k: usize| {
            let (query, key) = (self.first + k / columns, self.skipped + k % columns);
            if key <= query && query - key < self.window { 0.0 } else { f32::NEG_INFINITY }
        };
        let all: Vec<f32> = (0..rows * columns).map(value).collect();
        Ok(Tensor::from_vec(all, (rows, columns), device)?)
    }

    /// `scale · Q·Kᵀ` with cap and mask, (kv_heads, group·queries, seen); and the cap's slope.
    fn scores(&self, q: &Tensor, k: &Tensor, shape: HeadShape) -> Result<(Tensor, Option<Tensor>), Error> {
        let mut scores = (q.matmul(&k.t()?)? * shape.scale)?;
        let mut slope = None;
        if let Some(cap) = shape.cap {
            let share = scores.affine(1.0 / cap, 0.0)?.tanh()?;
            slope = Some(share.sqr()?.affine(-1.0, 1.0)?);
            scores = (share * cap)?;
        }
        let (kv, stacked, columns) = scores.dims3()?;
        let apart = scores.reshape((kv, stacked / self.queries.len(), self.queries.len(), columns))?;
        Ok((apart.broadcast_add(&self.mask(q.device())?)?.reshape((kv, stacked, columns))?, slope))
    }
}

/// A tensor's sum over its last dimension, which stays as 1.
fn row_sum(x: &Tensor) -> Result<Tensor, Error> {
    Ok(x.sum_keepdim(D::Minus1)?)
}

/// As [`super::leaf::LeafOps::attend`].
pub(super) fn forward(qkv: &Tensor, part: &Part, shape: HeadShape) -> Result<(Tensor, Tensor), Error> {
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    for block in part.segments.iter().flat_map(|segment| blocks(segment, shape.window)) {
        let q = block.asking(qkv, shape)?;
        let k = block.seen(qkv, shape.queries(), shape)?;
        let (scores, _) = block.scores(&q, &k, shape)?;
        let top = scores.max_keepdim(D::Minus1)?;
        let e = scores.broadcast_sub(&top)?.exp()?;
        let sum = row_sum(&e)?;
        let v = block.seen(qkv, shape.queries() + shape.keys(), shape)?;
        let o = e.broadcast_div(&sum)?.matmul(&v)?;
        out.push(flat(&o.reshape((shape.heads, block.queries.len(), shape.width))?)?);
        lse.push(flat(&(top + sum.log()?)?.reshape((shape.heads, block.queries.len(), 1))?)?);
    }
    Ok((Tensor::cat(&out, 0)?.to_dtype(qkv.dtype())?, Tensor::cat(&lse, 0)?))
}

/// Adds to (kv_heads, tokens, width) at some tokens.
fn add(sum: &Tensor, more: &Tensor, at: &Range<usize>) -> Result<(), Error> {
    if at.is_empty() {
        return Ok(());
    }
    let new = (sum.narrow(1, at.start, at.len())? + more)?.contiguous()?;
    Ok(sum.slice_set(&new, 1, at.start)?)
}

/// As [`super::leaf::LeafOps::attend_back`].
pub(super) fn backward(
    qkv: &Tensor,
    out: &Tensor,
    lse: &Tensor,
    dout: &Tensor,
    part: &Part,
    shape: HeadShape,
) -> Result<Tensor, Error> {
    let zeros = || Tensor::zeros((shape.kv_heads, part.tokens(), shape.width), DType::F32, qkv.device());
    let (dk_all, dv_all, mut dq) = (zeros()?, zeros()?, Vec::new());
    for block in part.segments.iter().flat_map(|segment| blocks(segment, shape.window)) {
        let q = block.asking(qkv, shape)?;
        let k = block.seen(qkv, shape.queries(), shape)?;
        let v = block.seen(qkv, shape.queries() + shape.keys(), shape)?;
        let (o, d) = (block.asking(out, shape)?, block.asking(dout, shape)?);
        let rows = heads(lse, &block.queries, 0, shape.heads, 1)?.reshape((shape.kv_heads, (), 1))?;
        let (scores, slope) = block.scores(&q, &k, shape)?;
        let p = scores.broadcast_sub(&rows)?.exp()?;
        let dv = p.t()?.matmul(&d)?;
        let mut ds = ((d.matmul(&v.t()?)?.broadcast_sub(&row_sum(&(&d * o)?)?)? * p)? * shape.scale)?;
        if let Some(slope) = slope {
            ds = (ds * slope)?;
        }
        let one = ds.matmul(&k)?;
        dq.push(flat(&one.reshape((shape.heads, block.queries.len(), shape.width))?)?);
        let dk = ds.t()?.matmul(&q)?;
        for (sum, more) in [(&dk_all, &dk), (&dv_all, &dv)] {
            let prefix = block.prefix.len();
            add(sum, &more.narrow(1, 0, prefix)?, &block.prefix)?;
            add(sum, &more.narrow(1, prefix, block.own.len())?, &block.own)?;
        }
    }
    let all = [Tensor::cat(&dq, 0)?, flat(&dk_all)?, flat(&dv_all)?];
    Ok(Tensor::cat(&all, 1)?.to_dtype(qkv.dtype())?)
}
