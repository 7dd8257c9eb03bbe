//! Imports answers with a thumb up or down: one JSON object per line with `prompt`, `completion` and `label`.
//!
//! TRL's form for unpaired preferences, and `messages` that end with the answer (LLaMA-Factory, ms-swift). The label is `label` or
//! `kto_tag`: true, false, 1 or 0.

use super::super::chat_json::{fits, fits_as_json, is_blank, messages};
use super::super::given::GivenAnswer;
use super::super::meaning::{as_chat, has_completion, has_prompt, question, split_answer, surround, truth};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedRating, Reader, Reads, Refusal};
use crate::domain::Conversation;
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "ratings",
    help: "Single answers with a thumb up or down: `prompt`, `completion`, `label`, or `messages` with `kto_tag`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `completion` and `label`",
        fit: |record| {
            let Some(row) = record.columns() else { return Fit::No };
            let answered = has_prompt(&row) && has_completion(&row) || CHATS.iter().any(|name| record.has(name));
            let truth = LABELS.iter().any(|name| row.peek(name).is_some_and(|label| truth(label).is_some()));
            match () {
                () if record.has_all(&["completion", "label"]) => Fit::Sure,
                () if truth && answered => Fit::Sure,
                () => Fit::No,
            }
        },
        row: Reader::Ratings(row),
    }),
    writes: None,
};

/// Columns of the label.
const LABELS: [&str; 2] = ["label", "kto_tag"];

/// Columns of a conversation that ends with the answer.
const CHATS: [&str; 3] = ["messages", "conversations", "conversation"];

fn row(record: &Record) -> Result<ImportedRating, Refusal> {
    let row = record.row()?;
    let (prompt, completion) = match CHATS.iter().find(|name| row.holds(name)) {
        Some(name) if !has_completion(&row) => {
            let turns = messages(name, row.get(name).unwrap_or(&Value::Null))?;
            let mut talk = Conversation::from(turns);
            surround(&row, &mut talk)?;
            split_answer(name, talk)?
        }
        _ => {
            let Some((name, answer)) = ["completion", "response", "output", "answer"]
                .into_iter()
                .find_map(|name| Some((name, row.peek(name)?)))
            else {
                return Err("has no `completion`".into());
            };
            let answer_of = GivenAnswer::in_row(&row, name)?;
            if row.peek("prompt").and_then(Value::as_str).is_some_and(|text| text.trim().is_empty())
                && !has_prompt(&row)
            {
                return Err(Refusal::Empty);
            }
            let prompt = question(&row, answer.is_string())?;
            (if answer_of.turns.is_empty() { prompt } else { as_chat(prompt) }, answer_of)
        }
    };
    let Some((name, label)) = LABELS.into_iter().find_map(|name| Some((name, row.get(name)?))) else {
        return Err("has no `label`".into());
    };
    let good = truth(label).ok_or_else(|| format!("has a `{name}` that is neither true nor false"))?;
    if is_blank(&prompt) || completion.is_blank() {
        return Err(Refusal::Empty);
    }
    fits_as_json("prompt", &prompt)?;
    fits("completion", &completion.text)?;
    fits_as_json("completion", &completion.turns)?;
    Ok(ImportedRating { prompt, completion, good })
}
