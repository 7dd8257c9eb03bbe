//! JSON arrays, and JSON values one after the other over several lines: read as a stream, one entry in memory at a time.
//!
//! Owns the check of the whole before its first entry is handed out: a part of an array would be taken for all of it.

use super::bytes::{Content, Counting, open};
use super::strict;
use crate::storage::error::{Error, Result};
use crate::storage::record::Record;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::io::BufRead;
use std::path::Path;

/// The longest entry held in memory.
const LONGEST_ENTRY: usize = 256 << 20;

/// Whether a file is one JSON array from its first byte to its last.
///
/// # Errors
/// Which entry breaks it, and where.
pub(super) fn check(path: &Path) -> Result<std::result::Result<(), String>> {
    /// Counts the entries that could be parsed.
    struct Entries<'a>(&'a mut usize);
    impl<'de> Visitor<'de> for Entries<'_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> std::result::Result<(), A::Error> {
            while entries.next_element::<IgnoredAny>()?.is_some() {
                *self.0 += 1;
            }
            Ok(())
        }
    }
    let Some(reader) = text(path)? else { return Ok(Err("is no text".into())) };
    let mut parsed = 0;
    let mut parser = serde_json::Deserializer::from_reader(reader);
    let done = parser.deserialize_seq(Entries(&mut parsed)).and_then(|()| parser.end());
    let Err(e) = done else { return Ok(Ok(())) };
    if e.is_io() {
        return Err(Error::io("read", path, e.into()));
    }
    let place = format!("line {}, byte {} of the file", e.line(), before_line(path, e.line())? + e.column());
    let what = e.to_string();
    let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
    let entry = parsed + 1;
    Ok(Err(if e.is_eof() {
        format!("is a JSON array that ends within entry {entry} ({place}): nothing was imported")
    } else {
        format!("is a JSON array that breaks at entry {entry} ({place}): {what}; nothing was imported")
    }))
}

/// The bytes in front of a line.
fn before_line(path: &Path, line: usize) -> Result<usize> {
    let Some(mut reader) = text(path)? else { return Ok(0) };
    let mut before = 0;
    for _ in 1..line {
        let n = reader.skip_until(b'\n').map_err(|e| Error::io("read", path, e))?;
        before += n;
        if n == 0 {
            break;
        }
    }
    Ok(before)
}

/// The text of a file without its byte order mark.
fn text(path: &Path) -> Result<Option<Box<dyn BufRead>>> {
    let Content::Text(head, mut reader) = open(path)? else { return Ok(None) };
    if head.starts_with(b"\xef\xbb\xbf") {
        reader.read_exact(&mut [0; 3]).map_err(|e| Error::io("read", path, e))?;
    }
    Ok(Some(reader))
}

/// A record from the text of one JSON value.
fn record(raw: &RawValue) -> std::result::Result<Record, String> {
    strict::value(raw.get()).map(Record::json)
}

/// Calls `take` with the line (from 1) on which each entry of an array begins and its record, until it returns false.
///
/// # Errors
/// When the file cannot be read, or an entry is longer than the limit.
pub(super) fn each(
    path: &Path,
    take: &mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool,
) -> Result<()> {
    struct Each<'t>(&'t mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool, super::bytes::Progress);
    impl<'de> Visitor<'de> for Each<'_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> std::result::Result<(), A::Error> {
            while let Some(raw) = entries.next_element::<Box<RawValue>>()? {
                let within = raw.get().bytes().filter(|b| *b == b'\n').count();
                self.1.next();
                if !(self.0)(self.1.lines() - within + 1, record(&raw)) {
                    // Nothing more is wanted: the rest was checked before.
                    return Err(serde::de::Error::custom(STOPPED));
                }
            }
            Ok(())
        }
    }
    impl<'de> DeserializeSeed<'de> for Each<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }
    let Some(reader) = text(path)? else { return Ok(()) };
    let (counting, progress) = Counting::new(reader, LONGEST_ENTRY);
    let mut parser = serde_json::Deserializer::from_reader(counting);
    match Each(take, progress).deserialize(&mut parser) {
        Err(e) if !e.to_string().starts_with(STOPPED) => Err(unreadable(path, &e)),
        _ => Ok(()),
    }
}

/// The message by which a reader that wants no more ends the parser.
const STOPPED: &str = "no more is wanted";

fn unreadable(path: &Path, e: &serde_json::Error) -> Error {
    Error::Import { path: path.to_owned(), reason: format!("cannot be read: {e}") }
}

/// The same for JSON values one after the other, which may span lines. What cannot be parsed ends the file, and is an error of
/// its line.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn each_value(
    path: &Path,
    take: &mut dyn FnMut(usize, std::result::Result<Record, String>) -> bool,
) -> Result<()> {
    let Some(reader) = text(path)? else { return Ok(()) };
    let (counting, progress) = Counting::new(reader, LONGEST_ENTRY);
    for value in serde_json::Deserializer::from_reader(counting).into_iter::<Box<RawValue>>() {
        progress.next();
        match value {
            Ok(raw) => {
                let within = raw.get().bytes().filter(|b| *b == b'\n').count();
                if !take(progress.lines() - within + 1, record(&raw)) {
                    return Ok(());
                }
            }
            Err(e) if e.is_io() => return Err(unreadable(path, &e)),
            Err(e) => {
                let rest = "the rest of the file was not read";
                take(e.line(), Err(format!("is not JSON: {e}; {rest}")));
                return Ok(());
            }
        }
    }
    Ok(())
}
