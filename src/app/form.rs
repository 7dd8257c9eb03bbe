//! A small form: values with defaults, ranges and one line of help, validated as they are typed.

use super::edit::EditBuffer;
use super::effect::SampleRequest;
use crate::domain::{ParamKind, ParamRow, Sampler};

/// What a form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormPurpose {
    /// To sample candidates.
    Sample,
}

/// One value.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its key, kind, default and help.
    pub row: ParamRow,
    /// The typed text.
    pub buffer: EditBuffer,
    /// Why it is invalid, if it is.
    pub error: Option<String>,
}

/// The form.
#[derive(Debug, Clone)]
pub struct Form {
    /// Its heading.
    pub title: String,
    /// What it applies to.
    pub about: String,
    /// The values.
    pub fields: Vec<Field>,
    /// The index of the focused value.
    pub selected: usize,
    /// What it is for.
    pub purpose: FormPurpose,
}

const fn row(
    key: &'static str,
    kind: ParamKind,
    default: &'static str,
    usual: &'static str,
    help: &'static str,
) -> ParamRow {
    ParamRow { key, kind, default, usual, help, basic: true }
}

/// The parameters of sampling.
const SAMPLE: &[ParamRow] = &[
    row("per_prompt", ParamKind::Int(2, 64), "2", "2 – 8", "answers for each prompt; two make a pair"),
    row("temperature", ParamKind::Float(0.0, 10.0), "0.8", "0.7 – 1.2", "0 is greedy: always the most likely token"),
    row(
        "top_p",
        ParamKind::Float(0.01, 1.0),
        "0.95",
        "0.9 – 1",
        "nucleus: sample from the most likely tokens of this total probability",
    ),
    row("max_new_tokens", ParamKind::Int(1, 65_536), "256", "64 – 1024", "maximum length of an answer in tokens"),
    row("seed", ParamKind::Int(0, i64::MAX), "42", "", "the same seed gives the same answers"),
];

impl Form {
    /// The form for sampling.
    #[must_use]
    pub fn sample(about: String) -> Self {
        let fields =
            SAMPLE.iter().map(|row| Field { row: *row, buffer: EditBuffer::line(row.default), error: None }).collect();
        Self { title: "sample answers".into(), about, fields, selected: 0, purpose: FormPurpose::Sample }
    }

    /// Validates every value; true if all are valid.
    pub fn check(&mut self) -> bool {
        for field in &mut self.fields {
            field.error = field.row.parse(field.buffer.text()).err().map(|e| e.to_string());
        }
        self.fields.iter().all(|field| field.error.is_none())
    }

    /// The request; none if a value is invalid.
    #[must_use]
    pub fn sample_request(&self) -> Option<SampleRequest> {
        let text = |key: &str| self.fields.iter().find(|f| f.row.key == key).map(|f| f.buffer.text().trim());
        Some(SampleRequest {
            per_prompt: text("per_prompt")?.parse().ok()?,
            sampler: Sampler {
                temperature: text("temperature")?.parse().ok()?,
                top_p: text("top_p")?.parse().ok()?,
                seed: text("seed")?.parse().ok()?,
                max_new_tokens: text("max_new_tokens")?.parse().ok()?,
                ..Sampler::default()
            },
        })
    }
}
