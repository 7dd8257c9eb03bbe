//! Imports two answers to a prompt without a decision: pairs to judge.
//!
//! `response_1` and `response_2`, `answer_a` and `answer_b`, `output1` and `output2`, `a` and `b` … or a list `responses` of two,
//! beside `prompt`, `instruction`, `question` or `messages`. `model_1`, `model_a` … name the models. A row that carries a decision is
//! refused: it would be lost.

use super::super::answers::{Decision, decision, has_two, prompt_of, tags_of, two_answers, unjudged};
use super::super::judgements::decides;
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::Choice;
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "unjudged",
    help: "Two answers to judge: `prompt`, `response_1`, `response_2`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt` and two answers, such as `response_1` and `response_2`",
        // Rows with a decision fit too, so that they are refused by name and not imported as mere prompts.
        fit: |record| if record.columns().is_some_and(|row| has_two(&row)) { Fit::Likely } else { Fit::No },
        row: Reader::Votes(row),
    }),
    writes: None,
};

/// Whether a text says which answer is better, more than a bare number or letter can.
fn names_one(said: &str, names: (&str, &str)) -> bool {
    said.trim().len() > 1 && matches!(decision(said, names), Some(Decision::Choice(Choice::Prefer(..))))
}

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let row = record.row()?;
    if let Some(name) = row.names().find(|name| decides(name) && row.holds(name)) {
        return Err(format!("has a `{name}`, a decision that this form does not read: write the better answer's name into it, or name a form with --as").into());
    }
    let answers = two_answers(&row)?;
    let names = (answers.names.0.as_str(), answers.names.1.as_str());
    let says_which = |name: &&String| {
        let said = row.peek(name).and_then(Value::as_str);
        **name != names.0 && **name != names.1 && said.is_some_and(|said| names_one(said, names))
    };
    if let Some(name) = row.names().find(says_which) {
        return Err(format!(
            "has a `{name}` that names one of its answers: call it `winner`, or name a form that reads it with --as"
        )
        .into());
    }
    unjudged(prompt_of(&row)?, tags_of(&row)?, answers)
}
