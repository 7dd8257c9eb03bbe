//! Imports general texts on which forgetting is measured, in the same shapes as SFT texts.
//!
//! A file is never recognised as one: only its owner knows that it is not for training.

use super::super::meaning::text_of;
use super::super::schema::{Fit, Format, Reader, Reads};
use crate::domain::TextSet;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "probe",
    help: "General texts on which forgetting is measured, in the forms of sft",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `messages`, `prompt` and `completion`, or `text`",
        fit: |_| Fit::No,
        row: Reader::Texts(TextSet::Probe, |record| text_of(&record.row()?)),
    }),
    writes: None,
};
