//! Products of rows with one tile: the choice of instructions, and the portable integer products.

use super::input::Quantised;
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{BLOCK, Cells, Matrix, PackedInput, TILE, floats};
use std::ops::Range;

/// Rows multiplied with a quantised tile at once.
const TOGETHER: usize = 4;

/// N quantised rows.
pub(super) type QuantRows<'a, const N: usize> = [QuantRow<'a>; N];

/// The blocks of a quantised row.
#[derive(Clone, Copy)]
pub(super) struct QuantRow<'a> {
    pub(super) q: &'a [[i8; BLOCK]],
    pub(super) factor: &'a [f32],
    pub(super) whole: &'a [i32],
    pub(super) sum: &'a [f32],
}

impl<'a> QuantRow<'a> {
    fn of(x: &'a Quantised, n: usize, blocks: usize) -> Self {
        let at = n * blocks..(n + 1) * blocks;
        Self { q: &x.q[at.clone()], factor: &x.factor[at.clone()], whole: &x.whole[at.clone()], sum: &x.sum[at] }
    }
}

/// The blocks of a tile.
#[derive(Clone, Copy)]
enum Tile<'a> {
    Nibbles(&'a [[u8; 128]], &'a [[f32; 16]]),
    Centred(&'a [[u8; 128]], &'a [[f32; 8]]),
    Bytes(&'a [[i8; 256]], &'a [[f32; 8]]),
    Halved(&'a [[i8; 256]], &'a [[f32; 16]]),
}

/// `rows` of `x` with tiles `t` and `t + 1` of `m`, a pair, to y (rows, [`TILE`]) of each.
pub(super) fn products(m: &Matrix, t: usize, x: &PackedInput<'_>, rows: Range<usize>, y: [&mut [f32]; 2]) {
    let w = m.width;
    let cells = t * TILE * w..(t + 2) * TILE * w;
    let floats = &x.rows[rows.start * w..rows.end * w];
    match &m.cells {
        Cells::Floats(c) => return floats::product(&c[cells], floats, w, y),
        Cells::Halves(c) => return floats::product(&c[cells], floats, w, y),
        _ => {}
    }
    let tiles = m.out.div_ceil(TILE);
    for (t, y) in (t..tiles).zip(y) {
        blocks(m, t, x, rows.clone(), y);
    }
}

/// `rows` of `x` with the quantised tile `t` of `m` to y (rows, [`TILE`]).
fn blocks(m: &Matrix, t: usize, x: &PackedInput<'_>, rows: Range<usize>, y: &mut [f32]) {
    let blocks = m.width / BLOCK;
    let (Some(tile), Some(rounding)) = (tile(m, t), m.rounding) else { return };
    let x = x.quantised(rounding);
    let row = |n: usize| QuantRow::of(x, n, blocks);
    let fast = Instructions::here();
    let (mut n, mut y) = (rows.start, y);
    while n < rows.end {
        let here = (rows.end - n).min(TOGETHER);
        let (into, left) = y.split_at_mut(here * TILE);
        match here {
            1 => some(fast, tile, [row(n)], into),
            2 => some(fast, tile, [row(n), row(n + 1)], into),
            3 => some(fast, tile, [row(n), row(n + 1), row(n + 2)], into),
            _ => some(fast, tile, [row(n), row(n + 1), row(n + 2), row(n + 3)], into),
        }
        (n, y) = (n + here, left);
    }
}

/// Tile `t` of `m`; none of floats.
fn tile(m: &Matrix, t: usize) -> Option<Tile<'_>> {
    let blocks = m.width / BLOCK;
    let at = t * blocks..(t + 1) * blocks;
    Some(match &m.cells {
        Cells::Floats(_) | Cells::Halves(_) => return None,
        Cells::Nibbles(q, s) => Tile::Nibbles(&q[at.clone()], &s[at]),
        Cells::Centred(q, s) => Tile::Centred(&q[at.clone()], &s[at]),
        Cells::Bytes(q, s) => Tile::Bytes(&q[at.clone()], &s[at]),
        Cells::Halved(q, s) => Tile::Halved(&q[at.clone()], &s[at]),
    })
}

/// The instructions of integer products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// Those of any processor.
    Any,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VNNI, on vectors of 256 bits.
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Instructions {
    /// The fastest ones of this processor.
    pub(super) fn here() -> Self {
        Self::all().last().copied().unwrap_or(Self::Any)
    }

    /// Those of this processor, the fastest last.
    pub(super) fn all() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        if super::x86::has_avx2() {
            return if super::x86::has_vnni() {
                &[Self::Any, Self::Avx2, Self::Vnni]
            } else {
                &[Self::Any, Self::Avx2]
            };
        }
        &[Self::Any]
    }
}

