//! The gated feed-forward's activation: `act(gate) ⊙ up` (Shazeer 2020) and its backward, for every activation of the model
//! families.
//!
//! The activation is chosen once per call, outside of every loop.

use crate::lanes::{exp, sigmoid, simd};
use crate::leaf;
use rayon::prelude::*;

/// The function on the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// x·σ(x).
    Silu,
    /// x·Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016).
    Gelu,
    /// The same with Φ by tanh.
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// max(x, 0)² (So et al. 2021).
    ReluSquared,
    /// g·σ(alpha·g) with a clamped gate g, on a clamped up plus 1, as in GPT-OSS.
    Clamped(ClampedSwiglu),
}

/// The numbers of `(min(max(up, −limit), limit) + 1) · g·σ(alpha·g)` with `g = min(gate, limit)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClampedSwiglu {
    /// Factor within the sigmoid.
    pub alpha: f32,
    /// What gate and up are clamped to.
    pub limit: f32,
}

/// Rows that one task processes.
const ROWS: usize = 16;

/// An activation and its derivative.
trait Function {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

struct Gelu;
struct GeluTanh;
struct Relu;
struct ReluSquared;

/// Φ(x), to 1e-7: erfc by Abramowitz and Stegun 7.1.26.
#[inline(always)]
fn normal(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1f32.mul_add(z, 1.0);
    let mut p = 1.061_405_4f32;
    p = p.mul_add(t, -1.453_152);
    p = p.mul_add(t, 1.421_413_7);
    p = p.mul_add(t, -0.284_496_74);
    p = p.mul_add(t, 0.254_829_6);
    let tail = 0.5 * p * t * exp(-z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

impl Function for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * normal(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        const DENSITY: f32 = 0.398_942_3;
        (x * DENSITY).mul_add(exp(-0.5 * x * x), normal(x))
    }
}

/// 2·√(2/π), and the cubic term's factor.
const TANH: (f32, f32) = (std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2, 0.044_715);

impl Function for GeluTanh {
    /// ½·(1 + tanh u) is σ(2u).
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(TANH.0 * x * (TANH.1 * x).mul_add(x, 1.0))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = sigmoid(TANH.0 * x * (TANH.1 * x).mul_add(x, 1.0));
        let inner = TANH.0 * (3.0 * TANH.1 * x).mul_add(x, 1.0);
        (x * inner * s).mul_add(1.0 - s, s)
    }
}

impl Function for Relu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x > 0.0 { 1.0 } else { 0.0 }
    }
}

impl Function for ReluSquared {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        Relu::value(x) * Relu::value(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        2.0 * Relu::value(x)
    }
}

#[inline(always)]
fn row<C: Function>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
        *o = C::value(*g) * u;
    }
}

#[inline(always)]
fn rows<C: Function>(both: &[f32], width: usize, out: &mut [f32]) {
    for (out, both) in out.chunks_exact_mut(width).zip(both.chunks_exact(2 * width)) {
        let (gate, up) = both.split_at(width);
        row::<C>(gate, up, out);
    }
}

#[inline(always)]
fn rows_back<C: Function>(both: &[f32], width: usize, dout: &[f32], back: &mut [f32]) {
    let rows = back.chunks_exact_mut(2 * width).zip(both.chunks_exact(2 * width));
    for ((back, both), dout) in rows.zip(dout.chunks_exact(width)) {
        let (gate, up) = both.split_at(width);
        let (dgate, dup) = back.split_at_mut(width);
        for ((((dg, du), g), u), d) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dout) {
            *du = d * C::value(*g);
            *dg = d * u * C::slope(*g);
        }
    }
}

impl ClampedSwiglu {
    /// The gate's function and its derivative; NaN stays NaN.
    #[inline(always)]
    fn gate(self, x: f32) -> (f32, f32) {
        let g = if x > self.limit { self.limit } else { x };
        let s = sigmoid(self.alpha * g);
        let slope = (self.alpha * g * s).mul_add(1.0 - s, s);
        (g * s, if x > self.limit { 0.0 } else { slope })
    }

    /// What the gate's function is multiplied by, and its derivative.
    #[inline(always)]
    fn up(self, x: f32) -> (f32, f32) {
        if x > self.limit {
            (self.limit + 1.0, 0.0)
        } else if x < -self.limit {
            (1.0 - self.limit, 0.0)
        } else {
            (x + 1.0, 1.0)
        }
    }
}

