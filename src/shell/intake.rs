//! Files brought into a session, the same way from the screen and from commands.

use super::error::{Error, Result};
use super::journal::Journal;
use crate::domain::{TaughtSet, counted};
use crate::storage::import::{self, Added, Imported};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What a file is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Prompts.
    Prompts,
    /// Judged pairs.
    Pairs,
    /// Texts to imitate, or to measure forgetting on.
    Examples(TaughtSet),
    /// Answers with a thumb up or down.
    Ratings,
}

impl Kind {
    /// Its name on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Prompts => "prompts",
            Self::Pairs => "pairs",
            Self::Examples(set) => set.word(),
            Self::Ratings => "ratings",
        }
    }
}

/// What an import came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake {
    /// What the file was taken for.
    pub kind: Kind,
    /// What was added.
    pub added: Added,
    /// What was left out and why, as one sentence.
    pub left_out: Option<String>,
    /// Lines that could not be taken.
    pub bad_lines: usize,
    /// In one sentence.
    pub text: String,
}

/// Brings a file into a session; without a `kind` it is found out from the first line that is not empty.
///
/// # Errors
/// When the file cannot be read or holds nothing that can be taken, or the log cannot be written.
pub fn bring_in(journal: &mut Journal, path: &Path, kind: Option<Kind>, limit: Option<usize>) -> Result<Intake> {
    let kind = match kind {
        Some(kind) => kind,
        None => guess(path)?,
    };
    match kind {
        Kind::Prompts => {
            let imported = import::prompts(path, limit)?;
            let added = journal.bulk(|state, writer| import::add_prompts(&imported, state, writer))?;
            Ok(intake(kind, added, &imported))
        }
        Kind::Pairs => {
            let imported = import::pairs(path, limit)?;
            let added = journal.bulk(|state, writer| import::add_pairs(&imported, state, writer))?;
            Ok(intake(kind, added, &imported))
        }
        Kind::Examples(set) => {
            let imported = import::examples(path, limit)?;
            let added = journal.bulk(|state, writer| import::add_examples(&imported, set, state, writer))?;
            Ok(intake(kind, added, &imported))
        }
        Kind::Ratings => {
            let imported = import::ratings(path, limit)?;
            let added = journal.bulk(|state, writer| import::add_ratings(&imported, state, writer))?;
            Ok(intake(kind, added, &imported))
        }
    }
}

fn intake<T>(kind: Kind, added: Added, imported: &Imported<T>) -> Intake {
    let file = &imported.file;
    let (prompts, rows) = (counted(added.prompts, "new prompt"), |noun| counted(added.rows, noun));
    let mut text = match kind {
        Kind::Prompts => format!("{file}: {prompts}"),
        Kind::Pairs => {
            let verdicts = if added.pairs == 1 { "its verdict" } else { "their verdicts" };
            format!("{file}: {} with {verdicts}, {prompts}", counted(added.pairs, "new pair"))
        }
        Kind::Examples(TaughtSet::Sft) => format!("{file}: {} to imitate", rows("new text")),
        Kind::Examples(TaughtSet::Probe) => format!("{file}: {} to measure forgetting on", rows("new text")),
        Kind::Ratings => format!("{file}: {}", rows("new rating")),
    };
    let known = match kind {
        Kind::Prompts => added.known_prompts,
        Kind::Pairs => added.known_pairs,
        Kind::Examples(_) | Kind::Ratings => added.known_rows,
    };
    if known > 0 {
        text.push_str(&format!(", {known} already there"));
    }
    Intake { kind, added, left_out: imported.left_out(), bad_lines: imported.bad_lines, text }
}

/// What the first object's fields say: pairs have `chosen`; ratings have `completion` and `label`; texts to imitate have
/// `completion`, `conversations` or `text`. Everything else is prompts, `messages` too: a conversation may be there to be
/// imitated or to be answered anew, and only its owner knows.
fn guess(path: &Path) -> Result<Kind> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|e| Error::io("read", path, e))?;
        if read > 0 && line.trim_ascii().is_empty() {
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let value: Option<serde_json::Value> = serde_json::from_str(text.trim_start_matches('\u{feff}').trim()).ok();
        let has = |name: &str| value.as_ref().is_some_and(|v| v.get(name).is_some());
        return Ok(if has("chosen") {
            Kind::Pairs
        } else if has("completion") && has("label") {
            Kind::Ratings
        } else if has("completion") || has("conversations") || has("text") {
            Kind::Examples(TaughtSet::Sft)
        } else {
            Kind::Prompts
        });
    }
}
