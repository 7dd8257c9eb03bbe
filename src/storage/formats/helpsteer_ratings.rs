//! Imports HelpSteer's and HelpSteer2's rated responses: rows of one prompt become the pairs of its responses, by `helpfulness`.
//!
//! Every row rates one response on five scales from 0 to 4. The rows of a prompt are compared with each other: the more helpful one
//! wins, equal ones tie. A prompt with a single response gives no pair and is counted. The other scales are not read. A prompt of
//! several turns has the marks `<extra_id_1>User` and `<extra_id_1>Assistant`.

use super::super::answers::tags_of;
use super::super::gather::RatedGroups;
use super::super::given::GivenAnswer;
use super::super::meaning::question;
use super::super::record::Record;
use super::super::schema::{Fit, Format, Gather, Gathered, Reader, Reads, Refusal};
use super::super::transcript::steered;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "helpsteer-ratings",
    help: "HelpSteer's rated responses: `prompt`, `response`, `helpfulness`; pairs of the responses to a prompt",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `prompt`, `response` and `helpfulness`",
        fit: |record| {
            let rated = record.has_all(&["response", "helpfulness", "correctness", "coherence"]);
            if rated && !record.has("preference_strength") { Fit::Sure } else { Fit::No }
        },
        row: Reader::Gathered(|| Box::<Rated>::default()),
    }),
    writes: None,
};

/// The responses so far, by their prompts.
#[derive(Default)]
struct Rated(RatedGroups);

impl Gather for Rated {
    fn take(&mut self, record: &Record) -> Result<(String, String), Refusal> {
        let row = record.row()?;
        let prompt = steered(question(&row, false)?);
        let answer = GivenAnswer::in_row(&row, "response")?;
        let score = row.get("helpfulness").ok_or("has no `helpfulness`")?;
        let number = score.as_f64().or_else(|| score.as_str()?.trim().parse().ok()).filter(|n| n.is_finite());
        let number = number.ok_or_else(|| format!("has the `helpfulness` {score}: expected a number"))?;
        self.0.add(prompt, tags_of(&row)?, answer, number)
    }

    fn end(self: Box<Self>) -> Gathered {
        self.0.rankings("helpfulness", "prompt with a single response")
    }
}
