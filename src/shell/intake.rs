//! Files brought into a session, the same way from the screen and from commands.

use super::error::{Error, Result};
use super::journal::Journal;
use crate::domain::{PromptBody, SftBody, TaughtSet, counted};
use crate::storage::import::{self, Added, Imported, ImportedPair, ImportedRating};
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
    /// Its name without its folder.
    pub file: String,
    /// What was added.
    pub added: Added,
    /// What was left out and why, as one sentence.
    pub left_out: Option<String>,
    /// Lines that could not be taken.
    pub bad_lines: usize,
}

impl Intake {
    /// This part together with those before it.
    #[must_use]
    pub fn after(mut self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let (all, part) = (&mut self.added, earlier.added);
        all.prompts += part.prompts;
        all.known_prompts += part.known_prompts;
        all.pairs += part.pairs;
        all.known_pairs += part.known_pairs;
        all.rows += part.rows;
        all.known_rows += part.known_rows;
        self.bad_lines += earlier.bad_lines;
        self.left_out = earlier.left_out.or(self.left_out);
        self
    }

    /// What was added, in one sentence.
    #[must_use]
    pub fn text(&self) -> String {
        let (file, added) = (&self.file, self.added);
        let (prompts, rows) = (counted(added.prompts, "new prompt"), |noun| counted(added.rows, noun));
        let mut text = match self.kind {
            Kind::Prompts => format!("{file}: {prompts}"),
            Kind::Pairs => {
                let verdicts = if added.pairs == 1 { "its verdict" } else { "their verdicts" };
                format!("{file}: {} with {verdicts}, {prompts}", counted(added.pairs, "new pair"))
            }
            Kind::Examples(TaughtSet::Sft) => format!("{file}: {} to imitate", rows("new text")),
            Kind::Examples(TaughtSet::Probe) => format!("{file}: {} to measure forgetting on", rows("new text")),
            Kind::Ratings => format!("{file}: {}", rows("new rating")),
        };
        let known = match self.kind {
            Kind::Prompts => added.known_prompts,
            Kind::Pairs => added.known_pairs,
            Kind::Examples(_) | Kind::Ratings => added.known_rows,
        };
        if known > 0 {
            text.push_str(&format!(", {known} already there"));
        }
        text
    }
}

/// Brings a file into a session; without a `kind` it is found out from the first line that is not empty.
///
/// # Errors
/// When the file cannot be read or holds nothing that can be taken, or the log cannot be written.
pub fn bring_in(journal: &mut Journal, path: &Path, kind: Option<Kind>, limit: Option<usize>) -> Result<Intake> {
    let rows = Rows::read(path, kind, limit)?;
    rows.add(journal)
}

/// The rows of a file, read but not yet in a session: reading may take long, and needs no right to write.
#[derive(Debug)]
pub enum Rows {
    /// Prompts.
    Prompts(Imported<PromptBody>),
    /// Judged pairs.
    Pairs(Imported<ImportedPair>),
    /// Texts to imitate, or to measure forgetting on.
    Examples(TaughtSet, Imported<SftBody>),
    /// Answers with a thumb up or down.
    Ratings(Imported<ImportedRating>),
}

impl Rows {
    /// Reads a file; without a `kind` it is found out from the first line that is not empty.
    ///
    /// # Errors
    /// When the file cannot be read or holds nothing that can be taken.
    pub fn read(path: &Path, kind: Option<Kind>, limit: Option<usize>) -> Result<Self> {
        let kind = match kind {
            Some(kind) => kind,
            None => guess(path)?,
        };
        Ok(match kind {
            Kind::Prompts => Self::Prompts(import::prompts(path, limit)?),
            Kind::Pairs => Self::Pairs(import::pairs(path, limit)?),
            Kind::Examples(set) => Self::Examples(set, import::examples(path, limit)?),
            Kind::Ratings => Self::Ratings(import::ratings(path, limit)?),
        })
    }

    /// The same rows in parts that are each taken in quickly. What was left out goes with the first one.
    #[must_use]
    pub fn parts(self) -> Vec<Self> {
        match self {
            Self::Prompts(rows) => parts(rows).map(Self::Prompts).collect(),
            Self::Pairs(rows) => parts(rows).map(Self::Pairs).collect(),
            Self::Examples(set, rows) => parts(rows).map(|part| Self::Examples(set, part)).collect(),
            Self::Ratings(rows) => parts(rows).map(Self::Ratings).collect(),
        }
    }

    /// Appends what the session does not have yet.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn add(&self, journal: &mut Journal) -> Result<Intake> {
        match self {
            Self::Prompts(rows) => {
                let added = journal.bulk(|state, writer| import::add_prompts(rows, state, writer))?;
                Ok(intake(Kind::Prompts, added, rows))
            }
            Self::Pairs(rows) => {
                let added = journal.bulk(|state, writer| import::add_pairs(rows, state, writer))?;
                Ok(intake(Kind::Pairs, added, rows))
            }
            Self::Examples(set, rows) => {
                let added = journal.bulk(|state, writer| import::add_examples(rows, *set, state, writer))?;
                Ok(intake(Kind::Examples(*set), added, rows))
            }
            Self::Ratings(rows) => {
                let added = journal.bulk(|state, writer| import::add_ratings(rows, state, writer))?;
                Ok(intake(Kind::Ratings, added, rows))
            }
        }
    }
}

fn intake<T>(kind: Kind, added: Added, rows: &Imported<T>) -> Intake {
    Intake { kind, file: rows.file.clone(), added, left_out: rows.left_out(), bad_lines: rows.bad_lines }
}

/// Rows taken in at a time.
const PART: usize = 10_000;

fn parts<T>(mut all: Imported<T>) -> impl Iterator<Item = Imported<T>> {
    let later = all.rows.split_off(all.rows.len().min(PART));
    let (file, mut later) = (all.file.clone(), later.into_iter());
    let rest = std::iter::from_fn(move || {
        let rows: Vec<T> = later.by_ref().take(PART).collect();
        let part =
            Imported { file: file.clone(), rows, bad: Vec::new(), bad_lines: 0, empty: 0, equal: 0, limited: false };
        (!part.rows.is_empty()).then_some(part)
    });
    std::iter::once(all).chain(rest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_every_row_once_and_say_once_what_was_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("prompts.jsonl");
        let lines: Vec<String> = (0..2 * PART + 3).map(|i| format!("{{\"prompt\":\"question {i}\"}}")).collect();
        std::fs::write(&file, lines.join("\n") + "\n{\"nothing\":1}\n").unwrap();
        let whole = Rows::read(&file, Some(Kind::Prompts), None).unwrap();
        let Rows::Prompts(rows) = &whole else { panic!("{whole:?}") };
        let (rows, bad) = (rows.rows.clone(), rows.bad_lines);
        assert_eq!((rows.len(), bad), (2 * PART + 3, 1));
        let parts = whole.parts();
        let mut again = Vec::new();
        let mut bad = Vec::new();
        for part in parts {
            let Rows::Prompts(part) = part else { panic!("{part:?}") };
            bad.push(part.bad_lines);
            again.extend(part.rows);
        }
        assert_eq!((again, bad), (rows, vec![1, 0, 0]));
    }
}
