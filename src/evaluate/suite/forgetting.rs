//! The suite `forgetting`: what a model still predicts of text that it was never trained on.
//!
//! Each text is read as plain text, also by an instruct model, without a template: a reply, a solution, a function, a paragraph.
//! Every token after the first is scored. Figures are sums over texts divided by the sum of their tokens or characters. Where both
//! contestants have one tokenizer, KL and the share of tokens with the same likeliest continuation compare them over the whole
//! vocabulary; b does not differ from itself.

use crate::domain::{Better, Measure, Metrics, PromptBody, SuiteRow};
use crate::evaluate::item::{Given, Item, ItemRequest, ReadItems};
use crate::evaluate::suite::{Suite, SuiteInput};
use crate::model::error::Error;
use serde_json::{Map, Value};
use std::path::Path;

/// The domains of the texts.
const DOMAINS: [&str; 4] = ["chat", "math", "code", "fiction"];

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "forgetting",
        help: "log-probs of general text, and KL between the two models",
        files: &["forgetting_probe.jsonl", "forgetting.jsonl"],
        source: "any JSONL file of domain (chat, math, code or fiction) and text",
        max_new_tokens: 0,
        judged: false,
        measures: &[
            Measure::per("nats", "nats a token", "tokens", Better::Lower),
            Measure::per("nats/chat", "… of chat", "tokens", Better::Lower),
            Measure::per("nats/math", "… of math", "tokens", Better::Lower),
            Measure::per("nats/code", "… of code", "tokens", Better::Lower),
            Measure::per("nats/fiction", "… of fiction", "tokens", Better::Lower),
            Measure::per("bits", "bits a character", "chars", Better::Lower),
            Measure::per("kl", "KL(b‖a), nats a token", "tokens", Better::Neither),
            Measure::per("reverse_kl", "KL(a‖b), nats a token", "tokens", Better::Neither),
            Measure::per("top1", "same likeliest token", "tokens", Better::Neither),
        ],
    },
    read,
    measure,
};

fn read(input: &SuiteInput) -> Result<ReadItems, Error> {
    let wrong = |why: String| Error::file(Path::new(input.file), why);
    let mut out = ReadItems::default();
    for (at, line) in input.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = at + 1;
        let row: Map<String, Value> =
            serde_json::from_str(line).map_err(|e| wrong(format!("line {number} is not a JSON object: {e}")))?;
        let field = |name: &str| {
            let text = row.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
            text.ok_or_else(|| wrong(format!("line {number} has no text in `{name}`")))
        };
        let named = field("domain")?;
        let Some(domain) = DOMAINS.into_iter().find(|domain| *domain == named) else {
            let names = DOMAINS.join(", ");
            return Err(wrong(format!("line {number} has the `domain` {named}: expected one of {names}")));
        };
        out.items.push(Item {
            name: format!("{domain}-{number}"),
            prompt: PromptBody::Text(field("text")?.to_owned()),
            ask: ItemRequest::Text,
            data: serde_json::json!({ "domain": domain }),
        });
    }
    if out.items.is_empty() {
        return Err(wrong("is empty: expected lines of `domain` and `text`".into()));
    }
    let has = |domain: &&str| out.items.iter().any(|item| item.data["domain"] == **domain);
    if let Some(missing) = DOMAINS.iter().find(|domain| !has(domain)) {
        return Err(wrong(format!("has no line with the `domain` {missing}: expected {}", DOMAINS.join(", "))));
    }
    Ok(out)
}

fn measure(item: &Item, given: &Given) -> Result<Metrics, Error> {
    let score = given.text()?;
    let tokens = score.tokens as f64;
    let mut values = Metrics::new();
    values.set("tokens", tokens);
    values.set("chars", score.chars as f64);
    values.set("nats", score.nll);
    if let Some(domain) = item.data["domain"].as_str() {
        values.set(&format!("nats/{domain}"), score.nll);
    }
    values.set("bits", score.nll / std::f64::consts::LN_2);
    for (key, mean) in [("kl", score.kl), ("reverse_kl", score.reverse_kl), ("top1", score.top1)] {
        if let Some(mean) = mean {
            values.set(key, mean * tokens);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/scores/forgetting.jsonl"));

    fn refused(text: &str) -> String {
        read(&SuiteInput { text, file: "f.jsonl" }).unwrap_err().to_string()
    }

    #[test]
    fn texts_are_read_by_domain_and_bad_ones_named_by_line_and_field() {
        let items = read(&SuiteInput { text: TEXT, file: "f.jsonl" }).unwrap().items;
        assert_eq!((items.len(), items[2].name.as_str()), (5, "math-3"));
        assert!(
            refused(&TEXT.replace("\"math\"", "\"maths\"")).contains("line 3 has the `domain` maths: expected one of")
        );
        assert!(refused(&TEXT.replace("\"text\": \"for", "\"body\": \"for")).contains("line 4 has no text in `text`"));
        assert!(refused("\n").contains("is empty"));
        assert!(refused("[1]").contains("line 1 is not a JSON object"));
        let three: Vec<&str> = TEXT.lines().filter(|l| !l.contains("fiction")).collect();
        assert!(refused(&three.join("\n")).contains("has no line with the `domain` fiction"));
    }
}
