//! Imports LLMBar's form: two outputs for an input, and which is better.
//!
//! `input` (or `instruction` with `input`), `output_1`, `output_2`, and `label` (AlpacaFarm: `preference`): 1 or 2 for the better one,
//! 0 for a tie. The rater is called `label`. A row without a label is a pair to judge.

use super::super::answers::{Decision, decision_of, prompt_of, tags_of, two_answers, unjudged};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "llmbar",
    help: "Two outputs with one label: `input`, `output_1`, `output_2`, `label` 1 or 2",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `input`, `output_1`, `output_2` and `label`",
        fit: |record| {
            let labelled = ["label", "preference"].iter().any(|name| record.has(name));
            if labelled && record.has("output_1") && record.has("output_2") { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let columns = record.row()?;
    let answers = two_answers(&columns)?;
    let label = ["label", "preference"].into_iter().find_map(|name| Some((name, columns.get(name)?)));
    let decided = label.map(|(name, value)| {
        decision_of(value, ("output_1", "output_2")).ok_or_else(|| format!("has a `{name}` that is neither 0, 1 nor 2"))
    });
    let mut row = unjudged(prompt_of(&columns)?, tags_of(&columns)?, answers)?;
    match decided.transpose()? {
        Some(Decision::Choice(choice)) => row.votes.push(ImportedVote::new("label", choice)),
        Some(Decision::Undecided) => row.unread.push("undecided label"),
        None => {}
    }
    Ok(row)
}
