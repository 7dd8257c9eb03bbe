//! Input rows of products, and their rounding to 8 bits.
//!
//! Owns the three roundings of llama.cpp's CPU kernels (`quantize_row_q8_0`, `quantize_row_q8_1`, `quantize_row_q8_K` of
//! ggml), one for each format of weights. Refuses to know how the integers are multiplied.

use super::{BLOCK, Matrix};
use crate::lanes::{half, simd};

/// Inputs that share a factor with [`InputRounding::Wide`].
const WIDE: usize = 256;

/// How inputs are rounded to integers of 8 bits, `x ≈ d·q`, with q the nearest integer, half to even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputRounding {
    /// Blocks of 32: q = x·127/max|x|, and d = max|x|/127 rounded to f16.
    Narrow,
    /// As [`InputRounding::Narrow`], for weights with an offset: Σ x ≈ d·Σ q before d is rounded, rounded to f16.
    Summed,
    /// Blocks of 256: q = −127·x/m, where m is the first element of the largest size, and d = −m/127.
    Wide,
}

impl InputRounding {
    const ALL: [Self; 3] = [Self::Narrow, Self::Summed, Self::Wide];
}

/// Input rows of products, (n, width).
pub struct PackedInput<'a> {
    pub(super) rows: &'a [f32],
    pub(super) width: usize,
    /// By [`InputRounding`]; empty if no matrix needs it.
    quantised: [Quantised; 3],
}

/// Rows quantised to 8 bits, in blocks of 32.
#[derive(Default)]
pub(super) struct Quantised {
    pub(super) q: Vec<[i8; BLOCK]>,
    /// d of each block.
    pub(super) factor: Vec<f32>,
    /// Σ q of each block.
    pub(super) whole: Vec<i32>,
    /// Σ x of each block.
    pub(super) sum: Vec<f32>,
}

impl<'a> PackedInput<'a> {
    /// Rows of `width` elements, to be multiplied with `parts`.
    ///
    /// # Panics
    /// When the rows or a matrix have another width.
    #[must_use]
    pub fn new(rows: &'a [f32], width: usize, parts: &[&Matrix]) -> Self {
        assert!(rows.len().is_multiple_of(width) && parts.iter().all(|m| m.width == width), "rows of another width");
        let quantised = InputRounding::ALL.map(|rounding| {
            if parts.iter().all(|m| m.rounding != Some(rounding)) {
                return Quantised::default();
            }
            let n = rows.len() / BLOCK;
            let mut all =
                Quantised { q: vec![[0; BLOCK]; n], factor: vec![0.0; n], whole: vec![0; n], sum: vec![0.0; n] };
            let Quantised { q, factor, whole, sum } = &mut all;
            match rounding {
                InputRounding::Narrow | InputRounding::Summed => narrow(rows, q, factor, whole, sum),
                InputRounding::Wide => wide(rows, q, factor, whole, sum),
            }
            all
        });
        Self { rows, width, quantised }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    /// The rows with that rounding.
    pub(super) fn quantised(&self, rounding: InputRounding) -> &Quantised {
        &self.quantised[rounding as usize]
    }
}

/// The largest absolute value. Bits of non-negative floats are ordered like the floats, and NaN is above all.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut top = [0u32; 8];
    for part in x.as_chunks::<8>().0 {
        for i in 0..8 {
            top[i] = top[i].max(part[i].to_bits() & 0x7fff_ffff);
        }
    }
    f32::from_bits(top.iter().fold(0, |m, x| m.max(*x)))
}

/// The nearest integers of x·by, half to even, of at most 127 in size; returns their sum.
#[inline(always)]
fn rounded(x: &[f32; BLOCK], by: f32, q: &mut [i8; BLOCK]) -> i32 {
    let mut whole = 0i32;
    for (q, x) in q.iter_mut().zip(x) {
        // The sum's last bits are the nearest integer.
        let n = (x * by + 12_582_912.0).to_bits() as i32 - 0x4b40_0000;
        whole += n;
        *q = n as i8;
    }
    whole
}

