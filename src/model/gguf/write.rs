//! Writing GGUF files (version 3, little endian, aligned to 32 bytes): metadata, tensor types, the container.
//!
//! Owns the container and the encoding of f32, f16, Q8_0, Q4_0 and Q6_K as llama.cpp's own converter stores them. Refuses numbers
//! outside the range of f16. Knows no model: names, shapes and metadata come from the caller.

use crate::model::error::Error;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Tensor};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Start of every tensor, in bytes.
const ALIGNMENT: u64 = 32;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MetaValue {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Ints(Vec<i32>),
    Bools(Vec<bool>),
    /// Copied from another file: its type and its bytes.
    Copied(Vec<u8>),
}

impl MetaValue {
    /// The value as the reader gives it; null for a copied one.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::U32(n) => (*n).into(),
            Self::F32(x) => f64::from(*x).into(),
            Self::Bool(on) => (*on).into(),
            Self::Text(text) => text.clone().into(),
            Self::Texts(texts) => texts.clone().into(),
            Self::Floats(list) => list.iter().map(|x| Value::from(f64::from(*x))).collect(),
            Self::Ints(list) => list.clone().into(),
            Self::Bools(list) => list.clone().into(),
            Self::Copied(_) => Value::Null,
        }
    }

    /// Its type's number and its bytes.
    fn bytes(&self) -> Vec<u8> {
        let list = |kind: u32, count: usize, items: Vec<u8>| {
            let mut out = 9u32.to_le_bytes().to_vec();
            out.extend(kind.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
            out.extend(items);
            out
        };
        let one = |kind: u32, bytes: &[u8]| [&kind.to_le_bytes(), bytes].concat();
        match self {
            Self::U32(n) => one(4, &n.to_le_bytes()),
            Self::F32(x) => one(6, &x.to_le_bytes()),
            Self::Bool(on) => one(7, &[u8::from(*on)]),
            Self::Text(text) => one(8, &text_bytes(text)),
            Self::Texts(texts) => list(8, texts.len(), texts.iter().flat_map(|text| text_bytes(text)).collect()),
            Self::Floats(numbers) => list(6, numbers.len(), numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Self::Ints(numbers) => list(5, numbers.len(), numbers.iter().flat_map(|n| n.to_le_bytes()).collect()),
            Self::Bools(flags) => list(7, flags.len(), flags.iter().map(|on| u8::from(*on)).collect()),
            Self::Copied(bytes) => bytes.clone(),
        }
    }
}

/// The metadata as the reader gives them.
pub(crate) fn as_read(meta: &[(String, MetaValue)]) -> HashMap<String, Value> {
    meta.iter().map(|(key, value)| (key.clone(), value.json())).collect()
}

fn text_bytes(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

/// A type that tensors are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrittenType {
    F32,
    F16,
    Q8_0,
    Q4_0,
    Q6K,
}

impl WrittenType {
    /// The types that a person can choose, with the names that files carry; the first is the default.
    pub(crate) const CHOICES: [(&'static str, Self); 4] =
        [("f16", Self::F16), ("f32", Self::F32), ("q8_0", Self::Q8_0), ("q4_0", Self::Q4_0)];

    /// The type of that name.
    ///
    /// # Errors
    /// When there is none; the sentence names those there are.
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        let known: Vec<&str> = Self::CHOICES.iter().map(|(name, _)| *name).collect();
        Self::CHOICES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
            Error::Invalid(format!("invalid value '{name}' for --type: expected one of {}", known.join(", ")))
        })
    }

    /// Its name in file names.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q6K => "Q6_K",
        }
    }

    /// Its number in `enum ggml_type`.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
            Self::Q6K => 14,
        }
    }

    /// `general.file_type` of a file whose matrices are of this type (`enum llama_ftype`).
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q6K => 18,
        }
    }

    /// Whether numbers share a scale.
    pub(crate) fn is_quantised(self) -> bool {
        self.block().0 > 1
    }

    /// Numbers in a block, and its bytes.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q8_0 => (32, 34),
            Self::Q6K => (256, 210),
        }
    }

    /// Whether rows of that width are whole blocks.
    pub(crate) fn fits(self, width: usize) -> bool {
        width.is_multiple_of(self.block().0)
    }

    /// Bytes of a tensor.
    fn size(self, shape: &[usize]) -> u64 {
        let (numbers, bytes) = self.block();
        (shape.iter().product::<usize>() / numbers * bytes) as u64
    }

    /// The bytes of a tensor of f32.
    ///
    /// # Errors
    /// When a number is outside the range of f16.
    pub(crate) fn encode(self, name: &str, tensor: &Tensor) -> Result<Vec<u8>, Error> {
        let numbers = || -> Result<Vec<f32>, Error> { Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?) };
        let quantised = |dtype| -> Result<Vec<u8>, Error> {
            Ok(QTensor::quantize(&tensor.to_dtype(DType::F32)?.contiguous()?, dtype)?.data()?.into_owned())
        };
        if self != Self::F32 {
            let largest =
                numbers()?.iter().fold(0.0f32, |most, x| if x.is_nan() { f32::NAN } else { most.max(x.abs()) });
            if !largest.is_finite() || largest > f32::from(half::f16::MAX) {
                return Err(Error::Invalid(format!(
                    "the tensor {name} holds {largest}, outside the range of {}: write it with --type f32",
                    self.label()
                )));
            }
        }
        match self {
            Self::F32 => Ok(numbers()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Self::F16 => Ok(numbers()?.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect()),
            Self::Q8_0 => quantised(GgmlDType::Q8_0),
            Self::Q4_0 => quantised(GgmlDType::Q4_0),
            Self::Q6K => quantised(GgmlDType::Q6K),
        }
    }
}

