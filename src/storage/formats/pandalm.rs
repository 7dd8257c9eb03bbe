//! Imports PandaLM's test set: two answers to an instruction with the labels of several annotators.
//!
//! `instruction`, `input`, `response1`, `response2`, and `annotator1`, `annotator2` … with 0 for a tie, 1 or 2 for the better
//! answer; null where there is no label. A row without a label is a pair to judge. `cmp_key` names the two models,
//! `motivation_app` becomes the prompt's tag.

use super::super::answers::tags_of;
use super::super::given::GivenAnswer;
use super::super::meaning::{question, sound_pair};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, Side, Strength};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "pandalm",
    help: "Two answers with several annotators' labels: `response1`, `response2`, `annotator1` …",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `instruction`, `response1`, `response2` and `annotator1`",
        fit: |record| if record.has("response1") && record.has("annotator1") { Fit::Sure } else { Fit::No },
        row: Reader::Votes(row),
    }),
    writes: None,
};

/// The most annotators looked for.
const ANNOTATORS: usize = 99;

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let row = record.row()?;
    let text = |name: &str| match row.get(name) {
        Some(Value::String(text)) => Ok(GivenAnswer::from(text.as_str())),
        Some(other) => Err(format!("has a `{name}` that is not text but {}", kind(other))),
        None => Err(format!("has no `{name}`")),
    };
    text("instruction")?;
    let prompt = question(&row, false)?;
    let (first, second) = (text("response1")?, text("response2")?);
    let mut votes = Vec::new();
    for name in (1..=ANNOTATORS).map(|n| format!("annotator{n}")).take_while(|name| record.has(name)) {
        // An annotator who gave no label.
        let Some(label) = record.field(&name) else { continue };
        let choice = match label.as_u64() {
            Some(0) => Choice::Tie,
            Some(1) => Choice::Prefer(Side::A, Strength::Better),
            Some(2) => Choice::Prefer(Side::B, Strength::Better),
            _ => return Err(format!("has an `{name}` that is neither 0, 1 nor 2").into()),
        };
        votes.push(ImportedVote::new(name, choice));
    }
    sound_pair(&prompt, &first, &second)?;
    let models = record.field("cmp_key").and_then(Value::as_str).and_then(|key| key.split_once('_'));
    let model = |name: Option<&str>| name.map(str::to_owned);
    let tags = tags_of(&row)?;
    Ok(ImportedVotes {
        prompt,
        tags,
        a: (first, model(models.map(|m| m.0))),
        b: (second, model(models.map(|m| m.1))),
        votes,
        ..ImportedVotes::default()
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
