//! Imports OpenRLHF's rows under their own names: `context_messages` with `chosen` and `rejected`. Its other rows are `pairs`, `sft`
//! and `ratings`.

use super::super::schema::{Fit, Format, Reader, Reads};
use super::pairs;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "openrlhf",
    help: "OpenRLHF's pairs: `context_messages`, `chosen`, `rejected`, `margin`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `context_messages`, `chosen` and `rejected`",
        fit: |record| if record.has_all(&["context_messages", "chosen"]) { Fit::Sure } else { Fit::No },
        row: Reader::Pairs(pairs::row),
    }),
    writes: None,
};
