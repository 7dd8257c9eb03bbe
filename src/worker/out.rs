//! What a worker says: answers as JSON lines on standard output, words on standard error.

use super::error::Error;
use serde::Serialize;
use std::io::Write;

/// Says something in words, on standard error: a run's `worker.log`.
pub(super) fn note(text: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says one answer as a line.
pub(super) fn say<T: Serialize>(answer: &T) -> Result<(), Error> {
    let line = serde_json::to_string(answer).map_err(|e| Error::Failed(format!("an answer does not write: {e}")))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| Error::Failed(format!("nobody listens: {e}")))
}
