//! Imports MT-bench's questions: `turns`, of which the first is a prompt.
//!
//! A later turn asks about the answer to the first, which the file does not hold: it is no prompt of its own, and is counted.
//! `reference` answers are not read.

use super::super::answers::tags_of;
use super::super::chat_json::fits;
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedPrompt, Reader, Reads, Refusal};
use crate::domain::PromptBody;
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "mt-bench",
    help: "MT-bench's questions: `turns`, of which the first becomes a prompt",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with a list of texts `turns`",
        fit: |record| {
            let turns = record.columns().and_then(|row| row.peek("turns")?.as_array());
            let texts = turns.is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_string));
            match (texts, record.has("question_id")) {
                (true, true) => Fit::Sure,
                (true, false) => Fit::Possible,
                (false, _) => Fit::No,
            }
        },
        row: Reader::Prompts(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedPrompt, Refusal> {
    let row = record.row()?;
    row.mark("question_id");
    let turns = row.get("turns").and_then(Value::as_array).ok_or("has no list `turns`")?;
    let texts: Option<Vec<&str>> = turns.iter().map(Value::as_str).collect();
    let texts = texts.ok_or("has `turns` that are not all texts")?;
    let Some((first, later)) = texts.split_first() else { return Err("has no turn in `turns`".into()) };
    if first.trim().is_empty() {
        return Err(Refusal::Empty);
    }
    fits("turn", first)?;
    let unread = later.iter().filter(|text| !text.trim().is_empty()).map(|_| "later turn of a question").collect();
    Ok(ImportedPrompt { body: PromptBody::user(*first), tags: tags_of(&row)?, unread })
}
