//! The definition of a format: its name, how its files are recognised, how records become rows and rows become records.
//!
//! Owns the contract between the formats in `formats/`, the container that decodes a file into records, and import and
//! export. Refuses to know any single format.

use super::container::Record;
use crate::domain::{Choice, PairRow, PromptBody, RatedRow, SftBody, SftRow, TextSet};
use serde_json::Value;

/// A file format of other programs: one row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Its name for `--as` and `--format`.
    pub name: &'static str,
    /// What it holds, as one line of help.
    pub help: &'static str,
    /// How its files are read; none if it is only written.
    pub reads: Option<Reads>,
    /// How it is written; none if it is only read.
    pub writes: Option<Writer>,
}

/// How the files of a format are read.
#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// Whether a line of plain text is a record too. Otherwise each record is JSON.
    pub plain_text: bool,
    /// What a record must be, as the end of a sentence that begins with `each line must be`.
    pub record: &'static str,
    /// How well the first record of a file fits the format.
    pub fit: fn(&Record) -> Fit,
    /// How a record becomes a row.
    pub row: Reader,
}

/// How well a record fits a format. The best fit wins; among equals the format whose file name comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Not at all, or the format must be requested by name.
    No,
    /// Nothing contradicts it.
    Possible,
    /// Some of its fields are present.
    Likely,
    /// The fields that only this format has are present.
    Sure,
}

/// How a record becomes a row, by the kind of row. A refusal names what is wrong with the record.
#[derive(Debug, Clone, Copy)]
pub enum Reader {
    /// Prompts to answer.
    Prompts(fn(&Record) -> Result<PromptBody, Refusal>),
    /// Judged pairs.
    Pairs(fn(&Record) -> Result<ImportedPair, Refusal>),
    /// Pairs with the votes of several raters.
    Votes(fn(&Record) -> Result<ImportedVotes, Refusal>),
    /// Texts of a set.
    Texts(TextSet, fn(&Record) -> Result<SftBody, Refusal>),
    /// Rated answers.
    Ratings(fn(&Record) -> Result<ImportedRating, Refusal>),
}

/// How a row of a session becomes a record, by the kind of row.
#[derive(Debug, Clone, Copy)]
pub enum Writer {
    /// Judged pairs.
    Pairs(fn(&PairRow) -> Value),
    /// Texts to imitate.
    Texts(fn(&SftRow) -> Value),
    /// Rated answers.
    Ratings(fn(&RatedRow) -> Value),
}

/// A preference as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedPair {
    /// The prompt.
    pub prompt: PromptBody,
    /// The preferred answer.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
}

/// Two answers with the votes of several raters, as a file states them.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedVotes {
    /// The prompt.
    pub prompt: PromptBody,
    /// The prompt's tags.
    pub tags: Vec<String>,
    /// The first answer and, where the file names it, the model that wrote it.
    pub a: (String, Option<String>),
    /// The second answer.
    pub b: (String, Option<String>),
    /// Each rater's name within the file, and choice.
    pub votes: Vec<(String, Choice)>,
}

/// A rating as a file states it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImportedRating {
    /// The prompt.
    pub prompt: PromptBody,
    /// The answer.
    pub completion: String,
    /// Desirable (true) or undesirable.
    pub good: bool,
}

/// Why a record is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It does not fit the format: the end of a sentence that begins with the line.
    Bad(String),
    /// The prompt or an answer is empty.
    Empty,
    /// Both answers are equal up to white space.
    Equal,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Bad(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Bad(reason.into())
    }
}
