//! Arithmetic that vectorises: loops of fixed width, and branch-free functions.
//!
//! Everything here is inlined into functions defined by `simd!`, which compiles them for each instruction set and dispatches at
//! run time.

/// Compiles functions three times on x86-64, for AVX-512, for AVX2 with FMA and for any CPU, and dispatches at run time.
/// What they call must be `#[inline(always)]`, so that it is compiled with them.
macro_rules! simd {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "slices and their lengths")]
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $out)? {
                    plain($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    plain($($arg),*)
                }
                if $crate::lanes::has_avx512() {
                    #[expect(unsafe_code, reason = "the features were detected")]
                    // SAFETY: the processor has the features that the function is compiled for.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    #[expect(unsafe_code, reason = "the features were detected")]
                    // SAFETY: the processor has the features that the function is compiled for.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    )*};
}
pub(crate) use simd;

/// Whether the AVX-512 versions can run here.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
}

/// Elements of one accumulator.
const LANES: usize = 16;

/// e^x to 2 units in the last place; below −87.3 it is e^−87.3, negligible in a sum, and above 88 it is e^88. NaN stays
/// NaN: each failed comparison keeps x. Cephes' polynomial on [−ln 2/2, ln 2/2], scaled by a power of two.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    // The sum's last bits are the nearest integer.
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    let y = (p * r).mul_add(r, r) + 1.0;
    y * f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// The nearest f16, half to even, as f32. From 65 520 on it is infinite, and NaN stays NaN.
#[inline(always)]
pub(crate) fn half(x: f32) -> f32 {
    let (sign, bits) = (x.to_bits() & 0x8000_0000, x.to_bits() & 0x7fff_ffff);
    // 13 bits of the fraction are lost.
    let normal = (bits + 0xfff + (bits >> 13 & 1)) & !0x1fff;
    // Below 2^−14 f16 are multiples of 2^−24, as f32 between 1/2 and 1 are.
    let small = ((f32::from_bits(bits) + 0.5) - 0.5).to_bits();
    let size = if bits < 0x3880_0000 { small } else { normal };
    let size = if size >= 0x4780_0000 { 0x7f80_0000 } else { size };
    let size = if bits > 0x7f80_0000 { bits } else { size };
    f32::from_bits(sign | size)
}

/// tanh x: Cephes' polynomial near 0, `1 − 2/(e^2x + 1)` elsewhere.
#[inline(always)]
#[must_use]
pub fn tanh(x: f32) -> f32 {
    let z = x * x;
    let mut p = -5.704_988_7e-3f32;
    p = p.mul_add(z, 2.063_909e-2);
    p = p.mul_add(z, -5.373_971_6e-2);
    p = p.mul_add(z, 1.333_144_2e-1);
    p = p.mul_add(z, -3.333_328e-1);
    let near = (p * z).mul_add(x, x);
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if x.abs() < 0.625 { near } else { far }
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of `f` over pairs, by lanes, so that it vectorises in one fixed order.
#[inline(always)]
pub fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (pa, pb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut rest = 0.0;
    for (a, b) in pa.remainder().iter().zip(pb.remainder()) {
        rest += f(*a, *b);
    }
    for (a, b) in pa.zip(pb) {
        for i in 0..LANES {
            lanes[i] += f(a[i], b[i]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Σ a·b.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (pa, pb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut rest = 0f32;
    for (a, b) in pa.remainder().iter().zip(pb.remainder()) {
        rest = a.mul_add(*b, rest);
    }
    for (a, b) in pa.zip(pb) {
        for i in 0..LANES {
            lanes[i] = a[i].mul_add(b[i], lanes[i]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest element; −∞ of none. It ignores NaN, which e^(x − max) still
/// propagates.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let parts = x.chunks_exact(LANES);
    let rest = parts.remainder().iter().fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
    for part in parts {
        for i in 0..LANES {
            lanes[i] = if part[i] > lanes[i] { part[i] } else { lanes[i] };
        }
    }
    lanes.iter().fold(rest, |m, x| if *x > m { *x } else { m })
}

/// `y += a · x`.
#[inline(always)]
pub fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = a.mul_add(*x, *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units_and_never_negative() {
        let mut worst = 0f64;
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            worst = worst.max((got / want - 1.0).abs());
        }
        assert!(worst < 2.4e-7, "{worst}");
        assert!(exp(-1e30) > 0.0 && exp(-1e30) < 2e-38 && exp(0.0) == 1.0);
    }

    #[test]
    fn half_is_the_nearest_f16() {
        // Every f16 is itself, and between neighbours the nearer one is chosen, the even one in the middle.
        let value = |bits: u16| {
            let (exponent, fraction) = (i32::from(bits >> 10), f64::from(bits & 0x3ff));
            let size = if exponent == 0 { fraction } else { (1024.0 + fraction) * f64::from(exponent - 1).exp2() };
            (size * (-24f64).exp2()) as f32
        };
        for bits in 0..0x7bffu16 {
            let (low, high) = (value(bits), value(bits + 1));
            let middle = f32::midpoint(low, high);
            let even = if bits % 2 == 0 { low } else { high };
            let just = |x: f32, by: i32| f32::from_bits((x.to_bits() as i32 + by) as u32);
            assert_eq!((half(low), half(-low), half(middle)), (low, -low, even), "{bits}");
            assert_eq!((half(just(middle, -1)), half(just(middle, 1))), (low, high), "{bits}");
        }
        assert_eq!((half(65_519.9), half(65_520.0), half(-1e30)), (65_504.0, f32::INFINITY, f32::NEG_INFINITY));
        assert!(half(f32::NAN).is_nan() && half(f32::INFINITY) == f32::INFINITY);
    }

    #[test]
    fn sums_and_maxima_include_every_element() {
        for n in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let want: f32 = a.iter().map(|x| x * x).sum();
            assert_eq!((dot(&a, &a), sum2(&a, &a, |x, y| x * y)), (want, want));
            assert_eq!(max(&a), if n == 0 { f32::NEG_INFINITY } else { n as f32 - 1.0 });
        }
    }
}
