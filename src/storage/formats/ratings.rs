//! Imports answers with a thumb up or down: one JSON object per line with `prompt`, `completion` and `label`.
//!
//! TRL's form for unpaired preferences: `prompt` and `completion` both strings or both lists of messages, `label` true,
//! false, 1 or 0.

use super::super::chat_json::{answer, fits, fits_as_json, is_blank};
use super::super::container::Record;
use super::super::schema::{Fit, Format, ImportedRating, Reader, Reads, Refusal};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "ratings",
    help: "Single answers with a thumb up or down: `prompt`, `completion`, `label`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `completion` and `label`",
        fit: |record| if record.has("completion") && record.has("label") { Fit::Sure } else { Fit::No },
        row: Reader::Ratings(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedRating, Refusal> {
    record.object()?;
    let field = |name: &str| record.field(name).ok_or_else(|| format!("has no `{name}`"));
    let prompt = field("prompt")?;
    let completion = field("completion")?;
    let good = match field("label")? {
        Value::Bool(good) => *good,
        Value::Number(n) if n.as_i64() == Some(1) => true,
        Value::Number(n) if n.as_i64() == Some(0) => false,
        _ => return Err("has a `label` that is neither true nor false".into()),
    };
    let (prompt, completion) = answer("completion", prompt, completion)?;
    if is_blank(&prompt) || completion.trim().is_empty() {
        return Err(Refusal::Empty);
    }
    fits_as_json("prompt", &prompt)?;
    fits("completion", &completion)?;
    Ok(ImportedRating { prompt, completion, good })
}
