//! Weights by Hugging Face names, from one safetensors file, a sharded set, a GGUF file, or memory.
//!
//! Owns finding, checking and converting tensors: f32, f16 and bf16 become the compute type. Refuses wrong shapes and
//! missing tensors by name. Files are memory-mapped, so a tensor is read on demand.

use super::config::Config;
use super::error::Error;
use super::gguf::Gguf;
use super::stacked_experts::{self, StackedExpert, StackedForm};
use super::stored_names::{StoredNames, column, router_beside_stacked};
use crate::foreign;
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use tiebreak_kernels::finite::Stored;
use tiebreak_kernels::packed::Matrix;

/// A source of tensors.
pub struct Weights {
    path: PathBuf,
    source: Source,
    device: Device,
    dtype: DType,
    missing: Vec<String>,
    shapes_only: bool,
    /// The form in which the file stores each tensor.
    stored: StoredNames,
}

enum Source {
    Files(MmapedSafetensors),
    Memory(HashMap<String, Tensor>),
    Gguf(Box<Gguf>, Box<Config>),
}

/// Where a tensor is in its source.
struct TensorPlace {
    /// Its name there, or that of the tensor that it is a part of.
    name: String,
    /// Whether it is transposed there.
    transposed: bool,
    /// Which part it is.
    part: Option<StackedExpert>,
}

impl TensorPlace {
    fn is_quantised(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.form == StackedForm::Blocks)
    }

    /// Compares the shape of a stored tensor with the one that a tensor of `shape` needs, which is the error.
    fn check(&self, shape: &[usize], found: &[usize]) -> Result<(), Vec<usize>> {
        let asked: Vec<usize> = match &self.part {
            None if self.transposed => shape.iter().rev().copied().collect(),
            None => shape.to_vec(),
            Some(part) => part.asked(shape, found),
        };
        if asked == found { Ok(()) } else { Err(asked) }
    }
}

impl Weights {
    /// Opens `DIR/model.safetensors`, or the shards that `DIR/model.safetensors.index.json` names.
    ///
    /// # Errors
    /// When neither is there, a shard is missing, or a file is not safetensors.
    pub fn open(dir: &Path, device: &Device, dtype: DType) -> Result<Self, Error> {
        let files = files(dir)?;
        for file in &files {
            // A truncated file must be an error here, not a fault in the middle of a mapped read.
            check_length(file)?;
        }
        // SAFETY: the files are mapped read-only; changing a model's files while it is in use is outside the contract of
        // every program that maps weights.
        #[expect(unsafe_code, reason = "mapping weights instead of copying them needs it")]
        let mapped = unsafe { MmapedSafetensors::multi(&files) };
        let mapped = mapped.map_err(|e| Error::tensors(dir, "the weights are not valid safetensors", &e))?;
        let stored = StoredNames::of(|name| mapped.get(name).is_ok());
        Ok(Self { stored, ..Self::new(dir, Source::Files(mapped), device, dtype) })
    }

    /// Tensors already in memory, under Hugging Face names; `path` is for messages.
    #[must_use]
    pub fn memory(tensors: HashMap<String, Tensor>, path: &Path, device: &Device, dtype: DType) -> Self {
        let stored = match StoredNames::of(|name| tensors.contains_key(name)) {
            form @ (StoredNames::Gpt2 | StoredNames::Gpt2Bare | StoredNames::GptOss) => form,
            _ => StoredNames::Plain,
        };
        Self { stored, ..Self::new(path, Source::Memory(tensors), device, dtype) }
    }

    /// Tensors of a GGUF file, under Hugging Face names; quantised ones are dequantised on demand.
    #[must_use]
    pub fn gguf(file: Gguf, config: &Config, device: &Device, dtype: DType) -> Self {
        let path = file.path().to_path_buf();
        let source = Source::Gguf(Box::new(file), Box::new(config.clone()));
        Self::new(&path, source, device, dtype)
    }

    fn new(path: &Path, source: Source, device: &Device, dtype: DType) -> Self {
        let (device, missing, stored) = (device.clone(), Vec::new(), StoredNames::Plain);
        Self { path: path.into(), source, device, dtype, missing, shapes_only: false, stored }
    }

    /// Only compares names and shapes, and reads no values: every tensor taken is zero.
    #[must_use]
    pub fn shapes_only(self) -> Self {
        Self { shapes_only: true, ..self }
    }

