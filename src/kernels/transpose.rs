//! Transposes matrices at memory speed.
//!
//! Owns the 8×8 blocks in registers. Panics on strides shorter than a row.

use rayon::prelude::*;

/// Side of a block in registers.
const SIDE: usize = 8;

/// Side of a block of 2×2 register blocks, so that whole cache lines are read and written.
const BLOCK: usize = 2 * SIDE;

/// Writes the transpose, (columns, rows), of rows that are `stride` apart.
///
/// # Panics
/// When a slice is too short.
pub fn transpose(x: &[f32], stride: usize, (rows, columns): (usize, usize), y: &mut [f32]) {
    assert!(rows > 0 && columns > 0 && stride >= columns, "a matrix has rows and columns");
    let needed = (rows - 1).checked_mul(stride).and_then(|at| at.checked_add(columns));
    let fits = needed.is_some_and(|needed| x.len() >= needed) && rows.checked_mul(columns) == Some(y.len());
    assert!(fits, "a matrix is too short");
    let avx = has_avx();
    // A thread's rows of y are columns of x: long runs of few rows of x at a time, which prefetching handles well.
    let share = columns.div_ceil(rayon::current_num_threads()).next_multiple_of(BLOCK);
    y.par_chunks_mut(share * rows).enumerate().for_each(|(i, y)| {
        let x = &x[i * share..];
        let columns = y.len() / rows;
        for start in (0..rows).step_by(BLOCK) {
            for first in (0..columns).step_by(BLOCK) {
                for r in (start..rows.min(start + BLOCK)).step_by(SIDE) {
                    for c in (first..columns.min(first + BLOCK)).step_by(SIDE) {
                        let (x, y) = (&x[r * stride + c..], &mut y[c * rows + r..]);
                        let size = (SIDE.min(rows - r), SIDE.min(columns - c));
                        square(avx && size == (SIDE, SIDE), x, stride, y, rows, size);
                    }
                }
            }
        }
    });
}

/// Whether this CPU has AVX, whose registers hold a block's row.
fn has_avx() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Transposes one block, or part of one.
#[inline]
fn square(avx: bool, x: &[f32], from: usize, y: &mut [f32], to: usize, (rows, columns): (usize, usize)) {
    #[cfg(target_arch = "x86_64")]
    if avx {
        #[expect(unsafe_code, reason = "the feature was detected")]
        // SAFETY: `avx` is only true if the CPU has AVX.
        return unsafe { square_avx(x, from, y, to) };
    }
    let _ = avx;
    for c in 0..columns {
        for r in 0..rows {
            y[c * to + r] = x[r * from + c];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[inline]
fn square_avx(x: &[f32], from: usize, y: &mut [f32], to: usize) {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps,
        _mm256_unpacklo_ps,
    };
    let holds =
        |len: usize, step: usize| step.checked_mul(7).and_then(|at| at.checked_add(SIDE)).is_some_and(|end| end <= len);
    assert!(holds(x.len(), from) && holds(y.len(), to), "a square is too short");
    #[expect(unsafe_code, reason = "eight numbers are read and written at once")]
    // SAFETY: the assertion holds all eight rows of eight numbers within both slices.
    unsafe {
        let row = |i: usize| _mm256_loadu_ps(x.as_ptr().add(i * from));
        let r = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
        // Pairs of rows, then fours, then the two halves of the registers.
        let pair = |i: usize| (_mm256_unpacklo_ps(r[i], r[i + 1]), _mm256_unpackhi_ps(r[i], r[i + 1]));
        let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (pair(0), pair(2), pair(4), pair(6));
        let four = |p, q| (_mm256_shuffle_ps::<0x44>(p, q), _mm256_shuffle_ps::<0xee>(p, q));
        let ((e0, e1), (e2, e3)) = (four(a0, b0), four(a1, b1));
        let ((f0, f1), (f2, f3)) = (four(c0, d0), four(c1, d1));
        for (i, (e, f)) in [(e0, f0), (e1, f1), (e2, f2), (e3, f3)].into_iter().enumerate() {
            _mm256_storeu_ps(y.as_mut_ptr().add(i * to), _mm256_permute2f128_ps::<0x20>(e, f));
            _mm256_storeu_ps(y.as_mut_ptr().add((i + 4) * to), _mm256_permute2f128_ps::<0x31>(e, f));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_swaps_indices() {
        for (rows, columns, stride) in [(1, 1, 1), (8, 8, 8), (16, 16, 16), (35, 50, 53), (64, 17, 17), (7, 40, 41)] {
            let x: Vec<f32> = (0..rows * stride).map(|i| i as f32).collect();
            let mut y = vec![-1.0; rows * columns];
            transpose(&x, stride, (rows, columns), &mut y);
            for i in 0..rows {
                for j in 0..columns {
                    assert_eq!(y[j * rows + i], x[i * stride + j], "{i} {j} of {rows}x{columns}");
                }
            }
        }
    }

    #[test]
    fn a_block_is_the_same_without_avx() {
        let x: Vec<f32> = (0..90).map(|i| i as f32).collect();
        let (mut a, mut b) = (vec![0.0; 100], vec![0.0; 100]);
        square(false, &x, 11, &mut a, 12, (SIDE, SIDE));
        square(has_avx(), &x, 11, &mut b, 12, (SIDE, SIDE));
        assert_eq!(a, b);
    }
}
