//! Imports Stanford's human preferences (SHP): a post, and two comments of which one was liked more.
//!
//! `history` is the post, `human_ref_A` and `human_ref_B` the comments; `labels` 1 prefers A, 0 prefers B. The rater is called
//! `readers`; the scores are not read.

use super::super::answers::{TwoAnswers, unjudged};
use super::super::given::GivenAnswer;
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedVote, ImportedVotes, Reader, Reads, Refusal};
use crate::domain::{Choice, PromptBody, Side, Strength};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "shp",
    help: "Stanford's human preferences: `history`, `human_ref_A`, `human_ref_B`, `labels`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `history`, `human_ref_A`, `human_ref_B` and `labels`",
        fit: |record| if record.has_all(&["human_ref_A", "human_ref_B"]) { Fit::Sure } else { Fit::No },
        row: Reader::Votes(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedVotes, Refusal> {
    let row = record.row()?;
    let side = |name: &str| GivenAnswer::in_row(&row, name);
    let answers = TwoAnswers {
        names: ("human_ref_A".into(), "human_ref_B".into()),
        texts: (side("human_ref_A")?, side("human_ref_B")?),
        models: (None, None),
    };
    let prompt = PromptBody::user(row.string("history")?);
    let tags = row.text("domain").map(str::to_owned).into_iter().collect();
    let mut votes = unjudged(prompt, tags, answers)?;
    let label = row.get("labels").ok_or("has no `labels`")?;
    let side = match label.as_f64().or_else(|| label.as_str()?.trim().parse().ok()) {
        Some(1.0) => Side::A,
        Some(0.0) => Side::B,
        _ => return Err("has `labels` that are neither 0 nor 1".into()),
    };
    votes.votes.push(ImportedVote::new("readers", Choice::Prefer(side, Strength::Better)));
    Ok(votes)
}