    /// The device of the tensors.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type tensors are converted to.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The type in which a tensor is stored, as its file names it.
    #[must_use]
    pub fn stored_type(&self, name: &str) -> Option<String> {
        let place = self.place(name);
        if place.as_ref().is_some_and(TensorPlace::is_quantised) {
            return Some("MXFP4".into());
        }
        let place = place.map(|place| place.name);
        match &self.source {
            Source::Files(files) => files.get(&place?).ok().map(|view| format!("{:?}", view.dtype())),
            Source::Memory(tensors) => tensors.get(&place?).map(|tensor| tensor.dtype().as_str().to_uppercase()),
            Source::Gguf(file, config) => file.stored_type(name, config).map(str::to_owned),
        }
    }

    /// How a tensor of this shape lies in its file: its name there, the form of its values, and their bytes, of MXFP4 dequantised.
    /// None where it is missing, not of floats, or in memory.
    pub(super) fn stored(&self, name: &str, shape: &[usize]) -> Option<(String, Stored, Cow<'_, [u8]>)> {
        match &self.source {
            Source::Files(files) => {
                let place = self.place(name)?;
                let view = files.get(&place.name).ok()?;
                let Some(part) = &place.part else {
                    return Some((place.name, form(view.dtype())?, view.data().into()));
                };
                if place.check(shape, view.shape()).is_err() {
                    return None;
                }
                let bytes: Cow<'_, [u8]> = match part.form {
                    StackedForm::Rows => {
                        let size = form(view.dtype())?.size();
                        view.data().get(part.rows(view.shape(), shape, size))?.into()
                    }
                    // Gate and up lie in turn: those of up are looked at with the gate's.
                    StackedForm::Columns if part.half == Some(1) => return None,
                    StackedForm::Columns => {
                        view.data().get(part.whole(view.shape(), form(view.dtype())?.size()))?.into()
                    }
                    StackedForm::Blocks => {
                        let values: Vec<f32> = self.blocks(part, shape).ok()?.flatten_all().ok()?.to_vec1().ok()?;
                        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                        return Some((place.name, Stored::F32, bytes.into()));
                    }
                };
                Some((place.name, form(view.dtype())?, bytes))
            }
            Source::Memory(_) => None,
            Source::Gguf(file, config) => file.stored(name, config),
        }
    }

    /// Checks that blocks and scales of an expert's tensor of `shape` fit each other.
    fn check_blocks(&self, part: &StackedExpert, shape: &[usize]) -> Result<(), Error> {
        let facts = |name: &str| match &self.source {
            Source::Files(files) => files.get(name).map(|v| (v.shape().to_vec(), format!("{:?}", v.dtype()))).ok(),
            Source::Memory(tensors) => tensors.get(name).map(|t| (t.dims().to_vec(), format!("{:?}", t.dtype()))),
            Source::Gguf(..) => None,
        };
        let mut asked = part.asked(shape, &facts(&part.blocks()).map(|(shape, _)| shape).unwrap_or_default());
        for name in [part.blocks(), part.scales()] {
            let (found, kind) = facts(&name).unwrap_or_default();
            if found != asked {
                return Err(self.wrong(&name, &asked, &found));
            }
            if kind != "U8" {
                let what = format!("the tensor {name} of type {kind}");
                return Err(Error::unsupported(&self.path, what, "blocks of MXFP4 and their scales are U8"));
            }
            // A scale for each block.
            asked.pop();
        }
        Ok(())
    }

    /// The tensor of `shape` of an expert in MXFP4, in f32.
    fn blocks(&self, part: &StackedExpert, shape: &[usize]) -> Result<Tensor, Error> {
        self.check_blocks(part, shape)?;
        let one = |name: &str| -> Result<Cow<'_, [u8]>, Error> {
            Ok(match &self.source {
                Source::Files(files) => {
                    let view = files.get(name)?;
                    view.data()[part.whole(view.shape(), 1)].into()
                }
                Source::Memory(tensors) => tensors[name].get(part.expert)?.flatten_all()?.to_vec1::<u8>()?.into(),
                Source::Gguf(..) => return Err(Error::Invalid(format!("{name} is in no GGUF file; this is a bug"))),
            })
        };
        part.dequantised(&one(&part.blocks())?, &one(&part.scales())?, shape)
    }

    /// Whether both tensors are there with the same bytes; none where one is missing.
    pub(super) fn are_equal(&self, one: &str, other: &str) -> Option<bool> {
        let Source::Files(files) = &self.source else { return None };
        let get = |name: &str| files.get(&self.stored.name(name)).ok();
        let (one, other) = (get(one)?, get(other)?);
        Some(one.dtype() == other.dtype() && one.shape() == other.shape() && one.data() == other.data())
    }

    /// Tensors under the names and in the forms in which a folder of the text model alone stores them.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(super) fn written(&self, tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>, Error> {
        let one = |(name, tensor): (String, Tensor)| {
            let tensor = if self.stored.transposed(&name) { tensor.t()?.contiguous()? } else { tensor };
            let own = matches!(self.stored, StoredNames::EmbedOut | StoredNames::GptOss);
            Ok((if own { self.stored.name(&name).into_owned() } else { name }, tensor))
        };
        if self.stored == StoredNames::GptOss {
            return stacked_experts::joined(tensors.into_iter().map(one).collect::<Result<_, Error>>()?, column);
        }
        tensors.into_iter().map(one).collect()
    }

    /// How many of a folder's tensors are in MXFP4.
    pub(super) fn quantised(&self) -> usize {
        let Source::Files(files) = &self.source else { return 0 };
        let is_blocks = |name: &str| {
            let all = name.strip_suffix("_blocks").filter(|_| self.stored == StoredNames::GptOss);
            all.is_some_and(|all| files.get(all).is_err() && files.get(&format!("{all}_scales")).is_ok())
        };
        files.tensors().iter().filter(|(name, _)| is_blocks(name)).count()
    }

    /// Where a tensor is in the files or in memory; none if it is missing, or the source is GGUF.
    fn place(&self, name: &str) -> Option<TensorPlace> {
        let has = |name: &str| match &self.source {
            Source::Files(files) => files.get(name).is_ok(),
            Source::Memory(tensors) => tensors.contains_key(name),
            Source::Gguf(..) => false,
        };
        let transposed = self.stored.transposed(name);
        let plain = |name: String| TensorPlace { name, transposed, part: None };
        let own = self.stored.name(name).into_owned();
        if has(&own) {
            return Some(plain(own));
        }
        if let Some(router) = router_beside_stacked(name).filter(|router| has(router)) {
            return Some(plain(router));
        }
        let part = self.stored.stacked(name, has)?;
        Some(TensorPlace { name: part.stored_name(), transposed: false, part: Some(part) })
    }

    /// How many tensors a folder of a model of so many layers holds that are none of `names`, and the first of them; none for other
    /// sources and where there are none.
    pub(super) fn others(&self, layers: usize, names: impl Iterator<Item = String>) -> Option<(usize, String)> {
        let Source::Files(files) = &self.source else { return None };
        let all = files.tensors();
        // A damaged file may name any number of layers; each has a tensor at least.
        if layers > all.len() {
            return None;
        }
        let mut known: HashSet<String> = HashSet::new();
        for place in names.filter_map(|name| self.place(&name)) {
            known.extend(place.part.filter(|part| part.form == StackedForm::Blocks).map(|part| part.scales()));
            known.insert(place.name);
        }
        let others = all.iter().map(|(name, _)| name).filter(|name| !known.contains(*name) && !is_buffer(name));
        let mut others: Vec<&String> = others.collect();
        others.sort();
        Some((others.len(), (*others.first()?).clone()))
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Gguf(g, config) => g.has(name, config),
            Source::Files(_) | Source::Memory(_) => self.place(name).is_some(),
        }
    }

    /// The tensor of that name in the compute type, its shape checked. A missing tensor is recorded and replaced by zeros;
    /// [`Weights::finish`] then returns an error with the count.
    ///
    /// # Errors
    /// When the shape differs or the file's type is not a float type.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        self.take_as(name, shape, self.dtype)
    }

    /// As [`Weights::take`], in another type.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(crate) fn take_as(&mut self, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor, Error> {
        let place = self.place(name);
        let tensor = match (&self.source, &place) {
            (Source::Files(_) | Source::Memory(_), None) => None,
            (Source::Files(files), Some(place)) => {
                let view = files.get(&place.name)?;
                place.check(shape, view.shape()).map_err(|asked| self.wrong(name, &asked, view.shape()))?;
                if self.shapes_only {
                    if let Some(part) = place.part.as_ref().filter(|_| place.is_quantised()) {
                        self.check_blocks(part, shape)?;
                    }
                    return self.zero(shape, dtype);
                }
                Some(match &place.part {
                    None => files.load(&place.name, &self.device)?,
                    Some(part) if part.form == StackedForm::Blocks => self.blocks(part, shape)?,
                    Some(part) => {
                        let kind = DType::try_from(view.dtype())?;
                        let (all, size) = (view.shape(), kind.size_in_bytes());
                        if part.form == StackedForm::Rows {
                            let bytes = &view.data()[part.rows(all, shape, size)];
                            Tensor::from_raw_buffer(bytes, kind, shape, &self.device)?
                        } else {
                            let bytes = &view.data()[part.whole(all, size)];
                            part.column(&Tensor::from_raw_buffer(bytes, kind, &all[1..], &self.device)?, shape)?
                        }
                    }
                })
            }
            (Source::Memory(all), Some(place)) => {
                let found = &all[&place.name];
                place.check(shape, found.dims()).map_err(|asked| self.wrong(name, &asked, found.dims()))?;
                Some(match &place.part {
                    None => found.clone(),
                    Some(part) => match part.form {
                        StackedForm::Rows => {
                            let rows = part.rows(found.dims(), shape, 1).start / shape[1];
                            found.flatten(0, 1)?.narrow(0, rows, shape[0])?
                        }
                        StackedForm::Columns => part.column(&found.get(part.expert)?, shape)?,
                        StackedForm::Blocks => self.blocks(part, shape)?,
                    },
                })
            }
            (Source::Gguf(g, config), _) => match g.shape(name, config) {
                None => None,
                Some(found) if found != shape => return Err(self.wrong(name, shape, &found)),
                Some(_) if self.shapes_only => return self.zero(shape, dtype),
                Some(_) => Some(g.load(name, config)?),
            },
        };
        let Some(tensor) = tensor else {
            self.missing.push(name.to_owned());
            return self.zero(shape, dtype);
        };
        let tensor = if place.is_some_and(|place| place.transposed) { tensor.t()? } else { tensor };
        if tensor.dims() != shape {
            return Err(self.wrong(name, shape, tensor.dims()));
        }
        if !tensor.dtype().is_float() {
            let what = format!("the tensor {name} of type {:?}", tensor.dtype());
            return Err(Error::unsupported(&self.path, what, "weights are f32, f16 or bf16"));
        }
        Ok(tensor.to_device(&self.device)?.to_dtype(dtype)?.contiguous()?)
    }

    /// The matrix of that name packed for decoding, as small as in its file: quantised blocks stay quantised.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(crate) fn pack(&mut self, name: &str, out: usize, width: usize) -> Result<Matrix, Error> {
        if let Source::Gguf(g, config) = &self.source
            && g.shape(name, config).as_deref() == Some(&[out, width])
            && let Some(packed) = g.packed(name, config)?
        {
            return Ok(packed);
        }
        Ok(Matrix::floats(&self.floats(name, &[out, width])?, out, width))
    }

    /// The values of the tensor of that name in f32.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(crate) fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        Ok(self.take(name, shape)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// The value of a tensor of one element.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub(crate) fn number(&mut self, name: &str) -> Result<f64, Error> {
        Ok(self.floats(name, &[1])?.first().copied().map_or(0.0, f64::from))
    }

    /// Checks that no tensor was missing.
    ///
    /// # Errors
    /// When tensors were missing; the first is named.
    pub fn finish(&self) -> Result<(), Error> {
        match self.missing.first() {
            None => Ok(()),
            Some(first) => Err(Error::Missing {
                path: self.path.display().to_string(),
                count: self.missing.len(),
                first: first.clone(),
            }),
        }
    }

    /// A broadcast zero: a hostile configuration costs no memory.
    fn zero(&self, shape: &[usize], dtype: DType) -> Result<Tensor, Error> {
        Ok(Tensor::zeros(1, dtype, &self.device)?.broadcast_as(shape)?)
    }

    fn wrong(&self, name: &str, expected: &[usize], found: &[usize]) -> Error {
        Error::Shape {
            path: self.path.display().to_string(),
            tensor: name.to_owned(),
            expected: expected.to_vec(),
            found: found.to_vec(),
        }
    }
}

