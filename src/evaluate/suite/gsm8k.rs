//! The suite `gsm8k`: arithmetic word problems with a number as the answer (Cobbe et al. 2021).
//!
//! Owns the prompt and the measures: the number after `####` (strict) and the last number (flexible). No examples are shown
//! before a problem: an instruction asks for the format, so numbers are not comparable with 5-shot results. Refuses a row
//! whose answer has no `####`.

use crate::domain::{Measure, Metrics, PromptBody, SuiteRow};
use crate::evaluate::final_number::{final_number, same_number};
use crate::evaluate::item::{Item, ItemRequest, ReadItems};
use crate::evaluate::lines::{json_lines, text_field};
use crate::evaluate::suite::Suite;
use serde_json::json;

const INSTRUCTION: &str =
    "Solve the problem step by step. End with a line `#### N`, where N is the answer as a number.";

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "gsm8k",
        help: "arithmetic word problems, exact match of the number",
        files: &["gsm8k_test.jsonl", "gsm8k.jsonl"],
        source: "openai/grade-school-math on GitHub",
        max_new_tokens: 512,
        judged: false,
        measures: &[Measure::share("strict", "exact, after ####"), Measure::share("flexible", "exact, last number")],
    },
    read: |input| {
        let mut out = ReadItems::default();
        for (number, row) in json_lines(input)? {
            let (question, answer) =
                (text_field(input, number, &row, "question")?, text_field(input, number, &row, "answer")?);
            if final_number(answer, true).is_none() {
                return Err(input.bad_line(number, "has an `answer` without `#### N`"));
            }
            out.items.push(Item {
                name: format!("{number}"),
                prompt: PromptBody::user(format!("{question}\n\n{INSTRUCTION}")),
                ask: ItemRequest::Answer,
                data: json!({ "answer": answer }),
            });
        }
        Ok(out)
    },
    measure: |item, given| {
        let (text, reference) = (given.answer()?.text, item.data["answer"].as_str().unwrap_or_default());
        let mut values = Metrics::new();
        for (key, strict) in [("strict", true), ("flexible", false)] {
            values.set(key, f64::from(u8::from(same_number(text, reference, strict))));
        }
        Ok(values)
    },
};
