//! Tiles of floats: their layout and their products.
//!
//! Two tiles lie together, `[input][16 outputs]`: with AVX-512 a vector holds both, else each is multiplied by itself. The order
//! of sums is the same.

use super::TILE;
use rayon::prelude::*;

/// Outputs of two tiles.
pub(super) const PAIR: usize = 2 * TILE;

/// Partial sums per output, over interleaved inputs; they hide the latency of an addition.
const SPLIT: usize = 4;

/// An element of a matrix.
pub(super) trait Cell: Copy + Default + Send + Sync {
    /// It as f32.
    fn float(self) -> f32;

    /// Sixteen as f32.
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "its instructions need a feature")]
    unsafe fn vector(cells: &[Self; PAIR]) -> std::arch::x86_64::__m512;
}

/// Rows (out, width) by pairs of tiles, `[input][output]`; outputs beyond the last are zero.
pub(super) fn tiled<T: Cell>(rows: &[f32], out: usize, width: usize, cell: impl Fn(f32) -> T + Sync) -> Vec<T> {
    let mut cells = vec![T::default(); out.div_ceil(PAIR) * PAIR * width];
    if width == 0 {
        return cells;
    }
    cells.par_chunks_mut(PAIR * width).enumerate().for_each(|(t, cells)| {
        for (lane, row) in rows[t * PAIR * width..].chunks_exact(width).take(PAIR).enumerate() {
            for (cell_of, x) in cells.iter_mut().skip(lane).step_by(PAIR).zip(row) {
                *cell_of = cell(*x);
            }
        }
    });
    cells
}

