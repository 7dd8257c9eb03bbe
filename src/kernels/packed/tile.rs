//! Products of rows with one tile: the choice of instructions, and integer products.

use super::{BLOCK, Cells, Matrix, PackedInput, TILE, floats};
use std::ops::Range;

/// Rows multiplied with a quantised tile at once.
const TOGETHER: usize = 4;

/// N quantised rows.
type Rows<'a, const N: usize> = [Row<'a>; N];

#[derive(Clone, Copy)]
struct Row<'a> {
    q: &'a [[i8; BLOCK]],
    factor: &'a [f32],
    sum: &'a [f32],
}

/// The blocks of a tile.
#[derive(Clone, Copy)]
enum Tile<'a> {
    Nibbles(&'a [[u8; 128]], &'a [[f32; 16]]),
    Bytes(&'a [[i8; 256]], &'a [[f32; 8]]),
    Halved(&'a [[i8; 256]], &'a [[f32; 16]]),
}

/// `rows` of `x` with tiles `t` and `t + 1` of `m`, a pair, to y (rows, [`TILE`]) of each.
pub(super) fn products(m: &Matrix, t: usize, x: &PackedInput<'_>, rows: Range<usize>, y: [&mut [f32]; 2]) {
    let w = m.width;
    let cells = t * TILE * w..(t + 2) * TILE * w;
    let floats = &x.rows[rows.start * w..rows.end * w];
    match &m.cells {
        Cells::Floats(c) => return floats::product(&c[cells], floats, w, y),
        Cells::Halves(c) => return floats::product(&c[cells], floats, w, y),
        _ => {}
    }
    let tiles = m.out.div_ceil(TILE);
    for (t, y) in (t..tiles).zip(y) {
        blocks(m, t, x, rows.clone(), y);
    }
}

/// `rows` of `x` with the quantised tile `t` of `m` to y (rows, [`TILE`]).
fn blocks(m: &Matrix, t: usize, x: &PackedInput<'_>, rows: Range<usize>, y: &mut [f32]) {
    let blocks = m.width / BLOCK;
    let at = t * blocks..(t + 1) * blocks;
    let tile = match &m.cells {
        Cells::Floats(_) | Cells::Halves(_) => return,
        Cells::Nibbles(q, s) => Tile::Nibbles(&q[at.clone()], &s[at]),
        Cells::Bytes(q, s) => Tile::Bytes(&q[at.clone()], &s[at]),
        Cells::Halved(q, s) => Tile::Halved(&q[at.clone()], &s[at]),
    };
    let row = |n: usize| {
        let at = n * blocks..(n + 1) * blocks;
        Row { q: &x.quantised.q[at.clone()], factor: &x.quantised.factor[at.clone()], sum: &x.quantised.sum[at] }
    };
    let fast = fast();
    let (mut n, mut y) = (rows.start, y);
    while n < rows.end {
        let here = (rows.end - n).min(TOGETHER);
        let (into, left) = y.split_at_mut(here * TILE);
        match here {
            1 => some(fast, tile, [row(n)], into),
            2 => some(fast, tile, [row(n), row(n + 1)], into),
            3 => some(fast, tile, [row(n), row(n + 1), row(n + 2)], into),
            _ => some(fast, tile, [row(n), row(n + 1), row(n + 2), row(n + 3)], into),
        }
        (n, y) = (n + here, left);
    }
}

/// Whether the AVX2 versions can run here.
pub(super) fn fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn some<const N: usize>(fast: bool, tile: Tile<'_>, rows: Rows<'_, N>, y: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if fast {
        #[expect(unsafe_code, reason = "the features were detected")]
        // SAFETY: `fast` says that the processor has the features these functions are compiled for.
        return unsafe {
            match tile {
                Tile::Nibbles(q, s) => avx2::nibbles(q, s, rows, y),
                Tile::Bytes(q, s) => avx2::bytes::<N, 8, 1>(q, s, rows, y),
                Tile::Halved(q, s) => avx2::bytes::<N, 16, 2>(q, s, rows, y),
            }
        };
    }
    let _ = fast;
    match tile {
        Tile::Nibbles(q, s) => plain(
            q.len(),
            rows,
            y,
            |b, k, lane| {
                let pair = q[b][k % 16 / 4 * 32 + lane * 4 + k % 4];
                let n = if k < 16 { pair & 15 } else { pair >> 4 };
                (i32::from(n), s[b][lane], s[b][8 + lane])
            },
            1,
        ),
        Tile::Bytes(q, s) => {
            plain(q.len(), rows, y, |b, k, lane| (i32::from(q[b][k / 4 * 32 + lane * 4 + k % 4]), s[b][lane], 0.0), 1);
        }
        Tile::Halved(q, s) => plain(
            q.len(),
            rows,
            y,
            |b, k, lane| (i32::from(q[b][k / 4 * 32 + lane * 4 + k % 4]), s[b][k / 16 * 8 + lane], 0.0),
            2,
        ),
    }
}

