//! Imports WebGPT's comparisons: a question, two answers with their quotes, and scores that sum to zero.
//!
//! The higher score wins, by 1 much, by less than a half slightly; equal scores tie. The quotes are what the answers cite, not what
//! the model is asked, and are not read.

use super::super::answers::{TwoAnswers, unjudged};
use super::super::given::GivenAnswer;
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, PromptBody, Side, Strength};
use serde_json::Value;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "webgpt",
    help: "WebGPT's comparisons: `question`, `answer_0`, `answer_1`, `score_0`, `score_1`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `question`, `answer_0`, `answer_1`, `score_0` and `score_1`",
        fit: |record| {
            if record.has_all(&["answer_0", "answer_1", "score_0", "score_1"]) { Fit::Sure } else { Fit::No }
        },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let row = record.row()?;
    let (question, tags) = match row.peek("question") {
        Some(Value::Object(_)) => {
            let inner = row.child("question").ok_or("has no `question`")?;
            (inner.string("full_text")?, inner.text("dataset").map(str::to_owned))
        }
        _ => (row.string("question")?, None),
    };
    let side = |name: &str| GivenAnswer::in_row(&row, name);
    let answers = TwoAnswers {
        names: ("answer_0".into(), "answer_1".into()),
        texts: (side("answer_0")?, side("answer_1")?),
        models: (None, None),
    };
    let mut votes = unjudged(PromptBody::user(question), tags.into_iter().collect(), answers)?;
    let score = |name: &str| row.get(name).and_then(Value::as_f64).ok_or_else(|| format!("has no number as `{name}`"));
    let difference = score("score_0")? - score("score_1")?;
    let strength = match difference.abs() / 2.0 {
        x if x < 0.5 => Strength::Slight,
        x if x < 1.0 => Strength::Better,
        _ => Strength::Much,
    };
    let choice = match difference {
        0.0 => Choice::Tie,
        x if x > 0.0 => Choice::Prefer(Side::A, strength),
        _ => Choice::Prefer(Side::B, strength),
    };
    votes.votes.push(ImportedVote::new("labeller", choice));
    Ok(votes)
}
