//! The suite `ifeval`: 541 prompts with instructions that a program can check (Zhou et al. 2023).
//!
//! Owns the measures: prompts of which every instruction was followed, and instructions (a micro average), strict and loose.
//! The headline is the strict share of prompts, as in the paper. Refuses the checks: [`crate::evaluate::ifeval`] has them.

use crate::domain::{Better, Measure, Metrics, Pooling, PromptBody, SuiteRow};
use crate::evaluate::ifeval::IfevalItem;
use crate::evaluate::item::{Item, ItemRequest, ReadItems};
use crate::evaluate::lines::json_lines;
use crate::evaluate::suite::Suite;
use crate::model::error::Error;

const fn per(key: &'static str, title: &'static str) -> Measure {
    Measure { key, title, better: Better::Higher, pooling: Pooling::Per("instructions") }
}

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "ifeval",
        help: "instructions that a program can check, followed or not",
        files: &["ifeval_input_data.jsonl", "ifeval.jsonl"],
        source: "google/IFEval on the Hugging Face hub",
        max_new_tokens: 1280,
        judged: false,
        measures: &[
            Measure::share("prompt_strict", "prompts, strict"),
            Measure::share("prompt_loose", "prompts, loose"),
            per("instruction_strict", "instructions, strict"),
            per("instruction_loose", "instructions, loose"),
        ],
    },
    read: |input| {
        let mut out = ReadItems::default();
        for (number, json) in json_lines(input)? {
            let item = IfevalItem::parse(&json).map_err(|e| input.bad_line(number, &e.to_string()))?;
            out.items.push(Item {
                name: item.key,
                prompt: PromptBody::user(item.prompt),
                ask: ItemRequest::Answer,
                data: json,
            });
        }
        Ok(out)
    },
    measure: |item, given| {
        let parsed = IfevalItem::parse(&item.data).map_err(|e| Error::Invalid(e.to_string()))?;
        let score = parsed.score(given.answer()?.text);
        let count = |held: &[bool]| held.iter().filter(|held| **held).count();
        let all = |held: &[bool]| f64::from(u8::from(held.iter().all(|held| *held)));
        let mut values = Metrics::new();
        values.set("prompt_strict", all(&score.strict));
        values.set("prompt_loose", all(&score.loose));
        values.set("instructions", score.strict.len() as f64);
        values.set("instruction_strict", count(&score.strict) as f64);
        values.set("instruction_loose", count(&score.loose) as f64);
        Ok(values)
    },
};
