//! Counting values that are NaN or infinite, in the bytes of a file.
//!
//! Owns the bit patterns: such a value has all bits of its exponent set. Refuses to decode values.

/// How values lie in bytes, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// f64.
    F64,
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
    /// Blocks of that many bytes whose values are integers times f16 factors; the factors' places in a block.
    Blocks(usize, &'static [usize]),
}

impl Stored {
    /// Bytes of one value or block.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Blocks(bytes, _) => bytes,
        }
    }

    /// How many of the values or blocks are not finite. Bytes of an incomplete last one are left out.
    #[must_use]
    pub fn not_finite(self, bytes: &[u8]) -> usize {
        const F16: u16 = 0x7c00;
        let half = |b: &[u8], exponent: u16| u16::from_le_bytes([b[0], b[1]]) & exponent == exponent;
        match self {
            Self::F64 => {
                let (all, _) = bytes.as_chunks::<8>();
                all.iter().filter(|b| u64::from_le_bytes(**b) >> 52 & 0x7ff == 0x7ff).count()
            }
            Self::F32 => {
                let (all, _) = bytes.as_chunks::<4>();
                all.iter().filter(|b| u32::from_le_bytes(**b) >> 23 & 0xff == 0xff).count()
            }
            Self::F16 => bytes.as_chunks::<2>().0.iter().filter(|b| half(&b[..], F16)).count(),
            Self::Bf16 => bytes.as_chunks::<2>().0.iter().filter(|b| half(&b[..], 0x7f80)).count(),
            Self::Blocks(size, factors) => {
                let bad = |block: &&[u8]| factors.iter().any(|at| half(&block[*at..at + 2], F16));
                bytes.chunks_exact(size).filter(bad).count()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_sixteen_bits_is_told_as_its_float_is() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            // A bf16 is the upper half of an f32; an f16's exponent has five bits.
            let wide = f32::from_bits(u32::from(bits) << 16);
            assert_eq!(Stored::Bf16.not_finite(&bytes) == 0, wide.is_finite(), "{bits:#x}");
            assert_eq!(Stored::F16.not_finite(&bytes) == 0, bits >> 10 & 31 != 31, "{bits:#x}");
            let mut block = vec![0xff; 3];
            block.extend(bytes);
            let found = Stored::Blocks(5, &[3]).not_finite(&block);
            assert_eq!(found, Stored::F16.not_finite(&bytes), "{bits:#x}");
        }
    }

    #[test]
    fn each_value_counts_once_wherever_it_lies() {
        let values = [0.0, f64::NAN, -1.5, f64::INFINITY, f64::MAX, f64::NEG_INFINITY, f64::MIN_POSITIVE, -f64::NAN];
        let wide: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(Stored::F64.not_finite(&wide), 4);
        let narrow: Vec<u8> = values
            .iter()
            .flat_map(|x| (x.clamp(-1e30, 1e30) as f32 / if x.is_infinite() { 0.0 } else { 1.0 }).to_le_bytes())
            .collect();
        assert_eq!(Stored::F32.not_finite(&narrow), 4);
        assert_eq!(Stored::F32.not_finite(&narrow[..narrow.len() - 1]), 3, "the last value is incomplete");
        assert_eq!(Stored::Blocks(4, &[0, 2]).not_finite(&[0, 0, 0, 0x7c, 0, 0x7e, 0, 0xfc, 0, 0, 0, 0]), 2);
    }
}
