//! The suite `winrate`: both contestants answer the same prompts, and judges compare the answers.
//!
//! Owns the reading of prompts. Measures only what needs no judge: length and cut answers. Refuses to choose prompts: the
//! launch leaves out those that a contestant was trained on.

use crate::domain::{Better, Finish, Measure, Metrics, Prompt, SuiteRow};
use crate::evaluate::item::{Item, ItemRequest, ReadItems};
use crate::evaluate::suite::{Suite, SuiteInput};
use crate::model::error::Error;

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "winrate",
        help: "answers to the session's prompts, compared by judges",
        files: &[],
        source: "",
        max_new_tokens: 512,
        judged: true,
        measures: &[
            Measure::mean("words", "mean words", Better::Neither),
            Measure::share("cut", "cut at the limit").better(Better::Lower),
        ],
    },
    read,
    measure: |_, given| {
        let answer = given.answer()?;
        let mut values = Metrics::new();
        values.set("words", answer.text.split_whitespace().count() as f64);
        values.set("cut", f64::from(u8::from(answer.finish == Finish::Length)));
        Ok(values)
    },
};

/// Rows of [`Prompt`], one JSON object a line.
pub(super) fn read(input: &SuiteInput) -> Result<ReadItems, Error> {
    let mut out = ReadItems::default();
    for (number, line) in input.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let prompt: Prompt = serde_json::from_str(line).map_err(|e| {
            Error::file(std::path::Path::new(input.file), format!("line {} is invalid: {e}", number + 1))
        })?;
        let data = serde_json::json!({ "tags": prompt.tags });
        out.items.push(Item { name: prompt.id.into_string(), prompt: prompt.body, ask: ItemRequest::Answer, data });
    }
    Ok(out)
}
