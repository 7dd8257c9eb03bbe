//! Files brought into a session, the same way from the screen and from commands.

use super::error::{Error, Result};
use super::journal::Journal;
use crate::storage::import::{self, Added};
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
}

/// What an import came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake {
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
    let (added, left_out, bad_lines, file) = match kind {
        Kind::Prompts => {
            let imported = import::prompts(path, limit)?;
            let added = journal.bulk(|state, writer| import::add_prompts(&imported, state, writer))?;
            (added, imported.left_out(), imported.bad_lines, imported.file)
        }
        Kind::Pairs => {
            let imported = import::pairs(path, limit)?;
            let added = journal.bulk(|state, writer| import::add_pairs(&imported, state, writer))?;
            (added, imported.left_out(), imported.bad_lines, imported.file)
        }
    };
    let mut text = match kind {
        Kind::Prompts => format!("{file}: {} new prompts", added.prompts),
        Kind::Pairs => format!("{file}: {} new pairs with their verdicts, {} new prompts", added.pairs, added.prompts),
    };
    let known = if kind == Kind::Prompts { added.known_prompts } else { added.known_pairs };
    if known > 0 {
        text.push_str(&format!(", {known} already there"));
    }
    Ok(Intake { added, left_out, bad_lines, text })
}

/// Pairs have a `chosen` in their first object; everything else is prompts.
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
        let pairs = value.is_some_and(|v| v.get("chosen").is_some());
        return Ok(if pairs { Kind::Pairs } else { Kind::Prompts });
    }
}
