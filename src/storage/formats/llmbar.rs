//! Imports LLMBar's form: two outputs for an input, and which is better.
//!
//! `input` (or `instruction` with `input`), `output_1`, `output_2`, and `label` (AlpacaFarm: `preference`): 1 or 2 for the better one,
//! 0 for a tie. The rater is called `label`. A row without a label is a pair to judge.
//!
//! So are read two answers under any of their names with one column that says in words which is better: `winner`, `preferred`,
//! `choice` … with `response_a`, `B`, `model_1`, `left is better` or `tie`. The rater is then called as the column.

use super::super::answers::{Decision, decision, decision_of, has_two, prompt_of, tags_of, two_answers, unjudged};
use super::super::judgements::decides;
use super::super::record::{Record, RowFields};
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
            let own = labelled && record.has("output_1") && record.has("output_2");
            let said = || record.columns().is_some_and(|row| has_two(&row) && in_words(&row).is_some());
            match () {
                () if own => Fit::Sure,
                () if said() => Fit::Likely,
                () => Fit::No,
            }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

/// The only column that judges two answers, and what it says in words.
fn in_words<'a>(row: &RowFields<'a>) -> Option<(&'a str, Decision)> {
    let mut judges = row.names().filter(|name| decides(name) && row.holds(name));
    let name = judges.next().filter(|_| judges.next().is_none())?;
    let answers = two_answers(row).ok()?;
    let said = row.peek(name)?.as_str().filter(|said| said.trim().parse::<f64>().is_err())?;
    Some((name.as_str(), decision(said, (&answers.names.0, &answers.names.1))?))
}

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let columns = record.row()?;
    let answers = two_answers(&columns)?;
    if let Some((name, said)) = in_words(&columns) {
        columns.mark(name);
        let mut row = unjudged(prompt_of(&columns)?, tags_of(&columns)?, answers)?;
        match said {
            Decision::Choice(choice) => row.votes.push(ImportedVote::new(name, choice)),
            Decision::Undecided => row.unread.push("undecided label"),
        }
        return Ok(row);
    }
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
