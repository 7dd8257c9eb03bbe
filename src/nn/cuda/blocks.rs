//! Parameters for kernels and cuBLAS: the blocks of attention over the segments, and matrix layouts.

#[cfg(feature = "cuda")]
use crate::model::error::Error;
#[cfg(feature = "cuda")]
use candle_core::{Device, Tensor};
use tiebreak_kernels::attention::AttentionSegment;

/// Queries, or keys, of a block of attention's kernels: four warps of 16.
pub(super) const ROWS: usize = 64;
/// Threads of such a block.
pub(super) const THREADS: usize = 128;
/// Keys, or queries, that a block processes at once.
const TILE: usize = 32;

/// Bytes of shared memory of attention's forward for heads of `width`: queries, a tile of keys and of values, and
/// each warp's weights, as laid out in the kernel.
pub(super) fn shared_forward(width: usize) -> usize {
    (ROWS + 2 * TILE) * (width + 8) * 2 + weights()
}

/// As [`shared_forward`] for both backward kernels, which need two of everything.
pub(super) fn shared_back(width: usize) -> usize {
    2 * (ROWS + TILE) * (width + 8) * 2 + 2 * weights()
}

fn weights() -> usize {
    ROWS * (TILE + 4) * 4
}

/// The blocks of a batch's segments for attention's kernels.
#[cfg(feature = "cuda")]
#[derive(Clone)]
pub(super) struct Blocks {
    /// (blocks, 5).
    pub(super) queries: Tensor,
    /// (blocks, 3).
    pub(super) keys: Tensor,
}

#[cfg(feature = "cuda")]
impl Blocks {
    /// Those of `segments`, on the device.
    pub(super) fn new(segments: &[AttentionSegment], device: &Device) -> Result<Self, Error> {
        let (queries, keys) = (queries(segments), keys(segments));
        let (n, k) = (queries.len(), keys.len());
        Ok(Self {
            queries: Tensor::from_vec(queries.into_flattened(), (n, 5), device)?,
            keys: Tensor::from_vec(keys.into_flattened(), (k, 3), device)?,
        })
    }
}

/// Blocks of queries: first and last query, first and last key of the prefix, first key of the own segment.
pub(super) fn queries(segments: &[AttentionSegment]) -> Vec<[u32; 5]> {
    let of = |s: &AttentionSegment| {
        let (prefix, own) = (s.prefix.clone(), s.own.clone());
        let block = move |first: usize| {
            [first, (first + ROWS).min(own.end), prefix.start, prefix.end, own.start].map(|x| x as u32)
        };
        s.own.clone().step_by(ROWS).map(block).collect::<Vec<_>>()
    };
    segments.iter().flat_map(of).collect()
}

/// Blocks of keys: first and last key, and the end of the queries that attend to them. A prefix is followed by its
/// branches, so every position from a key to that end attends to it.
pub(super) fn keys(segments: &[AttentionSegment]) -> Vec<[u32; 3]> {
    let mut out = Vec::new();
    for (i, s) in segments.iter().enumerate() {
        let branches = segments[i + 1..].iter().take_while(|b| !b.prefix.is_empty() && b.prefix == s.own);
        let until = branches.last().map_or(s.own.end, |b| b.own.end);
        out.extend(
            s.own.clone().step_by(ROWS).map(|first| [first, (first + ROWS).min(s.own.end), until].map(|x| x as u32)),
        );
    }
    out
}

/// A matrix's layout for cuBLAS, which is column-major: a row-major matrix is its transpose there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MatrixLayout {
    /// Whether it is column-major here, so that cuBLAS must transpose it.
    pub(super) transposed: bool,
    /// Leading dimension: distance from one row (transposed: column) to the next.
    pub(super) ld: usize,
}

/// The layout of a matrix of these dimensions and strides; none if neither rows nor columns are contiguous.
pub(super) fn matrix_layout(dims: &[usize], strides: &[usize]) -> Option<MatrixLayout> {
    let (&[rows, columns], &[down, along]) = (dims, strides) else { return None };
    if (along == 1 || columns == 1) && (down >= columns || rows == 1) {
        return Some(MatrixLayout { transposed: false, ld: down.max(columns) });
    }
    ((down == 1 || rows == 1) && (along >= rows || columns == 1))
        .then_some(MatrixLayout { transposed: true, ld: along.max(rows) })
}
