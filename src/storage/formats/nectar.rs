//! Imports Nectar: a transcript and answers with ranks, 1 the best. Every pair of them is imported.

use super::super::answers::{noted, prompt_of, tags_of};
use super::super::given::GivenAnswer;
use super::super::record::Record;
use super::super::schema::{Fit, Format, RankedAnswer, Ranking, Reader, Reads, Refusal};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "nectar",
    help: "Ranked answers: `prompt`, `answers` with `answer`, `model` and `rank`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt` and `answers`, each with `answer` and `rank`",
        fit: |record| {
            let first = record.columns().and_then(|row| row.peek("answers")?.get(0));
            let ranked = first.is_some_and(|answer| answer.get("answer").is_some() && answer.get("rank").is_some());
            if ranked { Fit::Sure } else { Fit::No }
        },
        row: Reader::Rankings(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<Vec<Ranking>, Refusal> {
    let row = record.row()?;
    let prompt = prompt_of(&row)?;
    let list = row.get("answers").and_then(Value::as_array).ok_or("has no list `answers`")?;
    noted(&row, "answers", list, &["answer", "model", "rank"]);
    let answer = |one: &Value| -> Result<RankedAnswer, String> {
        Ok(RankedAnswer {
            answer: GivenAnswer::of("answers", one.get("answer"))?,
            model: one.get("model").and_then(Value::as_str).map(str::to_owned),
            score: one.get("rank").and_then(Value::as_f64).map(|rank| -rank),
        })
    };
    let answers = list.iter().map(answer).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![Ranking { prompt, tags: tags_of(&row)?, rater: "rank".into(), answers, unread: Vec::new() }.sound()?])
}
