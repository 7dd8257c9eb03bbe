//! What kernels and cuBLAS are told in numbers: the blocks in which attention goes over the segments, and how matrices lie.

#[cfg(feature = "cuda")]
use crate::model::error::Error;
#[cfg(feature = "cuda")]
use candle_core::{Device, Tensor};
use tiebreak_kernels::attention::AttentionSegment;

/// Queries, or keys, of a block of attention's kernels: four warps of 16.
pub(super) const ROWS: usize = 64;
/// Threads of such a block.
pub(super) const THREADS: usize = 128;
/// Keys, or queries, that a block goes over at one time.
const TILE: usize = 32;

/// Bytes of shared memory of attention's forward for heads of `width` numbers: queries, a tile of keys and of values, and
/// each warp's weights. As the kernel lays them out.
pub(super) fn shared_forward(width: usize) -> usize {
    (ROWS + 2 * TILE) * (width + 8) * 2 + weights()
}

/// As [`shared_forward`] of both kernels of the backward: two of everything.
pub(super) fn shared_back(width: usize) -> usize {
    2 * (ROWS + TILE) * (width + 8) * 2 + 2 * weights()
}

fn weights() -> usize {
    ROWS * (TILE + 4) * 4
}

/// The blocks in which attention's kernels go over the segments of a batch.
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

/// Blocks of keys: first and last key, and the place behind the last query that sees them all. What follows a prefix are its
/// branches, so that a key is seen by every place from itself to there.
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

/// How a matrix lies for cuBLAS, which stores by columns: a matrix in rows is its transpose there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MatrixLayout {
    /// Whether it lies in columns here, and is to be transposed there.
    pub(super) transposed: bool,
    /// Numbers from one row (transposed: column) to the next.
    pub(super) ld: usize,
}

/// How a matrix of these dimensions and strides lies; none where neither its rows nor its columns are in one piece.
pub(super) fn matrix_layout(dims: &[usize], strides: &[usize]) -> Option<MatrixLayout> {
    let (&[rows, columns], &[down, along]) = (dims, strides) else { return None };
    if (along == 1 || columns == 1) && (down >= columns || rows == 1) {
        return Some(MatrixLayout { transposed: false, ld: down.max(columns) });
    }
    ((down == 1 || rows == 1) && (along >= rows || columns == 1))
        .then_some(MatrixLayout { transposed: true, ld: along.max(rows) })
}
