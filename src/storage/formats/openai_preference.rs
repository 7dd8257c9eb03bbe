//! Imports OpenAI's and Together's preferences: `input` with `messages` and `tools`, `preferred_output`, `non_preferred_output`.

use super::super::answers::plain_pair;
use super::super::given::GivenAnswer;
use super::super::meaning::question;
use super::super::record::Record;
use super::super::schema::{Fit, Format, ImportedPair, Reader, Reads, Refusal};

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "openai-preference",
    help: "OpenAI's preferences: `input`, `preferred_output`, `non_preferred_output`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with `input`, `preferred_output` and `non_preferred_output`",
        fit: |record| if record.has("preferred_output") { Fit::Sure } else { Fit::No },
        row: Reader::Pairs(row),
    }),
    writes: None,
};

fn row(record: &Record) -> Result<ImportedPair, Refusal> {
    let row = record.row()?;
    let input = row.child("input").ok_or("has no `input` with `messages`")?;
    // How a server is to call tools is no part of what a model reads.
    input.mark("parallel_tool_calls");
    let prompt = question(&input, false)?;
    let side = |name: &str| GivenAnswer::in_row(&row, name);
    let (chosen, rejected) = (side("preferred_output")?, side("non_preferred_output")?);
    plain_pair(&row, prompt, chosen, rejected)
}
