//! Imports Dolly's records: `instruction`, `context`, `response`, `category`. The context follows the instruction.

use super::super::meaning::text_of;
use super::super::schema::{Fit, Format, Reader, Reads};
use crate::domain::TextSet;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "dolly",
    help: "Dolly's records: `instruction`, `context`, `response`, `category`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `instruction`, `context` and `response`",
        fit: |record| {
            if record.has_all(&["instruction", "context", "response"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Texts(TextSet::Sft, |record| text_of(&record.row()?)),
    }),
    writes: None,
};
