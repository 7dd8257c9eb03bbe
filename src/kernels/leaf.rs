//! Leaf operations on rows of f32: what is neither a matrix product nor attention.

use pulp::Arch;
use rayon::prelude::*;

/// Rows for which it is worth waking another thread.
const ROWS: usize = 16;

/// RMSNorm (Zhang and Sennrich 2019) of rows of `gamma.len()` numbers: `y = x · r ⊙ gamma` with `r = 1/√(mean x² + eps)`.
///
/// # Panics
/// When the lengths do not fit.
pub fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
    let width = gamma.len();
    assert_eq!(x.len(), y.len());
    let arch = Arch::new();
    y.par_chunks_mut(width * ROWS).zip(x.par_chunks(width * ROWS)).for_each(|(y, x)| {
        arch.dispatch(|| {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let r = inverse(x, eps);
                for ((y, x), g) in y.iter_mut().zip(x).zip(gamma) {
                    *y = x * r * g;
                }
            }
        });
    });
}

/// `1/√(mean x² + eps)`.
#[inline(always)]
fn inverse(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// Σ a·b in 16 lanes, so that the sum has one order and vectorises.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (pa, pb) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = pa.remainder().iter().zip(pb.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in pa.zip(pb) {
        for i in 0..16 {
            lanes[i] = a[i].mul_add(b[i], lanes[i]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}
