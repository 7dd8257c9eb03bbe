//! Decodes a file's bytes into records, whatever its format: JSON lines, a JSON array, JSON values over several lines, CSV and
//! TSV with a header, plain text lines, Parquet; plain, gzip or zstd; with byte order mark, CR LF, invalid UTF-8, overlong lines.
//!
//! Owns finding out what a file is, from its content; its name decides only where the content leaves it open. Refuses to know
//! what a record means: the format does. What it cannot read it refuses by name.

mod array;
mod bytes;
mod lines;
mod parquet;
mod pipe;
mod strict;
mod table;

use super::error::{Error, Result};
use super::record::Record;
use crate::domain::sanitise;
use crate::foreign::ROWS;
use bytes::Content;
use pipe::Pipe;
use serde_json::Value;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// What is done with the number of each line or row and its record or error; false wants no more.
type Take<'t> = &'t mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool;

/// What a text file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One JSON value a line.
    JsonLines,
    /// A text a line.
    TextLines,
    /// One JSON array.
    Array,
    /// JSON values that span lines.
    Values,
    /// A table, its cells apart by this.
    Table(u8),
}

/// Lines looked at to tell JSON from text.
const LOOKED_AT: usize = 100;

/// The longest time for somebody to open a named pipe for writing.
const WRITER_TIME: Duration = Duration::from_secs(10);

/// Records looked at to recognise a format.
const FIRST: usize = 16;

/// Calls `take` with each line or row number (from 1) and its record or error, until it returns false. Returns what the numbers
/// count: `line`, or `row` where a file has no lines.
///
/// With `plain_text` a file may hold lines of text. Without it, every record is JSON or a row of a table.
pub(super) fn records(
    path: &Path,
    plain_text: bool,
    mut take: impl FnMut(usize, std::result::Result<Record, String>) -> bool,
) -> Result<&'static str> {
    let read = |e| Error::io("read", path, e);
    let piped;
    let mut source = path;
    // A pipe cannot be read twice.
    if !path.metadata().map_err(read)?.is_file() {
        refuse_endless(path)?;
        piped = spooled(path)?;
        source = piped.path();
    }
    each(source, path, plain_text, &mut take).map_err(|e| match e {
        Error::Import { reason, .. } => Error::Import { path: path.to_owned(), reason: sanitise(&reason) },
        other => other,
    })
}

/// Refuses what is neither a pipe nor a terminal: a device may never end.
fn refuse_endless(path: &Path) -> Result<()> {
    let kind = path.metadata().map_err(|e| Error::io("read", path, e))?.file_type();
    let typed_in = || File::open(path).is_ok_and(|file| file.is_terminal());
    let what = match () {
        () if kind.is_fifo() => return Ok(()),
        () if kind.is_dir() => "is a folder: name a file in it",
        () if kind.is_socket() => "is a socket: name a file or a pipe",
        () if typed_in() => return Ok(()),
        () => "is a device: name a file or a pipe",
    };
    Err(Error::Import { path: path.to_owned(), reason: what.into() })
}

/// What comes out of a pipe, as a file.
fn spooled(path: &Path) -> Result<tempfile::NamedTempFile> {
    let read = |e| Error::io("read", path, e);
    let mut file = tempfile::NamedTempFile::new().map_err(read)?;
    let is_pipe = path.metadata().map_err(read)?.file_type().is_fifo();
    let pipe: Box<dyn Read> = if is_pipe {
        Box::new(Pipe::open(path, WRITER_TIME).map_err(read)?)
    } else {
        Box::new(File::open(path).map_err(read)?)
    };
    if std::io::copy(&mut pipe.take(ROWS + 1), &mut file).map_err(read)? > ROWS {
        let reason = format!("gave more than {} GiB: save it as a file and import that", ROWS >> 30);
        return Err(Error::Import { path: path.to_owned(), reason });
    }
    Ok(file)
}

