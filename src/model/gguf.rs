//! GGUF files: metadata, tensors and the tokenizer inside.
//!
//! Owns the container format (version 2 and 3, little endian) and its mapping to Hugging Face names and rotary order. Every
//! length is checked against the file's size before anything is allocated, so that a malformed file is one error message.
//! Refuses unimplemented tensor types, architectures and pre-tokenizers by name.

pub(super) mod architecture;
pub(super) mod row_order;
mod tensor_type;
pub(super) mod vocabulary;
pub(super) mod write;

use super::config::Config;
use super::error::Error;
use super::tokenizer::Tokenizer;
use architecture::{Description, ROPE_FACTORS, ROPE_FREQS};
use candle_core::Tensor;
use row_order::RowOrder;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tensor_type::TensorType;
use tiebreak_kernels::finite::Stored;
use tiebreak_kernels::packed::{Matrix, QuantFormat};

/// An opened GGUF file. Tensors are read from the mapped file on demand.
pub struct Gguf {
    path: PathBuf,
    bytes: memmap2::Mmap,
    meta: HashMap<String, Value>,
    /// Where the metadata lie, in the file's order.
    order: Vec<(String, Range<usize>)>,
    tensors: HashMap<String, Entry>,
}

/// Where a tensor of the model lies in the file.
struct TensorPlace<'a> {
    /// Its name there, or that of the tensor of all experts.
    name: String,
    shape: Vec<usize>,
    kind: u32,
    bytes: &'a [u8],
}

struct Entry {
    /// Outermost dimension first, as in Hugging Face.
    shape: Vec<usize>,
    kind: u32,
    start: usize,
    len: usize,
}

/// A cursor that never reads past the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).filter(|e| *e <= self.bytes.len());
        let end = end.ok_or_else(|| format!("ends at byte {} in the middle of its header", self.bytes.len()))?;
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "cannot be read".to_owned())
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of items of at least `least` bytes each.
    fn count(&mut self, least: usize) -> Result<usize, String> {
        let n = self.u64()?;
        if n > (self.bytes.len() / least) as u64 {
            return Err(format!("claims {n} entries at byte {}, more than it has room for", self.at));
        }
        Ok(n as usize)
    }

    fn text(&mut self) -> Result<String, String> {
        let n = self.count(1)?;
        Ok(String::from_utf8_lossy(self.take(n)?).into_owned())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0 => self.array::<1>()?[0].into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            6 => f64::from(f32::from_le_bytes(self.array()?)).into(),
            7 => (self.array::<1>()?[0] != 0).into(),
            8 => self.text()?.into(),
            9 if depth < 4 => {
                let of = self.u32()?;
                let n = self.count(1)?;
                let mut items = Vec::new();
                for _ in 0..n {
                    items.push(self.value(of, depth + 1)?);
                }
                items.into()
            }
            10 => self.u64()?.into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            12 => f64::from_le_bytes(self.array()?).into(),
            _ => return Err(format!("has a metadata value of unknown type {kind} at byte {}", self.at)),
        })
    }
}

