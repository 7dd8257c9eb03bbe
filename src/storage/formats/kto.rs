//! Exports ratings in TRL's form for unpaired preferences: `prompt`, `completion`, `label`.

use super::super::chat_json::completed;
use super::super::schema::{Format, Writer};
use crate::domain::RatedRow;
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "kto",
    help: "Ratings: `prompt`, `completion`, `label`",
    reads: None,
    writes: Some(Writer::Ratings(to_json)),
};

fn to_json(row: &RatedRow) -> Value {
    let mut value = completed(&row.prompt, row.reply());
    value["label"] = row.good.into();
    value
}