fn each(source: &Path, named: &Path, plain_text: bool, take: Take<'_>) -> Result<&'static str> {
    let (head, reader) = match bytes::open(source)? {
        Content::Parquet(file) => return parquet::each(source, file, take).map(|()| "row"),
        Content::Text(head, reader) => (head, reader),
    };
    let refuse = |reason: String| Error::Import { path: source.to_owned(), reason };
    let shape = match shape(&head, Extension::of(named), plain_text).map_err(|what| refuse(what.into()))? {
        Shape::Array => match array::check(source)? {
            Ok(()) => Shape::Array,
            // Lines that are arrays of their own, or text such as `[Intro] …`.
            Err(_) if arrays_are_lines(&head, Extension::of(named)) => {
                lines_of(&head, Extension::of(named), plain_text)
            }
            Err(broken) => return Err(refuse(broken)),
        },
        shape => shape,
    };
    match shape {
        Shape::Array => array::each(source, take)?,
        Shape::Values => array::each_value(source, take)?,
        Shape::Table(delimiter) => table::each(source, reader, delimiter, take)?,
        Shape::JsonLines | Shape::TextLines => {
            let json = shape == Shape::JsonLines;
            lines::each(reader, &mut |number, line| take(number, line.and_then(|line| of_line(line, json))))
                .map_err(|e| Error::io("read", source, e))?;
        }
    }
    Ok("line")
}

fn of_line(line: &str, json: bool) -> std::result::Result<Record, String> {
    if json { json_of(line).map(Record::json) } else { Ok(Record::text(line)) }
}

/// The JSON value of a line. A comma behind an object, as in a list without its brackets, is no part of it.
fn json_of(line: &str) -> std::result::Result<Value, String> {
    strict::value(line).or_else(|e| {
        let listed = line.trim_end().strip_suffix(',').map(str::trim_end).filter(|object| object.ends_with('}'));
        listed.and_then(|object| strict::value(object).ok()).ok_or(e)
    })
}

/// What a file's name says of it, behind the ending of a compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    Json,
    Table,
    Text,
    Yaml,
    Toml,
    Other,
}

impl Extension {
    fn of(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        match name.rsplit_once('.').map(|(_, end)| end) {
            Some("json" | "jsonl" | "ndjson") => Self::Json,
            Some("csv" | "tsv") => Self::Table,
            Some("txt") => Self::Text,
            Some("yaml" | "yml") => Self::Yaml,
            Some("toml") => Self::Toml,
            _ => Self::Other,
        }
    }
}

/// What a text holds, by its beginning.
fn shape(head: &[u8], named: Extension, plain_text: bool) -> std::result::Result<Shape, &'static str> {
    let text = String::from_utf8_lossy(head);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let begins = text.trim_start();
    if let Some(what) = foreign_text(begins, named) {
        return Err(what);
    }
    if begins.starts_with('[') {
        return Ok(Shape::Array);
    }
    if begins.starts_with("<?xml") || begins.to_lowercase().starts_with("<!doctype") || begins.starts_with("<html") {
        return Err("is XML or HTML: expected text, JSON, CSV or Parquet");
    }
    if begins.starts_with('{') && json_lines(text) == 0 && named != Extension::Text {
        let mut values = serde_json::Deserializer::from_str(begins).into_iter::<Value>();
        let whole = match values.next() {
            Some(Ok(value)) => value.is_object(),
            Some(Err(e)) => e.is_eof() && begins.lines().count() > 1,
            None => false,
        };
        if whole {
            return Ok(Shape::Values);
        }
    }
    if !begins.starts_with('{')
        && json_lines(text) == 0
        && named != Extension::Json
        && let Some(delimiter) = table::delimiter(text, named == Extension::Table)
    {
        return Ok(Shape::Table(delimiter));
    }
    Ok(lines_of(head, named, plain_text))
}

