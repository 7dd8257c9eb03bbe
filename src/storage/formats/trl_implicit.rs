//! Exports judged pairs in TRL's implicit form: `chosen` and `rejected`, both with the prompt in front.

use super::super::chat_json::assistant;
use super::super::schema::{Format, Writer};
use crate::domain::{PairRow, PromptBody};
use serde_json::{Value, json};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "trl-implicit",
    help: "Judged pairs: `chosen` and `rejected`, both with the prompt in front",
    reads: None,
    writes: Some(Writer::Pairs(to_json)),
};

fn to_json(row: &PairRow) -> Value {
    match &row.prompt {
        PromptBody::Chat(turns) => {
            let whole = |text: &str| turns.iter().cloned().chain([assistant(text)]).collect::<Vec<_>>();
            json!({"chosen": whole(&row.chosen), "rejected": whole(&row.rejected)})
        }
        PromptBody::Text(text) => {
            json!({"chosen": format!("{text}{}", row.chosen), "rejected": format!("{text}{}", row.rejected)})
        }
    }
}