simd! {
    fn clamped_split(with: ClampedSwiglu, gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
            *o = with.gate(*g).0 * with.up(*u).0;
        }
    }

    fn clamped_back(with: ClampedSwiglu, both: &[f32], width: usize, dout: &[f32], back: &mut [f32]) {
        let rows = back.chunks_exact_mut(2 * width).zip(both.chunks_exact(2 * width));
        for ((back, both), dout) in rows.zip(dout.chunks_exact(width)) {
            let (gate, up) = both.split_at(width);
            let (dgate, dup) = back.split_at_mut(width);
            for ((((dg, du), g), u), d) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dout) {
                let ((value, slope), (up, through)) = (with.gate(*g), with.up(*u));
                *du = d * value * through;
                *dg = d * up * slope;
            }
        }
    }
}

fn clamped(with: ClampedSwiglu, both: &[f32], width: usize, out: &mut [f32]) {
    for (out, both) in out.chunks_exact_mut(width).zip(both.chunks_exact(2 * width)) {
        let (gate, up) = both.split_at(width);
        clamped_split(with, gate, up, out);
    }
}

macro_rules! curves {
    ($($split:ident $forward:ident $backward:ident $curve:ty),*) => {$(
        simd! {
            fn $split(gate: &[f32], up: &[f32], out: &mut [f32]) {
                row::<$curve>(gate, up, out);
            }

            fn $forward(both: &[f32], width: usize, out: &mut [f32]) {
                rows::<$curve>(both, width, out);
            }

            fn $backward(both: &[f32], width: usize, dout: &[f32], back: &mut [f32]) {
                rows_back::<$curve>(both, width, dout, back);
            }
        }
    )*};
}

curves! {
    gelu_split gelu gelu_back Gelu,
    tanh_split tanh tanh_back GeluTanh,
    relu_split relu relu_back Relu,
    square_split square square_back ReluSquared
}

/// `act(gate) ⊙ up` on rows `[gate | up]` of 2·`width`.
///
/// # Panics
/// When the lengths do not fit.
pub fn gated(activation: Activation, both: &[f32], width: usize, out: &mut [f32]) {
    let rows = match activation {
        Activation::Clamped(with) => {
            assert_eq!(both.len(), 2 * out.len());
            let parts = out.par_chunks_mut(width * ROWS).zip(both.par_chunks(2 * width * ROWS));
            return parts.for_each(|(out, both)| clamped(with, both, width, out));
        }
        Activation::Silu => return leaf::swiglu(both, width, out),
        Activation::Gelu => gelu,
        Activation::GeluTanh => tanh,
        Activation::Relu => relu,
        Activation::ReluSquared => square,
    };
    assert_eq!(both.len(), 2 * out.len());
    let parts = out.par_chunks_mut(width * ROWS).zip(both.par_chunks(2 * width * ROWS));
    parts.for_each(|(out, both)| rows(both, width, out));
}

/// Backward of [`gated`]: `[dgate | dup]` from `[gate | up]` and dL/dout.
///
/// # Panics
/// When the lengths do not fit.
pub fn gated_back(activation: Activation, both: &[f32], width: usize, dout: &[f32], back: &mut [f32]) {
    let rows = match activation {
        Activation::Clamped(with) => {
            assert!(both.len() == back.len() && both.len() == 2 * dout.len());
            let parts = back.par_chunks_mut(2 * width * ROWS).zip(both.par_chunks(2 * width * ROWS));
            let parts = parts.zip(dout.par_chunks(width * ROWS));
            return parts.for_each(|((back, both), dout)| clamped_back(with, both, width, dout, back));
        }
        Activation::Silu => return leaf::swiglu_back(both, width, dout, back),
        Activation::Gelu => gelu_back,
        Activation::GeluTanh => tanh_back,
        Activation::Relu => relu_back,
        Activation::ReluSquared => square_back,
    };
    assert!(both.len() == back.len() && both.len() == 2 * dout.len());
    let parts = back.par_chunks_mut(2 * width * ROWS).zip(both.par_chunks(2 * width * ROWS));
    parts.zip(dout.par_chunks(width * ROWS)).for_each(|((back, both), dout)| rows(both, width, dout, back));
}

