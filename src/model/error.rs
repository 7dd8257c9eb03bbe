//! The errors of model, nn, generate, train and evaluate: each message says where, what, and the remedy if there is one.

use crate::domain::sanitise;
use crate::foreign::reason;
use std::io;
use std::path::Path;

/// Why the operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written, or has the wrong content.
    #[error("{path}: {}", shown(why))]
    File {
        /// The file.
        path: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The disk or the user's quota is full.
    #[error("no space left on the disk for {path}: free some space and try again")]
    NoSpace {
        /// What was being written.
        path: String,
    },
    /// The system refused memory.
    #[error("out of memory: the system refused {} MiB for {what}", bytes.div_ceil(1 << 20))]
    Memory {
        /// What for.
        what: String,
        /// How much, in bytes.
        bytes: u64,
    },
    /// A model needs something that is not implemented.
    #[error("{path}: {} is not supported; {known}", shown(what))]
    Unsupported {
        /// The file.
        path: String,
        /// What is needed, by name.
        what: String,
        /// What is supported instead.
        known: String,
    },
    /// A tensor's shape is not the configuration's.
    #[error("{path}: the tensor {} has shape {found:?}, but config.json asks for {expected:?}", shown(tensor))]
    Shape {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
        /// The shape by the configuration.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// Tensors that the model needs are not in its files.
    #[error("{path}: {}; {}", lacking(*.count, .first), why_lacking(*.count, .first))]
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
        /// The requested name.
        asked: String,
        /// The devices present.
        present: String,
    },
    /// No such model.
    #[error("no model `{name}` on this machine{hint}")]
    NoModel {
        /// The requested name.
        name: String,
        /// Near names, or how to get one.
        hint: String,
    },
    /// A chat template cannot be parsed or rendered.
    #[error("the chat template of {model}: {}", shown(why))]
    Template {
        /// Whose template.
        model: String,
        /// What is wrong.
        why: String,
    },
    /// Text cannot be turned into tokens.
    #[error("the tokenizer of {model}: {}", shown(why))]
    Tokenizer {
        /// Whose tokenizer.
        model: String,
        /// What is wrong.
        why: String,
    },
    /// An invalid request; the message says what is wrong and what to do.
    #[error("{}", shown(.0))]
    Invalid(String),
    /// A run stopped itself before an update that would have been wrong.
    #[error("step {step}: {what} {remedy}")]
    Unsound {
        /// Updates made.
        step: u64,
        /// What is wrong, as a sentence.
        what: String,
        /// What to do about it, as a sentence.
        remedy: String,
    },
    /// A value that everything after it depends on is infinite or NaN; the message says which.
    #[error("{0}")]
    NotFinite(String),
    /// The sink could not record an event.
    #[error("the run's log: {0}")]
    Sink(String),
    /// The tensor library failed.
    #[error("a tensor operation failed: {}", shown(&.0.to_string()))]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whether a device ran out of memory, by the messages of CUDA's and Metal's drivers; a smaller batch may fit.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        use candle_core::Error::{Context, WithBacktrace, WithPath};
        let Self::Tensor(e) = self else { return false };
        let mut e = e;
        // A backtrace contains function names, which may match the phrases below.
        while let WithBacktrace { inner, .. } | Context { inner, .. } | WithPath { inner, .. } = e {
            e = inner;
        }
        let text = e.to_string().to_lowercase();
        ["out of memory", "out_of_memory", "outofmemory", "failed to allocate", "alloc_failed"]
            .iter()
            .any(|part| text.contains(part))
    }

    /// Whether a value was infinite or NaN, or a run stopped itself, which may be for such weights.
    #[must_use]
    pub fn is_not_finite(&self) -> bool {
        matches!(self, Self::NotFinite(_) | Self::Unsound { .. })
    }

    /// Adds the remedy to an out-of-memory error; returns other errors unchanged.
    pub(crate) fn with_remedy(self) -> Self {
        if !self.is_out_of_memory() {
            return self;
        }
        Self::Invalid(format!(
            "the device ran out of memory ({self}); lower per_device_train_batch_size or max_length, or use a smaller model"
        ))
    }

    /// A problem with a file.
    pub fn file(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), why: why.to_string() }
    }

    /// A file that cannot be read; one that does not fit in memory becomes [`Error::Memory`].
    pub fn read(path: &Path, e: &io::Error) -> Self {
        if e.kind() == io::ErrorKind::OutOfMemory {
            Self::Memory {
                what: path.display().to_string(),
                bytes: std::fs::metadata(path).map_or(0, |meta| meta.len()),
            }
        } else {
            Self::file(path, format!("cannot be read: {}", reason(e)))
        }
    }

    /// A file of tensors that the library cannot read, and what that says of it; one that does not fit in memory becomes
    /// [`Error::Memory`].
    pub fn tensors(path: &Path, what: &str, e: &candle_core::Error) -> Self {
        use candle_core::Error::{Context, Io, WithBacktrace, WithPath};
        let (mut inner, mut file) = (e, path);
        loop {
            match inner {
                WithPath { inner: next, path } => (inner, file) = (next, path),
                WithBacktrace { inner: next, .. } | Context { inner: next, .. } => inner = next,
                Io(io) if io.kind() == io::ErrorKind::OutOfMemory => return Self::read(file, io),
                _ => return Self::file(path, format!("{what}: {e}")),
            }
        }
    }

    /// A file that cannot be written; a full disk becomes [`Error::NoSpace`].
    pub fn write(path: &Path, e: &io::Error) -> Self {
        if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace { path: path.display().to_string() }
        } else if e.kind() == io::ErrorKind::FileTooLarge {
            Self::file(path, "would be larger than the limit on files of this process: raise it with `ulimit -f`")
        } else {
            Self::file(path, format!("cannot be written: {}", reason(e)))
        }
    }

    /// Something in a file that is not implemented.
    pub fn unsupported(path: &Path, what: impl Into<String>, known: impl Into<String>) -> Self {
        Self::Unsupported { path: path.display().to_string(), what: what.into(), known: known.into() }
    }
}

