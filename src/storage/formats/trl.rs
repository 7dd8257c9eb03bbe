//! Exports judged pairs in TRL's explicit form: `prompt`, `chosen`, `rejected`. Messages for conversations, strings for
//! plain text.

use super::super::chat_json::assistant;
use super::super::schema::{Format, Writer};
use crate::domain::{PairRow, PromptBody};
use serde_json::{Value, json};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "trl",
    help: "Judged pairs: `prompt`, `chosen`, `rejected`",
    reads: None,
    writes: Some(Writer::Pairs(to_json)),
};

fn to_json(row: &PairRow) -> Value {
    match &row.prompt {
        PromptBody::Chat(turns) => {
            json!({"prompt": turns, "chosen": [assistant(&row.chosen)], "rejected": [assistant(&row.rejected)]})
        }
        PromptBody::Text(text) => json!({"prompt": text, "chosen": row.chosen, "rejected": row.rejected}),
    }
}
