//! Products against their definition, in every format, alone and with other rows, with and without SIMD instructions.

use super::*;

fn noise(n: usize, seed: u32) -> Vec<u8> {
    let mut x = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        (x >> 11) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Blocks of random bytes with finite scales.
fn matrix(format: QuantFormat, out: usize, width: usize) -> Matrix {
    let (weights, size, scales): (usize, usize, &[usize]) = match format {
        QuantFormat::Q4_0 => (32, 18, &[0]),
        QuantFormat::Q4_1 => (32, 20, &[0, 2]),
        QuantFormat::Q8_0 => (32, 34, &[0]),
        QuantFormat::Q4K => (256, 144, &[0, 2]),
        QuantFormat::Q6K => (256, 210, &[208]),
    };
    let mut bytes = noise(out * width / weights * size, 3);
    for block in bytes.chunks_exact_mut(size) {
        for at in scales {
            // Between 2^-7 and 2^-5.
            block[at + 1] = 0x20 | block[at + 1] & 7;
        }
    }
    // Rows are taken in reverse.
    Matrix::blocks(format, &bytes, out, width, |o| out - 1 - o).unwrap()
}

fn inputs(n: usize, width: usize) -> Vec<f32> {
    noise(n * width, 9).iter().map(|b| f32::from(*b) / 64.0 - 2.0).collect()
}

fn multiplied(m: &Matrix, x: &[f32]) -> Vec<f32> {
    let n = x.len() / m.width();
    let mut y = vec![f32::NAN; m.tiles() * n * TILE];
    products(&[m], &PackedInput::new(x, m.width(), &[m]), &mut y);
    let mut rows = vec![0.0; n * m.out()];
    untile(&y, n, 0, m.out(), &mut rows);
    rows
}

impl Matrix {
    /// The portable products of a matrix of floats by tile, whatever the CPU.
    fn portable(&self, x: &[f32], n: usize) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.tiles() * n * TILE];
        let size = self.width * floats::PAIR;
        for (pair, y) in y.chunks_exact_mut(2 * n * TILE).enumerate() {
            let (first, second) = y.split_at_mut(n * TILE);
            let at = pair * size..(pair + 1) * size;
            match &self.cells {
                Cells::Floats(c) => floats::plain(&c[at], x, self.width, [first, second]),
                Cells::Halves(c) => floats::plain(&c[at], x, self.width, [first, second]),
                _ => unreachable!("no floats"),
            }
        }
        y
    }
}

#[test]
fn products_equal_their_definition_and_do_not_depend_on_other_rows_or_instructions() {
    let (out, width, n) = (27, 512, 13);
    let x = inputs(n, width);
    let floats: Vec<f32> = inputs(out, width).iter().map(|x| x * 0.37).collect();
    let halves: Vec<f32> = floats.iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect();
    let all = [QuantFormat::Q4_0, QuantFormat::Q4_1, QuantFormat::Q8_0, QuantFormat::Q4K, QuantFormat::Q6K]
        .map(|c| matrix(c, out, width));
    let all = all.into_iter().chain([floats, halves].map(|f| Matrix::floats(&f, out, width)));
    for m in all {
        let y = multiplied(&m, &x);
        for r in 0..n {
            assert_eq!(y[r * out..(r + 1) * out], multiplied(&m, &x[r * width..(r + 1) * width]));
        }
        let mut w = vec![0.0; width];
        for o in 0..out {
            m.row(o, &mut w);
            for r in 0..n {
                let terms: Vec<f64> =
                    w.iter().zip(&x[r * width..]).map(|(w, x)| f64::from(*w) * f64::from(*x)).collect();
                let (want, size) = (terms.iter().sum::<f64>(), terms.iter().map(|t| t * t).sum::<f64>().sqrt());
                let bar = if m.is_quantised() { 0.02 * size + 1e-4 } else { 1e-5 * size };
                let off = (f64::from(y[r * out + o]) - want).abs();
                assert!(off < bar, "{off} of {want}, {size}");
            }
        }
        if m.is_quantised() {
            let input = PackedInput::new(&x, width, &[&m]);
            for (t, r) in [(0, 0), (1, 4), (3, 8)] {
                for instructions in tile::Instructions::all() {
                    let got = tile::tests::with(*instructions, &m, t, &input, r);
                    let outs = (out - t * TILE).min(TILE);
                    assert_eq!(got[..outs], y[r * out + t * TILE..][..outs], "{instructions:?}");
                }
            }
        } else {
            let (cells, pair) = (m.portable(&x, n), n * TILE);
            for (t, tile) in cells.chunks_exact(pair).enumerate().take(out.div_ceil(TILE)) {
                for (r, sums) in tile.chunks_exact(TILE).enumerate() {
                    let outs = (out - t * TILE).min(TILE);
                    assert_eq!(sums[..outs], y[r * out + t * TILE..][..outs]);
                }
            }
        }
    }
}

#[test]
fn several_matrices_are_multiplied_at_once() {
    let (a, b) = (matrix(QuantFormat::Q4_1, 16, 64), matrix(QuantFormat::Q8_0, 5, 64));
    let x = inputs(3, 64);
    let mut y = vec![0.0; (a.tiles() + b.tiles()) * 3 * TILE];
    products(&[&a, &b], &PackedInput::new(&x, 64, &[&a, &b]), &mut y);
    let (mut left, mut right) = (vec![0.0; 48], vec![0.0; 15]);
    untile(&y, 3, 0, 16, &mut left);
    untile(&y, 3, a.tiles(), 5, &mut right);
    assert_eq!((left, right), (multiplied(&a, &x), multiplied(&b, &x)));
}

#[test]
fn blocks_that_do_not_fill_their_rows_are_refused() {
    assert!(Matrix::blocks(QuantFormat::Q8_0, &[0; 34], 1, 31, |o| o).is_none());
    assert!(Matrix::blocks(QuantFormat::Q8_0, &[0; 33], 1, 32, |o| o).is_none());
    assert!(Matrix::blocks(QuantFormat::Q8_0, &[0; 34], 1, 32, |o| o + 1).is_none());
}
