//! Imports and exports SFT texts: one JSON object per line.
//!
//! Reads the shapes of `text_of`. Writes TRL's: `messages`, `prompt` with `completion`, `text`.

use super::super::chat_json::{completed, text_of};
use super::super::container::Record;
use super::super::schema::{Fit, Format, Reader, Reads, Writer};
use crate::domain::{SftBody, SftRow, TextSet};
use serde_json::{Value, json};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "sft",
    help: "Texts to imitate in TRL's forms: `messages`, `prompt` with `completion`, `text`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `messages`, `prompt` and `completion`, or `text`",
        fit,
        row: Reader::Texts(TextSet::Sft, text_of),
    }),
    writes: Some(Writer::Texts(to_json)),
};

/// `messages` alone do not identify SFT texts: they may be prompts too.
fn fit(record: &Record) -> Fit {
    if ["completion", "conversations", "text"].iter().any(|name| record.has(name)) { Fit::Likely } else { Fit::No }
}

fn to_json(row: &SftRow) -> Value {
    match &row.body {
        SftBody::Messages(turns) => json!({"messages": turns}),
        SftBody::Completion { prompt, completion } => completed(prompt, completion),
        SftBody::Text(text) => json!({"text": text}),
    }
}