fn some<const N: usize>(with: Instructions, tile: Tile<'_>, rows: QuantRows<'_, N>, y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "the features were detected")]
    match (with, tile) {
        (Instructions::Any, _) => {}
        // SAFETY: `with` says that the processor has the features these functions are compiled for.
        (Instructions::Avx2, Tile::Nibbles(q, s)) => return unsafe { x86::avx2::nibbles(q, s, rows, y) },
        (Instructions::Avx2, Tile::Centred(q, s)) => return unsafe { x86::avx2::centred(q, s, rows, y) },
        (Instructions::Avx2, Tile::Bytes(q, s)) => return unsafe { x86::avx2::bytes::<N, 8, 1>(q, s, rows, y) },
        (Instructions::Avx2, Tile::Halved(q, s)) => return unsafe { x86::avx2::bytes::<N, 16, 2>(q, s, rows, y) },
        (Instructions::Vnni, Tile::Nibbles(q, s)) => return unsafe { x86::vnni::nibbles(q, s, rows, y) },
        (Instructions::Vnni, Tile::Centred(q, s)) => return unsafe { x86::vnni::centred(q, s, rows, y) },
        (Instructions::Vnni, Tile::Bytes(q, s)) => return unsafe { x86::vnni::bytes::<N, 8, 1>(q, s, rows, y) },
        (Instructions::Vnni, Tile::Halved(q, s)) => return unsafe { x86::vnni::bytes::<N, 16, 2>(q, s, rows, y) },
    }
    let _ = with;
    let nibble = |q: &[u8; 128], k: usize, lane: usize| {
        let pair = q[k % 16 / 4 * 32 + lane * 4 + k % 4];
        i32::from(if k < 16 { pair & 15 } else { pair >> 4 })
    };
    let byte = |q: &[i8; 256], k: usize, lane: usize| i32::from(q[k / 4 * 32 + lane * 4 + k % 4]);
    match tile {
        Tile::Nibbles(q, s) => {
            plain(q.len(), rows, y, |b, k, lane| (nibble(&q[b], k, lane), s[b][lane], Some(s[b][8 + lane])), 1);
        }
        Tile::Centred(q, s) => plain(q.len(), rows, y, |b, k, lane| (nibble(&q[b], k, lane) - 8, s[b][lane], None), 1),
        Tile::Bytes(q, s) => plain(q.len(), rows, y, |b, k, lane| (byte(&q[b], k, lane), s[b][lane], None), 1),
        Tile::Halved(q, s) => {
            plain(q.len(), rows, y, |b, k, lane| (byte(&q[b], k, lane), s[b][k / 16 * 8 + lane], None), 2);
        }
    }
}

/// The portable products: `cell` returns weight, factor and offset of (block, input, output), and a
/// block has `parts` factors. Same order of sums as the SIMD versions, so the results are equal.
fn plain<const N: usize>(
    blocks: usize,
    rows: QuantRows<'_, N>,
    y: &mut [f32],
    cell: impl Fn(usize, usize, usize) -> (i32, f32, Option<f32>),
    parts: usize,
) {
    for (row, y) in rows.iter().zip(y.as_chunks_mut::<TILE>().0) {
        for (lane, y) in y.iter_mut().enumerate() {
            let mut sum = 0f32;
            for b in 0..blocks {
                let span = BLOCK / parts;
                for part in 0..parts {
                    let inputs = part * span..(part + 1) * span;
                    let whole: i32 = inputs.map(|k| cell(b, k, lane).0 * i32::from(row.q[b][k])).sum();
                    let (_, factor, _) = cell(b, part * span, lane);
                    sum = (whole as f32).mul_add(factor * row.factor[b], sum);
                }
                if let Some(offset) = cell(b, 0, lane).2 {
                    sum = offset.mul_add(row.sum[b], sum);
                }
            }
            *y = sum;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The product of row `n` with tile `t` by those instructions.
    pub(in crate::packed) fn with(
        instructions: Instructions,
        m: &Matrix,
        t: usize,
        x: &PackedInput<'_>,
        n: usize,
    ) -> [f32; TILE] {
        let mut y = [0.0; TILE];
        let rows = [QuantRow::of(x.quantised(m.rounding.unwrap()), n, m.width / BLOCK)];
        some(instructions, tile(m, t).unwrap(), rows, &mut y);
        y
    }
}