simd! {
    fn narrow(rows: &[f32], q: &mut [[i8; BLOCK]], factor: &mut [f32], whole: &mut [i32], sum: &mut [f32]) {
        for ((((x, q), d), whole), s) in rows.as_chunks::<BLOCK>().0.iter().zip(q).zip(factor).zip(whole).zip(sum) {
            let top = largest(x);
            if !top.is_finite() {
                (*d, *s) = (f32::NAN, f32::NAN);
                continue;
            }
            *whole = rounded(x, if top > 0.0 { 127.0 / top } else { 0.0 }, q);
            let exact = top / 127.0;
            (*d, *s) = (half(exact), half(exact * *whole as f32));
        }
    }

    fn wide(rows: &[f32], q: &mut [[i8; BLOCK]], factor: &mut [f32], whole: &mut [i32], sum: &mut [f32]) {
        const PARTS: usize = WIDE / BLOCK;
        let (q, factor) = (q.as_chunks_mut::<PARTS>().0, factor.as_chunks_mut::<PARTS>().0);
        let (whole, sum) = (whole.as_chunks_mut::<PARTS>().0, sum.as_chunks_mut::<PARTS>().0);
        for ((((x, q), d), whole), s) in rows.as_chunks::<WIDE>().0.iter().zip(q).zip(factor).zip(whole).zip(sum) {
            let top = largest(x);
            if !top.is_finite() {
                (*d, *s) = ([f32::NAN; PARTS], [f32::NAN; PARTS]);
                continue;
            }
            let first = x.iter().find(|x| x.abs() == top).copied().unwrap_or(0.0);
            let by = if top > 0.0 { -127.0 / first } else { 0.0 };
            *d = [if top > 0.0 { 1.0 / by } else { 0.0 }; PARTS];
            for (part, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                whole[part] = rounded(x, by, &mut q[part]);
                s[part] = d[part] * whole[part] as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::QuantFormat;
    use super::*;

    fn input(x: &[f32], format: QuantFormat) -> Quantised {
        let size = if format == QuantFormat::Q8_0 {
            34
        } else if format == QuantFormat::Q4_1 {
            20
        } else {
            210
        };
        let blocks = if format == QuantFormat::Q6K { x.len() / WIDE } else { x.len() / BLOCK };
        let m = Matrix::blocks(format, &vec![0; blocks * size], 1, x.len(), |o| o).unwrap();
        let PackedInput { quantised: [a, b, c], .. } = PackedInput::new(x, x.len(), &[&m]);
        [a, b, c].into_iter().find(|part| !part.q.is_empty()).unwrap()
    }

    /// Halves of integers, of which the largest is `top`: with a factor of 1/2 they lie between integers where they are odd.
    fn halves(n: usize, top: f32) -> Vec<f32> {
        let mut x: Vec<f32> =
            (0..n).map(|i| (i as f32 * 0.37).sin() * 0.9 * top).map(|x| (x * 2.0).round() / 2.0).collect();
        x[n / 3] = -top;
        x
    }

    #[test]
    fn factors_are_rounded_to_f16_and_halves_to_the_even_integer() {
        // With 127 the factor is 1: halves are ties.
        let x = halves(64, 127.0);
        let all = input(&x, QuantFormat::Q8_0);
        assert_eq!(all.factor, [1.0, input(&x[32..], QuantFormat::Q8_0).factor[0]]);
        for (q, x) in all.q[0].iter().zip(&x) {
            assert_eq!(f32::from(*q), x.round_ties_even());
        }
        assert_eq!(all.whole[0], all.q[0].iter().map(|q| i32::from(*q)).sum::<i32>());
        // 1/127 is 0x2008 in f16 (2^-7 · (1 + 8/1024)), to the nearest.
        let one = input(&[1.0; 32], QuantFormat::Q8_0);
        assert_eq!((one.q[0], one.factor[0]), ([127; 32], (1.0 + 8.0 / 1024.0) / 128.0));
        // The sum takes the factor before it is rounded: 32 · 127 · (1/127), not 32 · 127 · f16(1/127).
        assert_eq!(input(&[1.0; 32], QuantFormat::Q4_1).sum, [32.0]);
    }

    #[test]
    fn wide_blocks_share_the_factor_of_their_first_largest_element() {
        let mut x = halves(512, 127.0);
        x[300] = 254.0;
        x[301] = -254.0;
        let all = input(&x, QuantFormat::Q6K);
        // The first block's largest is −127, the second's 254.
        assert_eq!((all.factor[..8].to_vec(), all.factor[8..].to_vec()), (vec![-1.0 / -1.0; 8], vec![-2.0; 8]));
        for (i, x) in x.iter().enumerate() {
            let q = f32::from(all.q[i / BLOCK][i % BLOCK]);
            assert_eq!(q, (x / all.factor[i / BLOCK]).round_ties_even(), "{i}");
        }
        assert_eq!((all.q[9][12], all.q[9][13]), (-127, 127));
    }

    #[test]
    fn a_block_that_is_not_finite_has_no_finite_product() {
        for format in [QuantFormat::Q8_0, QuantFormat::Q4_1, QuantFormat::Q6K] {
            let mut x = vec![1.0; 256];
            x[100] = f32::INFINITY;
            assert!(input(&x, format).factor.iter().any(|d| d.is_nan()));
            assert!(input(&[0.0; 256], format).factor.iter().all(|d| *d == 0.0));
        }
    }
}
