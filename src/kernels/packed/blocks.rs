//! The quantised blocks of GGUF files, and their packing into tiles.
//!
//! The formats are those of ggml (`ggml-common.h`, `ggml-quants.c`): a block has one or more scales and integers.

use super::{BLOCK, Cells, InputRounding, TILE};
use rayon::prelude::*;

/// The quantisation format of a block of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantFormat {
    /// 32 weights: a factor, 4 bits each, less 8.
    Q4_0,
    /// 32 weights: a factor, an offset, 4 bits each.
    Q4_1,
    /// 32 weights: a factor, 8 bits each.
    Q8_0,
    /// 256 weights in eights of 32: factors and offsets of 6 bits, 4 bits each.
    Q4K,
    /// 256 weights in sixteenths of 16: factors of 8 bits, 6 bits each, less 32.
    Q6K,
}

impl QuantFormat {
    /// Weights and bytes of a block.
    fn sizes(self) -> (usize, usize) {
        match self {
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q6K => (256, 210),
        }
    }

    /// How llama.cpp rounds the inputs of its products.
    pub(super) fn rounding(self) -> InputRounding {
        match self {
            Self::Q4_0 | Self::Q8_0 => InputRounding::Narrow,
            Self::Q4_1 => InputRounding::Summed,
            Self::Q4K | Self::Q6K => InputRounding::Wide,
        }
    }
}

/// 32 weights as integers: `factor[i / 16]·q[i] + offset`.
struct Block {
    q: [i8; BLOCK],
    factor: [f32; 2],
    offset: f32,
}

