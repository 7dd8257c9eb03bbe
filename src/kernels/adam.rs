//! Owns AdamW's elementwise arithmetic and the sum of squares for gradient clipping.

use crate::lanes::{dot, simd};
use rayon::prelude::*;

/// Elements that one task processes.
const CHUNK: usize = 1 << 14;

/// The coefficients of an AdamW update (Loshchilov & Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Factor on the gradients, from clipping.
    pub scale: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second.
    pub beta2: f64,
    /// `1 − beta2ᵗ` after t updates.
    pub bias2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// The learning rate divided by `1 − beta1ᵗ`.
    pub rate: f64,
    /// Factor on the parameters: 1 − learning rate · weight decay.
    pub keep: f64,
}

/// One elementwise update of parameters `x` and their moments `m` and `v` by gradients `g`; returns whether any parameter
/// changed.
///
/// # Panics
/// When the lengths do not fit.
pub fn adamw(x: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], by: Adam) -> bool {
    assert!(x.len() == g.len() && x.len() == m.len() && x.len() == v.len());
    let parts = x.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(m.par_chunks_mut(CHUNK));
    let moved = parts.zip(v.par_chunks_mut(CHUNK)).map(|(((x, g), m), v)| adamw_part(x, g, m, v, by));
    moved.reduce(|| false, |a, b| a | b)
}

/// Σ x²: blocks in f32, their sums in f64 and in order.
pub fn squares(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x.par_chunks(CHUNK).map(|x| x.chunks(256).map(|x| f64::from(dot(x, x))).sum()).collect();
    parts.iter().sum()
}

simd! {
    fn adamw_part(x: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], by: Adam) -> bool {
        let (scale, beta1, beta2) = (by.scale as f32, by.beta1 as f32, by.beta2 as f32);
        let (rest1, rest2) = ((1.0 - by.beta1) as f32, (1.0 - by.beta2) as f32);
        let (over, eps) = ((1.0 / by.bias2) as f32, by.eps as f32);
        let (rate, keep) = (by.rate as f32, by.keep as f32);
        let mut moved = false;
        for (((x, g), m), v) in x.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            let g = g * scale;
            *m = *m * beta1 + g * rest1;
            *v = *v * beta2 + g * g * rest2;
            let new = *x * keep - *m / ((*v * over).sqrt() + eps) * rate;
            moved |= new != *x;
            *x = new;
        }
        moved
    }
}
