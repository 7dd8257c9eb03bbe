//! Weight matrices packed for decoding, and their products with a few rows: weights are read once for all rows.
//!
//! Owns the layout, the packing and the products. Eight outputs form a tile with interleaved weights, two tiles a pair,
//! so that a SIMD lane is an output and nothing is summed across lanes. Weights keep their size: blocks of 4 and 8
//! bits with their scales, bf16 if no precision is lost, else f32. Refuses to know where weights come from.
//!
//! Quantised weights meet inputs quantised to 8 bits (`x ≈ d·q`), in integers: `Σ w·x = d_w·d·Σ q_w·q + m_w·d·Σ q` for
//! a block of weights `w = d_w·q_w + m_w`. The inputs are rounded as llama.cpp rounds them for the weights' format
//! (`InputRounding`), so that only the order of sums differs. A block with an infinity or NaN has d = NaN, and so do all
//! products with it.
//!
//! **Invariant.** An output's sum has one order, whatever the number of rows and threads and the instruction set.

mod blocks;
mod floats;
mod input;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use blocks::QuantFormat;
use input::InputRounding;
pub use input::PackedInput;
use rayon::prelude::*;

/// Outputs of a tile.
pub const TILE: usize = 8;

/// Inputs of a block.
pub const BLOCK: usize = 32;

/// Rows multiplied with a run of tiles at once.
const ROWS: usize = 64;

/// Multiplications below which parallelism does not pay.
const ALONE: usize = 1 << 15;

/// The weights of a matrix: floats by pairs of tiles and input, blocks by tile.
enum Cells {
    /// `[input][output]`, of two tiles.
    Floats(Vec<f32>),
    /// The upper halves of f32, `[input][output]`.
    Halves(Vec<u16>),
    /// Blocks: 4 × 8 outputs × 4 bytes, low half-bytes inputs 0 to 15, high ones 16 to 31. Scales: 8 factors, 8 offsets.
    Nibbles(Vec<[u8; 128]>, Vec<[f32; 16]>),
    /// As [`Cells::Nibbles`], each less 8. Scales: 8 factors.
    Centred(Vec<[u8; 128]>, Vec<[f32; 8]>),
    /// Blocks: 8 × 8 outputs × 4 bytes. Scales: 8 factors.
    Bytes(Vec<[i8; 256]>, Vec<[f32; 8]>),
    /// As [`Cells::Bytes`] with factors for each half of a block.
    Halved(Vec<[i8; 256]>, Vec<[f32; 16]>),
}

/// A matrix (outputs, inputs) in tiles.
pub struct Matrix {
    out: usize,
    width: usize,
    cells: Cells,
    /// How its inputs are quantised; none for floats.
    rounding: Option<InputRounding>,
}

impl Matrix {
    /// From rows of f32, (out, width); stored as bf16 if no element loses precision.
    ///
    /// # Panics
    /// When the length does not fit.
    #[must_use]
    pub fn floats(rows: &[f32], out: usize, width: usize) -> Self {
        assert_eq!(Some(rows.len()), out.checked_mul(width), "a matrix of another size");
        let half = rows.par_iter().all(|x| x.to_bits().trailing_zeros() >= 16);
        let cells = if half {
            Cells::Halves(floats::tiled(rows, out, width, |x| (x.to_bits() >> 16) as u16))
        } else {
            Cells::Floats(floats::tiled(rows, out, width, |x| x))
        };
        Self { out, width, cells, rounding: None }
    }

    /// From the blocks of a file; output `o` is the row `from(o)` of `bytes`. None when the lengths do not fit.
    #[must_use]
    pub fn blocks(
        format: QuantFormat,
        bytes: &[u8],
        out: usize,
        width: usize,
        from: impl Fn(usize) -> usize + Sync,
    ) -> Option<Self> {
        let cells = blocks::packed(format, bytes, out, width, from)?;
        Some(Self { out, width, cells, rounding: Some(format.rounding()) })
    }

    /// Outputs.
    #[must_use]
    pub fn out(&self) -> usize {
        self.out
    }

    /// Inputs.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Tiles, an even number: the last one may have no output.
    #[must_use]
    pub fn tiles(&self) -> usize {
        2 * self.out.div_ceil(2 * TILE)
    }

    /// Whether its inputs must be quantised.
    #[must_use]
    pub fn is_quantised(&self) -> bool {
        self.rounding.is_some()
    }

