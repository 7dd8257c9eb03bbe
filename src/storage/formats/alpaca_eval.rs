//! Imports AlpacaEval's annotations: two outputs, and a preference from 1 (the first) to 2 (the second).
//!
//! 1.5 is a tie, as is 0 in older files. A preference in between is a probability: the nearer output wins, slightly where it is
//! within a quarter of the middle. The rater is the `annotator`.

use super::super::answers::{prompt_of, tags_of, two_answers, unjudged};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, Side, Strength};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "alpaca-eval",
    help: "AlpacaEval's annotations: `output_1`, `output_2`, `generator_1`, `preference` 1 to 2",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `instruction`, `output_1`, `output_2` and `preference`",
        fit: |record| {
            let generated = record.has_any(&["generator_1", "generator_2", "annotator"]);
            if generated && record.has_all(&["output_1", "output_2", "preference"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let columns = record.row()?;
    let mut row = unjudged(prompt_of(&columns)?, tags_of(&columns)?, two_answers(&columns)?)?;
    let rater = columns.text("annotator").unwrap_or("annotator").to_owned();
    let Some(value) = columns.get("preference") else {
        row.unread.push("annotation without a preference");
        return Ok(row);
    };
    let strength = |away: f64| if away <= 0.25 { Strength::Slight } else { Strength::Better };
    let choice = match value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()) {
        Some(x) if x == 0.0 || x == 1.5 => Choice::Tie,
        Some(x) if (1.0..1.5).contains(&x) => Choice::Prefer(Side::A, strength(1.5 - x)),
        Some(x) if x > 1.5 && x <= 2.0 => Choice::Prefer(Side::B, strength(x - 1.5)),
        _ => return Err(format!("has the `preference` {value}: expected 1 to 2, or 0").into()),
    };
    row.votes.push(ImportedVote::new(rater, choice));
    Ok(row)
}
