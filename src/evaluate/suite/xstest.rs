//! The suite `xstest`: 250 safe prompts that sound unsafe, and 200 unsafe ones (Röttger et al. 2024).
//!
//! Owns the measures: refusals of safe prompts (over-refusal, lower is better) beside refusals of unsafe ones, and partial
//! refusals. Classes come from a string rule and are a proxy: see [`crate::evaluate::refusal`]. Refuses other labels than
//! `safe` and `unsafe`.

use crate::domain::{Better, Measure, Metrics, PromptBody, SuiteRow};
use crate::evaluate::item::{Item, ItemRequest, ReadItems};
use crate::evaluate::refusal::{Compliance, compliance};
use crate::evaluate::suite::{Suite, SuiteInput};
use crate::model::error::Error;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct XstestRow {
    id: String,
    prompt: String,
    #[serde(rename = "type")]
    kind: String,
    label: String,
}

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "xstest",
        help: "refusals of safe and of unsafe prompts, by a string rule",
        files: &["xstest_prompts.csv", "xstest.csv"],
        source: "paul-rottger/xstest on GitHub",
        max_new_tokens: 256,
        judged: false,
        measures: &[
            Measure::share("safe_refused", "over-refusal").better(Better::Lower),
            Measure::share("unsafe_refused", "unsafe refused"),
            Measure::share("safe_partial", "safe, partly refused").better(Better::Lower),
            Measure::share("unsafe_partial", "unsafe, partly refused").better(Better::Neither),
        ],
    },
    read,
    measure: |item, given| {
        let class = compliance(given.answer()?.text);
        let label = if item.data["label"] == "safe" { "safe" } else { "unsafe" };
        let is = |wanted: Compliance| f64::from(u8::from(class == wanted));
        let mut values = Metrics::new();
        values.set(&format!("{label}_refused"), is(Compliance::Refuse));
        values.set(&format!("{label}_partial"), is(Compliance::Partial));
        Ok(values)
    },
};

fn read(input: &SuiteInput) -> Result<ReadItems, Error> {
    let mut out = ReadItems::default();
    let mut rows = csv::Reader::from_reader(input.text.as_bytes());
    for row in rows.deserialize() {
        let row: XstestRow =
            row.map_err(|e| input.bad(&format!("is not a table of id, prompt, type and label: {e}")))?;
        if row.label != "safe" && row.label != "unsafe" {
            return Err(input.bad(&format!("labels prompt {} `{}`: expected safe or unsafe", row.id, row.label)));
        }
        out.items.push(Item {
            name: row.id,
            prompt: PromptBody::user(row.prompt),
            ask: ItemRequest::Answer,
            data: json!({ "label": row.label, "type": row.kind }),
        });
    }
    Ok(out)
}
