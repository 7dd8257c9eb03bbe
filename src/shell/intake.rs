//! Importing files into a session, for the screen and the commands.

use super::error::Result;
use super::journal::Journal;
use crate::domain::{TextSet, counted};
use crate::storage::formats::{self, Format};
use crate::storage::import::{self, Added, Imported, ImportedRows, UnusedColumns};
use std::path::Path;

/// The result of an import.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake {
    /// The format of the file.
    pub format: &'static str,
    /// Its name without the folder.
    pub file: String,
    /// What the added rows are for.
    purpose: Purpose,
    /// What was added.
    pub added: Added,
    /// The skipped rows and why, as one sentence.
    pub left_out: Option<String>,
    /// Lines that could not be parsed.
    pub bad_lines: usize,
    /// What there is to know of the rows that were read; the last says which columns were not used.
    pub notes: Vec<String>,
    /// The columns that were not used, with the number of rows that had them.
    pub unused: UnusedColumns,
}

/// What the rows of a file are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Prompts,
    Pairs,
    Texts(TextSet),
    Ratings,
}

impl Intake {
    /// Adds up the results of this part and the earlier ones.
    #[must_use]
    pub fn merge(mut self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let (all, part) = (&mut self.added, earlier.added);
        all.prompts += part.prompts;
        all.known_prompts += part.known_prompts;
        all.pairs += part.pairs;
        all.unjudged += part.unjudged;
        all.known_pairs += part.known_pairs;
        all.rows += part.rows;
        all.known_rows += part.known_rows;
        self.bad_lines += earlier.bad_lines;
        self.left_out = earlier.left_out.or(self.left_out);
        self.notes = [earlier.notes, self.notes].concat();
        earlier.unused.0.into_iter().for_each(|(name, rows)| *self.unused.0.entry(name).or_default() += rows);
        self
    }

    /// What was added, in one sentence.
    #[must_use]
    pub fn text(&self) -> String {
        let (file, added) = (&self.file, self.added);
        let (prompts, rows) = (counted(added.prompts, "new prompt"), |noun| counted(added.rows, noun));
        let (mut text, known) = match self.purpose {
            Purpose::Prompts => (format!("{file}: {prompts}"), added.known_prompts),
            Purpose::Pairs => {
                let verdicts = if added.pairs == 1 { "its verdict" } else { "their verdicts" };
                let judged = format!("{} with {verdicts}", counted(added.pairs, "new pair"));
                let unjudged = format!("{} to judge", counted(added.unjudged, "new pair"));
                let pairs = match (added.pairs, added.unjudged) {
                    (_, 0) => judged,
                    (0, _) => unjudged,
                    _ => format!("{judged}, {unjudged}"),
                };
                (format!("{file}: {pairs}, {prompts}"), added.known_pairs)
            }
            Purpose::Texts(set) => {
                let purpose = match set {
                    TextSet::Sft => "to imitate",
                    TextSet::Probe => "to measure forgetting on",
                };
                (format!("{file}: {} {purpose}", rows("new text")), added.known_rows)
            }
            Purpose::Ratings => (format!("{file}: {}", rows("new rating")), added.known_rows),
        };
        if known > 0 {
            text.push_str(&format!(", {known} already there"));
        }
        text
    }
}

/// Imports a file into a session; without a format, its first record decides.
///
/// # Errors
/// When the file cannot be read or has no usable row, or the log cannot be written.
pub fn bring_in(
    journal: &mut Journal,
    path: &Path,
    format: Option<&'static Format>,
    limit: Option<usize>,
) -> Result<Intake> {
    add(&read(path, format, limit)?, journal)
}

/// Reads the rows of a file. Needs no lock: reading may take long.
///
/// # Errors
/// When the file cannot be read or has no usable row.
pub fn read(path: &Path, format: Option<&'static Format>, limit: Option<usize>) -> Result<Imported> {
    let format = match format {
        Some(format) => format,
        None => formats::recognise(path)?,
    };
    Ok(import::read(path, format, limit)?)
}

/// Appends the rows that the session does not have yet.
///
/// # Errors
/// When the log cannot be written.
pub fn add(imported: &Imported, journal: &mut Journal) -> Result<Intake> {
    let added = journal.bulk(|state, writer| imported.add_to(state, writer))?;
    let purpose = match &imported.rows {
        ImportedRows::Prompts(_) => Purpose::Prompts,
        ImportedRows::Pairs(_) | ImportedRows::Votes(_) => Purpose::Pairs,
        ImportedRows::Texts(set, _) => Purpose::Texts(*set),
        ImportedRows::Ratings(_) => Purpose::Ratings,
    };
    Ok(Intake {
        format: imported.format,
        file: imported.file.clone(),
        purpose,
        added,
        left_out: imported.left_out(),
        bad_lines: imported.refused.bad_lines,
        notes: imported.notes(),
        unused: imported.unused.clone(),
    })
}
