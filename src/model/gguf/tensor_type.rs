//! The tensor types of GGUF files: which can be read, how large they are, and the names of the others.

use crate::model::mxfp4;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{Device, Tensor};
use std::borrow::Cow;
use tiebreak_kernels::finite::Stored;

/// How a type's blocks are decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Decoder {
    Candle(GgmlDType),
    /// A scale and 32 indices of 4 bits into [`IQ4_NL`].
    Iq4Nl,
    /// A power of two and 32 floats of 4 bits.
    Mxfp4,
}

/// A tensor type that can be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TensorType {
    decoder: Decoder,
    /// Numbers in a block.
    pub(super) block: usize,
    /// Bytes of a block.
    pub(super) bytes: usize,
    /// Where a block's factors lie.
    factors: &'static [usize],
}

/// A row of [`READ`].
type TypeRow = (u32, &'static str, Decoder, usize, usize, &'static [usize]);

/// Number in the file, name, and how it is decoded: the block's numbers and bytes, and where its f16 factors lie.
const READ: &[TypeRow] = &[
    (0, "F32", Decoder::Candle(GgmlDType::F32), 1, 4, &[]),
    (1, "F16", Decoder::Candle(GgmlDType::F16), 1, 2, &[]),
    (2, "Q4_0", Decoder::Candle(GgmlDType::Q4_0), 32, 18, &[0]),
    (3, "Q4_1", Decoder::Candle(GgmlDType::Q4_1), 32, 20, &[0, 2]),
    (6, "Q5_0", Decoder::Candle(GgmlDType::Q5_0), 32, 22, &[0]),
    (7, "Q5_1", Decoder::Candle(GgmlDType::Q5_1), 32, 24, &[0, 2]),
    (8, "Q8_0", Decoder::Candle(GgmlDType::Q8_0), 32, 34, &[0]),
    (10, "Q2_K", Decoder::Candle(GgmlDType::Q2K), 256, 84, &[80, 82]),
    (11, "Q3_K", Decoder::Candle(GgmlDType::Q3K), 256, 110, &[108]),
    (12, "Q4_K", Decoder::Candle(GgmlDType::Q4K), 256, 144, &[0, 2]),
    (13, "Q5_K", Decoder::Candle(GgmlDType::Q5K), 256, 176, &[0, 2]),
    (14, "Q6_K", Decoder::Candle(GgmlDType::Q6K), 256, 210, &[208]),
    (20, "IQ4_NL", Decoder::Iq4Nl, 32, 18, &[0]),
    (39, "MXFP4", Decoder::Mxfp4, 32, 1 + mxfp4::BYTES, &[]),
    (30, "BF16", Decoder::Candle(GgmlDType::BF16), 1, 2, &[]),
];

/// The types that are refused by name (`enum ggml_type` of ggml.h).
const REFUSED: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
];

/// The largest alignment of a block type, in bytes.
const ALIGNMENT: usize = 8;

/// The values of IQ4_NL's indices (`kvalues_iq4nl` of ggml).
const IQ4_NL: [f32; 16] = [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

impl TensorType {
    /// The type of that number.
    ///
    /// # Errors
    /// When it cannot be read; the message names it, and a file of the same model that can be.
    pub(super) fn of(kind: u32) -> Result<Self, String> {
        if let Some((.., decoder, block, bytes, factors)) = READ.iter().find(|(number, ..)| *number == kind) {
            return Ok(Self { decoder: *decoder, block: *block, bytes: *bytes, factors });
        }
        let name = REFUSED.iter().find(|(number, _)| *number == kind).map_or("unknown", |(_, name)| *name);
        let known: Vec<&str> = READ.iter().map(|(_, name, ..)| *name).collect();
        Err(format!(
            "holds a tensor of type {name} ({kind}), which is not supported: take the model's Q8_0 or Q4_K_M file ({} are read)",
            known.join(", ")
        ))
    }

    /// The name of the type of that number; none for one that cannot be read.
    pub(super) fn name_of(kind: u32) -> Option<&'static str> {
        READ.iter().find(|(number, ..)| *number == kind).map(|(_, name, ..)| *name)
    }

    /// How values lie in these bytes of it, as they are, or dequantised where a factor is no f16.
    pub(super) fn as_stored(self, raw: &[u8]) -> (Stored, Cow<'_, [u8]>) {
        let form = match self.decoder {
            Decoder::Candle(GgmlDType::F32) => Stored::F32,
            Decoder::Candle(GgmlDType::F16) => Stored::F16,
            Decoder::Candle(GgmlDType::BF16) => Stored::Bf16,
            Decoder::Mxfp4 => {
                let values = mxfp4::of_ggml(raw);
                return (Stored::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into());
            }
            _ => Stored::Blocks(self.bytes, self.factors),
        };
        (form, raw.into())
    }

    /// The numbers of a tensor of that shape, from its bytes.
    ///
    /// # Errors
    /// When there are too few bytes.
    pub(super) fn decode(self, raw: &[u8], shape: Vec<usize>) -> Result<Tensor, candle_core::Error> {
        match self.decoder {
            Decoder::Candle(dtype) => {
                // candle reads the bytes in place as blocks, whose alignment neither the file's offsets nor an empty vector have.
                let mut copy = vec![0; raw.len() + ALIGNMENT];
                let start = copy.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
                let aligned = &mut copy[start..start + raw.len()];
                aligned.copy_from_slice(raw);
                qtensor_from_ggml(dtype, aligned, shape, &Device::Cpu)?.dequantize(&Device::Cpu)
            }
            Decoder::Iq4Nl => Tensor::from_vec(iq4_nl(raw), shape, &Device::Cpu),
            Decoder::Mxfp4 => Tensor::from_vec(mxfp4::of_ggml(raw), shape, &Device::Cpu),
        }
    }
}

