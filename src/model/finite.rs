//! Whether a model's weights are finite: the tensors that hold NaN or an infinity, by file and name.
//!
//! Owns the search through every byte of the weights, for a model that is looked at and one whose results were not finite.
//! Refuses to say so of tensors that the model does not read.

use super::error::Error;
use super::language_model::LanguageModel;
use super::trained::TRAINED_FILE;
use super::weights::{files, form};
use crate::domain::counted;
use crate::foreign;
use candle_core::{DType, Device};
use rayon::prelude::*;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use tiebreak_kernels::finite::Stored;

/// Bytes that one thread looks through at a time: whole values and blocks of every form are taken from it.
const PIECE: usize = 1 << 20;

/// What is not finite among the tensors that a model reads, as a sentence: the file, the first such tensor, how many there are, and
/// the remedy. None where every value is finite.
///
/// # Errors
/// When the weights cannot be opened.
pub fn not_finite(model: &LanguageModel) -> Result<Option<String>, Error> {
    let weights = model.weights(&Device::Cpu, DType::F32)?;
    let mut found = Found::default();
    for (name, shape) in model.config.tensors() {
        if let Some((name, form, bytes)) = weights.stored(&name, &shape) {
            found.look(&name, form, &bytes);
        }
    }
    let remedy = "download or copy the file again, or export it from an earlier checkpoint";
    Ok(found.sentence(|tensor| file_of(&model.path, tensor), remedy))
}

/// As [`not_finite`], of the trained tensors of a checkpoint's folder.
///
/// # Errors
/// When its file cannot be read.
pub fn not_finite_trained(checkpoint: &Path) -> Result<Option<String>, Error> {
    let path = checkpoint.join(TRAINED_FILE);
    let bytes = foreign::read(&path, foreign::ROWS).map_err(|e| Error::read(&path, &e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| Error::file(&path, format!("is damaged: {e}")))?;
    let mut found = Found::default();
    let mut all = tensors.tensors();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, view) in all {
        if let Some(form) = form(view.dtype()) {
            found.look(&name, form, view.data());
        }
    }
    Ok(found.sentence(|_| path.clone(), "take an earlier checkpoint, or train the run again"))
}

/// What was found in the tensors looked at so far.
#[derive(Default)]
struct Found {
    looked: usize,
    bad: usize,
    /// The first tensor that is not finite, and its values in words.
    first: Option<(String, String)>,
}

impl Found {
    fn look(&mut self, name: &str, form: Stored, bytes: &[u8]) {
        self.looked += 1;
        let size = form.size();
        let bad: usize = bytes.par_chunks(PIECE / size * size).map(|piece| form.not_finite(piece)).sum();
        if bad == 0 {
            return;
        }
        self.bad += 1;
        let unit = if matches!(form, Stored::Blocks(..)) { "block" } else { "value" };
        let values = format!("{bad} of {} NaN or infinite", counted(bytes.len() / size, unit));
        self.first.get_or_insert_with(|| (name.to_owned(), values));
    }

    fn sentence(&self, file: impl Fn(&str) -> PathBuf, remedy: &str) -> Option<String> {
        let (tensor, values) = self.first.as_ref()?;
        let more = match self.bad {
            0 | 1 => String::new(),
            bad => format!("; the first of {bad} such tensors of {}", self.looked),
        };
        let why = format!("the tensor {tensor} is not finite ({values}{more}): {remedy}");
        Some(Error::file(&file(tensor), why).to_string())
    }
}

/// The file of a model that holds the tensor of that name; the model itself where none is found.
fn file_of(model: &Path, tensor: &str) -> PathBuf {
    let holds = |file: &PathBuf| {
        let Ok(open) = foreign::open(file) else { return false };
        // SAFETY: mapped read-only; changing a model's file while it is in use is outside the contract.
        #[expect(unsafe_code, reason = "mapping weights instead of copying them needs it")]
        let Ok(bytes) = (unsafe { memmap2::Mmap::map(&open) }) else { return false };
        SafeTensors::read_metadata(&bytes).is_ok_and(|(_, meta)| meta.info(tensor).is_some())
    };
    let files = if model.is_dir() { files(model).unwrap_or_default() } else { Vec::new() };
    files.into_iter().find(holds).unwrap_or_else(|| model.to_owned())
}

#[cfg(test)]
mod tests;
