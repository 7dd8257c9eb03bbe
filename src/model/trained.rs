//! The model part of a checkpoint: the trained parameters by name, and loading them into a model.
//!
//! Owns `model.safetensors` of a checkpoint folder: every trainable under its name and in its type, and the [`Tune`]
//! in the file's metadata under `tune`. Refuses to load it into a model of another shape.

use super::error::Error;
use super::tune::Tune;
use crate::foreign;
use candle_core::{Device, Tensor, Var};
use safetensors::{SafeTensorError, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Suffixes of an adapter's tensors after the module's name, as in peft's files: A, B, and DoRA's magnitudes.
pub(crate) const LORA_A: &str = ".lora_A.weight";
/// See [`LORA_A`].
pub(crate) const LORA_B: &str = ".lora_B.weight";
/// See [`LORA_A`].
pub(crate) const MAGNITUDE: &str = ".lora_magnitude_vector";

/// The scalar head's name, as in Hugging Face's classifiers.
pub(crate) const SCORE: &str = "score.weight";

/// Name of the file within a checkpoint folder.
pub const TRAINED_FILE: &str = "model.safetensors";

/// The trainables of a checkpoint.
#[derive(Debug)]
pub struct Trained {
    /// What was trained.
    pub tune: Tune,
    /// The tensors, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Trained {
    /// Writes trainables into `DIR/model.safetensors`. Equal trainables give equal bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(dir: &Path, tune: &Tune, trainables: &[(String, Var)]) -> Result<(), Error> {
        Self::write_values(dir, tune, trainables.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())))
    }

    /// As [`Trained::write`], of tensors.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_values(
        dir: &Path,
        tune: &Tune,
        tensors: impl IntoIterator<Item = (String, Tensor)>,
    ) -> Result<(), Error> {
        let path = dir.join(TRAINED_FILE);
        let kind = serde_json::to_string(tune).map_err(|e| Error::file(&path, e))?;
        let tensors: Vec<_> = tensors.into_iter().collect();
        write_tensors(&path, tensors, HashMap::from([("tune".to_owned(), kind)]))
    }

    /// Reads `DIR/model.safetensors`.
    ///
    /// # Errors
    /// When the file is missing, damaged, or was not written by [`Trained::write`].
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(TRAINED_FILE);
        let bytes = foreign::read(&path, foreign::ROWS).map_err(|e| Error::read(&path, &e))?;
        let damaged = |e: &dyn std::fmt::Display| Error::file(&path, format!("is damaged: {e}"));
        let (_, meta) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
        let kind = meta.metadata().as_ref().and_then(|m| m.get("tune"));
        let kind =
            kind.ok_or_else(|| Error::file(&path, "is not a checkpoint of this program (it has no `tune` metadata)"))?;
        let tune: Tune = serde_json::from_str(kind).map_err(|e| damaged(&e))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(&e))?;
        Ok(Self { tune, tensors: tensors.into_iter().collect() })
    }

    /// Copies the tensors into a decoder's trainables.
    ///
    /// # Errors
    /// When names or shapes do not fit: the checkpoint belongs to another model or another set of trained modules.
    pub fn put_on(&self, trainables: &[(String, Var)]) -> Result<(), Error> {
        // The scalar head depends on the method: a policy has none, a reward model starts with a new one.
        let others = self.tensors.keys().filter(|k| *k != SCORE).count();
        if others != trainables.iter().filter(|(name, _)| name != SCORE).count() {
            return Err(Error::Invalid(format!(
                "the checkpoint holds {} trained tensors, the run trains {}; its tune, lora_r and target modules must be the \
                 checkpoint's",
                self.tensors.len(),
                trainables.len()
            )));
        }
        for (name, var) in trainables {
            if name == SCORE && !self.tensors.contains_key(SCORE) {
                continue;
            }
            let found = self.tensors.get(name).ok_or_else(|| {
                Error::Invalid(format!("the checkpoint has no trained tensor {name}; it belongs to another model"))
            })?;
            if found.dims() != var.dims() {
                return Err(Error::Invalid(format!(
                    "the checkpoint's {name} has shape {:?}, the model's is {:?}; it belongs to another model or rank",
                    found.dims(),
                    var.dims()
                )));
            }
            var.set(&found.to_device(var.device())?.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }
}

/// Writes tensors as one safetensors file.
pub(crate) fn write_tensors<V: safetensors::View>(
    path: &Path,
    tensors: impl IntoIterator<Item = (impl AsRef<str> + Ord + std::fmt::Display, V)>,
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|e| match e {
        SafeTensorError::IoError(e) => Error::write(path, &e),
        e => Error::file(path, format!("cannot be written: {e}")),
    })?;
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::write(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LanguageModel, LoraSpec};

    #[test]
    fn a_round_trip_keeps_every_byte() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let model = LanguageModel::open(&dir).unwrap();
        let spec = |seed, r| {
            let targets = vec!["q_proj".to_owned(), "down_proj".to_owned()];
            Tune::Lora(LoraSpec { targets, rslora: true, seed, ..LoraSpec::plain(r, 8.0) })
        };
        let a = model.decoder(&Device::Cpu, &spec(1, 4)).unwrap();
        let b = model.decoder(&Device::Cpu, &spec(2, 4)).unwrap();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Trained::write(one.path(), &spec(1, 4), a.trainables()).unwrap();
        let read = Trained::read(one.path()).unwrap();
        assert_eq!(read.tune, spec(1, 4));
        read.put_on(b.trainables()).unwrap();
        Trained::write(two.path(), &spec(1, 4), b.trainables()).unwrap();
        let bytes = |d: &tempfile::TempDir| std::fs::read(d.path().join(TRAINED_FILE)).unwrap();
        assert_eq!(bytes(&one), bytes(&two));
        let other = model.decoder(&Device::Cpu, &spec(1, 2)).unwrap();
        assert!(read.put_on(other.trainables()).unwrap_err().to_string().contains("rank"));
        std::fs::write(two.path().join(TRAINED_FILE), &bytes(&one)[..200]).unwrap();
        assert!(Trained::read(two.path()).is_err());
    }
}
