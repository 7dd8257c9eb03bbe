//! Preference data for other programs: TRL's JSON lines.

use super::error::{Error, Result};
use super::files::replace;
use crate::domain::{LeftOut, Message, PairRow, PromptBody, Session};
use serde_json::{Value, json};
use std::path::Path;

/// A format of exported pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `prompt`, `chosen`, `rejected`: messages for conversations, strings for plain text.
    Trl,
    /// `chosen`, `rejected`, both with the prompt in front.
    TrlImplicit,
}

impl Format {
    /// Every format with its name on the command line.
    pub const ALL: &[(&str, Self)] = &[("trl", Self::Trl), ("trl-implicit", Self::TrlImplicit)];

    /// The format of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, format)| *format)
            .ok_or_else(|| Error::Format { given: name.into(), known: "trl or trl-implicit" })
    }
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Rows written.
    pub rows: usize,
    /// Judged pairs that make no row.
    pub left: LeftOut,
}

/// Writes the training rows that the session's verdicts make to a file, replacing it in one step.
///
/// # Errors
/// When the file cannot be written.
pub fn trl(session: &Session, format: Format, path: &Path) -> Result<Exported> {
    let (rows, left) = session.rows();
    replace(path, lines(&rows, format).as_bytes(), true)?;
    Ok(Exported { rows: rows.len(), left })
}

/// Rows as JSON lines.
#[must_use]
pub fn lines(rows: &[PairRow], format: Format) -> String {
    rows.iter().fold(String::new(), |text, row| text + &line(row, format).to_string() + "\n")
}

fn line(row: &PairRow, format: Format) -> Value {
    let answer = |text: &str| Message { role: "assistant".into(), content: text.into() };
    match (&row.prompt, format) {
        (PromptBody::Chat(turns), Format::Trl) => {
            json!({"prompt": turns, "chosen": [answer(&row.chosen)], "rejected": [answer(&row.rejected)]})
        }
        (PromptBody::Text(text), Format::Trl) => {
            json!({"prompt": text, "chosen": row.chosen, "rejected": row.rejected})
        }
        (PromptBody::Chat(turns), Format::TrlImplicit) => {
            let whole = |text: &str| turns.iter().cloned().chain([answer(text)]).collect::<Vec<_>>();
            json!({"chosen": whole(&row.chosen), "rejected": whole(&row.rejected)})
        }
        (PromptBody::Text(text), Format::TrlImplicit) => {
            json!({"chosen": format!("{text}{}", row.chosen), "rejected": format!("{text}{}", row.rejected)})
        }
    }
}
