//! Suites' files of one JSON object a line. Owns reading them with the line in every message. Refuses a line that is none.

use super::suite::SuiteInput;
use crate::model::error::Error;
use serde_json::Value;
use std::path::Path;

impl SuiteInput<'_> {
    /// What is wrong with the file; `why` begins with a verb.
    #[must_use]
    pub fn bad(&self, why: &str) -> Error {
        Error::file(Path::new(self.file), why.to_owned())
    }

    /// What is wrong with a line; `why` begins with a verb.
    #[must_use]
    pub fn bad_line(&self, number: usize, why: &str) -> Error {
        self.bad(&format!("line {number} {why}"))
    }
}

/// The objects of the file with the numbers of their lines, from 1. Empty lines are skipped.
///
/// # Errors
/// When a line is no JSON object.
pub(super) fn json_lines(input: &SuiteInput) -> Result<Vec<(usize, Value)>, Error> {
    let text = input.text.strip_prefix('\u{feff}').unwrap_or(input.text);
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| match serde_json::from_str::<Value>(line) {
            Ok(value @ Value::Object(_)) => Ok((at + 1, value)),
            Ok(_) => Err(input.bad_line(at + 1, "is no JSON object")),
            Err(e) => Err(input.bad_line(at + 1, &format!("is no JSON: {e}"))),
        })
        .collect()
}

/// A field that is a text.
///
/// # Errors
/// When it is missing or something else.
pub(super) fn text_field<'a>(input: &SuiteInput, number: usize, row: &'a Value, key: &str) -> Result<&'a str, Error> {
    row[key]
        .as_str()
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| input.bad_line(number, &format!("has no text `{key}`")))
}
