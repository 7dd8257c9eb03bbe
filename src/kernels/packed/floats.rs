//! Tiles of floats: their layout and their products.

use super::TILE;
use crate::lanes::simd;
use rayon::prelude::*;

/// Partial sums per output, over interleaved inputs; they hide the latency of an addition.
const SPLIT: usize = 4;

/// Rows (out, width) by tile, `[input][output]`; outputs beyond the last are zero.
pub(super) fn tiled<T: Copy + Default + Send + Sync>(
    rows: &[f32],
    out: usize,
    width: usize,
    cell: impl Fn(f32) -> T + Sync,
) -> Vec<T> {
    let mut cells = vec![T::default(); out.div_ceil(TILE) * TILE * width];
    if width == 0 {
        return cells;
    }
    cells.par_chunks_mut(TILE * width).enumerate().for_each(|(t, cells)| {
        for (lane, row) in rows[t * TILE * width..].chunks_exact(width).take(TILE).enumerate() {
            for (cell_of, x) in cells.iter_mut().skip(lane).step_by(TILE).zip(row) {
                *cell_of = cell(*x);
            }
        }
    });
    cells
}

/// N rows x (N, width) with one tile to y (N, [`TILE`]).
#[inline(always)]
fn product<const N: usize, T: Copy>(cells: &[T], x: &[f32], y: &mut [f32], float: impl Fn(T) -> f32) {
    let width = x.len() / N;
    let mut rows = [x; N];
    for (n, row) in rows.iter_mut().enumerate() {
        *row = &x[n * width..(n + 1) * width];
    }
    let mut sums = [[[0f32; TILE]; SPLIT]; N];
    let (steps, rest) = cells.as_chunks::<TILE>().0.as_chunks::<SPLIT>();
    for (i, step) in steps.iter().enumerate() {
        for s in 0..SPLIT {
            for n in 0..N {
                let x = rows[n][i * SPLIT + s];
                for lane in 0..TILE {
                    sums[n][s][lane] = float(step[s][lane]).mul_add(x, sums[n][s][lane]);
                }
            }
        }
    }
    for (s, cells) in rest.iter().enumerate() {
        for n in 0..N {
            for lane in 0..TILE {
                sums[n][s][lane] = float(cells[lane]).mul_add(rows[n][steps.len() * SPLIT + s], sums[n][s][lane]);
            }
        }
    }
    for (y, s) in y.as_chunks_mut::<TILE>().0.iter_mut().zip(&sums) {
        for lane in 0..TILE {
            y[lane] = (s[0][lane] + s[1][lane]) + (s[2][lane] + s[3][lane]);
        }
    }
}

#[inline(always)]
fn all<T: Copy>(cells: &[T], x: &[f32], width: usize, y: &mut [f32], float: impl Fn(T) -> f32 + Copy) {
    let (mut x, mut y) = (x, y);
    while !x.is_empty() {
        let n = (x.len() / width).min(3);
        let (here, rest) = x.split_at(n * width);
        let (into, left) = y.split_at_mut(n * TILE);
        match n {
            1 => product::<1, T>(cells, here, into, float),
            2 => product::<2, T>(cells, here, into, float),
            _ => product::<3, T>(cells, here, into, float),
        }
        (x, y) = (rest, left);
    }
}

simd! {
    /// Rows x (n, width) with a tile of f32 to y (n, [`TILE`]).
    pub(super) fn full(cells: &[f32], x: &[f32], width: usize, y: &mut [f32]) {
        all(cells, x, width, y, |w| w);
    }

    /// Rows x (n, width) with a tile of bf16 to y (n, [`TILE`]).
    pub(super) fn half(cells: &[u16], x: &[f32], width: usize, y: &mut [f32]) {
        all(cells, x, width, y, |w| f32::from_bits(u32::from(w) << 16));
    }
}