/// Whether the tensor is no weight but a table that old files hold beside them: masks and RoPE's frequencies.
fn is_buffer(name: &str) -> bool {
    [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The form of a safetensors type's values; none of integers and types that are not read.
pub(super) fn form(dtype: Dtype) -> Option<Stored> {
    Some(match dtype {
        Dtype::F64 => Stored::F64,
        Dtype::F32 => Stored::F32,
        Dtype::F16 => Stored::F16,
        Dtype::BF16 => Stored::Bf16,
        _ => return None,
    })
}

/// The type of trainables with frozen weights of `dtype`: 16 bits would lose small updates.
pub(crate) fn trained_dtype(dtype: DType) -> DType {
    if matches!(dtype, DType::BF16 | DType::F16) { DType::F32 } else { dtype }
}

/// `model.safetensors.index.json`: which file holds which tensor.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of a folder, each once.
///
/// # Errors
/// When there are none, or the index names one that is not there.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let single = dir.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        let why = if dir.join("pytorch_model.bin").is_file() {
            "holds pickled weights (pytorch_model.bin), which are not read; convert them to safetensors"
        } else {
            "holds neither model.safetensors nor model.safetensors.index.json: the download was not finished, or the weights \
             are of another kind"
        };
        return Err(Error::file(dir, why));
    }
    let text = foreign::read_text(&index, foreign::DOCUMENT).map_err(|e| Error::read(&index, &e))?;
    let parsed: Index =
        serde_json::from_str(&text).map_err(|e| Error::file(&index, format!("is not a weight index: {e}")))?;
    let mut names: Vec<String> = parsed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    let mut files = Vec::new();
    for name in names {
        let file = dir.join(&name);
        // A shard must be in the index's folder: other paths are refused.
        if name.contains('/') || name.contains("..") {
            return Err(Error::file(&index, format!("names the shard {name}, which lies in another folder")));
        }
        if !file.is_file() {
            let why = format!("the shard {name} is missing: the download was not finished; download it again");
            return Err(Error::file(dir, why));
        }
        files.push(file);
    }
    if files.is_empty() {
        return Err(Error::file(&index, "names no files"));
    }
    Ok(files)
}

