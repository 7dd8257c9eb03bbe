//! Hyper-parameters as data: one row per key, shared by the form, the command line, the help and the run record.
//!
//! Owns names, kinds, defaults, ranges and validation. Refuses unknown keys: an unused option is an error.

use super::check::Checks;
use super::nearest::hint;
use super::template_variables::{KNOWN_VARIABLES, template_variables};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The type and range of a key's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamKind {
    /// A real number within inclusive bounds.
    Float(f64, f64),
    /// A whole number within inclusive bounds.
    Int(i64, i64),
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A comma-separated list of these words.
    List(&'static [&'static str]),
    /// A run's name, or empty.
    Word,
    /// A metric's name, or empty.
    Metric,
    /// Comma-separated names, or empty.
    Names,
    /// Verifiable checks as [`super::Checks`] parses them, or empty.
    Checks,
    /// Variables of the chat template as a JSON object, or empty.
    Variables,
    /// Comma-separated real numbers, each within inclusive bounds.
    Floats(f64, f64),
}

/// One hyper-parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParamRow {
    /// TRL's name for it.
    pub key: &'static str,
    /// Type and range of its values.
    pub kind: ParamKind,
    /// Its default, as text that parses.
    pub default: &'static str,
    /// The usual range, shown in the form; may be empty.
    pub usual: &'static str,
    /// One line on what it does.
    pub help: &'static str,
    /// Shown at once in the form (true) or under `…` (false).
    pub basic: bool,
}

/// An unknown key or an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// No such key; a similar one is suggested.
    #[error("`{key}` is not an option of {method}{hint}")]
    Unknown {
        /// The unknown key.
        key: String,
        /// The method.
        method: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// The value is invalid for the key.
    #[error("invalid {key}={value}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// The invalid value.
        value: String,
        /// What was expected.
        reason: String,
    },
    /// Not of the form `key=value`.
    #[error("`{0}` is not of the form key=value")]
    Form(String),
}

impl ParamRow {
    /// Validates `text` as a value of this key and returns its canonical form.
    ///
    /// # Errors
    /// When the text does not parse or is out of bounds.
    pub fn parse(&self, text: &str) -> Result<String, ParamError> {
        let text = text.trim();
        let fail = |reason: String| ParamError::Value { key: self.key.into(), value: truncated(text), reason };
        match self.kind {
            ParamKind::Float(lo, hi) => match text.parse::<f64>() {
                Ok(x) if x.is_finite() && x >= lo && x <= hi => Ok(text.to_owned()),
                _ => Err(fail(format!("expected a number from {lo} to {hi}"))),
            },
            ParamKind::Int(lo, hi) => match text.parse::<i64>() {
                Ok(x) if x >= lo && x <= hi => Ok(x.to_string()),
                _ => Err(fail(format!("expected a whole number from {lo} to {hi}"))),
            },
            ParamKind::Bool => match text {
                "true" | "false" => Ok(text.to_owned()),
                _ => Err(fail("expected true or false".into())),
            },
            ParamKind::Choice(words) => match words.iter().find(|w| **w == text) {
                Some(w) => Ok((*w).to_owned()),
                None => Err(fail(format!("expected one of {}", words.join(", ")))),
            },
            ParamKind::List(words) => {
                let given: Vec<&str> = text.split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
                match given.iter().find(|w| !words.contains(w)) {
                    _ if given.is_empty() => Err(fail(format!("expected a list of {}", words.join(", ")))),
                    Some(w) => Err(fail(format!("`{w}` is not one of {}", words.join(", ")))),
                    None => Ok(given.join(",")),
                }
            }
            ParamKind::Word
                if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@')) =>
            {
                Ok(text.to_owned())
            }
            ParamKind::Word => Err(fail("expected a run's name or nothing".into())),
            ParamKind::Names
                if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b',' | b' ')) =>
            {
                let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
                Ok(names.join(","))
            }
            ParamKind::Names => Err(fail("expected names separated by commas, or nothing".into())),
            ParamKind::Metric
                if text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b'@')) =>
            {
                Ok(text.to_owned())
            }
            ParamKind::Metric => Err(fail("expected a metric's name (eval_loss) or nothing".into())),
            ParamKind::Checks => Checks::parse(text).map(|checks| checks.to_string()).map_err(|e| fail(e.to_string())),
            ParamKind::Variables => match template_variables(text) {
                Ok(none) if none.is_empty() => Ok(String::new()),
                Ok(some) => Ok(serde_json::Value::Object(some).to_string()),
                Err(why) => Err(fail(why)),
            },
            ParamKind::Floats(lo, hi) => {
                let given: Vec<&str> = text.split(',').map(str::trim).collect();
                let fits = |w: &&str| w.parse::<f64>().is_ok_and(|x| x.is_finite() && x >= lo && x <= hi);
                if given.iter().all(fits) {
                    Ok(given.join(","))
                } else {
                    Err(fail(format!("expected comma-separated numbers from {lo} to {hi}")))
                }
            }
        }
    }
}

/// A value as errors quote it; a long one is cut so that the reason stays visible.
fn truncated(text: &str) -> String {
    match text.char_indices().nth(32) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// The resolved hyper-parameters of a run: every key of its method, as canonical text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(pub BTreeMap<String, String>);

impl Params {
    /// The defaults of `rows`.
    #[must_use]
    pub fn defaults(rows: &[ParamRow]) -> Self {
        Self(rows.iter().map(|r| (r.key.to_owned(), r.default.to_owned())).collect())
    }

    /// Validates and sets a key; `rows` are those of `method`.
    ///
    /// # Errors
    /// When the key is unknown (the nearest one is suggested) or the value is invalid.
    pub fn set(&mut self, rows: &[ParamRow], method: &str, key: &str, value: &str) -> Result<(), ParamError> {
        let Some(row) = rows.iter().find(|r| r.key == key) else {
            let hint = hint(key, rows.iter().map(|r| r.key).chain(KNOWN_VARIABLES));
            return Err(ParamError::Unknown { key: key.into(), method: method.into(), hint });
        };
        self.0.insert(key.to_owned(), row.parse(value)?);
        Ok(())
    }

    /// Sets from one `key=value`.
    ///
    /// # Errors
    /// As [`Params::set`], and when there is no `=`.
    pub fn set_pair(&mut self, rows: &[ParamRow], method: &str, text: &str) -> Result<(), ParamError> {
        let (key, value) = text.split_once('=').ok_or_else(|| ParamError::Form(text.into()))?;
        self.set(rows, method, key.trim(), value)
    }

    /// The text of a key; empty if absent.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// A key as a real number; NaN if absent or invalid.
    #[must_use]
    pub fn f64(&self, key: &str) -> f64 {
        self.text(key).parse().unwrap_or(f64::NAN)
    }

    /// A key as a whole number; 0 if absent or negative.
    #[must_use]
    pub fn usize(&self, key: &str) -> usize {
        self.text(key).parse().unwrap_or(0)
    }

    /// A key as a signed whole number; 0 if absent.
    #[must_use]
    pub fn i64(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap_or(0)
    }

    /// A key as comma-separated words; none if absent.
    pub fn words(&self, key: &str) -> impl Iterator<Item = &str> {
        self.text(key).split(',').filter(|w| !w.is_empty())
    }

    /// A key as a boolean; false if absent.
    #[must_use]
    pub fn bool(&self, key: &str) -> bool {
        self.text(key) == "true"
    }
}