/// What a text is that is neither JSON, a table nor lines, with the remedy.
fn foreign_text(begins: &str, named: Extension) -> Option<&'static str> {
    // An entry of a list: `- prompt: Why?`.
    let entry = begins.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = entry
        .and_then(|line| line.strip_prefix("- ")?.split_once(':'))
        .is_some_and(|(name, rest)| table::KNOWN.contains(&name.trim()) && (rest.is_empty() || rest.starts_with(' ')));
    match () {
        () if named == Extension::Toml => Some("is TOML: write one JSON object a line"),
        () if entry || named == Extension::Yaml || begins.starts_with("---\n") => {
            Some("is YAML: write one JSON object a line (`yq -o=json -I=0 '.[]'`)")
        }
        () if begins.starts_with("version https://git-lfs.github.com/") => {
            Some("is a pointer of Git LFS and not the file itself: fetch it with `git lfs pull`")
        }
        () if begins.starts_with("/annex/objects/") => {
            Some("is a pointer of git-annex and not the file itself: fetch it with `git annex get`")
        }
        () if ["(lp0\n", "(dp0\n", "ccopy_reg\n"].iter().any(|first| begins.starts_with(first)) => Some(bytes::PICKLE),
        () if is_markdown_table(begins) => Some("is a Markdown table: save it as CSV"),
        () => None,
    }
}

/// Whether a text is a Markdown table: a row, then a line of dashes.
fn is_markdown_table(begins: &str) -> bool {
    let rule = begins.lines().nth(1).unwrap_or_default().trim();
    begins.starts_with('|') && rule.starts_with('|') && rule.contains("--") && rule.chars().all(|c| "|-: ".contains(c))
}

/// Whether lines hold JSON or text.
fn lines_of(head: &[u8], named: Extension, plain_text: bool) -> Shape {
    let text = String::from_utf8_lossy(head);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let looked_at = whole_lines(text).count();
    let found = json_lines(text);
    // A single line that is longer than what is looked at.
    let long = looked_at <= 1 && head.len() >= bytes::HEAD && text.trim_start().starts_with('{');
    match () {
        () if !plain_text || named == Extension::Json => Shape::JsonLines,
        () if found > 0 && found * 2 >= looked_at || long && named != Extension::Text => Shape::JsonLines,
        () => Shape::TextLines,
    }
}

/// The lines of a beginning that are looked at, without one that may be cut.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    let end = if text.len() < bytes::HEAD { text.len() } else { text.rfind('\n').unwrap_or(text.len()) };
    text[..end].split('\n').filter(|line| !line.trim().is_empty()).take(LOOKED_AT)
}

/// How many of the lines looked at are JSON objects.
fn json_lines(text: &str) -> usize {
    let parsed = |line: &str| match json_of(line) {
        Ok(value) => value.is_object(),
        // What names a field twice is JSON nevertheless.
        Err(_) => serde_json::from_str::<serde_json::Map<String, Value>>(line).is_ok(),
    };
    let object = |line: &&str| line.trim_start().starts_with('{') && parsed(line);
    whole_lines(text).filter(object).count()
}

/// Whether a text that begins with `[` and is no array holds lines: arrays of their own, or plain text such as `[Intro] …`.
fn arrays_are_lines(head: &[u8], named: Extension) -> bool {
    let text = String::from_utf8_lossy(head);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_start();
    let first = text.split('\n').next().unwrap_or_default();
    let value = text[1..].trim_start().bytes().next();
    let begins_a_value = value.is_none_or(|b| b"{[\"]-0123456789tfn".contains(&b));
    serde_json::from_str::<Value>(first).is_ok() || named != Extension::Json && !begins_a_value
}

/// The first records of a file, for recognising its format.
///
/// # Errors
/// When the file cannot be read, or is a pipe.
pub(super) fn first(path: &Path) -> Result<Vec<Record>> {
    if !path.metadata().map_err(|e| Error::io("read", path, e))?.is_file() {
        refuse_endless(path)?;
        let reason = "is a pipe, which can be read only once: name its format with --as".to_owned();
        return Err(Error::Import { path: path.to_owned(), reason });
    }
    let mut first = Vec::new();
    records(path, true, |_, record| {
        first.extend(record.ok());
        first.len() < FIRST
    })?;
    Ok(first)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use tests::written_parquet;
