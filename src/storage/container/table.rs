//! CSV and TSV with a header line.
//!
//! Owns what a table looks like, and its rows as JSON objects of texts. A cell that is a JSON list of objects, or an object, is
//! read as that: messages are written so.

use super::bytes::Counting;
use crate::storage::error::{Error, Result};
use crate::storage::record::{Object, Record};
use serde_json::Value;
use std::io::BufRead;
use std::path::Path;

/// The longest row held in memory: an open quote would else take the rest of the file.
const LONGEST_ROW: usize = 32 << 20;

/// Columns by which a line of text is known to be a header.
pub(super) const KNOWN: [&str; 40] = [
    "prompt",
    "chosen",
    "rejected",
    "completion",
    "response",
    "instruction",
    "question",
    "query",
    "problem",
    "answer",
    "output",
    "messages",
    "conversations",
    "label",
    "winner",
    "preference",
    "response_a",
    "response_b",
    "response_0",
    "response_1",
    "response_2",
    "response1",
    "response2",
    "answer_a",
    "answer_b",
    "answer_1",
    "answer_2",
    "output_1",
    "output_2",
    "completion_a",
    "completion_b",
    "human_ref_a",
    "human_ref_b",
    "model_a",
    "model_b",
    "winner_model_a",
    "user_input",
    "prompt_id",
    "system",
    "text",
];

/// The delimiter of a table with this beginning; none where it is none. `named` is a file called .csv or .tsv, which needs no
/// known column.
pub(super) fn delimiter(head: &str, named: bool) -> Option<u8> {
    let head = head.trim_start_matches('\u{feff}');
    let head = if named_in(head.as_bytes()) { head.split_once('\n').map_or("", |(_, rest)| rest) } else { head };
    let mut best: Option<(usize, u8)> = None;
    for delimiter in [b',', b'\t', b';', b'|'] {
        let Some(cells) = first_row(head, delimiter) else { continue };
        let named_once = cells.iter().enumerate().all(|(i, cell)| !cells[..i].contains(cell));
        let short = cells.iter().all(|cell| cell.len() <= 64 && !cell.contains('\n'));
        let known = cells.iter().any(|cell| KNOWN.contains(&cell.to_lowercase().as_str()));
        let plain = cells.iter().all(|cell| !cell.contains(' ') || named);
        let enough = cells.len() > 1 || named && known;
        if enough && short && (named || known && plain && named_once) && best.is_none_or(|(n, _)| n < cells.len()) {
            best = Some((cells.len(), delimiter));
        }
    }
    best.map(|(_, delimiter)| delimiter)
}

/// Whether a text begins with Excel's line that names the delimiter: `sep=;`.
fn named_in(text: &[u8]) -> bool {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"sep="))
        && text.iter().take(12).any(|byte| *byte == b'\n')
}

fn first_row(head: &str, delimiter: u8) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(head.as_bytes());
    let row = reader.records().next()?.ok()?;
    Some(row.iter().map(|cell| cell.trim().to_owned()).collect())
}

/// Calls `take` with the line (from 1) on which each row begins and its record, until it returns false.
///
/// # Errors
/// When the file cannot be read, or its header names a column twice.
pub(super) fn each(
    path: &Path,
    reader: Box<dyn BufRead>,
    delimiter: u8,
    take: &mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool,
) -> Result<()> {
    let refuse = |reason: String| Error::Import { path: path.to_owned(), reason };
    let (counting, progress) = Counting::new(reader, LONGEST_ROW);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(counting);
    let mut row = csv::ByteRecord::new();
    let mut header: Option<Vec<String>> = None;
    // The parser counts the newline of a CR LF with the row behind it: then the first row seems to begin in the header's line.
    let (mut first, mut late, mut named) = (0, 0, 0);
    loop {
        progress.next();
        match reader.read_byte_record(&mut row) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) => return Err(refuse(format!("cannot be read as a table: {e}"))),
        }
        let line = row.position().map_or(0, |at| at.line() as usize);
        let Some(names) = &header else {
            // Excel's own line in front of the header.
            let cell = row.get(0).unwrap_or_default();
            if named == 0 && row.len() <= 2 && named_in(&[cell, b"\n".as_slice()].concat()) {
                named = line;
                continue;
            }
            late = usize::from(named == line);
            first = line;
            header = Some(read_header(&row).map_err(refuse)?);
            continue;
        };
        if line == first {
            late = 1;
        }
        if row.iter().all(<[u8]>::is_empty) {
            continue;
        }
        if !take(line + late, record(names, &row)) {
            return Ok(());
        }
    }
}

fn read_header(row: &csv::ByteRecord) -> std::result::Result<Vec<String>, String> {
    let name = |(at, cell): (usize, &[u8])| {
        let cell = std::str::from_utf8(cell)
            .map_err(|_| "has a header that is not UTF-8: save the file as UTF-8".to_owned())?;
        let cell = cell.trim_start_matches('\u{feff}').trim();
        Ok(if cell.is_empty() { format!("column {}", at + 1) } else { cell.to_owned() })
    };
    let names: Vec<String> = row.iter().enumerate().map(name).collect::<std::result::Result<_, String>>()?;
    match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        Some((_, twice)) => Err(format!("has a header that names the column `{twice}` twice")),
        None => Ok(names),
    }
}

fn record(names: &[String], row: &csv::ByteRecord) -> std::result::Result<Record, String> {
    if row.len() != names.len() {
        return Err(format!("has {} cells: the header has {}", row.len(), names.len()));
    }
    let mut object = Object::new();
    for (name, cell) in names.iter().zip(row) {
        let cell = std::str::from_utf8(cell)
            .map_err(|_| format!("has a `{name}` that is not valid UTF-8: save the file as UTF-8"))?;
        object.insert(name.clone(), value(name, cell)?);
    }
    Ok(Record::json(Value::Object(object)))
}

/// Whether a text is messages as Python prints them: `[{'role': 'user', …}]`.
fn printed_by_python(text: &str) -> bool {
    let listed = text.starts_with("[{'") && text.ends_with("}]");
    let alone = text.starts_with("{'") && text.ends_with('}');
    listed || alone && ["'role':", "'content':", "'from':"].iter().any(|name| text.contains(name))
}

fn value(name: &str, cell: &str) -> std::result::Result<Value, String> {
    let trimmed = cell.trim();
    if printed_by_python(trimmed) {
        return Err(format!("has a `{name}` that is a list as Python prints it: write it as JSON"));
    }
    if trimmed.starts_with(['[', '{'])
        && let Ok(value) = serde_json::from_str::<Value>(trimmed)
    {
        let objects = value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_object));
        if objects || value.is_object() {
            return Ok(value);
        }
    }
    Ok(Value::String(cell.to_owned()))
}