impl Gguf {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When it is not a GGUF file, is truncated, or has an unsupported tensor type.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = crate::foreign::open(path).map_err(|e| Error::read(path, &e))?;
        // SAFETY: mapped read-only; changing a model's file while it is in use is outside the contract.
        #[expect(unsafe_code, reason = "mapping weights instead of copying them needs it")]
        let bytes = unsafe { memmap2::Mmap::map(&file) };
        let bytes = bytes.map_err(|e| Error::read(path, &e))?;
        let (meta, order, tensors) = header(&bytes).map_err(|why| Error::file(path, why))?;
        Ok(Self { path: path.into(), bytes, meta, order, tensors })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.meta.get(key).and_then(Value::as_str)
    }

    /// The chat template's source, if there is one.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.text("tokenizer.chat_template")
    }

    /// The source of the one for conversations with tools, where there is another.
    #[must_use]
    pub fn tool_template(&self) -> Option<&str> {
        self.text("tokenizer.chat_template.tool_use")
    }

    /// Both sources, as [`super::template::Template::sources`] has them.
    pub(super) fn templates(&self) -> Option<String> {
        let source = self.template()?.to_owned();
        Some(self.tool_template().into_iter().fold(source, |all, more| format!("{all}\n{more}")))
    }

    /// The number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let size = |shape: &[usize]| shape.iter().fold(1_u64, |all, n| all.saturating_mul(*n as u64));
        self.tensors.values().map(|t| size(&t.shape)).fold(0, u64::saturating_add)
    }

    /// The configuration that the metadata describes.
    ///
    /// # Errors
    /// When the architecture is not supported or a field is missing.
    pub fn config(&self) -> Result<Config, Error> {
        architecture::config(&Description {
            path: &self.path,
            meta: &self.meta,
            shape: &|name| self.tensors.get(name).map(|t| t.shape.clone()),
            floats: &|name| self.floats(name),
        })
    }

    /// Whether there is a tensor of that Hugging Face name.
    #[must_use]
    pub fn has(&self, name: &str, config: &Config) -> bool {
        self.place(name, config).is_some()
    }

    /// The name of the type in which the tensor of that Hugging Face name is stored.
    #[must_use]
    pub fn stored_type(&self, name: &str, config: &Config) -> Option<&'static str> {
        TensorType::name_of(self.place(name, config)?.kind)
    }

    /// The shape of the tensor of that Hugging Face name.
    #[must_use]
    pub fn shape(&self, name: &str, config: &Config) -> Option<Vec<usize>> {
        self.place(name, config).map(|place| place.shape)
    }

    /// Where the tensor of that Hugging Face name lies: an expert's is a part of the tensor of all, (experts, out, in), and the
    /// one row of a shared expert's gate lies there as a vector.
    fn place(&self, name: &str, config: &Config) -> Option<TensorPlace<'_>> {
        let (found, expert) = (gguf_name(name, config)?, expert_of(name, config));
        let entry = self.tensors.get(&found)?;
        let bytes = &self.bytes[entry.start..entry.start + entry.len];
        let (shape, bytes) = match (expert, entry.shape.as_slice()) {
            (None, [width]) if is_shared_gate(name, config) => (vec![1, *width], bytes),
            (None, _) => (entry.shape.clone(), bytes),
            // Rows are whole blocks.
            (Some(expert), [count, rest @ ..]) if expert < *count => {
                let size = bytes.len() / count;
                (rest.to_vec(), &bytes[expert * size..(expert + 1) * size])
            }
            (Some(_), _) => return None,
        };
        Some(TensorPlace { name: found, shape, kind: entry.kind, bytes })
    }

    /// The tensor of that Hugging Face name in f32 and in Hugging Face's rotary order.
    ///
    /// # Errors
    /// When it is missing or its bytes cannot be decoded.
    pub fn load(&self, name: &str, config: &Config) -> Result<Tensor, Error> {
        let place = self.place(name, config).ok_or_else(|| self.missing(name))?;
        let tensor = self.decoded(place.kind, place.bytes, place.shape)?;
        // If the model adds an offset to its norms, the file stores the sums.
        if config.layer.norm_offset != 0.0 && config.is_norm(name) {
            return Ok((tensor - config.layer.norm_offset)?);
        }
        match self.order(name, tensor.dims().first().copied().unwrap_or(0), config)? {
            Some(order) => order.read(&tensor),
            None => Ok(tensor),
        }
    }

    fn order(&self, name: &str, rows: usize, config: &Config) -> Result<Option<RowOrder>, Error> {
        RowOrder::of(name, rows, config).map_err(|e| Error::file(&self.path, e))
    }

    /// The tensor of that Hugging Face name, (out, width), in its quantised format; none if it is of floats.
    ///
    /// # Errors
    /// When it is missing or does not fit.
    pub(crate) fn packed(&self, name: &str, config: &Config) -> Result<Option<Matrix>, Error> {
        let place = self.place(name, config).ok_or_else(|| self.missing(name))?;
        let format = match place.kind {
            2 => QuantFormat::Q4_0,
            3 => QuantFormat::Q4_1,
            8 => QuantFormat::Q8_0,
            12 => QuantFormat::Q4K,
            14 => QuantFormat::Q6K,
            _ => return Ok(None),
        };
        let damaged = || Error::file(&self.path, format!("the tensor {name} does not fit its shape"));
        let [out, width] = *place.shape.as_slice() else { return Err(damaged()) };
        let order = self.order(name, out, config)?;
        let from = |o: usize| order.map_or(o, |order| order.row(o));
        Matrix::blocks(format, place.bytes, out, width, from).map(Some).ok_or_else(damaged)
    }

    /// How the tensor of that Hugging Face name lies in the file: its name there, the form of its values, and their bytes.
    pub(super) fn stored(&self, name: &str, config: &Config) -> Option<(String, Stored, Cow<'_, [u8]>)> {
        let place = self.place(name, config)?;
        let kind = TensorType::of(place.kind).ok()?;
        let (form, bytes) = kind.as_stored(place.bytes);
        Some((place.name, form, bytes))
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, Error> {
        Ok(self.read(name)?.flatten_all()?.to_vec1()?)
    }

    fn missing(&self, name: &str) -> Error {
        Error::Missing { path: self.path.display().to_string(), count: 1, first: name.to_owned() }
    }

    fn read(&self, name: &str) -> Result<Tensor, Error> {
        let entry = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        self.decoded(entry.kind, &self.bytes[entry.start..entry.start + entry.len], entry.shape.clone())
    }

    fn decoded(&self, kind: u32, bytes: &[u8], shape: Vec<usize>) -> Result<Tensor, Error> {
        let tensor_type = TensorType::of(kind).map_err(|why| Error::file(&self.path, why))?;
        Ok(tensor_type.decode(bytes, shape)?)
    }

    /// Checks that the tokenizer is supported, without building it.
    ///
    /// # Errors
    /// When its model or pre-tokenizer is not implemented.
    pub fn check_tokenizer(&self) -> Result<(), Error> {
        vocabulary::check(&self.meta).map_err(|e| e.at(&self.path))
    }

    /// The tokenizer that the metadata describes.
    ///
    /// # Errors
    /// When its model or pre-tokenizer is not implemented, or its lists do not fit together.
    pub fn tokenizer(&self, config: &Config) -> Result<Tokenizer, Error> {
        vocabulary::tokenizer(&self.meta, &self.path.display().to_string(), config).map_err(|e| e.at(&self.path))
    }

    /// Whether the tokenizer puts the starting token before a text.
    pub(super) fn adds_bos(&self) -> bool {
        vocabulary::adds_bos(&self.meta)
    }

    /// The metadata in the file's order: keys, and values with their types as they lie in the file.
    pub(super) fn raw_meta(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.order.iter().map(|(key, place)| (key.as_str(), &self.bytes[place.clone()]))
    }

    /// The names of the tensors from which nothing is computed.
    pub(super) fn unread(&self, config: &Config) -> Vec<&str> {
        // A damaged file may name any number of layers; each has a tensor at least.
        if config.layers > self.tensors.len() {
            return Vec::new();
        }
        let rope = [ROPE_FREQS, ROPE_FACTORS[0], ROPE_FACTORS[1]];
        let known: HashSet<String> = config.tensors().filter_map(|(name, _)| gguf_name(&name, config)).collect();
        let names = self.tensors.keys().map(String::as_str);
        let mut unread: Vec<&str> = names.filter(|name| !known.contains(*name) && !rope.contains(name)).collect();
        unread.sort_unstable();
        unread
    }

    /// The tensors that are none of the configuration's, as they lie in the file: name, shape, type and bytes.
    pub(super) fn others(&self, config: &Config) -> Vec<(String, Vec<usize>, u32, &[u8])> {
        let known: HashSet<String> = config.tensors().filter_map(|(name, _)| gguf_name(&name, config)).collect();
        let mut found: Vec<_> = self
            .tensors
            .iter()
            .filter(|(name, _)| !known.contains(*name))
            .map(|(name, e)| (name.clone(), e.shape.clone(), e.kind, &self.bytes[e.start..e.start + e.len]))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

type Header = (HashMap<String, Value>, Vec<(String, Range<usize>)>, HashMap<String, Entry>);

fn header(bytes: &[u8]) -> Result<Header, String> {
    let mut r = Reader { bytes, at: 0 };
    if r.take(4).ok() != Some(b"GGUF") {
        return Err("is not a GGUF file".into());
    }
    let version = r.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("is GGUF version {version}; 2 and 3 are supported"));
    }
    let (tensor_count, meta_count) = (r.count(24)?, r.count(13)?);
    let (mut meta, mut order) = (HashMap::new(), Vec::new());
    for _ in 0..meta_count {
        let key = r.text()?;
        let start = r.at;
        let kind = r.u32()?;
        meta.insert(key.clone(), r.value(kind, 0)?);
        order.push((key, start..r.at));
    }
    let mut entries = Vec::new();
    for _ in 0..tensor_count {
        let name = r.text()?;
        let dims = r.u32()?;
        if !(1..=4).contains(&dims) {
            return Err(format!("gives the tensor {name} {dims} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            shape.push(r.u64()?);
        }
        let kind = r.u32()?;
        entries.push((name, shape, kind, r.u64()?));
    }
    let alignment =
        meta.get("general.alignment").and_then(Value::as_u64).filter(|a| (1..=4096).contains(a)).unwrap_or(32);
    let base = (r.at as u64).div_ceil(alignment) * alignment;
    let mut tensors = HashMap::new();
    for (name, shape, kind, offset) in entries {
        let TensorType { block, bytes: block_bytes, .. } = TensorType::of(kind)?;
        let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let whole = shape.first().is_none_or(|row| row % block as u64 == 0);
        let len = elements.filter(|_| whole).and_then(|n| (n / block as u64).checked_mul(block_bytes as u64));
        let start = base.checked_add(offset);
        let end = start.zip(len).and_then(|(s, l)| s.checked_add(l)).filter(|e| *e <= bytes.len() as u64);
        let (Some(start), Some(len), Some(_)) = (start, len, end) else {
            return Err(format!(
                "is cut off: the tensor {name} of shape {shape:?} lies outside the file; download it again"
            ));
        };
        // GGUF counts dimensions from the innermost.
        let shape = shape.iter().rev().map(|d| *d as usize).collect();
        tensors.insert(name, Entry { shape, kind, start: start as usize, len: len as usize });
    }
    Ok((meta, order, tensors))
}

/// The number of the expert whose tensor it is; none where its tensor lies in the file by itself.
pub(super) fn expert_of(name: &str, config: &Config) -> Option<usize> {
    let (_, part) = config.named(name).filter(|(_, part)| config.family.names.experts.each.contains(part))?;
    // The expert's number stands behind the layer's.
    let number = name.split('.').rev().find_map(|word| word.parse().ok());
    number.filter(|_| part.hf.contains("{}"))
}

/// Whether the tensor is the gate of a shared expert: one row, which files hold as a vector.
pub(super) fn is_shared_gate(name: &str, config: &Config) -> bool {
    config.named(name).is_some_and(|(_, part)| part == config.family.names.experts.shared_gate)
}

/// The shape in a file of a tensor of that Hugging Face name and shape, the last of `experts` that share one.
pub(super) fn gguf_shape(name: &str, shape: &[usize], experts: usize, config: &Config) -> Vec<usize> {
    if expert_of(name, config).is_some() {
        return [&[experts], shape].concat();
    }
    let row = is_shared_gate(name, config);
    shape.iter().skip(usize::from(row)).copied().collect()
}

/// Whether the tensor is a router or the gate of a shared expert, which llama.cpp keeps in f32.
pub(super) fn is_router(name: &str, config: &Config) -> bool {
    is_shared_gate(name, config)
        || config.named(name).is_some_and(|(_, part)| part == config.family.names.experts.router)
}

/// The GGUF name of a Hugging Face tensor; that of the tensor of all experts for an expert's.
pub(super) fn gguf_name(name: &str, config: &Config) -> Option<String> {
    let (_, end) = name.rsplit_once('.')?;
    Some(match config.named(name)? {
        (None, part) => format!("{}.{end}", part.gguf),
        (Some(layer), part) => format!("{}{layer}.{}.{end}", config.family.names.layer.gguf, part.gguf),
    })
}

#[cfg(test)]
mod tests;
