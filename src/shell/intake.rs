//! Files brought into a session, the same way from the screen and from commands.

use super::error::Result;
use super::journal::Journal;
use crate::domain::{TaughtSet, counted};
use crate::storage::formats::{self, Format};
use crate::storage::import::{self, Added, Imported, ImportedRows};
use std::path::Path;

/// What an import came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake {
    /// The format that the file was read by.
    pub format: &'static str,
    /// What was added.
    pub added: Added,
    /// What was left out and why, as one sentence.
    pub left_out: Option<String>,
    /// Lines that could not be taken.
    pub bad_lines: usize,
    /// In one sentence.
    pub text: String,
}

/// Brings a file into a session; without a format it is the one that the file's first record fits best.
///
/// # Errors
/// When the file cannot be read or holds nothing that can be taken, or the log cannot be written.
pub fn bring_in(
    journal: &mut Journal,
    path: &Path,
    format: Option<&'static Format>,
    limit: Option<usize>,
) -> Result<Intake> {
    let format = match format {
        Some(format) => format,
        None => formats::recognise(path)?,
    };
    let imported = import::read(path, format, limit)?;
    let added = journal.bulk(|state, writer| imported.add_to(state, writer))?;
    Ok(Intake {
        format: format.name,
        added,
        left_out: imported.left_out(),
        bad_lines: imported.refused.bad_lines,
        text: words(added, &imported),
    })
}

fn words(added: Added, imported: &Imported) -> String {
    let file = &imported.file;
    let (prompts, rows) = (counted(added.prompts, "new prompt"), |noun| counted(added.rows, noun));
    let (mut text, known) = match &imported.rows {
        ImportedRows::Prompts(_) => (format!("{file}: {prompts}"), added.known_prompts),
        ImportedRows::Pairs(_) => {
            let verdicts = if added.pairs == 1 { "its verdict" } else { "their verdicts" };
            let pairs = counted(added.pairs, "new pair");
            (format!("{file}: {pairs} with {verdicts}, {prompts}"), added.known_pairs)
        }
        ImportedRows::Texts(set, _) => {
            let purpose = match set {
                TaughtSet::Sft => "to imitate",
                TaughtSet::Probe => "to measure forgetting on",
            };
            (format!("{file}: {} {purpose}", rows("new text")), added.known_rows)
        }
        ImportedRows::Ratings(_) => (format!("{file}: {}", rows("new rating")), added.known_rows),
    };
    if known > 0 {
        text.push_str(&format!(", {known} already there"));
    }
    text
}
