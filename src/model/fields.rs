//! Reads the fields of a config.json, with errors that name file and field.

use super::error::Error;
use crate::foreign;
use serde_json::{Map, Value};
use std::io::ErrorKind;
use std::path::Path;

/// A parsed config.json.
pub struct Fields<'a> {
    /// The file, for messages.
    pub(crate) path: &'a Path,
    /// Its fields.
    pub(crate) map: &'a Map<String, Value>,
    /// The usual names of fields that the family names otherwise, with its own. As in `transformers` both are read.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
}

impl Fields<'_> {
    /// The name under which the file has, or would have, a field.
    fn name<'a>(&self, key: &'a str) -> &'a str {
        let own = self.aliases.iter().find(|(usual, _)| *usual == key).map(|(_, own)| *own);
        own.filter(|own| self.map.contains_key(*own) || !self.map.contains_key(key)).unwrap_or(key)
    }

    /// The field, null or not.
    pub(crate) fn raw(&self, key: &str) -> Option<&Value> {
        self.map.get(self.name(key))
    }

    /// The field, if present and not null.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.raw(key).filter(|v| !v.is_null())
    }

    /// A positive integer.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn size(&self, key: &str) -> Result<usize, Error> {
        self.size_if(key)?.ok_or_else(|| Error::file(self.path, format!("the field `{}` is missing", self.name(key))))
    }

    /// A positive integer, if the field is present and not null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn size_if(&self, key: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().filter(|n| (1..=1 << 32).contains(n)).map(|n| n as usize);
        let wrong =
            || Error::file(self.path, format!("the field `{}` is {value}, not a positive integer", self.name(key)));
        size.ok_or_else(wrong).map(Some)
    }

    /// As [`Fields::size_if`], with the class's default for a missing field. Null means none.
    ///
    /// # Errors
    /// As [`Fields::size_if`].
    pub fn size_or(&self, key: &str, default: Option<usize>) -> Result<Option<usize>, Error> {
        if self.raw(key).is_some() { self.size_if(key) } else { Ok(default) }
    }

    /// A count, which may be 0; the default where it is missing or null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize, Error> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let wrong = || Error::file(self.path, format!("the field `{}` is {value}, not a count", self.name(key)));
        value.as_u64().filter(|n| *n <= 1 << 32).map(|n| n as usize).ok_or_else(wrong)
    }

    /// A positive number.
    ///
    /// # Errors
    /// When it is something else.
    pub fn real(&self, key: &str, default: f64) -> Result<f64, Error> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_f64().filter(|x| x.is_finite() && *x > 0.0).ok_or_else(|| {
                Error::file(self.path, format!("the field `{}` is {v}, not a positive number", self.name(key)))
            }),
        }
    }

    /// A positive number, with the class's default for a missing field. Null means none.
    ///
    /// # Errors
    /// As [`Fields::real`].
    pub fn real_or(&self, key: &str, default: Option<f64>) -> Result<Option<f64>, Error> {
        match (self.raw(key).is_some(), self.get(key)) {
            (false, _) => Ok(default),
            (true, None) => Ok(None),
            (true, Some(_)) => self.real(key, 1.0).map(Some),
        }
    }

    /// A boolean.
    #[must_use]
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    /// The error that `what` is not implemented.
    pub fn refuse(&self, what: impl Into<String>, known: &str) -> Error {
        Error::unsupported(self.path, what, known)
    }
}

/// Refuses a `head_dim` of its own in a class whose rope reads it and whose projections do not.
pub(crate) fn refuse_head_dim(f: &Fields<'_>) -> Result<(), Error> {
    let (hidden, heads) = (f.size("hidden_size")?, f.size("num_attention_heads")?);
    let Some(other) = f.size_if("head_dim")?.filter(|dim| *dim != hidden / heads) else { return Ok(()) };
    let known = format!("the heads of this family are `hidden_size` / `num_attention_heads` = {} wide", hidden / heads);
    Err(f.refuse(format!("`head_dim={other}`"), &known))
}

/// The token ids of a field that may hold one or a list.
pub(crate) fn ids(value: Option<&Value>) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(v) => one(v).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Reads a JSON file; none if there is none.
pub(crate) fn json(path: &Path) -> Result<Option<Value>, Error> {
    let Some(text) = text_if_there(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::file(path, format!("is not valid JSON: {e}")))
}

/// The text of a file of a model; none if there is none.
pub(crate) fn text_if_there(path: &Path) -> Result<Option<String>, Error> {
    match foreign::read_text(path, foreign::DOCUMENT) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::read(path, &e)),
    }
}
