//! The engine's errors: each one plain sentence that names the place and, where there is one, the remedy.

use std::io;
use std::path::Path;

/// Why the engine could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written, or does not hold what it should.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The disk, or the user's share of it, is full.
    #[error("no space left on the disk for {path}: free some space and try again")]
    NoSpace {
        /// What was being written.
        path: String,
    },
    /// A model asks for something that is not implemented.
    #[error("{path}: {what} is not supported; {known}")]
    Unsupported {
        /// Where it is asked for.
        path: String,
        /// What is asked for, by its name.
        what: String,
        /// What is supported instead.
        known: String,
    },
    /// A tensor has another shape than the model's configuration says.
    #[error("{path}: the tensor {tensor} has shape {found:?}, but config.json asks for {expected:?}")]
    Shape {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// Tensors that the model needs are not in its files.
    #[error("{path}: {}; the download may be incomplete", lacking(*.count, .first))]
    Missing {
        /// The folder or file.
        path: String,
        /// How many.
        count: usize,
        /// The first one.
        first: String,
    },
    /// No such device.
    #[error("there is no device `{asked}` here; this build on this machine has {present}")]
    Device {
        /// What was asked for.
        asked: String,
        /// What is there.
        present: String,
    },
    /// No such model.
    #[error("no model `{name}` on this machine{hint}")]
    NoModel {
        /// What was asked for.
        name: String,
        /// What is near it, or how to get one.
        hint: String,
    },
    /// A chat template cannot be parsed or rendered.
    #[error("the chat template of {model}: {why}")]
    Template {
        /// Whose template.
        model: String,
        /// What is wrong.
        why: String,
    },
    /// Text cannot be turned into tokens.
    #[error("the tokenizer of {model}: {why}")]
    Tokenizer {
        /// Whose tokenizer.
        model: String,
        /// What is wrong.
        why: String,
    },
    /// Something was asked of the engine that makes no sense; the sentence says what and what to do.
    #[error("{0}")]
    Asked(String),
    /// A run stopped itself before an update, because what it would have learnt is wrong.
    #[error("step {step}: {what} {remedy}")]
    Unsound {
        /// Updates made.
        step: u64,
        /// What is the case, as a sentence.
        what: String,
        /// What to do about it, as a sentence.
        remedy: String,
    },
    /// A number that everything after it would be made of is infinite or none; the sentence says which.
    #[error("{0}")]
    NotFinite(String),
    /// The sink did not take an event.
    #[error("the run's log: {0}")]
    Sink(String),
    /// The tensor library failed.
    #[error("a tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whether a device's memory ran out, as CUDA's and Metal's drivers say it; a smaller piece of the same work may fit.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        use candle_core::Error::{Context, WithBacktrace, WithPath};
        let Self::Tensor(e) = self else { return false };
        let mut e = e;
        // A backtrace names functions, and one of them may be called like this one.
        while let WithBacktrace { inner, .. } | Context { inner, .. } | WithPath { inner, .. } = e {
            e = inner;
        }
        let text = e.to_string().to_lowercase();
        ["out of memory", "out_of_memory", "outofmemory", "failed to allocate", "alloc_failed"]
            .iter()
            .any(|part| text.contains(part))
    }

    /// What ran out of memory where nothing could be made smaller, with the remedy; others as they are.
    pub(crate) fn with_remedy(self) -> Self {
        if !self.is_out_of_memory() {
            return self;
        }
        Self::Asked(format!(
            "the device's memory ran out ({self}); lower per_device_train_batch_size or max_length, or take a smaller model"
        ))
    }

    /// A problem with a file.
    pub fn file(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), why: why.to_string() }
    }

    /// A file that cannot be written; a full disk becomes [`Error::NoSpace`].
    pub fn write(path: &Path, e: &io::Error) -> Self {
        if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace { path: path.display().to_string() }
        } else {
            Self::file(path, format!("cannot be written: {e}"))
        }
    }

    /// Something in a file that is not implemented.
    pub fn unsupported(path: &Path, what: impl Into<String>, known: impl Into<String>) -> Self {
        Self::Unsupported { path: path.display().to_string(), what: what.into(), known: known.into() }
    }
}

/// That tensors are missing, and which.
fn lacking(count: usize, first: &str) -> String {
    match count {
        1 => format!("the tensor {first} is missing"),
        _ => format!("{count} tensors are missing, the first is {first}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_tensor_is_one() {
        let said = |count| Error::Missing { path: "m".into(), count, first: "a".into() }.to_string();
        assert_eq!(said(1), "m: the tensor a is missing; the download may be incomplete");
        assert_eq!(said(2), "m: 2 tensors are missing, the first is a; the download may be incomplete");
    }

    #[test]
    fn running_out_of_memory_is_told_from_other_failures() {
        let tensor = |text: &str| Error::from(candle_core::Error::Msg(text.into()).bt());
        assert!(tensor("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").is_out_of_memory());
        assert!(tensor("Failed to allocate buffer").is_out_of_memory());
        assert!(tensor("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").is_out_of_memory());
        assert!(!tensor("shape mismatch in matmul").is_out_of_memory());
        let said = tensor("Failed to allocate buffer").with_remedy().to_string();
        assert!(said.contains("lower per_device_train_batch_size"), "{said}");
        assert!(!tensor("shape mismatch").with_remedy().to_string().contains("per_device_train_batch_size"));
        assert!(!Error::Asked("memory of a pair: out of memory".into()).is_out_of_memory());
    }
}
