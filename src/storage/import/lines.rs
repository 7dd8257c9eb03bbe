//! Lines of a file from anywhere: byte order mark, CR LF, bytes that are no text, lines without an end.

use super::super::error::{Error, Result};
use super::{Imported, Refusal};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The longest line read into memory. Longer ones could not be kept as records anyway.
const LONGEST: usize = 16 << 20;

/// Calls `take` with each line that is not blank, its number from 1 and its text or what is wrong with it, until it
/// returns false.
fn each(path: &Path, mut take: impl FnMut(usize, Result<&str, String>) -> bool) -> Result<()> {
    let read = |e| Error::io("read", path, e);
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(read)?);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let (length, ended) = next(&mut reader, &mut line).map_err(read)?;
        if length == 0 && ended {
            return Ok(());
        }
        number += 1;
        let mut bytes = line.as_slice();
        if number == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = if length > LONGEST {
            Err(format!("is {length} bytes long: the longest taken is {LONGEST}"))
        } else {
            std::str::from_utf8(bytes)
                .map_err(|e| format!("is not UTF-8 text from its byte {} on", e.valid_up_to() + 1))
        };
        if text.as_ref().is_ok_and(|t| t.trim().is_empty()) {
            continue;
        }
        if !take(number, text) {
            return Ok(());
        }
    }
}

/// The rows of a file, at most `limit`: `take` makes a row of each line that is not blank or says why it is left out.
pub(super) fn texts<T>(
    path: &Path,
    limit: Option<usize>,
    mut take: impl FnMut(&str) -> Result<T, Refusal>,
) -> Result<Imported<T>> {
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut out = Imported::new(file);
    let limit = limit.unwrap_or(usize::MAX);
    each(path, |number, line| {
        if out.rows.len() >= limit {
            out.limited = true;
            return false;
        }
        match line.map_err(Refusal::Bad).and_then(&mut take) {
            Ok(row) => out.rows.push(row),
            Err(Refusal::Bad(reason)) => out.refuse(number, reason),
            Err(Refusal::Empty) => out.empty += 1,
            Err(Refusal::Equal) => out.equal += 1,
        }
        true
    })?;
    Ok(out)
}

/// The rows of a file of JSON objects, at most `limit`. `noun` names them and `form` the fields of a line, for the sentence
/// that says that there are none.
///
/// # Errors
/// When the file cannot be read or no row is left.
pub(super) fn some<T>(
    path: &Path,
    limit: Option<usize>,
    noun: &str,
    form: &str,
    take: impl Fn(&Value) -> Result<T, Refusal>,
) -> Result<Imported<T>> {
    let out = texts(path, limit, |line| take(&object(line)?))?;
    if out.rows.is_empty() {
        let why = out.left_out().map_or_else(String::new, |left| format!(" ({left})"));
        return Err(Error::Import {
            path: path.to_owned(),
            reason: format!("holds no usable {noun}{why}: each line is a JSON object with {form}"),
        });
    }
    Ok(out)
}

fn object(line: &str) -> Result<Value, Refusal> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("is not JSON: {e}"))?;
    if value.is_object() { Ok(value) } else { Err("is not a JSON object".into()) }
}

/// Reads a line without its newline, keeping at most [`LONGEST`] bytes of it. Gives back its length and whether the file
/// ended without another newline.
fn next(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<(usize, bool)> {
    let mut length = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok((length, true));
        }
        let newline = bytes.iter().position(|b| *b == b'\n');
        let part = &bytes[..newline.unwrap_or(bytes.len())];
        let room = LONGEST.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        length += part.len();
        let used = part.len() + usize::from(newline.is_some());
        reader.consume(used);
        if newline.is_some() {
            return Ok((length, false));
        }
    }
}
