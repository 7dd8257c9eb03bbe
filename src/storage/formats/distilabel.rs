//! Imports distilabel's rated generations: `generations` with `ratings` side by side. Every pair of them is imported.
//!
//! distilabel's `chosen` and `rejected` are `pairs`.

use super::super::answers::{prompt_of, tags_of};
use super::super::given::GivenAnswer;
use super::super::record::Record;
use super::super::schema::{Fit, Format, RankedAnswer, Ranking, Reader, Reads, Refusal};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "distilabel",
    help: "distilabel's generations with ratings: `instruction`, `generations`, `ratings`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `instruction`, `generations` and as many `ratings`",
        fit: |record| {
            let rated = record.has("generations") && record.has_any(&["ratings", "rating"]);
            if rated && !record.has("chosen") { Fit::Sure } else { Fit::No }
        },
        row: Reader::Rankings(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<Vec<Ranking>, Refusal> {
    let row = record.row()?;
    let (prompt, tags) = (prompt_of(&row)?, tags_of(&row)?);
    let list = |names: &[&str]| row.first_of(names).and_then(|(_, value)| value.as_array());
    let generations = list(&["generations"]).ok_or("has no list `generations`")?;
    let ratings = list(&["ratings", "rating"]).ok_or("has no list `ratings`")?;
    if ratings.len() != generations.len() {
        return Err(format!("has {} `ratings` of {} `generations`", ratings.len(), generations.len()).into());
    }
    let models = ["generation_models", "models"].into_iter().find_map(|name| {
        let found = row.peek(name)?.as_array().filter(|models| models.len() == generations.len())?;
        row.mark(name);
        Some(found)
    });
    let answer = |(at, one): (usize, &Value)| -> Result<RankedAnswer, String> {
        let model = models.and_then(|models| models[at].as_str()).map(str::to_owned);
        let score = ratings[at].as_f64().or_else(|| ratings[at].as_str()?.trim().parse().ok());
        Ok(RankedAnswer { answer: GivenAnswer::of("generations", Some(one))?, model, score })
    };
    let answers = generations.iter().enumerate().map(answer).collect::<Result<Vec<_>, _>>()?;
    Ok(vec![Ranking { prompt, tags, rater: "ratings".into(), answers, unread: Vec::new() }.sound()?])
}
