//! Output of commands: results to standard output, progress and messages to standard error.
//!
//! Text is sanitised before it is shown; in JSON what must not be shown is escaped.

use super::error::{Error, Result};
use crate::domain::{sanitise, shown_json};
use crate::protocol::Integrity;
use crate::storage::{Target, write_result};
use color_eyre::eyre::Report;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// Prints a line of text.
///
/// # Errors
/// When the output is closed.
pub fn line(text: &str) -> Result<()> {
    put(&sanitise(text))
}

/// Prints one JSON object on a line.
///
/// # Errors
/// When the output is closed.
pub fn json<T: Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::bug("write the answer as JSON", e))?;
    put(&shown_json(text))
}

/// Prints bytes unchanged, for generated scripts.
///
/// # Errors
/// When the output is closed.
pub fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(closed)
}

/// Writes a result to a file; `-` is standard output. Returns whether a summary may go to standard output; otherwise it
/// goes to standard error.
///
/// # Errors
/// When it cannot be written.
pub fn result(to: &Path, bytes: &[u8]) -> Result<bool> {
    let standard = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| to == Path::new(name));
    if standard {
        return raw(bytes).map(|()| false);
    }
    Ok(write_result(to, bytes)? == Target::File)
}

/// Prints a summary of a result, or its JSON object: to standard output if that is `free`.
///
/// # Errors
/// When the output is closed.
pub fn about(free: bool, text: &str, object: Option<&serde_json::Value>) -> Result<()> {
    match (free, object) {
        (true, Some(object)) => json(object),
        (true, None) => line(text),
        (false, Some(object)) => {
            note(&shown_json(object.to_string()));
            Ok(())
        }
        (false, None) => {
            note(text);
            Ok(())
        }
    }
}

fn put(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(closed)
}

fn closed(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Error::Closed
    } else {
        Error::Io { doing: "write to standard output".into(), source: error }
    }
}

/// Reports a bug in full, on standard error.
pub fn bug(report: &Report) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr().lock(), "{report:?}");
}

/// Prints a message to standard error. A closed standard error is no reason to fail.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", sanitise(text));
}

/// Warns about damaged logs; prints nothing if they are intact.
pub fn warn_of_damage(found: &Integrity) {
    if !found.is_intact() {
        note(&format!("the session's logs have {}: what cannot be read is left out", found.sentence()));
    }
}

/// A progress bar on standard error; invisible if that is not a terminal.
#[must_use]
pub fn bar(total: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let template = match unit {
        "bytes" => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        _ => "{msg} {wide_bar} {pos}/{len} {eta} left",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
