//! Imports Anthropic's transcripts: `chosen` and `rejected` begin with `\n\nHuman:`; what both share is the prompt.

use super::super::record::Record;
use super::super::schema::{Fit, Format, Reader, Reads};
use super::pairs;

/// The row of the table.
pub const FORMAT: Format = Format {
    name: "hh-rlhf",
    help: "Anthropic's transcripts: `chosen` and `rejected` that begin with `\\n\\nHuman:`",
    reads: Some(Reads {
        plain_text: false,
        record: "a JSON object with the transcripts `chosen` and `rejected`",
        fit,
        row: Reader::Pairs(pairs::row),
    }),
    writes: None,
};

fn fit(record: &Record) -> Fit {
    let begins = |name: &str| {
        let text = record.columns().and_then(|row| row.peek(name)?.as_str());
        text.is_some_and(|text| text.starts_with("\n\nHuman:"))
    };
    let alone = !record.has_any(&["prompt", "question", "instruction", "messages"]);
    if alone && begins("chosen") && begins("rejected") { Fit::Sure } else { Fit::No }
}
