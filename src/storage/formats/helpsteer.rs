//! Imports HelpSteer2's and HelpSteer3's preferences: two responses and a strength from -3 to 3.
//!
//! Below zero the first response is better: 1 is slightly, 2 is better, 3 is much. HelpSteer3's `individual_preference` holds the
//! annotators' votes with their reasoning, and its `overall_preference` is made of them; HelpSteer2 has `preference_strength`
//! alone. Its ratings of single responses are `helpsteer-ratings`.

use super::super::answers::{noted, prompt_of, tags_of, two_answers, unjudged};
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use super::super::transcript::steered;
use crate::domain::{Choice, Side, Strength};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "helpsteer",
    help: "HelpSteer2 and 3: two responses, `preference_strength` or `overall_preference` from -3 to 3",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with two responses and `preference_strength` or `overall_preference`",
        fit: |record| {
            if record.has_any(&["preference_strength", "overall_preference"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let columns = record.row()?;
    if columns.peek("helpfulness").is_some() && columns.peek("preference_strength").is_none() {
        return Err("rates one response on five scales: name --as helpsteer-ratings".into());
    }
    let mut row = unjudged(steered(prompt_of(&columns)?), tags_of(&columns)?, two_answers(&columns)?)?;
    let individual = columns.peek("individual_preference").and_then(Value::as_array).filter(|list| !list.is_empty());
    if let Some(list) = individual {
        columns.mark("individual_preference");
        columns.mark("overall_preference");
        noted(&columns, "individual_preference", list, &["score", "reasoning"]);
        for (at, one) in list.iter().enumerate() {
            let rater = format!("annotator{}", at + 1);
            match one.get("score").filter(|score| !score.is_null()) {
                Some(score) => {
                    row.votes.push(ImportedVote::new(rater.as_str(), choice("individual_preference", score)?));
                }
                None => row.unread.push("annotator without a score"),
            }
            if let Some(reasoning) = one.get("reasoning").and_then(Value::as_str).filter(|text| !text.trim().is_empty())
            {
                row.notes.push((rater, reasoning.to_owned()));
            }
        }
        return Ok(row);
    }
    let (name, score) = ["overall_preference", "preference_strength"]
        .into_iter()
        .find_map(|name| Some((name, columns.get(name)?)))
        .ok_or("has neither `preference_strength` nor `overall_preference`")?;
    row.votes.push(ImportedVote::new("annotator", choice(name, score)?));
    if let Some(statement) = columns.text("preference_statement") {
        row.notes.push(("annotator".into(), statement.to_owned()));
    }
    Ok(row)
}

fn choice(name: &str, score: &Value) -> Result<Choice, String> {
    let number = score.as_f64().or_else(|| score.as_str()?.trim().parse().ok());
    let side = |score: f64| if score < 0.0 { Side::A } else { Side::B };
    match number {
        Some(0.0) => Ok(Choice::Tie),
        Some(x) if x.fract() == 0.0 && x.abs() <= 3.0 => {
            let strength = match x.abs() as u8 {
                1 => Strength::Slight,
                2 => Strength::Better,
                _ => Strength::Much,
            };
            Ok(Choice::Prefer(side(x), strength))
        }
        _ => Err(format!("has the `{name}` {score}: expected a whole number from -3 to 3")),
    }
}
