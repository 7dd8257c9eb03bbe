//! The suite `degenerate`: signs that a model has come apart, on the session's prompts.
//!
//! Owns the measures: empty and cut answers, repeated 4-grams, length, distinct 2-grams. N-grams are of words, so that models
//! with other tokenizers can be compared. Refuses a verdict on quality.

use super::winrate;
use crate::domain::{Better, Finish, Measure, Metrics, SuiteRow};
use crate::evaluate::degeneration::{REPEATED, distinct_share, repeated_share};
use crate::evaluate::suite::Suite;

pub(crate) static SUITE: Suite = Suite {
    row: SuiteRow {
        name: "degenerate",
        help: "empty, cut and repeating answers to the session's prompts",
        files: &[],
        source: "",
        max_new_tokens: 512,
        judged: false,
        measures: &[
            Measure::share("repetitive", "repeating answers").better(Better::Lower),
            Measure::share("empty", "empty answers").better(Better::Lower),
            Measure::share("cut", "cut at the limit").better(Better::Lower),
            Measure::mean("repeated", "repeated 4-grams", Better::Lower),
            Measure::mean("distinct", "distinct 2-grams", Better::Higher),
            Measure::mean("tokens", "mean tokens", Better::Neither),
        ],
    },
    read: winrate::read,
    measure: |_, given| {
        let answer = given.answer()?;
        let words: Vec<&str> = answer.text.split_whitespace().collect();
        let repeated = repeated_share(&words, 4);
        let yes = |holds: bool| f64::from(u8::from(holds));
        let mut values = Metrics::new();
        values.set("repetitive", yes(repeated > REPEATED));
        values.set("empty", yes(words.is_empty()));
        values.set("cut", yes(answer.finish == Finish::Length));
        values.set("repeated", repeated);
        if let Some(distinct) = distinct_share(&[words.as_slice()], 2) {
            values.set("distinct", distinct);
        }
        values.set("tokens", answer.tokens as f64);
        Ok(values)
    },
};
