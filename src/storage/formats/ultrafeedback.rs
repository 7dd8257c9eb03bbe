//! Imports UltraFeedback as published: an instruction and completions, each with ratings. Every pair of them is imported.
//!
//! `overall_score` orders the completions, else `fine-grained_score`. The ratings of single aspects, the critiques and the answers'
//! principles are not read, and reported. A completion's own system prompt says how it was made to answer and is no part of the question.

use super::super::answers::{noted, prompt_of, tags_of};
use super::super::given::GivenAnswer;
use super::super::record::Record;
use super::super::schema::{Fit, Format, RankedAnswer, Ranking, Reader, Reads, Refusal};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "ultrafeedback",
    help: "UltraFeedback: `instruction`, `completions` with `response` and `overall_score`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `instruction` and `completions`, each with `response` and `overall_score`",
        fit: |record| {
            let first = record.columns().and_then(|row| row.peek("completions")?.get(0));
            let scored =
                |one: &Value| one.get("response").is_some() && SCORES.iter().any(|name| one.get(*name).is_some());
            if first.is_some_and(scored) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Rankings(row),
    }),
    writes: None,
};

/// What orders the completions, the surest first.
const SCORES: [&str; 2] = ["overall_score", "fine-grained_score"];

fn row(record: &Record) -> Result<Vec<Ranking>, Refusal> {
    let row = record.row()?;
    let prompt = prompt_of(&row)?;
    let list = row.get("completions").and_then(Value::as_array).ok_or("has no list `completions`")?;
    row.mark("models");
    noted(&row, "completions", list, &["response", "model", "overall_score", "fine-grained_score"]);
    let scale = SCORES.into_iter().find(|name| list.iter().any(|one| number(one.get(*name)).is_some()));
    let scale = scale.ok_or("has no `overall_score` in its `completions`")?;
    let answer = |one: &Value| -> Result<RankedAnswer, String> {
        Ok(RankedAnswer {
            answer: GivenAnswer::of("completions", one.get("response"))?,
            model: one.get("model").and_then(Value::as_str).map(str::to_owned),
            score: number(one.get(scale)),
        })
    };
    let answers = list.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![Ranking { prompt, tags: tags_of(&row)?, rater: scale.into(), answers, unread: Vec::new() }.sound()?])
}

fn number(value: Option<&Value>) -> Option<f64> {
    let value = value?;
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}