    /// Memory of its weights in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.cells {
            Cells::Floats(x) => size_of_val(x.as_slice()),
            Cells::Halves(x) => size_of_val(x.as_slice()),
            Cells::Nibbles(q, s) => size_of_val(q.as_slice()) + size_of_val(s.as_slice()),
            Cells::Centred(q, s) => size_of_val(q.as_slice()) + size_of_val(s.as_slice()),
            Cells::Bytes(q, s) => size_of_val(q.as_slice()) + size_of_val(s.as_slice()),
            Cells::Halved(q, s) => size_of_val(q.as_slice()) + size_of_val(s.as_slice()),
        }
    }

    /// Row `o`, dequantised.
    ///
    /// # Panics
    /// When there is no such row or `row` has another width.
    pub fn row(&self, o: usize, row: &mut [f32]) {
        assert!(o < self.out && row.len() == self.width, "no such row");
        let (tile, lane) = (o / TILE, o % TILE);
        let first = o / floats::PAIR * self.width * floats::PAIR + o % floats::PAIR;
        let blocks = self.width / BLOCK;
        for (k, x) in row.iter_mut().enumerate() {
            let (b, g, j) = (tile * blocks + k / BLOCK, k % BLOCK / 4, k % 4);
            let nibble = |q: &[[u8; 128]]| {
                let pair = q[b][g % 4 * 32 + lane * 4 + j];
                if g < 4 { pair & 15 } else { pair >> 4 }
            };
            *x = match &self.cells {
                Cells::Floats(w) => w[first + k * floats::PAIR],
                Cells::Halves(w) => f32::from_bits(u32::from(w[first + k * floats::PAIR]) << 16),
                Cells::Nibbles(q, s) => f32::from(nibble(q)).mul_add(s[b][lane], s[b][8 + lane]),
                Cells::Centred(q, s) => (f32::from(nibble(q)) - 8.0) * s[b][lane],
                Cells::Bytes(q, s) => f32::from(q[b][g * 32 + lane * 4 + j]) * s[b][lane],
                Cells::Halved(q, s) => f32::from(q[b][g * 32 + lane * 4 + j]) * s[b][g / 4 * 8 + lane],
            };
        }
    }
}

/// The products of `x` with every matrix of `parts`, by tile: `y` (tiles of all parts, n, [`TILE`]).
///
/// # Panics
/// When the lengths do not fit.
pub fn products(parts: &[&Matrix], x: &PackedInput<'_>, y: &mut [f32]) {
    let n = x.len();
    let tiles: usize = parts.iter().map(|m| m.tiles()).sum();
    let size = tiles.checked_mul(n).and_then(|size| size.checked_mul(TILE));
    assert_eq!(Some(y.len()), size, "the destination has another size");
    if n == 0 || tiles == 0 {
        return;
    }
    // Tiles come in pairs, and so do all parts of the work.
    let some = |first: usize, y: &mut [f32]| {
        let mut start = 0;
        while start < n {
            let rows = start..n.min(start + ROWS);
            let into = rows.start * TILE..rows.end * TILE;
            for (i, y) in y.chunks_exact_mut(2 * n * TILE).enumerate() {
                let mut t = first + 2 * i;
                for m in parts {
                    if t < m.tiles() {
                        let (y, z) = y.split_at_mut(n * TILE);
                        tile::products(m, t, x, rows.clone(), [&mut y[into.clone()], &mut z[into.clone()]]);
                        break;
                    }
                    t -= m.tiles();
                }
            }
            start = rows.end;
        }
    };
    if tiles * TILE * x.width * n < ALONE {
        return some(0, y);
    }
    let part = 2 * tiles.div_ceil(8 * rayon::current_num_threads());
    y.par_chunks_mut(part * n * TILE).enumerate().for_each(|(i, y)| some(i * part, y));
}

/// Copies one matrix's outputs from tiles of `y`, which begin at `first`, into rows `to` of width `out`.
///
/// # Panics
/// When the lengths do not fit.
pub fn untile(y: &[f32], n: usize, first: usize, out: usize, to: &mut [f32]) {
    for (t, y) in y[first * n * TILE..].chunks_exact(n * TILE).take(out.div_ceil(TILE)).enumerate() {
        let wide = TILE.min(out - t * TILE);
        for (y, to) in y.chunks_exact(TILE).zip(to.chunks_exact_mut(out)) {
            to[t * TILE..t * TILE + wide].copy_from_slice(&y[..wide]);
        }
    }
}

#[cfg(test)]
mod tests;
