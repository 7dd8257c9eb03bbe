//! MXFP4, the 4-bit floats of the Open Compute Project's microscaling formats: 32 values share a power of two.
//!
//! Owns dequantising as `transformers` does (`integrations/mxfp4.py`). Refuses to quantise.

/// Values of a block.
pub(super) const BLOCK: usize = 32;

/// Bytes of a block: two values each, the lower half-byte first.
pub(super) const BYTES: usize = 16;

/// The values of E2M1, by their bits.
const VALUES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The power of two of a scale (E8M0): 2^(byte − 127), infinite for 255.
fn scale(byte: u8) -> f32 {
    // The least power is a subnormal number.
    if byte == 0 { f32::MIN_POSITIVE / 2.0 } else { f32::from_bits(u32::from(byte) << 23) }
}

/// Appends the values of whole blocks, of which each has a scale.
pub(super) fn dequantise(blocks: &[u8], scales: &[u8], values: &mut Vec<f32>) {
    for (block, byte) in blocks.chunks_exact(BYTES).zip(scales) {
        let scale = scale(*byte);
        let half = |bits: u8| VALUES[usize::from(bits)] * scale;
        values.extend(block.iter().flat_map(|pair| [half(pair & 15), half(pair >> 4)]));
    }
}

/// The values of ggml's blocks: the scale's byte, then numbers i and i + 16 as the low and the high half of byte i.
pub(super) fn of_ggml(raw: &[u8]) -> Vec<f32> {
    let mut values = Vec::with_capacity(raw.len() / (BYTES + 1) * BLOCK);
    for block in raw.chunks_exact(BYTES + 1) {
        let scale = scale(block[0]);
        let half = |bits: u8| VALUES[usize::from(bits)] * scale;
        values.extend(block[1..].iter().map(|pair| half(pair & 15)));
        values.extend(block[1..].iter().map(|pair| half(pair >> 4)));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_power_of_two() {
        for byte in 0..=254_u8 {
            assert_eq!(f64::from(scale(byte)), 2f64.powi(i32::from(byte) - 127), "{byte}");
        }
        assert!(scale(255).is_infinite());
    }

    /// Every half-byte with the smallest and the largest scales, as `transformers` dequantises them.
    #[test]
    fn every_pair_of_values_equals_transformers() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/mxfp4.safetensors");
        let held = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
        let bytes = |name: &str| held[name].flatten_all().unwrap().to_vec1::<u8>().unwrap();
        let wide = held["edges.values"].to_dtype(candle_core::DType::F32).unwrap();
        let want: Vec<f32> = wide.flatten_all().unwrap().to_vec1().unwrap();
        let mut got = Vec::new();
        dequantise(&bytes("edges.blocks"), &bytes("edges.scales"), &mut got);
        let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!((got.len(), bits(&got)), (5 * 512, bits(&want)));
    }

    #[test]
    fn the_lower_half_byte_comes_first() {
        let mut block = [0; BYTES];
        block[0] = 0x72;
        block[15] = 0x9d;
        let mut values = Vec::new();
        dequantise(&block, &[129], &mut values);
        assert_eq!((values.len(), values[0], values[1]), (BLOCK, 4.0, 24.0));
        assert_eq!((values[30], values[31]), (-12.0, -2.0));
    }
}