/// The most characters of a file's own words in a message.
const MOST_SHOWN: usize = 600;

/// A file's own words in a message: without what a terminal obeys, and shortened in the middle where they are very long.
fn shown(text: &str) -> String {
    let text = sanitise(text);
    let count = text.chars().count();
    if count <= MOST_SHOWN {
        return text;
    }
    let part = MOST_SHOWN / 2;
    let (head, tail): (String, String) = (text.chars().take(part).collect(), text.chars().skip(count - part).collect());
    format!("{head} … {tail}")
}

/// Why tensors may be missing, by the first of them.
fn why_lacking(count: usize, first: &str) -> &'static str {
    if first.rsplit('.').next() == Some("bias") {
        "config.json asks for biases that the weights do not have: the two do not belong together"
    } else if count == 1 && first == "lm_head.weight" {
        "the folder has no output head, and config.json does not tie it to the embedding: it is that of a model without a head"
    } else {
        "the download may be incomplete"
    }
}

/// Says which tensors are missing.
fn lacking(count: usize, first: &str) -> String {
    let first = shown(first);
    match count {
        1 => format!("the tensor {first} is missing"),
        _ => format!("{count} tensors are missing, the first is {first}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_own_words_are_harmless_and_short() {
        let error = Error::file(Path::new("m"), format!("names \u{1b}[2J{}", "x".repeat(100_000)));
        let text = error.to_string();
        assert!(text.starts_with("m: names \u{241b}[2Jxxx") && text.chars().count() < 700, "{text}");
        let error = Error::Missing { path: "m".into(), count: 1, first: "\u{202e}a\u{7}".into() };
        assert_eq!(error.to_string(), "m: the tensor a\u{2407} is missing; the download may be incomplete");
    }

    #[test]
    fn one_missing_tensor_is_singular() {
        let message = |count| Error::Missing { path: "m".into(), count, first: "a".into() }.to_string();
        assert_eq!(message(1), "m: the tensor a is missing; the download may be incomplete");
        assert_eq!(message(2), "m: 2 tensors are missing, the first is a; the download may be incomplete");
    }

    #[test]
    fn out_of_memory_is_distinguished_from_other_errors() {
        let tensor = |text: &str| Error::from(candle_core::Error::Msg(text.into()).bt());
        assert!(tensor("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")").is_out_of_memory());
        assert!(tensor("Failed to allocate buffer").is_out_of_memory());
        assert!(tensor("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").is_out_of_memory());
        assert!(!tensor("shape mismatch in matmul").is_out_of_memory());
        let message = tensor("Failed to allocate buffer").with_remedy().to_string();
        assert!(message.contains("lower per_device_train_batch_size"), "{message}");
        assert!(!tensor("shape mismatch").with_remedy().to_string().contains("per_device_train_batch_size"));
        assert!(!Error::Invalid("memory of a pair: out of memory".into()).is_out_of_memory());
    }
}
