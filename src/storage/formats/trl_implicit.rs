//! Exports judged pairs in TRL's implicit form: `chosen` and `rejected`, both with the prompt in front.

use super::super::pair_columns::implicit;
use super::super::schema::{Format, Writer};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "trl-implicit",
    help: "Judged pairs: `chosen` and `rejected`, both with the prompt in front",
    reads: None,
    writes: Some(Writer::Pairs(implicit)),
};