/// Rows x (n, width) with a pair of tiles to y (n, [`TILE`]) of the first and of the second tile.
pub(super) fn product<T: Cell>(cells: &[T], x: &[f32], width: usize, y: [&mut [f32]; 2]) {
    #[cfg(target_arch = "x86_64")]
    {
        if crate::lanes::has_avx512() {
            #[expect(unsafe_code, reason = "the features were detected")]
            // SAFETY: the processor has the features that the function is compiled for.
            return unsafe { avx512::all(cells, x, width, y) };
        }
        if super::x86::has_avx2() {
            #[expect(unsafe_code, reason = "the features were detected")]
            // SAFETY: as above.
            return unsafe { avx2(cells, x, width, y) };
        }
    }
    plain(cells, x, width, y);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<T: Cell>(cells: &[T], x: &[f32], width: usize, y: [&mut [f32]; 2]) {
    plain(cells, x, width, y);
}

#[inline(always)]
pub(super) fn plain<T: Cell>(cells: &[T], x: &[f32], width: usize, y: [&mut [f32]; 2]) {
    for (half, y) in y.into_iter().enumerate() {
        let (mut x, mut y) = (x, y);
        while !x.is_empty() {
            let n = (x.len() / width).min(3);
            let (here, rest) = x.split_at(n * width);
            let (into, left) = y.split_at_mut(n * TILE);
            match n {
                1 => one::<1, T>(cells, half, here, into),
                2 => one::<2, T>(cells, half, here, into),
                _ => one::<3, T>(cells, half, here, into),
            }
            (x, y) = (rest, left);
        }
    }
}

/// N rows x (N, width) with the first or second tile of a pair to y (N, [`TILE`]).
#[inline(always)]
fn one<const N: usize, T: Cell>(cells: &[T], half: usize, x: &[f32], y: &mut [f32]) {
    let width = x.len() / N;
    let mut rows = [x; N];
    for (n, row) in rows.iter_mut().enumerate() {
        *row = &x[n * width..(n + 1) * width];
    }
    let mut sums = [[[0f32; TILE]; SPLIT]; N];
    let (steps, rest) = cells.as_chunks::<TILE>().0.as_chunks::<2>().0.as_chunks::<SPLIT>();
    for (i, step) in steps.iter().enumerate() {
        for s in 0..SPLIT {
            for n in 0..N {
                let x = rows[n][i * SPLIT + s];
                for lane in 0..TILE {
                    sums[n][s][lane] = step[s][half][lane].float().mul_add(x, sums[n][s][lane]);
                }
            }
        }
    }
    for (s, cells) in rest.iter().enumerate() {
        for n in 0..N {
            for lane in 0..TILE {
                sums[n][s][lane] =
                    cells[half][lane].float().mul_add(rows[n][steps.len() * SPLIT + s], sums[n][s][lane]);
            }
        }
    }
    for (y, s) in y.as_chunks_mut::<TILE>().0.iter_mut().zip(&sums) {
        for lane in 0..TILE {
            y[lane] = (s[0][lane] + s[1][lane]) + (s[2][lane] + s[3][lane]);
        }
    }
}

impl Cell for f32 {
    #[inline(always)]
    fn float(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    #[expect(unsafe_code, reason = "its instructions need a feature")]
    unsafe fn vector(cells: &[Self; PAIR]) -> std::arch::x86_64::__m512 {
        // SAFETY: 16 numbers are there; the load asks for no alignment, and the caller has AVX-512.
        unsafe { std::arch::x86_64::_mm512_loadu_ps(cells.as_ptr()) }
    }
}

/// The upper half of an f32.
impl Cell for u16 {
    #[inline(always)]
    fn float(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    #[expect(unsafe_code, reason = "its instructions need a feature")]
    unsafe fn vector(cells: &[Self; PAIR]) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::{_mm256_loadu_si256, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_slli_epi32};
        // SAFETY: 16 halves are there; the load asks for no alignment, and the caller has AVX-512.
        unsafe {
            let halves = _mm256_loadu_si256(cells.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    //! The same with AVX-512: a vector holds the outputs of both tiles.

    use super::{Cell, PAIR, SPLIT, TILE};
    use std::arch::x86_64::{
        __m512, _mm256_storeu_ps, _mm512_add_ps, _mm512_castps512_ps256, _mm512_extractf32x8_ps, _mm512_fmadd_ps,
        _mm512_set1_ps, _mm512_setzero_ps,
    };

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn all<T: Cell>(cells: &[T], x: &[f32], width: usize, [mut first, mut second]: [&mut [f32]; 2]) {
        let mut x = x;
        while !x.is_empty() {
            let n = match x.len() / width {
                n @ ..=6 => n,
                // Seven as four and three.
                7 | 8 => 4,
                _ => 6,
            };
            let (here, rest) = x.split_at(n * width);
            let (y, first_rest) = std::mem::take(&mut first).split_at_mut(n * TILE);
            let (z, second_rest) = std::mem::take(&mut second).split_at_mut(n * TILE);
            match n {
                1 => some::<1, T>(cells, here, y, z),
                2 => some::<2, T>(cells, here, y, z),
                3 => some::<3, T>(cells, here, y, z),
                4 => some::<4, T>(cells, here, y, z),
                5 => some::<5, T>(cells, here, y, z),
                _ => some::<6, T>(cells, here, y, z),
            }
            (x, first, second) = (rest, first_rest, second_rest);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    fn vector<T: Cell>(cells: &[T; PAIR]) -> __m512 {
        #[expect(unsafe_code, reason = "what is compiled for AVX-512 has it")]
        // SAFETY: this function has the features.
        unsafe {
            T::vector(cells)
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    fn some<const N: usize, T: Cell>(cells: &[T], x: &[f32], first: &mut [f32], second: &mut [f32]) {
        let width = x.len() / N;
        let (steps, rest) = cells.as_chunks::<PAIR>().0.as_chunks::<SPLIT>();
        let mut rows: [&[[f32; SPLIT]]; N] = [&[]; N];
        let mut ends: [&[f32]; N] = [&[]; N];
        for (n, row) in x.chunks_exact(width).enumerate().take(N) {
            (rows[n], ends[n]) = row.as_chunks::<SPLIT>();
        }
        let mut sums = [[_mm512_setzero_ps(); SPLIT]; N];
        for (i, step) in steps.iter().enumerate() {
            let w = [vector(&step[0]), vector(&step[1]), vector(&step[2]), vector(&step[3])];
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let x = &row[i];
                for s in 0..SPLIT {
                    sums[s] = _mm512_fmadd_ps(w[s], _mm512_set1_ps(x[s]), sums[s]);
                }
            }
        }
        for (s, cells) in rest.iter().enumerate() {
            let w = vector(cells);
            for (sums, end) in sums.iter_mut().zip(&ends) {
                sums[s] = _mm512_fmadd_ps(w, _mm512_set1_ps(end[s]), sums[s]);
            }
        }
        let into = first.as_chunks_mut::<TILE>().0.iter_mut().zip(second.as_chunks_mut::<TILE>().0);
        for ((y, z), s) in into.zip(&sums) {
            let sum = _mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3]));
            #[expect(unsafe_code, reason = "the store takes a pointer")]
            // SAFETY: there is room for 8 numbers each; the store asks for no alignment.
            unsafe {
                _mm256_storeu_ps(y.as_mut_ptr(), _mm512_castps512_ps256(sum));
                _mm256_storeu_ps(z.as_mut_ptr(), _mm512_extractf32x8_ps::<1>(sum));
            }
        }
    }
}
