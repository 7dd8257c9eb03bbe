//! The metadata of a GGUF file below its architecture's name.
//!
//! Owns look-up and the range of values; refuses to know families. A value of another type counts as missing, as an absent one.

use serde_json::Value;
use std::collections::HashMap;

/// Metadata keys of one architecture.
pub struct GgufFields<'a> {
    meta: &'a HashMap<String, Value>,
    architecture: &'a str,
}

impl<'a> GgufFields<'a> {
    /// The keys of that architecture.
    pub(crate) fn new(meta: &'a HashMap<String, Value>, architecture: &'a str) -> Self {
        Self { meta, architecture }
    }

    /// The value of `ARCHITECTURE.key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.meta.get(&format!("{}.{key}", self.architecture))
    }

    /// A positive number.
    #[must_use]
    pub fn real(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0)
    }

    /// True or false.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    /// A count from 1 on.
    #[must_use]
    pub fn size(&self, key: &str) -> Option<usize> {
        self.get(key).and_then(Value::as_u64).filter(|n| (1..=1 << 32).contains(n)).map(|n| n as usize)
    }
}

/// The factor on the attention's scores that llama.cpp has for Gemma 2 and 3, whose files do not name it: by the head's width, and in
/// the largest model, which it knows by its number of layers, by the hidden width for each head.
pub(crate) fn gemma_attention_scale(f: &GgufFields<'_>, largest: usize) -> f64 {
    let each = |hidden: usize, heads: usize| hidden / heads;
    let by_hidden =
        f.size("embedding_length").zip(f.size("attention.head_count")).map(|(hidden, heads)| each(hidden, heads));
    let width =
        if f.size("block_count") == Some(largest) { by_hidden } else { f.size("attention.key_length").or(by_hidden) };
    1.0 / (width.unwrap_or(1).max(1) as f64).sqrt()
}
