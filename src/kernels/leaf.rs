//! Leaf operations on rows: forward and backward of RMSNorm, SwiGLU, RoPE and elementwise sums. Refuses matrix products
//! and attention.

use crate::lanes::{add_scaled, dot, sigmoid, simd};
use rayon::prelude::*;

/// Rows that one task processes: enough to be worth it, few enough to balance.
const ROWS: usize = 16;

/// RMSNorm (Zhang and Sennrich 2019) of rows of `gamma.len()` numbers: `y = x · r ⊙ gamma` with `r = 1/√(mean x² + eps)`.
///
/// # Panics
/// When the lengths do not fit.
pub fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
    let width = gamma.len();
    assert!(x.len() == y.len() && x.len().is_multiple_of(width), "rows of another width");
    y.par_chunks_mut(width * ROWS).zip(x.par_chunks(width * ROWS)).for_each(|(y, x)| norm_rows(x, gamma, eps, y));
}

simd! {
    fn norm_rows(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
        let width = gamma.len();
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let r = inverse(x, eps);
            for ((y, x), g) in y.iter_mut().zip(x).zip(gamma) {
                *y = x * r * g;
            }
        }
    }

    fn norm_rows_back(x: &[f32], gamma: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
        let width = gamma.len();
        let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(dy.chunks_exact(width));
        for ((dx, x), dy) in rows {
            let r = inverse(x, eps);
            let mut lanes = [0f32; 16];
            let whole = width / 16 * 16;
            let parts = x.chunks_exact(16).zip(dy.chunks_exact(16)).zip(gamma.chunks_exact(16));
            for ((x, dy), gamma) in parts {
                for k in 0..16 {
                    lanes[k] = (dy[k] * gamma[k]).mul_add(x[k], lanes[k]);
                }
            }
            let rest: f32 = (whole..width).map(|i| dy[i] * gamma[i] * x[i]).sum();
            let pull = (lanes.iter().sum::<f32>() + rest) * r * r * r / width as f32;
            for (((dx, x), dy), gamma) in dx.iter_mut().zip(x).zip(dy).zip(gamma) {
                *dx += (dy * gamma).mul_add(r, -(x * pull));
            }
        }
    }

    /// SwiGLU (Shazeer 2020) with gate and up in separate slices: `out = gate · σ(gate) · up`.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn gated(gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == out.len() && up.len() == out.len(), "gates and ups of other lengths");
        gate_row(gate, up, out);
    }

    fn swiglu_rows(gate_up: &[f32], width: usize, out: &mut [f32]) {
        for (out, both) in out.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
            let (gate, up) = both.split_at(width);
            gate_row(gate, up, out);
        }
    }

    fn swiglu_rows_back(gate_up: &[f32], width: usize, dout: &[f32], back: &mut [f32]) {
        let rows = back.chunks_exact_mut(2 * width).zip(gate_up.chunks_exact(2 * width));
        for ((back, both), dout) in rows.zip(dout.chunks_exact(width)) {
            let (gate, up) = both.split_at(width);
            let (dgate, dup) = back.split_at_mut(width);
            for ((((dg, du), g), u), d) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dout) {
                let s = sigmoid(*g);
                *du = d * g * s;
                *dg = d * u * s * (1.0 + g * (1.0 - s));
            }
        }
    }

    fn scale_add_here(y: &mut [f32], a: f32, x: &[f32]) {
        add_scaled(y, a, x);
    }

    fn split_heads_here(x: &[f32], stride: usize, at: usize, width: usize, tables: Option<(&[f32], &[f32])>, y: &mut [f32]) {
        let half = tables.map_or(0, |(cos, _)| cos.len() / (x.len() / stride).max(1));
        for (t, y) in y.chunks_exact_mut(width).enumerate() {
            let x = &x[t * stride + at..t * stride + at + width];
            match tables {
                None => y.copy_from_slice(x),
                Some(tables) => rotate(x, y, tables, (t, half), 1.0),
            }
        }
    }

    fn merge_heads_here(x: &[f32], stride: usize, first: usize, width: usize, tables: Option<(&[f32], &[f32])>, start: usize, tokens: usize, y: &mut [f32]) {
        let heads = x.len() / (tokens * width).max(1);
        let half = tables.map_or(0, |(cos, _)| cos.len() / tokens.max(1));
        for (i, y) in y.chunks_exact_mut(stride).enumerate() {
            let t = start + i;
            for head in 0..heads {
                let from = (head * tokens + t) * width;
                let x = &x[from..from + width];
                let y = &mut y[first + head * width..first + (head + 1) * width];
                match tables {
                    None => y.copy_from_slice(x),
                    Some(tables) => rotate(x, y, tables, (t, half), -1.0),
                }
            }
        }
    }
}

#[inline(always)]
fn gate_row(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
        *o = g * sigmoid(*g) * u;
    }
}

