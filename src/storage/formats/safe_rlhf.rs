//! Imports PKU-SafeRLHF: two answers and two questions, which is better and which is safer.
//!
//! `better_response_id` is the vote; `safer_response_id` is a second vote by the criterion `safer`. The rater is called
//! `annotator`.

use super::super::answers::{prompt_of, tags_of, two_answers, unjudged};
use super::super::record::{Record, RowFields};
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, Side, Strength};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "safe-rlhf",
    help: "PKU-SafeRLHF: `response_0`, `response_1`, `better_response_id`, `safer_response_id`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `response_0`, `response_1` and `better_response_id`",
        fit: |record| {
            let voted = record.has_any(&["better_response_id", "safer_response_id"]);
            if voted && record.has_all(&["response_0", "response_1"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let columns = record.row()?;
    let mut row = unjudged(prompt_of(&columns)?, tags_of(&columns)?, two_answers(&columns)?)?;
    for (name, criterion) in [("better_response_id", None), ("safer_response_id", Some("safer"))] {
        let Some(side) = side(&columns, name)? else { continue };
        let mut vote = ImportedVote::new("annotator", Choice::Prefer(side, Strength::Better));
        vote.asked.criterion = criterion.map(Into::into);
        row.votes.push(vote);
    }
    Ok(row)
}

fn side(row: &RowFields<'_>, name: &str) -> Result<Option<Side>, String> {
    let Some(value) = row.get(name) else { return Ok(None) };
    match value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()) {
        Some(0.0) => Ok(Some(Side::A)),
        Some(1.0) => Ok(Some(Side::B)),
        _ => Err(format!("has a `{name}` that is neither 0 nor 1")),
    }
}
