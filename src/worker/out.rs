//! A worker's output: results as JSON lines on stdout, messages on stderr. Owns both; refuses the run's log.

use super::error::Error;
use crate::domain::{sanitise, shown_json};
use serde::Serialize;
use std::any::Any;
use std::io::Write;

/// Writes a message to stderr, which is a run's `worker.log`.
pub(super) fn note(text: &str) {
    // A closed stderr is not an error.
    let _ = writeln!(std::io::stderr(), "{}", sanitise(text));
}

/// A panic as a sentence; the hook has already written its report.
pub(super) fn panicked(panic: &(dyn Any + Send), when: &str, remedy: &str) -> String {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("tiebreak has a bug that showed {when} ({what}): {remedy}")
}

/// Writes one result as a line.
pub(super) fn say<T: Serialize>(answer: &T) -> Result<(), Error> {
    let line =
        serde_json::to_string(answer).map_err(|e| Error::Failed(format!("a result cannot be serialised: {e}")))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", shown_json(line))
        .and_then(|()| out.flush())
        .map_err(|e| Error::Failed(format!("cannot write to stdout: {e}")))
}
