//! Imports and exports SFT texts: one JSON object per line.
//!
//! Reads the shapes of `text_of`. Writes TRL's: `messages`, `prompt` with `completion`, `text`.

use super::super::chat_json::{add_extras, completed};
use super::super::meaning::{has_completion, has_prompt, text_of};
use super::super::record::Record;
use super::super::schema::{Fit, Format, Reader, Reads, Writer};
use crate::domain::{ReplyRef, SftBody, SftRow, TextSet};
use serde_json::{Value, json};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "sft",
    help: "Texts to imitate in TRL's forms: `messages`, `prompt` with `completion`, `text`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `messages`, `prompt` and `completion`, or `text`",
        fit,
        row: Reader::Texts(TextSet::Sft, |record| text_of(&record.row()?)),
    }),
    writes: Some(Writer::Texts(to_json)),
};

/// `messages` alone do not identify SFT texts: they may be prompts too. Tools, reasoning and weights do.
fn fit(record: &Record) -> Fit {
    let Some(row) = record.columns() else { return Fit::No };
    let taught = |turn: &Value| {
        ["tool_calls", "function_call", "weight", "train", "loss", "training", "reasoning_content", "thinking"]
            .iter()
            .any(|name| turn.get(*name).is_some())
    };
    let turns = row.peek("messages").and_then(Value::as_array);
    if ["completion", "conversations", "text"].iter().any(|name| record.has(name))
        || has_prompt(&row) && has_completion(&row)
        || turns.is_some_and(|turns| turns.iter().any(taught))
    {
        Fit::Likely
    } else {
        Fit::No
    }
}

fn to_json(row: &SftRow) -> Value {
    match &row.body {
        SftBody::Messages(talk) => {
            let mut columns = json!({"messages": talk.turns});
            add_extras(&mut columns, talk);
            columns
        }
        SftBody::Completion { prompt, completion } => completed(prompt, ReplyRef::from(completion)),
        SftBody::Text(text) => json!({"text": text}),
    }
}
