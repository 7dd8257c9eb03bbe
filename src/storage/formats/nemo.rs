//! Imports NeMo's preferences: `chosen_response` and `rejected_response` (NeMo-Aligner), or `context` with `completions` that have a
//! `rank`, 0 the best (NeMo RL). Every pair of ranked completions is imported.

use super::super::answers::{noted, prompt_of, tags_of};
use super::super::given::GivenAnswer;
use super::super::meaning::question;
use super::super::record::Record;
use super::super::schema::{Fit, Format, RankedAnswer, Ranking, Reader, Reads, Refusal};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "nemo",
    help: "NeMo's preferences: `chosen_response`, `rejected_response`, or `context` with ranked `completions`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `chosen_response` and `rejected_response`, or with `context` and `completions`",
        fit: |record| {
            let Some(row) = record.columns() else { return Fit::No };
            let ranked = |one: &Value| one.get("rank").is_some() && one.get("completion").is_some();
            let listed = row.peek("completions").and_then(|list| list.get(0)).is_some_and(ranked);
            if listed || record.has_all(&["chosen_response", "rejected_response"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Rankings(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<Vec<Ranking>, Refusal> {
    let row = record.row()?;
    let tags = tags_of(&row)?;
    let side = |name: &str, score: f64| -> Result<RankedAnswer, String> {
        Ok(RankedAnswer { answer: GivenAnswer::in_row(&row, name)?, model: None, score: Some(score) })
    };
    let (prompt, answers) = if row.peek("chosen_response").is_some() {
        let answers = vec![side("chosen_response", 1.0)?, side("rejected_response", 0.0)?];
        // Text that a trainer continues as it stands, with NeMo's own marks in it.
        let plain = answers.iter().all(|one| one.answer.turns.is_empty());
        (question(&row, plain)?, answers)
    } else {
        let list = row.get("completions").and_then(Value::as_array).ok_or("has no list `completions`")?;
        noted(&row, "completions", list, &["rank", "completion"]);
        let answer = |one: &Value| -> Result<RankedAnswer, String> {
            let score = one.get("rank").and_then(Value::as_f64).map(|rank| -rank);
            Ok(RankedAnswer { answer: GivenAnswer::of("completions", one.get("completion"))?, model: None, score })
        };
        (prompt_of(&row)?, list.iter().map(answer).collect::<Result<Vec<_>, _>>()?)
    };
    Ok(vec![Ranking { prompt, tags, rater: "rank".into(), answers, unread: Vec::new() }.sound()?])
}
