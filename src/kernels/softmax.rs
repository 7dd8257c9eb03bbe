//! Softmax weights over a vocabulary in f64, for sampling and for the divergence of two models.
//!
//! Owns the vectorised exponential. Refuses truncation and drawing, which are the sampler's.

use crate::lanes::simd;

/// e^x in f64 for x ≤ 0, to about one unit in the last place; below −708 it is 0. NaN stays NaN. Taylor's polynomial on [−ln 2/2, ln 2/2],
/// scaled by a power of two.
#[inline(always)]
fn exp(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let held = if x < -708.0 { -708.0 } else { x };
    // The sum's last bits are the nearest integer.
    let rounded = held.mul_add(std::f64::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-0.693_147_180_369_123_8, held);
    let r = n.mul_add(-1.908_214_929_270_587_7e-10, r);
    let mut p = 1.0 / 6_227_020_800.0;
    for c in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = f64::mul_add(p, r, c);
    }
    let y = p * f64::from_bits((rounded.to_bits() << 52).wrapping_add(0x3ff0_0000_0000_0000));
    if x <= -708.0 { 0.0 } else { y }
}

simd! {
    /// The largest element; −∞ of none, NaN if any is NaN.
    pub fn max_or_nan(z: &[f32]) -> f32 {
        let mut none = [false; 16];
        let (parts, rest) = z.as_chunks::<16>();
        for part in parts {
            for i in 0..16 {
                none[i] |= part[i].is_nan();
            }
        }
        if none.contains(&true) || rest.iter().any(|x| x.is_nan()) { f32::NAN } else { crate::lanes::max(z) }
    }

    /// `w = e^((z − top)·inv_temp)` for inv_temp > 0; returns Σ w, which is NaN if any element is NaN.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn exp_weights(z: &[f32], top: f32, inv_temp: f64, w: &mut [f64]) -> f64 {
        assert_eq!(z.len(), w.len(), "a weight for each number");
        let mut sums = [0f64; 8];
        let (parts, rest) = z.as_chunks::<8>();
        let (w_parts, w_rest) = w.as_chunks_mut::<8>();
        for (z, w) in parts.iter().zip(w_parts) {
            for i in 0..8 {
                w[i] = exp((f64::from(z[i]) - f64::from(top)) * inv_temp);
                sums[i] += w[i];
            }
        }
        for ((z, w), sum) in rest.iter().zip(w_rest).zip(&mut sums) {
            *w = exp((f64::from(*z) - f64::from(top)) * inv_temp);
            *sum += *w;
        }
        sums.iter().sum()
    }

    /// Of two rows of logits x and y with their largest elements a and b: Σ e^(x−a), Σ e^(y−b), Σ e^(x−a)·(x−y) and Σ e^(y−b)·(y−x).
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn paired_sums(one: &[f64], two: &[f64], tops: [f64; 2]) -> [f64; 4] {
        assert_eq!(one.len(), two.len(), "two rows of one vocabulary");
        let mut sums = [[0f64; 8]; 4];
        let (ones, one_rest) = one.as_chunks::<8>();
        let (twos, two_rest) = two.as_chunks::<8>();
        for (x, y) in ones.iter().zip(twos) {
            for i in 0..8 {
                let (p, q) = (exp(x[i] - tops[0]), exp(y[i] - tops[1]));
                sums[0][i] += p;
                sums[1][i] += q;
                sums[2][i] += p * (x[i] - y[i]);
                sums[3][i] += q * (y[i] - x[i]);
            }
        }
        for (i, (x, y)) in one_rest.iter().zip(two_rest).enumerate() {
            let (p, q) = (exp(x - tops[0]), exp(y - tops[1]));
            sums[0][i] += p;
            sums[1][i] += q;
            sums[2][i] += p * (x - y);
            sums[3][i] += q * (y - x);
        }
        sums.map(|part| part.iter().sum())
    }
}

/// The first of the largest elements and its place; −∞ of none. A NaN is no largest element.
#[must_use]
pub fn first_largest(z: &[f64]) -> (usize, f64) {
    z.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (i, x)| if *x > best.1 { (i, *x) } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_standard_library() {
        let z: Vec<f32> = (0..70_001).map(|i| -(i as f32) / 100.0).collect();
        let mut w = vec![0.0; z.len()];
        let sum = exp_weights(&z, 0.0, 1.0, &mut w);
        for (z, w) in z.iter().zip(&w) {
            assert!((w / f64::from(*z).exp() - 1.0).abs() < 1e-14, "{z}: {w}");
        }
        assert!((sum / w.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(exp_weights(&[f32::NEG_INFINITY, 2.0], 2.0, 0.5, &mut [1.0; 2]), 1.0);
    }

    #[test]
    fn sums_of_two_rows_are_those_of_the_standard_library() {
        let one: Vec<f64> = (0..1003).map(|i| f64::from(i * 37 % 101) / 10.0).collect();
        let two: Vec<f64> = (0..1003).map(|i| f64::from(i * 53 % 97) / 12.0).collect();
        let ((at, a), (_, b)) = (first_largest(&one), first_largest(&two));
        assert!(one[..at].iter().all(|x| *x < a) && one.iter().all(|x| *x <= a));
        let sums = paired_sums(&one, &two, [a, b]);
        let each = |f: fn(f64, f64, f64, f64) -> f64| one.iter().zip(&two).map(|(x, y)| f(*x, *y, a, b)).sum::<f64>();
        let want = [
            each(|x, _, a, _| (x - a).exp()),
            each(|_, y, _, b| (y - b).exp()),
            each(|x, y, a, _| (x - a).exp() * (x - y)),
            each(|x, y, _, b| (y - b).exp() * (y - x)),
        ];
        for (got, want) in sums.iter().zip(want) {
            assert!((got / want - 1.0).abs() < 1e-12, "{got} and not {want}");
        }
        let broken = [f64::NAN, 0.0];
        assert!(paired_sums(&broken, &[0.0; 2], [0.0; 2]).iter().any(|x| x.is_nan()));
    }
}
