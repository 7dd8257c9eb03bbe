//! What a worker says: answers as JSON lines on standard output, words on standard error.

use super::error::Error;
use serde::Serialize;
use std::any::Any;
use std::io::Write;

/// Says something in words, on standard error: a run's `worker.log`.
pub(super) fn note(text: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A panic as a sentence; its report has been written before.
pub(super) fn panicked(panic: &(dyn Any + Send), when: &str, remedy: &str) -> String {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("tiebreak has a bug that showed {when} ({what}): {remedy}")
}

/// Says one answer as a line.
pub(super) fn say<T: Serialize>(answer: &T) -> Result<(), Error> {
    let line = serde_json::to_string(answer).map_err(|e| Error::Failed(format!("an answer does not write: {e}")))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| Error::Failed(format!("nobody listens: {e}")))
}