/// The portable products: `cell` returns weight, factor and offset of (block, input, output), and a
/// block has `parts` factors. Same order of sums as the SIMD versions, so the results are equal.
fn plain<const N: usize>(
    blocks: usize,
    rows: Rows<'_, N>,
    y: &mut [f32],
    cell: impl Fn(usize, usize, usize) -> (i32, f32, f32),
    parts: usize,
) {
    for (row, y) in rows.iter().zip(y.as_chunks_mut::<TILE>().0) {
        for (lane, y) in y.iter_mut().enumerate() {
            let mut sum = 0f32;
            for b in 0..blocks {
                let span = BLOCK / parts;
                for part in 0..parts {
                    let inputs = part * span..(part + 1) * span;
                    let whole: i32 = inputs.map(|k| cell(b, k, lane).0 * i32::from(row.q[b][k])).sum();
                    let (_, factor, _) = cell(b, part * span, lane);
                    sum = (whole as f32).mul_add(factor * row.factor[b], sum);
                }
                sum = cell(b, 0, lane).2.mul_add(row.sum[b], sum);
            }
            *y = sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The same with AVX2: a lane of 32 bits is an output, four inputs at a time.

    use super::{BLOCK, Rows, TILE};
    use std::arch::x86_64::{
        __m256, __m256i, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_cvtepi32_ps,
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps,
        _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_setzero_si256, _mm256_sign_epi8, _mm256_srli_epi16, _mm256_storeu_ps,
    };

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

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn nibbles<const N: usize>(q: &[[u8; 128]], s: &[[f32; 16]], rows: Rows<'_, N>, y: &mut [f32]) {
        let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let mut sums = [_mm256_setzero_ps(); N];
        for (b, (q, s)) in q.iter().zip(s).enumerate() {
            let mut w = [_mm256_setzero_si256(); 8];
            for v in 0..4 {
                let both = load(&q[32 * v..32 * v + 32]);
                w[v] = _mm256_and_si256(both, low);
                w[v + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
            }
            let (factor, offset) = (floats(&s[..8]), floats(&s[8..]));
            for (sum, row) in sums.iter_mut().zip(&rows) {
                let x = &row.q[b];
                // 16 products of at most 15·127 are 30 480: no sum of 16 bits overflows.
                let mut pairs = _mm256_maddubs_epi16(w[0], four(x, 0));
                for (g, w) in w.iter().enumerate().skip(1) {
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(*w, four(x, g)));
                }
                let whole = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
                *sum = _mm256_fmadd_ps(whole, _mm256_mul_ps(factor, _mm256_set1_ps(row.factor[b])), *sum);
                *sum = _mm256_fmadd_ps(offset, _mm256_set1_ps(row.sum[b]), *sum);
            }
        }
        for (y, sum) in y.chunks_exact_mut(TILE).zip(sums) {
            store(y, sum);
        }
    }

    /// S scales of a block in P parts.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn bytes<const N: usize, const S: usize, const P: usize>(
        q: &[[i8; 256]],
        s: &[[f32; S]],
        rows: Rows<'_, N>,
        y: &mut [f32],
    ) {
        let ones = _mm256_set1_epi16(1);
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
                        let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(four(&row.q[b], g), w));
                        *whole = _mm256_add_epi32(*whole, _mm256_madd_epi16(pairs, ones));
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
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The portable product, whatever the CPU.
    pub(in crate::packed) fn portable(m: &Matrix, t: usize, x: &PackedInput<'_>, n: usize, y: &mut [f32]) {
        let blocks = m.width / BLOCK;
        let (at, of) = (t * blocks..(t + 1) * blocks, n * blocks..(n + 1) * blocks);
        let tile = match &m.cells {
            Cells::Nibbles(q, s) => Tile::Nibbles(&q[at.clone()], &s[at]),
            Cells::Bytes(q, s) => Tile::Bytes(&q[at.clone()], &s[at]),
            Cells::Halved(q, s) => Tile::Halved(&q[at.clone()], &s[at]),
            _ => panic!("no blocks"),
        };
        let q = &x.quantised;
        some(false, tile, [Row { q: &q.q[of.clone()], factor: &q.factor[of.clone()], sum: &q.sum[of] }], y);
    }
}
