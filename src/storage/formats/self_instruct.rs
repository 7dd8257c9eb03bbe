//! Imports self-instruct's tasks: an instruction with instances, each an input with its output. Every instance is a text.

use super::super::answers::noted;
use super::super::chat_json::with_input;
use super::super::meaning::sound;
use super::super::record::Record;
use super::super::schema::{Fit, Format, Reader, Reads, Refusal};
use crate::domain::{PromptBody, SftBody, TextSet};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "self-instruct",
    help: "self-instruct's tasks: `instruction`, `instances` with `input` and `output`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `instruction` and `instances`",
        fit: |record| if record.has_all(&["instruction", "instances"]) { Fit::Sure } else { Fit::No },
        row: Reader::ManyTexts(TextSet::Sft, row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<Vec<SftBody>, Refusal> {
    let row = record.row()?;
    let instruction = row.string("instruction")?;
    let list = row.get("instances").and_then(Value::as_array).ok_or("has no list `instances`")?;
    noted(&row, "instances", list, &["input", "output"]);
    let text = |one: &Value| -> Result<SftBody, Refusal> {
        let completion = one.get("output").and_then(Value::as_str).ok_or("has an instance without an `output`")?;
        let input = one.get("input").and_then(Value::as_str);
        let body = SftBody::Completion {
            prompt: PromptBody::user(with_input(instruction, input)),
            completion: completion.to_owned(),
        };
        sound(&body)?;
        Ok(body)
    };
    let texts = list.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() { Err("has no instances".into()) } else { Ok(texts) }
}