/// A tensor's place in the header.
#[derive(Debug, Clone)]
pub(crate) struct TensorPlan {
    /// Its name in GGUF.
    pub(crate) name: String,
    /// Outermost dimension first, as in Hugging Face.
    pub(crate) shape: Vec<usize>,
    /// Its type's number.
    pub(crate) kind: u32,
    /// Its bytes in the file.
    pub(crate) bytes: u64,
}

impl TensorPlan {
    /// A tensor to be encoded.
    pub(crate) fn new(name: impl Into<String>, shape: &[usize], written: WrittenType) -> Self {
        Self { name: name.into(), shape: shape.into(), kind: written.number(), bytes: written.size(shape) }
    }
}

/// Writes a file. `data(i)` gives the bytes of tensor `i`, in order, so that one tensor at a time is in memory.
///
/// # Errors
/// When the disk refuses it, or `data` does.
pub(crate) fn write(
    path: &Path,
    meta: &[(String, MetaValue)],
    tensors: &[TensorPlan],
    mut data: impl FnMut(usize) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    let fail = |e: std::io::Error| Error::write(path, &e);
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((meta.len() as u64).to_le_bytes());
    for (key, value) in meta {
        out.extend(text_bytes(key));
        out.extend(value.bytes());
    }
    let padded = |bytes: u64| bytes.div_ceil(ALIGNMENT) * ALIGNMENT;
    let mut offset = 0;
    for tensor in tensors {
        out.extend(text_bytes(&tensor.name));
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            out.extend((*size as u64).to_le_bytes());
        }
        out.extend(tensor.kind.to_le_bytes());
        out.extend(u64::to_le_bytes(offset));
        offset += padded(tensor.bytes);
    }
    out.resize(padded(out.len() as u64) as usize, 0);
    let mut file = BufWriter::new(File::create(path).map_err(fail)?);
    file.write_all(&out).map_err(fail)?;
    for (i, tensor) in tensors.iter().enumerate() {
        let mut bytes = data(i)?;
        if bytes.len() as u64 != tensor.bytes {
            let why = format!("the tensor {} has {} bytes, {} were planned", tensor.name, bytes.len(), tensor.bytes);
            return Err(Error::file(path, why));
        }
        bytes.resize(padded(tensor.bytes) as usize, 0);
        file.write_all(&bytes).map_err(fail)?;
    }
    file.into_inner().map_err(|e| fail(e.into_error()))?.sync_all().map_err(fail)
}