/// `1/√(mean x² + eps)`.
#[inline(always)]
fn inverse(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// Backward of [`rms_norm`]: adds dL/dx to `dx` and, if given, dL/dgamma to `dgamma`, from dL/dy `dy`.
///
/// # Panics
/// When the lengths do not fit.
pub fn rms_norm_back(x: &[f32], gamma: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dgamma: Option<&mut [f32]>) {
    let width = gamma.len();
    assert!(x.len() == dy.len() && x.len() == dx.len() && x.len().is_multiple_of(width), "rows of another width");
    assert!(dgamma.as_ref().is_none_or(|d| d.len() == width), "a gradient of another width");
    let parts = dx.par_chunks_mut(width * ROWS).zip(x.par_chunks(width * ROWS)).zip(dy.par_chunks(width * ROWS));
    parts.for_each(|((dx, x), dy)| norm_rows_back(x, gamma, eps, dy, dx));
    if let Some(dgamma) = dgamma {
        for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
            let r = inverse(x, eps);
            for ((d, x), dy) in dgamma.iter_mut().zip(x).zip(dy) {
                *d += dy * x * r;
            }
        }
    }
}

/// SwiGLU (Shazeer 2020) on rows `[gate | up]` of 2·`width`: `out = silu(gate) ⊙ up`.
///
/// # Panics
/// When the lengths do not fit.
pub fn swiglu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert!(gate_up.len() == 2 * out.len() && out.len().is_multiple_of(width), "rows of another width");
    let parts = out.par_chunks_mut(width * ROWS).zip(gate_up.par_chunks(2 * width * ROWS));
    parts.for_each(|(out, both)| swiglu_rows(both, width, out));
}

/// Backward of [`swiglu`]: `[dgate | dup]` from `[gate | up]` and dL/dout.
///
/// # Panics
/// When the lengths do not fit.
pub fn swiglu_back(gate_up: &[f32], width: usize, dout: &[f32], back: &mut [f32]) {
    assert!(gate_up.len() == back.len() && gate_up.len() == 2 * dout.len(), "rows of another width");
    assert!(dout.len().is_multiple_of(width), "rows of another width");
    let parts = back.par_chunks_mut(2 * width * ROWS).zip(gate_up.par_chunks(2 * width * ROWS));
    let parts = parts.zip(dout.par_chunks(width * ROWS));
    parts.for_each(|((back, both), dout)| swiglu_rows_back(both, width, dout, back));
}

/// Splits token rows into heads and applies RoPE (Su et al. 2021, half-split pairs): from `x`, rows `stride` apart
/// whose heads begin at `first`, to `y` (heads, tokens, width). `tables` are cosines and sines (tokens, r/2), where
/// r is how many of a head's numbers are rotated.
///
/// # Panics
/// When the lengths do not fit.
pub fn split_heads(
    x: &[f32],
    stride: usize,
    first: usize,
    width: usize,
    tables: Option<(&[f32], &[f32])>,
    y: &mut [f32],
) {
    let tokens = x.len() / stride;
    assert!(x.len().is_multiple_of(stride) && y.len().is_multiple_of((tokens * width).max(1)), "heads of another size");
    let heads = y.par_chunks_mut(tokens * width).enumerate();
    heads.for_each(|(head, y)| split_heads_here(x, stride, first + head * width, width, tables, y));
}

/// Backward of [`split_heads`]: merges heads `x` (heads, tokens, width) into rows of `y`, with the inverse rotation.
///
/// # Panics
/// When the lengths do not fit.
pub fn merge_heads(
    x: &[f32],
    stride: usize,
    first: usize,
    width: usize,
    tables: Option<(&[f32], &[f32])>,
    y: &mut [f32],
) {
    let tokens = y.len() / stride;
    assert!(y.len().is_multiple_of(stride) && x.len().is_multiple_of((tokens * width).max(1)), "heads of another size");
    let blocks = y.par_chunks_mut(stride * ROWS).enumerate();
    blocks.for_each(|(block, y)| merge_heads_here(x, stride, first, width, tables, block * ROWS, tokens, y));
}

/// Rotates the pairs of a head's first 2·half numbers by the angles of position `t` and copies the rest; with sign −1 the
/// inverse. `half` is the tables' width.
#[inline(always)]
fn rotate(x: &[f32], y: &mut [f32], (cos, sin): (&[f32], &[f32]), (t, half): (usize, usize), sign: f32) {
    let (cos, sin) = (&cos[t * half..(t + 1) * half], &sin[t * half..(t + 1) * half]);
    let (x, x_rest) = x.split_at(2 * half);
    let (y, y_rest) = y.split_at_mut(2 * half);
    y_rest.copy_from_slice(x_rest);
    let (x0, x1) = x.split_at(half);
    let (y0, y1) = y.split_at_mut(half);
    for i in 0..half {
        let s = sign * sin[i];
        y0[i] = x0[i] * cos[i] - x1[i] * s;
        y1[i] = x1[i] * cos[i] + x0[i] * s;
    }
}

