//! Decodes a file's bytes into records, whatever its format: lines or one JSON array, byte order mark, CR LF, invalid
//! UTF-8, overlong lines.
//!
//! Owns decoding. Refuses to know what a record means: the format does. Containers of other kinds (columns, compressed
//! files) belong here and yield the same records.

use super::error::{Error, Result};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest line read into memory. A longer one would not fit into a log record anyway.
const LONGEST: usize = 16 << 20;

/// The largest JSON array read: it is held in memory whole.
const LARGEST_ARRAY: u64 = 1 << 30;

/// One record of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A line of plain text.
    Text(String),
    /// A JSON value.
    Json(Value),
}

impl Record {
    /// A field that is present and not null.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// Whether a field is present, null or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Text(_) => None,
            Self::Json(value) => value.get(name),
        }
    }

    /// The fields of a JSON object.
    pub(super) fn fields(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Text(_) => None,
            Self::Json(value) => value.as_object(),
        }
    }

    /// Refuses what is not a JSON object.
    pub(super) fn object(&self) -> Result<(), String> {
        match self {
            Self::Json(Value::Object(_)) => Ok(()),
            _ => Err("is not a JSON object".into()),
        }
    }
}

/// Calls `take` with each line number (from 1) and its record or error, until it returns false.
///
/// With `plain_text` a file holds lines of text unless its name ends in `.jsonl`, `.ndjson` or `.json`, or its first
/// line is a JSON object (`.txt` is always text). Without it, every record is JSON.
pub(super) fn records(
    path: &Path,
    plain_text: bool,
    mut take: impl FnMut(usize, Result<Record, String>) -> bool,
) -> Result<()> {
    let ends = |endings: &[&str]| path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending));
    if let Some(bytes) = array(path)? {
        each_item(&bytes, take);
        return Ok(());
    }
    let mut json = (!plain_text || ends(&["jsonl", "ndjson", "json"])).then_some(true);
    let text_file = ends(&["txt"]);
    each_line(path, |number, line| {
        let record = line.and_then(|line| {
            let is_object = || !text_file && serde_json::from_str::<Value>(line).is_ok_and(|v| v.is_object());
            if *json.get_or_insert_with(is_object) {
                serde_json::from_str(line).map(Record::Json).map_err(|e| format!("is not JSON: {e}"))
            } else {
                Ok(Record::Text(line.to_owned()))
            }
        });
        take(number, record)
    })
}

/// The bytes of a file that is one JSON array, whatever lines it is written on; none of any other file.
///
/// # Errors
/// When the file is an array that cannot be parsed: a part of it would be taken for the whole.
fn array(path: &Path) -> Result<Option<Vec<u8>>> {
    let read = |e| Error::io("read", path, e);
    let file = File::open(path).map_err(read)?;
    // A pipe cannot be read twice.
    if path.extension().is_some_and(|e| e == "txt") || !file.metadata().map_err(read)?.is_file() {
        return Ok(None);
    }
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let begins = reader.fill_buf().map_err(read)?;
    let begins = begins.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begins);
    if begins.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'[') {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    reader.take(LARGEST_ARRAY + 1).read_to_end(&mut bytes).map_err(read)?;
    let refuse = |reason| Err(Error::Import { path: path.to_owned(), reason });
    if bytes.len() as u64 > LARGEST_ARRAY {
        let limit = LARGEST_ARRAY >> 20;
        return refuse(format!("is a JSON array of more than {limit} MiB: write one object per line"));
    }
    let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => rest.to_vec(),
        None => bytes,
    };
    match whole_array(&bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(_) if holds_lines(path, &bytes) => Ok(None),
        Err(broken) => refuse(broken),
    }
}

/// Whether a file that begins with `[` and is no array holds lines: arrays of their own, or plain text such as `[Intro] …`.
fn holds_lines(path: &Path, bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let first = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let is_json = path.extension().is_some_and(|e| ["json", "jsonl", "ndjson"].iter().any(|ending| e == *ending));
    let value = text[1..].trim_ascii_start().first();
    let begins_a_value = value.is_none_or(|b| b"{[\"]-0123456789tfn".contains(b));
    serde_json::from_slice::<&RawValue>(first).is_ok() || !is_json && !begins_a_value
}

/// Parses one array. The error says in which entry and where it breaks.
fn whole_array(bytes: &[u8]) -> Result<(), String> {
    /// Counts the entries that could be parsed.
    struct Entries<'a>(&'a mut usize);
    impl<'de> Visitor<'de> for Entries<'_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
            while entries.next_element::<&RawValue>()?.is_some() {
                *self.0 += 1;
            }
            Ok(())
        }
    }
    let mut parsed = 0;
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let done = parser.deserialize_seq(Entries(&mut parsed)).and_then(|()| parser.end());
    done.map_err(|e| {
        let (line, column) = (e.line(), e.column());
        let before: usize = bytes.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
        let place = format!("line {line}, byte {} of the file", before + column);
        let what = e.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        let entry = parsed + 1;
        if e.is_eof() {
            format!("is a JSON array that ends within entry {entry} ({place}): nothing was imported")
        } else {
            format!("is a JSON array that breaks at entry {entry} ({place}): {what}; nothing was imported")
        }
    })
}

/// Calls `take` with the line (from 1) on which each item of an array begins and its record, until it returns false.
fn each_item(bytes: &[u8], mut take: impl FnMut(usize, Result<Record, String>) -> bool) {
    let items: Vec<&RawValue> = serde_json::from_slice(bytes).unwrap_or_default();
    let (mut line, mut counted) = (1, 0);
    for item in items {
        let begins = item.get().as_ptr() as usize - bytes.as_ptr() as usize;
        line += bytes[counted..begins].split(|b| *b == b'\n').count() - 1;
        counted = begins;
        let record = serde_json::from_str(item.get()).map(Record::Json).map_err(|e| format!("is not JSON: {e}"));
        if !take(line, record) {
            return;
        }
    }
}

/// The first record of a file, for recognising its format; an empty text if there is none or it is not UTF-8.
pub(super) fn first(path: &Path) -> Result<Record> {
    let mut first = Record::Text(String::new());
    if let Some(bytes) = array(path)? {
        each_item(&bytes, |_, record| {
            first = record.unwrap_or(Record::Text(String::new()));
            false
        });
        return Ok(first);
    }
    each_line(path, |_, line| {
        if let Ok(line) = line {
            first = serde_json::from_str(line).map_or_else(|_| Record::Text(line.to_owned()), Record::Json);
        }
        false
    })?;
    Ok(first)
}

/// Calls `take` with the number (from 1) and the text or error of each line that is not blank, until it returns false.
fn each_line(path: &Path, mut take: impl FnMut(usize, Result<&str, String>) -> bool) -> Result<()> {
    let read = |e| Error::io("read", path, e);
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(read)?);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let (length, ended) = read_line(&mut reader, &mut line).map_err(read)?;
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
            Err(format!("is {length} bytes long, longer than the limit of {LONGEST}"))
        } else {
            std::str::from_utf8(bytes).map_err(|e| format!("is not valid UTF-8 from byte {} on", e.valid_up_to() + 1))
        };
        if text.as_ref().is_ok_and(|t| t.trim().is_empty()) {
            continue;
        }
        if !take(number, text) {
            return Ok(());
        }
    }
}

/// Reads a line without its newline, keeping at most [`LONGEST`] bytes of it. Returns its full length and whether the
/// file ended without a newline.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<(usize, bool)> {
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
