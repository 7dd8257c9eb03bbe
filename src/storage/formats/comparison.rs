//! Imports Alpaca's comparison data: answers to an instruction, with a score each or the best first. Every pair is imported.
//!
//! `user_input` with `responses_and_scores` (GPT-4-LLM), or `instruction`, `input` and an `output` that is a list, the best first
//! (LLaMA-Factory). So is what Stack Exchange's readers voted on: `answers` with `text` and `pm_score`, or a `response_j` that is
//! better than `response_k` (StackLLaMA); which answer the asker accepted (`selected`) is in the score already.

use super::super::answers::{noted, prompt_of, tags_of};
use super::super::given::GivenAnswer;
use super::super::record::Record;
use super::super::schema::{Fit, Format, RankedAnswer, Ranking, Reader, Reads, Refusal};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "comparison",
    help: "Alpaca's comparison data: `responses_and_scores`, or an `output` that is a list, best first",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `responses_and_scores`, or with `instruction` and a list `output`",
        fit: |record| {
            let Some(row) = record.columns() else { return Fit::No };
            let list = |value: &Value| {
                value.as_array().is_some_and(|list| list.len() > 1 && list.iter().all(Value::is_string))
            };
            let listed = row.peek("instruction").is_some() && row.peek("output").is_some_and(list);
            let first = row.peek("answers").and_then(|list| list.get(0));
            let voted = first.is_some_and(|one| one.get("text").is_some() && one.get("pm_score").is_some());
            let sure = row.peek("responses_and_scores").is_some() || listed || voted;
            if sure || record.has_all(&["response_j", "response_k"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Rankings(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<Vec<Ranking>, Refusal> {
    let row = record.row()?;
    let (prompt, tags) = (prompt_of(&row)?, tags_of(&row)?);
    let (rater, answers) = if let Some(list) = row.get("responses_and_scores").and_then(Value::as_array) {
        noted(&row, "responses_and_scores", list, &["response", "source", "score"]);
        let answer = |one: &Value| -> Result<RankedAnswer, String> {
            Ok(RankedAnswer {
                answer: GivenAnswer::of("responses_and_scores", one.get("response"))?,
                model: one.get("source").and_then(Value::as_str).map(str::to_owned),
                score: one.get("score").and_then(Value::as_f64),
            })
        };
        ("score", list.iter().map(answer).collect::<Result<Vec<_>, _>>()?)
    } else if let Some(list) = row.get("answers").and_then(Value::as_array) {
        noted(&row, "answers", list, &["text", "pm_score", "selected"]);
        let answer = |one: &Value| -> Result<RankedAnswer, String> {
            let score = one.get("pm_score").and_then(Value::as_f64);
            Ok(RankedAnswer { answer: GivenAnswer::of("answers", one.get("text"))?, model: None, score })
        };
        ("readers", list.iter().map(answer).collect::<Result<Vec<_>, _>>()?)
    } else if row.peek("response_j").is_some() {
        let side = |name: &str, score: f64| -> Result<RankedAnswer, String> {
            Ok(RankedAnswer { answer: GivenAnswer::in_row(&row, name)?, model: None, score: Some(score) })
        };
        ("readers", vec![side("response_j", 1.0)?, side("response_k", 0.0)?])
    } else {
        let list = row.get("output").and_then(Value::as_array).ok_or("has no list `output`")?;
        let answer = |(at, one): (usize, &Value)| -> Result<RankedAnswer, String> {
            Ok(RankedAnswer { answer: GivenAnswer::of("output", Some(one))?, model: None, score: Some(-(at as f64)) })
        };
        ("order", list.iter().enumerate().map(answer).collect::<Result<Vec<_>, _>>()?)
    };
    Ok(vec![Ranking { prompt, tags, rater: rater.into(), answers, unread: Vec::new() }.sound()?])
}
