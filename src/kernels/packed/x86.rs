//! Integer products with the vector instructions of x86-64: a lane of 32 bits is an output, four inputs at a time.
//!
//! Two versions with the same results: AVX2, and AVX-512's VNNI on vectors of 256 bits, which multiplies and adds four
//! bytes in one instruction.

use super::tile::QuantRows;
use super::{BLOCK, TILE};
use std::arch::x86_64::{
    __m256, __m256i, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_cvtepi32_ps,
    _mm256_dpbusd_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_sign_epi8, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_epi32,
};

/// Whether the AVX2 version can run here.
pub(super) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Whether the version with VNNI can run here.
pub(super) fn has_vnni() -> bool {
    crate::lanes::has_avx512() && std::arch::is_x86_feature_detected!("avx512vnni")
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load<T>(bytes: &[T]) -> __m256i {
    assert!(size_of_val(bytes) >= 32);
    #[expect(unsafe_code, reason = "the load takes a pointer")]
    // SAFETY: 32 bytes are there; the load asks for no alignment.
    unsafe {
        _mm256_loadu_si256(bytes.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn floats(x: &[f32]) -> __m256 {
    assert!(x.len() >= 8);
    #[expect(unsafe_code, reason = "the load takes a pointer")]
    // SAFETY: 8 numbers are there; the load asks for no alignment.
    unsafe {
        _mm256_loadu_ps(x.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn store(to: &mut [f32], x: __m256) {
    assert!(to.len() >= TILE);
    #[expect(unsafe_code, reason = "the store takes a pointer")]
    // SAFETY: there is room for 8 numbers; the store asks for no alignment.
    unsafe {
        _mm256_storeu_ps(to.as_mut_ptr(), x);
    }
}

/// Inputs 4g to 4g + 3 in every lane.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn four(x: &[i8; BLOCK], g: usize) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes([0, 1, 2, 3].map(|i| x[4 * g + i] as u8)))
}

/// The nibbles of a block, four inputs a vector.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn unpacked(q: &[u8; 128]) -> [__m256i; 8] {
    let low = _mm256_set1_epi8(15);
    let mut w = [_mm256_setzero_si256(); 8];
    for v in 0..4 {
        let both = load(&q[32 * v..32 * v + 32]);
        w[v] = _mm256_and_si256(both, low);
        w[v + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
    }
    w
}

/// The products by tile from those of a block: `block` of nibbles with an input, and `four`, which adds those of four
/// unsigned bytes with four signed ones.
macro_rules! products {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        pub(in crate::packed) fn nibbles<const N: usize>(
            q: &[[u8; 128]],
            s: &[[f32; 16]],
            rows: QuantRows<'_, N>,
            y: &mut [f32],
        ) {
            let mut sums = [_mm256_setzero_ps(); N];
            for (b, (q, s)) in q.iter().zip(s).enumerate() {
                let w = unpacked(q);
                let (factor, offset) = (floats(&s[..8]), floats(&s[8..]));
                for (sum, row) in sums.iter_mut().zip(&rows) {
                    let whole = _mm256_cvtepi32_ps(block(&w, &row.q[b]));
                    *sum = _mm256_fmadd_ps(whole, _mm256_mul_ps(factor, _mm256_set1_ps(row.factor[b])), *sum);
                    *sum = _mm256_fmadd_ps(offset, _mm256_set1_ps(row.sum[b]), *sum);
                }
            }
            for (y, sum) in y.chunks_exact_mut(TILE).zip(sums) {
                store(y, sum);
            }
        }

        #[target_feature(enable = $features)]
        pub(in crate::packed) fn centred<const N: usize>(
            q: &[[u8; 128]],
            s: &[[f32; 8]],
            rows: QuantRows<'_, N>,
            y: &mut [f32],
        ) {
            let mut sums = [_mm256_setzero_ps(); N];
            for (b, (q, s)) in q.iter().zip(s).enumerate() {
                let w = unpacked(q);
                let factor = floats(s);
                for (sum, row) in sums.iter_mut().zip(&rows) {
                    // Σ (w − 8)·x.
                    let whole = _mm256_sub_epi32(block(&w, &row.q[b]), _mm256_set1_epi32(8 * row.whole[b]));
                    let factor = _mm256_mul_ps(factor, _mm256_set1_ps(row.factor[b]));
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), factor, *sum);
                }
            }
            for (y, sum) in y.chunks_exact_mut(TILE).zip(sums) {
                store(y, sum);
            }
        }

        /// S scales of a block in P parts.
        #[target_feature(enable = $features)]
        pub(in crate::packed) fn bytes<const N: usize, const S: usize, const P: usize>(
            q: &[[i8; 256]],
            s: &[[f32; S]],
            rows: QuantRows<'_, N>,
            y: &mut [f32],
        ) {
            let mut sums = [_mm256_setzero_ps(); N];
            for (b, (q, s)) in q.iter().zip(s).enumerate() {
                for part in 0..P {
                    let factor = floats(&s[8 * part..8 * part + 8]);
                    let mut whole = [_mm256_setzero_si256(); N];
                    for g in part * 8 / P..(part + 1) * 8 / P {
                        let w = load(&q[32 * g..32 * g + 32]);
                        let size = _mm256_abs_epi8(w);
                        for (whole, row) in whole.iter_mut().zip(&rows) {
                            // |w| · (x with w's sign): a pair is at most 2·128·127, within 16 bits.
                            *whole = add(*whole, size, _mm256_sign_epi8(four(&row.q[b], g), w));
                        }
                    }
                    for ((sum, whole), row) in sums.iter_mut().zip(whole).zip(&rows) {
                        let factor = _mm256_mul_ps(factor, _mm256_set1_ps(row.factor[b]));
                        *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), factor, *sum);
                    }
                }
            }
            for (y, sum) in y.chunks_exact_mut(TILE).zip(sums) {
                store(y, sum);
            }
        }
    };
}

pub(super) mod avx2 {
    //! With AVX2 and FMA.

    #[allow(clippy::wildcard_imports, reason = "the macro's body needs all of it; the lint is silent in tests")]
    use super::*;

    /// The products of a block's nibbles with an input.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn block(w: &[__m256i; 8], x: &[i8; BLOCK]) -> __m256i {
        // 16 products of at most 15·127 are 30 480: no sum of 16 bits overflows.
        let mut pairs = _mm256_maddubs_epi16(w[0], four(x, 0));
        for (g, w) in w.iter().enumerate().skip(1) {
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(*w, four(x, g)));
        }
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }

    /// `sum` and the products of four unsigned bytes with four signed ones.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn add(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1)))
    }

    products!("avx2,fma");
}

pub(super) mod vnni {
    //! With AVX-512's VNNI.

    #[allow(clippy::wildcard_imports, reason = "the macro's body needs all of it; the lint is silent in tests")]
    use super::*;

    /// The products of a block's nibbles with an input: two sums, which hide the latency of the instruction.
    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
    fn block(w: &[__m256i; 8], x: &[i8; BLOCK]) -> __m256i {
        let mut sums = [_mm256_setzero_si256(); 2];
        for (g, w) in w.iter().enumerate() {
            sums[g % 2] = _mm256_dpbusd_epi32(sums[g % 2], *w, four(x, g));
        }
        _mm256_add_epi32(sums[0], sums[1])
    }

    /// As the one of AVX2.
    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512vnni")]
    fn add(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        _mm256_dpbusd_epi32(sum, unsigned, signed)
    }

    products!("avx2,fma,avx512f,avx512vl,avx512vnni");
}
