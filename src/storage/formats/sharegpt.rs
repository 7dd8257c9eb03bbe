//! Imports ShareGPT's conversations: `conversations` with `from` and `value`, with `system` and `tools` beside them.
//!
//! `human`, `gpt`, `observation` and `function_call` are the user's, the assistant's, a tool's turn and a call of a tool. NeMo's
//! conversations, which are of this form, begin with `User` and `Assistant`.

use super::super::meaning::text_of;
use super::super::record::Record;
use super::super::schema::{Fit, Format, Reader, Reads, Refusal};
use crate::domain::{SftBody, TextSet};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "sharegpt",
    help: "ShareGPT's conversations: `conversations` with `from` and `value`, `system`, `tools`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `conversations`, each turn with `from` and `value`",
        fit: |record| {
            let first = record.columns().and_then(|row| row.peek("conversations")?.get(0));
            let turn = first.is_some_and(|turn| turn.get("from").is_some());
            let judged = record.has_any(&["chosen", "rejected", "label", "kto_tag"]);
            if turn && !judged { Fit::Sure } else { Fit::No }
        },
        row: Reader::Texts(TextSet::Sft, row),
    }),
    writes: None,
};

/// NeMo's columns that say how a conversation is written, not what it says.
const HOW: [&str; 2] = ["mask", "type"];

fn row(record: &Record) -> Result<SftBody, Refusal> {
    let row = record.row()?;
    row.mark_all(&HOW);
    text_of(&row)
}