/// An f16 as f32.
fn f16(bytes: &[u8]) -> f32 {
    let bits = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (sign, exponent, fraction) = ((bits & 0x8000) << 16, bits >> 10 & 31, bits & 0x3ff);
    match exponent {
        // Below the smallest normal number: fraction · 2^−24.
        0 => f32::from_bits(sign | (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The nibbles of 16 bytes, the low ones first.
fn nibbles(bytes: &[u8]) -> [i8; BLOCK] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 } as i8)
}

/// Part `at` (32 weights) of a block in the file.
fn read(format: QuantFormat, block: &[u8], at: usize) -> Block {
    match format {
        // Less 8, which the products subtract.
        QuantFormat::Q4_0 => Block { q: nibbles(&block[2..]), factor: [f16(block); 2], offset: 0.0 },
        QuantFormat::Q4_1 => Block { q: nibbles(&block[4..]), factor: [f16(block); 2], offset: f16(&block[2..]) },
        QuantFormat::Q8_0 => {
            Block { q: std::array::from_fn(|i| block[2 + i] as i8), factor: [f16(block); 2], offset: 0.0 }
        }
        QuantFormat::Q4K => {
            let s = &block[4..16];
            let (scale, least) = if at < 4 {
                (s[at] & 63, s[at + 4] & 63)
            } else {
                (s[at + 4] & 15 | s[at - 4] >> 6 << 4, s[at + 4] >> 4 | s[at] >> 6 << 4)
            };
            let q = &block[16 + at / 2 * 32..];
            let q = std::array::from_fn(|i| if at.is_multiple_of(2) { q[i] & 15 } else { q[i] >> 4 } as i8);
            Block { q, factor: [f16(block) * f32::from(scale); 2], offset: -f16(&block[2..]) * f32::from(least) }
        }
        QuantFormat::Q6K => {
            let (half, part) = (at / 4, at % 4);
            let low = &block[half * 64 + part % 2 * 32..];
            let high = &block[128 + half * 32..];
            let q = std::array::from_fn(|i| {
                let four = if part < 2 { low[i] & 15 } else { low[i] >> 4 };
                (four | (high[i] >> (2 * part) & 3) << 4) as i8 - 32
            });
            let d = f16(&block[208..]);
            let factor = [0, 1].map(|i| d * f32::from(block[192 + half * 8 + part * 2 + i] as i8));
            Block { q, factor, offset: 0.0 }
        }
    }
}

/// Packs a matrix into tiles; none when the lengths do not fit.
pub(super) fn packed(
    format: QuantFormat,
    bytes: &[u8],
    out: usize,
    width: usize,
    from: impl Fn(usize) -> usize + Sync,
) -> Option<Cells> {
    let (weights, size) = format.sizes();
    let row = (width / weights).checked_mul(size)?;
    if width == 0
        || !width.is_multiple_of(weights)
        || Some(bytes.len()) != row.checked_mul(out)
        || (0..out).any(|o| from(o) >= out)
    {
        return None;
    }
    let (blocks, parts) = (width / BLOCK, weights / BLOCK);
    let tiles = out.div_ceil(TILE);
    // Calls `put(block in tile, lane, block)` for every block of a tile.
    let each = |tile: usize, put: &mut dyn FnMut(usize, usize, Block)| {
        for lane in 0..TILE.min(out - tile * TILE) {
            let row = &bytes[from(tile * TILE + lane) * row..][..row];
            for b in 0..blocks {
                put(b, lane, read(format, &row[b / parts * size..][..size], b % parts));
            }
        }
    };
    let group = |q: &mut [i8; 256], lane: usize, block: &Block| {
        for (i, x) in block.q.iter().enumerate() {
            q[i / 4 * 32 + lane * 4 + i % 4] = *x;
        }
    };
    let halves = |q: &mut [u8; 128], lane: usize, block: &Block| {
        for i in 0..16 {
            q[i / 4 * 32 + lane * 4 + i % 4] = block.q[i] as u8 | (block.q[i + 16] as u8) << 4;
        }
    };
    Some(match format {
        QuantFormat::Q4_0 => {
            let (mut q, mut s) = (vec![[0u8; 128]; tiles * blocks], vec![[0f32; 8]; tiles * blocks]);
            q.par_chunks_mut(blocks).zip(s.par_chunks_mut(blocks)).enumerate().for_each(|(t, (q, s))| {
                each(t, &mut |b, lane, block| {
                    halves(&mut q[b], lane, &block);
                    s[b][lane] = block.factor[0];
                });
            });
            Cells::Centred(q, s)
        }
        QuantFormat::Q4_1 | QuantFormat::Q4K => {
            let (mut q, mut s) = (vec![[0u8; 128]; tiles * blocks], vec![[0f32; 16]; tiles * blocks]);
            q.par_chunks_mut(blocks).zip(s.par_chunks_mut(blocks)).enumerate().for_each(|(t, (q, s))| {
                each(t, &mut |b, lane, block| {
                    halves(&mut q[b], lane, &block);
                    (s[b][lane], s[b][8 + lane]) = (block.factor[0], block.offset);
                });
            });
            Cells::Nibbles(q, s)
        }
        QuantFormat::Q8_0 => {
            let (mut q, mut s) = (vec![[0i8; 256]; tiles * blocks], vec![[0f32; 8]; tiles * blocks]);
            q.par_chunks_mut(blocks).zip(s.par_chunks_mut(blocks)).enumerate().for_each(|(t, (q, s))| {
                each(t, &mut |b, lane, block| {
                    group(&mut q[b], lane, &block);
                    s[b][lane] = block.factor[0];
                });
            });
            Cells::Bytes(q, s)
        }
        QuantFormat::Q6K => {
            let (mut q, mut s) = (vec![[0i8; 256]; tiles * blocks], vec![[0f32; 16]; tiles * blocks]);
            q.par_chunks_mut(blocks).zip(s.par_chunks_mut(blocks)).enumerate().for_each(|(t, (q, s))| {
                each(t, &mut |b, lane, block| {
                    group(&mut q[b], lane, &block);
                    (s[b][lane], s[b][8 + lane]) = (block.factor[0], block.factor[1]);
                });
            });
            Cells::Halved(q, s)
        }
    })
}
