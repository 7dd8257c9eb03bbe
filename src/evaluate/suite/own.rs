//! The suite `own`: a user's JSONL file of prompts with checks, a reference, or choices.
//!
//! A row is `{"prompt": TEXT or MESSAGES, …}` with `"checks": "contains=please;max_words=40"`, or `"reference": TEXT` (or a list
//! of texts), or `"choices": [TEXT, …]` with `"answer": N` (the right one, from 0); an `"id"` is optional. Owns these rows. Refuses
//! a row with none of them, or with two.

use crate::domain::{Better, Checks, Measure, Message, Metrics, PromptBody, SuiteRow};
use crate::evaluate::item::{Given, Item, ItemRequest, ReadItems};
use crate::evaluate::lines::json_lines;
use crate::evaluate::suite::{Suite, SuiteInput};
use crate::model::error::Error;
use serde_json::Value;

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "own",
        help: "your own JSONL: prompts with checks, references or choices",
        files: &["own.jsonl"],
        source: "a file of yours: --suite FILE.jsonl",
        max_new_tokens: 512,
        judged: true,
        measures: &[
            Measure::mean("checks", "checks met", Better::Higher),
            Measure::share("all_checks", "all checks met"),
            Measure::share("exact", "exact match"),
            Measure::share("contains", "contains a reference"),
            Measure::share("choice", "right choice"),
        ],
    },
    read,
    measure,
};

fn read(input: &SuiteInput) -> Result<ReadItems, Error> {
    let mut out = ReadItems::default();
    let mut names = std::collections::BTreeSet::new();
    for (number, row) in json_lines(input)? {
        let bad = |why: &str| input.bad_line(number, why);
        let prompt = match &row["prompt"] {
            Value::String(text) => PromptBody::user(text.clone()),
            list @ Value::Array(_) => {
                let turns: Vec<Message> = serde_json::from_value(list.clone())
                    .map_err(|e| bad(&format!("has a `prompt` that is no list of role and content: {e}")))?;
                PromptBody::Chat(turns.into())
            }
            _ => return Err(bad("has no `prompt`: expected a text or a list of messages")),
        };
        let has: Vec<&str> =
            ["checks", "reference", "choices"].into_iter().filter(|key| !row[*key].is_null()).collect();
        let ask = match has.as_slice() {
            ["checks"] => {
                let text = row["checks"].as_str().ok_or_else(|| bad("has `checks` that are no text"))?;
                Checks::parse(text).map_err(|e| bad(&format!("has invalid `checks`: {e}")))?;
                ItemRequest::Answer
            }
            ["reference"] => {
                if references(&row).is_empty() {
                    return Err(bad("has an empty `reference`: expected a text or a list of texts"));
                }
                ItemRequest::Answer
            }
            ["choices"] => {
                let choices: Vec<String> = serde_json::from_value(row["choices"].clone())
                    .map_err(|e| bad(&format!("has `choices` that are no list of texts: {e}")))?;
                let right = row["answer"].as_u64().ok_or_else(|| bad("has `choices` without an `answer`"))?;
                if choices.len() < 2 || right as usize >= choices.len() {
                    return Err(bad("needs two `choices` or more, and an `answer` among them, from 0"));
                }
                ItemRequest::Choices(choices)
            }
            [] => return Err(bad("has none of `checks`, `reference` and `choices`")),
            _ => return Err(bad(&format!("has {}: give one of them", has.join(" and ")))),
        };
        let name = match &row["id"] {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => format!("{number}"),
        };
        if !names.insert(name.clone()) {
            return Err(bad(&format!("has the `id` {name} of an earlier line")));
        }
        out.items.push(Item { name, prompt, ask, data: row });
    }
    Ok(out)
}

fn references(row: &Value) -> Vec<&str> {
    let texts = match &row["reference"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect()
}

/// The text in lower case with single spaces.
fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn measure(item: &Item, given: &Given) -> Result<Metrics, Error> {
    let yes = |holds: bool| f64::from(u8::from(holds));
    let mut values = Metrics::new();
    if let Given::Choices(scores) = given {
        let rate = |score: &crate::evaluate::ChoiceScore| score.logp / score.tokens.max(1) as f64;
        let best = (0..scores.len()).max_by(|a, b| rate(&scores[*a]).total_cmp(&rate(&scores[*b])));
        values.set("choice", yes(best.map(|best| best as u64) == item.data["answer"].as_u64()));
        return Ok(values);
    }
    let text = given.answer()?.text;
    if let Some(checks) = item.data["checks"].as_str() {
        let checks = Checks::parse(checks).map_err(|e| Error::Invalid(e.to_string()))?;
        let score = checks.score(text);
        values.set("checks", score);
        values.set("all_checks", yes(score >= 1.0));
    } else {
        let (text, wanted) = (normalised(text), references(&item.data));
        let wanted: Vec<String> = wanted.into_iter().map(normalised).collect();
        values.set("exact", yes(wanted.contains(&text)));
        values.set("contains", yes(wanted.iter().any(|wanted| text.contains(wanted.as_str()))));
    }
    Ok(values)
}
