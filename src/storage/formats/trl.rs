//! Exports judged pairs in TRL's explicit form: `prompt`, `chosen`, `rejected`. Messages for conversations, strings for
//! plain text. More columns say who judged the pair and how; TRL leaves them aside, `margin` in a reward trainer excepted.

use super::super::pair_columns::explicit;
use super::super::schema::{Format, Writer};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "trl",
    help: "Judged pairs: `prompt`, `chosen`, `rejected`",
    reads: None,
    writes: Some(Writer::Pairs(explicit)),
};