/// Checks a safetensors file's length against its header.
///
/// # Errors
/// When the file is shorter than its header says, or is another kind of file.
pub(super) fn check_length(file: &Path) -> Result<(), Error> {
    use std::io::Read;
    let bad = |why: String| Error::file(file, why);
    let mut reader = foreign::open(file).map_err(|e| Error::read(file, &e))?;
    let size = reader.metadata().map_err(|e| Error::read(file, &e))?.len();
    let mut head = [0u8; 8];
    reader.read_exact(&mut head).map_err(|_| bad("is too short to be safetensors; download it again".into()))?;
    let header = u64::from_le_bytes(head);
    if header > size.saturating_sub(8) || header > 100 << 20 {
        return Err(bad(format!("its header claims {header} bytes of {size}; the file is cut or not safetensors")));
    }
    // A sparse file holds a header of zeros of any length: it is parsed as it is read.
    let mut text = Vec::new();
    reader.take(header).read_to_end(&mut text).map_err(|e| Error::read(file, &e))?;
    let tensors: BTreeMap<String, HeaderEntry> = serde_json::from_slice(&text)
        .map_err(|e| bad(format!("its header is not that of a safetensors file: {e}; download it again")))?;
    let end = tensors.values().filter_map(|entry| entry.data_offsets).map(|[_, end]| end).max().unwrap_or(0);
    let whole = end.saturating_add(8 + header);
    if size < whole {
        return Err(bad(format!("is cut off: it has {size} of {whole} bytes; download it again")));
    }
    Ok(())
}