/// Subtracts from each row of `width` numbers its mean.
pub fn centre(x: &mut [f32], width: usize) {
    x.par_chunks_mut(width.max(1)).for_each(|x| {
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
        for x in x.iter_mut() {
            *x = (f64::from(*x) - mean) as f32;
        }
    });
}

/// `y += x`.
///
/// # Panics
/// When the lengths do not fit.
pub fn add(y: &mut [f32], x: &[f32]) {
    scale_add(y, 1.0, x);
}

/// `y += a · x`.
///
/// # Panics
/// When the lengths do not fit.
pub fn scale_add(y: &mut [f32], a: f32, x: &[f32]) {
    assert_eq!(y.len(), x.len(), "sums of other lengths");
    y.par_chunks_mut(1 << 13).zip(x.par_chunks(1 << 13)).for_each(|(y, x)| scale_add_here(y, a, x));
}

/// Multiplies each row of `y` by `factors`, elementwise.
pub fn scale_columns(y: &mut [f32], stride: usize, factors: &[f32]) {
    y.par_chunks_mut(stride * ROWS).for_each(|rows| {
        for row in rows.chunks_mut(stride) {
            for (y, f) in row.iter_mut().zip(factors) {
                *y *= f;
            }
        }
    });
}

/// `y ⊙= x`.
///
/// # Panics
/// When the lengths do not fit.
pub fn multiply(y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "products of other lengths");
    y.par_chunks_mut(1 << 13).zip(x.par_chunks(1 << 13)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            *y *= x;
        }
    });
}

/// Adds the bias to `bias.len()` columns from `first` on, of rows `stride` apart.
pub fn add_bias(y: &mut [f32], stride: usize, first: usize, bias: &[f32]) {
    y.par_chunks_mut(stride * ROWS).for_each(|rows| {
        for row in rows.chunks_mut(stride) {
            for (y, b) in row[first..].iter_mut().zip(bias) {
                *y += b;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 12.9898).sin() * 1.3).collect()
    }

    /// Asserts that `back` is the slope of Σ forward(x) ⊙ d at x.
    fn slopes(x: &[f32], d: &[f32], back: &[f32], forward: impl Fn(&[f32]) -> Vec<f32>) {
        let loss = |x: &[f32]| forward(x).iter().zip(d).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum::<f64>();
        for i in 0..x.len() {
            let at = |by: f32| {
                let mut x = x.to_vec();
                x[i] += by;
                loss(&x)
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((f64::from(back[i]) - slope).abs() < 1e-3 * (1.0 + slope.abs()), "{i}: {} {slope}", back[i]);
        }
    }

    #[test]
    fn rms_norm_backward_equals_finite_differences() {
        for width in [4, 16, 21] {
            let (x, gamma, dy) = (noise(3 * width, 0.1), noise(width, 0.7), noise(3 * width, 0.5));
            let forward = |x: &[f32]| {
                let mut y = vec![9.0; x.len()];
                rms_norm(x, &gamma, 1e-5, &mut y);
                y
            };
            let (mut dx, mut dgamma) = (vec![1.0; 3 * width], vec![0.0; width]);
            rms_norm_back(&x, &gamma, 1e-5, &dy, &mut dx, Some(&mut dgamma));
            for d in &mut dx {
                *d -= 1.0;
            }
            slopes(&x, &dy, &dx, forward);
            slopes(&gamma, &dy, &dgamma, |gamma| {
                let mut y = vec![0.0; x.len()];
                rms_norm(&x, gamma, 1e-5, &mut y);
                y
            });
        }
    }

    #[test]
    fn swiglu_backward_equals_finite_differences() {
        let (x, d) = (noise(2 * 2 * 9, 0.1), noise(2 * 9, 0.4));
        let mut back = vec![5.0; x.len()];
        swiglu_back(&x, 9, &d, &mut back);
        slopes(&x, &d, &back, |x| {
            let mut y = vec![9.0; 18];
            swiglu(x, 9, &mut y);
            y
        });
    }

    #[test]
    fn merging_heads_inverts_splitting_them() {
        let (tokens, stride, width) = (5, 30, 6);
        let x = noise(tokens * stride, 0.2);
        let angles = noise(tokens * width / 2, 0.9);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        for tables in [None, Some((cos.as_slice(), sin.as_slice()))] {
            let mut heads = vec![0.0; 2 * tokens * width];
            split_heads(&x, stride, 12, width, tables, &mut heads);
            let (a, b) = (x[2 * stride + 18 + 1], x[2 * stride + 18 + 4]);
            let (c, s) = if tables.is_some() { (cos[7], sin[7]) } else { (1.0, 0.0) };
            assert!((heads[(tokens + 2) * width + 1] - (a * c - b * s)).abs() < 1e-6);
            let mut back = vec![0.0; x.len()];
            merge_heads(&heads, stride, 12, width, tables, &mut back);
            for (i, (x, back)) in x.iter().zip(&back).enumerate() {
                let want = if (12..24).contains(&(i % stride)) { *x } else { 0.0 };
                assert!((want - back).abs() < 1e-6);
            }
        }
    }
}