/// Numbers i and i + 16 of a block are the low and the high half of byte i.
fn iq4_nl(raw: &[u8]) -> Vec<f32> {
    let mut out = Vec::with_capacity(raw.len() / 18 * 32);
    for block in raw.chunks_exact(18) {
        let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
        out.extend(block[2..].iter().map(|byte| scale * IQ4_NL[usize::from(byte & 15)]));
        out.extend(block[2..].iter().map(|byte| scale * IQ4_NL[usize::from(byte >> 4)]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_read_decodes_a_block_of_its_size() {
        for (kind, name, _, block, bytes, _) in READ {
            let decoded = TensorType::of(*kind).unwrap().decode(&vec![0; 2 * bytes], vec![2, *block]).unwrap();
            assert_eq!(decoded.dims(), [2, *block], "{name}");
        }
    }

    #[test]
    fn a_tensor_lies_anywhere_and_may_be_empty() {
        for (kind, name, _, block, bytes, _) in READ {
            let read = TensorType::of(*kind).unwrap();
            let whole: Vec<u8> = (0..*bytes).map(|i| (i % 60) as u8).collect();
            let values = |raw: &[u8]| read.decode(raw, vec![*block]).unwrap().to_vec1::<f32>().unwrap();
            for start in 0..8 {
                let file = [vec![0; start], whole.clone()].concat();
                assert_eq!(values(&file[start..]), values(&whole), "{name} from byte {start}");
            }
            assert_eq!(read.decode(&[], vec![0, *block]).unwrap().dims(), [0, *block], "{name}");
        }
    }

    #[test]
    fn a_block_is_finite_as_long_as_its_factors_are() {
        for (kind, name, decoder, block, bytes, factors) in READ {
            if *decoder == Decoder::Mxfp4 {
                continue;
            }
            let read = TensorType::of(*kind).unwrap();
            let finite = |raw: &[u8]| {
                let values: Vec<f32> = read.decode(raw, vec![*block]).unwrap().to_vec1().unwrap();
                (values.iter().all(|x| x.is_finite()), {
                    let (form, bytes) = read.as_stored(raw);
                    form.not_finite(&bytes) == 0
                })
            };
            // Every other byte at its largest, and the factors 1.
            let mut raw = vec![if factors.is_empty() { 0 } else { 0xff }; *bytes];
            for at in *factors {
                raw[*at..at + 2].copy_from_slice(&0x3c00_u16.to_le_bytes());
            }
            assert_eq!(finite(&raw), (true, true), "{name}");
            let upper = [*bytes - 2];
            for at in if factors.is_empty() { &upper[..] } else { *factors } {
                for bad in [0x7e00_u16, 0x7fc0] {
                    let mut raw = raw.clone();
                    raw[*at..at + 2].copy_from_slice(&bad.to_le_bytes());
                    let (values, told) = finite(&raw);
                    assert_eq!(values, told, "{name} with {bad:#x} at {at}");
                    assert!(!told || matches!(*name, "F16" | "BF16" | "F32"), "{name} with {bad:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_block_of_mxfp4_is_finite_as_long_as_its_values_are() {
        let read = TensorType::of(39).unwrap();
        for (scale, finite) in [(0, true), (127, true), (252, true), (253, false), (255, false)] {
            // The largest value, 6.
            let mut raw = vec![0x77; 17];
            raw[0] = scale;
            let values: Vec<f32> = read.decode(&raw, vec![32]).unwrap().to_vec1().unwrap();
            let (form, bytes) = read.as_stored(&raw);
            assert_eq!(values.iter().all(|x| x.is_finite()), finite, "{scale}");
            assert_eq!(form.not_finite(&bytes) == 0, finite, "{scale}");
        }
    }

    #[test]
    fn the_values_of_a_block_are_as_ggml_decodes_them() {
        let mut raw = half::f16::from_f32(0.5).to_le_bytes().to_vec();
        raw.extend((0..16).map(|i| i | (15 - i) << 4));
        let numbers: Vec<f32> = TensorType::of(20).unwrap().decode(&raw, vec![32]).unwrap().to_vec1().unwrap();
        let halves: Vec<f32> = IQ4_NL.iter().map(|value| value / 2.0).collect();
        assert_eq!(numbers[..16], halves);
        assert!(numbers[16..].iter().eq(halves.iter().rev()));
    }

    #[test]
    fn a_type_that_is_not_read_is_named() {
        for (kind, name) in REFUSED {
            let why = TensorType::of(*kind).unwrap_err();
            assert!(why.contains(&format!("type {name} ({kind})")) && why.contains("Q8_0"), "{why}");
        }
        assert!(TensorType::of(99).unwrap_err().contains("type unknown (99)"));
    }
}