/// An entry of a safetensors header; `__metadata__` has no offsets.
#[derive(serde::Deserialize)]
struct HeaderEntry {
    #[serde(default)]
    data_offsets: Option<[u64; 2]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_shapes_and_missing_tensors_are_named() {
        let cpu = Device::Cpu;
        let dir = tempfile::tempdir().unwrap();
        let t = Tensor::zeros((2, 3), DType::F32, &cpu).unwrap();
        candle_core::safetensors::save(&HashMap::from([("a".to_owned(), t)]), dir.path().join("model.safetensors"))
            .unwrap();
        let mut w = Weights::open(dir.path(), &cpu, DType::F32).unwrap();
        assert!(w.take("a", &[2, 3]).is_ok());
        let message = w.take("a", &[3, 2]).unwrap_err().to_string();
        assert!(message.contains("tensor a") && message.contains("[2, 3]") && message.contains("[3, 2]"), "{message}");
        w.take("b", &[1]).unwrap();
        let message = w.finish().unwrap_err().to_string();
        assert!(message.contains("the tensor b is missing"), "{message}");
    }

    #[test]
    fn a_truncated_file_and_an_empty_folder_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let message = Weights::open(dir.path(), &Device::Cpu, DType::F32).err().unwrap().to_string();
        assert!(message.contains("neither model.safetensors"), "{message}");
        std::fs::write(dir.path().join("model.safetensors"), [255u8; 12]).unwrap();
        assert!(Weights::open(dir.path(), &Device::Cpu, DType::F32).is_err());
    }
}
