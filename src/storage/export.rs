//! Training data for other programs: TRL's JSON lines.

use super::error::{Error, Result};
use crate::domain::{LeftOut, Message, PairRow, PromptBody, RatedRow, Session, SftBody, SftRow};
use serde_json::{Value, json};

/// A format of exported rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Judged pairs as `prompt`, `chosen`, `rejected`: messages for conversations, strings for plain text.
    Trl,
    /// Judged pairs as `chosen`, `rejected`, both with the prompt in front.
    TrlImplicit,
    /// Texts to imitate, in the shapes they have: `messages`, `prompt` with `completion`, `text`.
    Sft,
    /// Ratings as `prompt`, `completion`, `label`.
    Kto,
}

impl Format {
    /// Every format with its name on the command line.
    pub const ALL: &[(&str, Self)] =
        &[("trl", Self::Trl), ("trl-implicit", Self::TrlImplicit), ("sft", Self::Sft), ("kto", Self::Kto)];

    /// The format of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, format)| *format)
            .ok_or_else(|| Error::Format { given: name.into(), known: "trl, trl-implicit, sft or kto" })
    }
}

/// The session's training rows as JSON lines, each with its newline, and the judged pairs that make none. Both bad is no
/// reason to be left out of ratings.
#[must_use]
pub fn lines(session: &Session, format: Format) -> (Vec<String>, LeftOut) {
    fn each<T>(rows: &[T], line: impl Fn(&T) -> Value) -> Vec<String> {
        rows.iter().map(|row| line(row).to_string() + "\n").collect()
    }
    match format {
        Format::Trl | Format::TrlImplicit => {
            let (rows, left) = session.rows();
            (each(&rows, |row| pair(row, format)), left)
        }
        Format::Sft => (each(&session.sft_rows(), example), LeftOut::default()),
        Format::Kto => {
            let left = LeftOut { both_bad: 0, ..session.rows().1 };
            (each(&session.rated_rows(), rating), left)
        }
    }
}

fn answer(text: &str) -> Message {
    Message { role: "assistant".into(), content: text.into() }
}

fn pair(row: &PairRow, format: Format) -> Value {
    match (&row.prompt, format) {
        (PromptBody::Chat(turns), Format::TrlImplicit) => {
            let whole = |text: &str| turns.iter().cloned().chain([answer(text)]).collect::<Vec<_>>();
            json!({"chosen": whole(&row.chosen), "rejected": whole(&row.rejected)})
        }
        (PromptBody::Text(text), Format::TrlImplicit) => {
            json!({"chosen": format!("{text}{}", row.chosen), "rejected": format!("{text}{}", row.rejected)})
        }
        (PromptBody::Chat(turns), _) => {
            json!({"prompt": turns, "chosen": [answer(&row.chosen)], "rejected": [answer(&row.rejected)]})
        }
        (PromptBody::Text(text), _) => {
            json!({"prompt": text, "chosen": row.chosen, "rejected": row.rejected})
        }
    }
}

fn example(row: &SftRow) -> Value {
    match &row.body {
        SftBody::Messages(turns) => json!({"messages": turns}),
        SftBody::Completion { prompt, completion } => completed(prompt, completion),
        SftBody::Text(text) => json!({"text": text}),
    }
}

fn rating(row: &RatedRow) -> Value {
    let mut value = completed(&row.prompt, &row.completion);
    value["label"] = row.good.into();
    value
}

fn completed(prompt: &PromptBody, completion: &str) -> Value {
    match prompt {
        PromptBody::Chat(turns) => json!({"prompt": turns, "completion": [answer(completion)]}),
        PromptBody::Text(text) => json!({"prompt": text, "completion": completion}),
    }
}