/// As [`gated`] with gate and up in separate slices, on this thread.
pub fn gated_split(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Silu => leaf::gated(gate, up, out),
        Activation::Gelu => gelu_split(gate, up, out),
        Activation::GeluTanh => tanh_split(gate, up, out),
        Activation::Relu => relu_split(gate, up, out),
        Activation::ReluSquared => square_split(gate, up, out),
        Activation::Clamped(with) => clamped_split(with, gate, up, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 5] =
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared];

    /// Φ(x) by Simpson's rule over the density.
    fn phi(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let n = 2000;
        let h = x / f64::from(n);
        let weight = |i: i32| if i == 0 || i == n { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
        0.5 + h / 3.0 * (0..=n).map(|i| weight(i) * density(f64::from(i) * h)).sum::<f64>()
    }

    fn textbook(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => x * phi(x),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
            Activation::Clamped(with) => {
                let g = x.min(with.limit.into());
                g / (1.0 + (-f64::from(with.alpha) * g).exp())
            }
        }
    }

    /// The clamped SwiGLU has a function on up too; its derivatives end where it is clamped.
    #[test]
    fn the_clamped_swiglu_equals_the_textbook_on_both_sides_of_its_limits() {
        let with = ClampedSwiglu { alpha: 1.702, limit: 0.8 };
        let of = |gate: f64, up: f64| {
            (up.clamp(-f64::from(with.limit), with.limit.into()) + 1.0) * textbook(Activation::Clamped(with), gate)
        };
        let gates: Vec<f32> = (-30..30).map(|i| i as f32 * 0.1 + 0.013).collect();
        for up in [-1.7f32, -0.75, 0.3, 0.79, 1.4, 7.0] {
            let width = gates.len();
            let (ups, dout) = (vec![up; width], vec![1.3f32; width]);
            let both = [gates.clone(), ups.clone()].concat();
            let (mut out, mut apart, mut back) = (vec![9.0; width], vec![9.0; width], vec![9.0; 2 * width]);
            gated(Activation::Clamped(with), &both, width, &mut out);
            gated_split(Activation::Clamped(with), &gates, &ups, &mut apart);
            gated_back(Activation::Clamped(with), &both, width, &dout, &mut back);
            for (i, g) in gates.iter().map(|g| f64::from(*g)).enumerate() {
                let (h, u) = (1e-5, f64::from(up));
                let near = |got: f32, want: f64| (f64::from(got) - want).abs() < 2e-6 * (1.0 + want.abs());
                assert!(near(out[i], of(g, u)) && near(apart[i], of(g, u)), "{g} {up}: {}", out[i]);
                let (by_gate, by_up) = (of(g + h, u) - of(g - h, u), of(g, u + h) - of(g, u - h));
                assert!(near(back[i], 1.3 * by_gate / (2.0 * h)), "{g} {up}: {}", back[i]);
                assert!(near(back[width + i], 1.3 * by_up / (2.0 * h)), "{g} {up}: {}", back[width + i]);
            }
        }
        let mut out = [0.0];
        for both in [[f32::NAN, 1.0], [1.0, f32::NAN]] {
            gated(Activation::Clamped(with), &both, 1, &mut out);
            assert!(out[0].is_nan());
        }
    }

    #[test]
    fn values_and_derivatives_equal_the_textbook() {
        let gates: Vec<f32> = (-90..=90).map(|i| i as f32 * 0.1 + 0.013).collect();
        let width = gates.len();
        let (up, dout) = (vec![0.7f32; width], vec![1.3f32; width]);
        let both = [gates.clone(), up.clone()].concat();
        for activation in ALL {
            let (mut out, mut apart, mut back) = (vec![9.0; width], vec![9.0; width], vec![9.0; 2 * width]);
            gated(activation, &both, width, &mut out);
            gated_split(activation, &gates, &up, &mut apart);
            gated_back(activation, &both, width, &dout, &mut back);
            for (i, x) in gates.iter().map(|x| f64::from(*x)).enumerate() {
                let value = textbook(activation, x);
                let slope = (textbook(activation, x + 1e-5) - textbook(activation, x - 1e-5)) / 2e-5;
                let near = |got: f32, want: f64| (f64::from(got) - want).abs() < 2e-6 * (1.0 + want.abs());
                assert!(near(out[i], 0.7 * value) && near(apart[i], 0.7 * value), "{activation:?} of {x}: {}", out[i]);
                assert!(near(back[width + i], 1.3 * value), "{activation:?} of {x}: {}", back[width + i]);
                assert!(near(back[i], 1.3 * 0.7 * slope), "{activation:?} at {x}: {} and not {slope}", back[i]);
            }
        }
    }

    #[test]
    fn nan_is_propagated() {
        for activation in ALL {
            let mut out = [0.0];
            gated(activation, &[f32::NAN, 1.0], 1, &mut out);
            assert!(out[0].is_nan(), "{activation:?}");
        }
    }
}
