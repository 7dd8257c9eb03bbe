//! Imports files of other programs into a session: good records load, bad ones are counted with a reason.
//!
//! Owns reading a whole file in one of the formats, the report, and adding its rows. Refuses to guess: a record that
//! does not fit the format is left out with its line and a reason, never imported in part.

mod records;
mod votes;

#[cfg(test)]
mod tests;

pub use super::unread::UnusedColumns;
pub use records::Added;

use super::container;
use super::error::{Error, Result};
use super::formats::{
    Format, Gathered, GivenAnswer, ImportedPair, ImportedPrompt, ImportedRating, ImportedVotes, Ranking, Reader,
    Record, Refusal,
};
use super::log::LogWriter;
use super::unread::Says;
use crate::domain::{PromptBody, Session, SftBody, TextSet, counted, sanitise, thoughts};
use crate::protocol::SessionRecord;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A record that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its line in the file, from 1.
    pub line: usize,
    /// What is wrong with it, as the end of a sentence that begins with the line.
    pub reason: String,
}

impl std::fmt::Display for BadLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} {}", self.line, self.reason)
    }
}

/// Maximum number of bad lines kept with their reasons; the others are only counted.
const MAX_BAD_LINES: usize = 1000;

/// Rows of one kind, in file order.
#[derive(Debug, Clone, PartialEq)]
pub enum ImportedRows {
    /// Prompts to answer.
    Prompts(Vec<ImportedPrompt>),
    /// Judged pairs.
    Pairs(Vec<ImportedPair>),
    /// Pairs with the votes of several raters, or with none.
    Votes(Vec<ImportedVotes>),
    /// Texts of a set.
    Texts(TextSet, Vec<SftBody>),
    /// Rated answers.
    Ratings(Vec<ImportedRating>),
}

impl ImportedRows {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Prompts(rows) => rows.len(),
            Self::Pairs(rows) => rows.len(),
            Self::Votes(rows) => rows.len(),
            Self::Texts(_, rows) => rows.len(),
            Self::Ratings(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their noun in the plural.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Prompts(_) => "prompts",
            Self::Pairs(_) | Self::Votes(_) => "pairs",
            Self::Texts(..) => "texts",
            Self::Ratings(_) => "ratings",
        }
    }
}

/// The contents of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The format it was read in.
    pub format: &'static str,
    /// The file's name without its folder.
    pub file: String,
    /// The good rows.
    pub rows: ImportedRows,
    /// What was left out.
    pub refused: Refused,
    /// Whether the limit was reached before the file's end.
    pub limited: bool,
    /// The columns that were not used.
    pub unused: UnusedColumns,
    /// How many rankings the pairs were made of.
    pub rankings: usize,
}

/// Records that were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refused {
    /// The first bad lines.
    pub bad: Vec<BadLine>,
    /// Total bad lines.
    pub bad_lines: usize,
    /// Rows left out because an answer (or the prompt) is empty.
    pub empty: usize,
    /// Rows left out because both answers are equal up to white space.
    pub equal: usize,
    /// What good rows hold beyond what was read, by its name in the singular.
    pub unread: BTreeMap<&'static str, usize>,
    /// What there is to know of good rows, by its name in the singular.
    pub said: BTreeMap<&'static str, usize>,
    /// What a place in the file is called: `line`, or `row` where it has no lines.
    pub place: &'static str,
}

impl Refused {
    fn add(&mut self, line: usize, refusal: Refusal) {
        match refusal {
            Refusal::Bad(reason) => {
                self.bad_lines += 1;
                if self.bad.len() < MAX_BAD_LINES {
                    // A reason may quote the file.
                    self.bad.push(BadLine { line, reason: sanitise(&reason) });
                }
            }
            Refusal::Empty => self.empty += 1,
            Refusal::Equal => self.equal += 1,
        }
    }
}

/// `1 draft response`, `2 answers to another question`: the noun that takes the plural comes first.
fn counted_unread(n: usize, what: &str) -> String {
    let ends = [" to ", " with ", " without ", " of ", " accepted ", " replaced ", " whose ", " that ", " behind "];
    let at = ends.iter().filter_map(|end| what.find(end)).min().unwrap_or(what.len());
    let (noun, rest) = what.split_at(at);
    format!("{}{rest}", counted(n, noun))
}

impl Imported {
    /// What was left out, as one sentence; none when nothing was.
    #[must_use]
    pub fn left_out(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(first) = self.refused.bad.first() {
            let place = if self.refused.place == "row" { "row" } else { "line" };
            let first = format!("{place} {} {}", first.line, first.reason);
            parts.push(match self.refused.bad_lines {
                1 => first,
                n => format!("{n} {place}s, the first: {first}"),
            });
        }
        if self.refused.empty > 0 {
            parts.push(format!("{} with an empty answer or prompt", self.refused.empty));
        }
        if self.refused.equal > 0 {
            parts.push(format!("{} with two equal answers", self.refused.equal));
        }
        parts.extend(self.refused.unread.iter().map(|(what, n)| counted_unread(*n, what)));
        (!parts.is_empty()).then(|| format!("{}: left out {}", self.file, parts.join("; ")))
    }

    /// What there is to know of the rows that were read, and as the last sentence the columns that were not used.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.rankings > 0 {
            let (rankings, pairs) = (counted(self.rankings, "ranking"), counted(self.rows.len(), "pair"));
            out.push(format!("{rankings} gave {pairs}: every pair of the answers of each"));
        }
        out.extend(self.refused.said.iter().map(|(what, n)| counted_unread(*n, what)));
        out.extend(self.unused.sentence());
        out.into_iter().map(|note| format!("{}: {note}", self.file)).collect()
    }

    /// Appends the rows that `session` does not have yet, and fsyncs. Importing a file again adds only its new rows.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn add_to(&self, session: &Session, writer: &mut LogWriter<SessionRecord>) -> Result<Added> {
        let added = match &self.rows {
            ImportedRows::Prompts(rows) => records::prompts(&self.file, rows, session, writer),
            ImportedRows::Pairs(rows) => records::pairs(&self.file, rows, session, writer),
            ImportedRows::Votes(rows) => votes::votes(&self.file, rows, session, writer),
            ImportedRows::Texts(set, rows) => records::texts(rows, *set, session, writer),
            ImportedRows::Ratings(rows) => records::ratings(rows, session, writer),
        }?;
        writer.sync()?;
        Ok(added)
    }
}

/// Rows added at a time.
const PART_ROWS: usize = 10_000;

impl ImportedRows {
    /// The same rows in chunks of at most `size`.
    fn chunks(self, size: usize) -> Vec<Self> {
        fn split<T>(rows: Vec<T>, size: usize) -> Vec<Vec<T>> {
            let mut rows = rows.into_iter();
            std::iter::from_fn(|| Some(rows.by_ref().take(size).collect()).filter(|part: &Vec<T>| !part.is_empty()))
                .collect()
        }
        match self {
            Self::Prompts(rows) => split(rows, size).into_iter().map(Self::Prompts).collect(),
            Self::Pairs(rows) => split(rows, size).into_iter().map(Self::Pairs).collect(),
            Self::Votes(rows) => split(rows, size).into_iter().map(Self::Votes).collect(),
            Self::Texts(set, rows) => split(rows, size).into_iter().map(|part| Self::Texts(set, part)).collect(),
            Self::Ratings(rows) => split(rows, size).into_iter().map(Self::Ratings).collect(),
        }
    }
}

impl Imported {
    /// The same rows in parts that are each added quickly. The first part carries what was left out.
    #[must_use]
    pub fn parts(self) -> Vec<Self> {
        let Self { format, file, rows, mut refused, limited, mut unused, rankings } = self;
        let mut rankings = Some(rankings);
        let part = |rows| Self {
            format,
            file: file.clone(),
            rows,
            refused: std::mem::take(&mut refused),
            limited,
            unused: std::mem::take(&mut unused),
            rankings: rankings.take().unwrap_or(0),
        };
        rows.chunks(PART_ROWS).into_iter().map(part).collect()
    }
}

/// Reads at most `limit` rows of a file in the given format.
///
/// # Errors
/// When the file cannot be read, holds no usable row, or the format is only written.
pub fn read(path: &Path, format: &Format, limit: Option<usize>) -> Result<Imported> {
    let Some(reads) = format.reads else {
        return Err(Error::Import { path: path.to_owned(), reason: format!("cannot be read as {}", format.name) });
    };
    let mut file = Reading {
        path,
        plain_text: reads.plain_text,
        limit,
        format: format.name,
        refused: Refused::default(),
        limited: false,
        unused: UnusedColumns::default(),
        records: 0,
    };
    let mut rankings = 0;
    let rows = match reads.row {
        Reader::Prompts(row) => {
            let mut rows = file.rows(row)?;
            let counted = rows.iter_mut().flat_map(|row| std::mem::take(&mut row.unread));
            counted.for_each(|what| *file.refused.unread.entry(what).or_default() += 1);
            ImportedRows::Prompts(rows)
        }
        Reader::Pairs(row) => {
            let mut rows = file.rows(row)?;
            let counted = rows.iter_mut().flat_map(|row| std::mem::take(&mut row.said));
            counted.for_each(|what| *file.refused.said.entry(what).or_default() += 1);
            file.thoughts(rows.iter().flat_map(|row| [&row.chosen, &row.rejected]));
            file.continued(rows.iter().map(|row| &row.prompt));
            ImportedRows::Pairs(rows)
        }
        Reader::Votes(row) => ImportedRows::Votes(merged(file.rows(row)?, &mut file.refused)),
        Reader::Rankings(row) => {
            let ranked: Vec<Ranking> = file.rows(row)?.into_iter().flatten().collect();
            rankings = ranked.len();
            file.pairs_of(ranked)
        }
        Reader::Gathered(start) => {
            let mut gather = start();
            // What belongs together may stand anywhere: the limit counts rankings.
            file.limit = None;
            file.rows(|record| gather.take(record))?;
            let Gathered { rankings: mut ranked, left_out } = gather.end();
            if let Some(most) = limit.filter(|most| ranked.len() > *most) {
                ranked.truncate(most);
                file.limited = true;
            }
            for (what, n) in left_out {
                *file.refused.unread.entry(what).or_default() += n;
            }
            rankings = ranked.len();
            file.pairs_of(ranked)
        }
        Reader::Texts(set, row) => {
            let rows = file.rows(row)?;
            let open = rows.iter().filter(|body| ends_in_thought(body)).count();
            if open > 0 {
                file.refused.said.insert("answer that ends inside its thought", open);
            }
            ImportedRows::Texts(set, rows)
        }
        Reader::ManyTexts(set, row) => ImportedRows::Texts(set, file.rows(row)?.into_iter().flatten().collect()),
        Reader::Ratings(row) => {
            let rows = file.rows(row)?;
            file.thoughts(rows.iter().map(|row| &row.completion));
            file.continued(rows.iter().map(|row| &row.prompt));
            ImportedRows::Ratings(rows)
        }
    };
    if let ImportedRows::Votes(rows) = &rows {
        file.thoughts(rows.iter().flat_map(|row| [&row.a.0, &row.b.0]));
        file.continued(rows.iter().map(|row| &row.prompt));
    }
    let Reading { refused, limited, unused, records, .. } = file;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let imported = Imported { format: format.name, file: name, rows, refused, limited, unused, rankings };
    if imported.rows.is_empty() {
        let why = imported.left_out().map_or_else(String::new, |left| format!(" ({left})"));
        let reason = if records == 0 {
            "is empty: it holds no row".to_owned()
        } else {
            format!("holds no usable {}{why}: each line must be {}", imported.rows.noun(), reads.record)
        };
        return Err(Error::Import { path: path.to_owned(), reason });
    }
    Ok(imported)
}

/// Whether a text's answer ends inside its thought.
fn ends_in_thought(body: &SftBody) -> bool {
    let answer = match body {
        SftBody::Completion { completion, .. } => completion.as_str(),
        SftBody::Messages(talk) => {
            talk.last().filter(|turn| turn.role == "assistant").map_or("", |turn| turn.content.as_str())
        }
        SftBody::Text(_) => "",
    };
    thoughts(answer).iter().any(|thought| !thought.closed)
}

/// The rows of one item as one, in the order of their first, and what they hold beyond what is read counted.
fn merged(rows: Vec<ImportedVotes>, refused: &mut Refused) -> Vec<ImportedVotes> {
    let mut out: Vec<ImportedVotes> = Vec::with_capacity(rows.len());
    let mut known: HashMap<(String, String, String, String), usize> = HashMap::new();
    for mut row in rows {
        if let Some(item) = row.item.take() {
            let prompt = serde_json::to_string(&row.prompt).unwrap_or_default();
            let at = *known.entry((item, prompt, row.a.0.text.clone(), row.b.0.text.clone())).or_insert(out.len());
            if let Some(first) = out.get_mut(at) {
                first.votes.append(&mut row.votes);
                first.notes.append(&mut row.notes);
                first.unread.append(&mut row.unread);
                first.keep_latest();
                continue;
            }
        }
        out.push(row);
    }
    for row in &mut out {
        row.unread.drain(..).for_each(|what| *refused.unread.entry(what).or_default() += 1);
    }
    out
}

/// A file being read.
struct Reading<'a> {
    path: &'a Path,
    plain_text: bool,
    limit: Option<usize>,
    format: &'static str,
    refused: Refused,
    limited: bool,
    unused: UnusedColumns,
    /// Lines or rows of the file so far.
    records: usize,
}

impl Reading<'_> {
    /// Counts the answers that end inside a thought: they are no whole answers.
    fn thoughts<'a>(&mut self, answers: impl Iterator<Item = &'a GivenAnswer>) {
        let n = answers.filter(|answer| answer.ends_in_thought()).count();
        if n > 0 {
            self.refused.said.insert("answer that ends inside its thought", n);
        }
    }

    /// Counts the prompts that an assistant ends: their answers are not read as the rest of that turn.
    fn continued<'a>(&mut self, prompts: impl Iterator<Item = &'a PromptBody>) {
        let begun = |prompt: &&PromptBody| match prompt {
            PromptBody::Chat(talk) => {
                talk.last().is_some_and(|turn| turn.role == "assistant" && turn.tool_calls().is_empty())
            }
            PromptBody::Text(_) => false,
        };
        let n = prompts.filter(begun).count();
        if n > 0 {
            self.refused
                .said
                .insert("prompt with an assistant's turn at the end: the answer follows as another turn", n);
        }
    }

    /// Every pair of the rankings' answers. A ranking may give none, as where all its answers are the same: that is counted too.
    fn pairs_of(&mut self, rankings: Vec<Ranking>) -> ImportedRows {
        let mut all = Vec::new();
        for (at, ranking) in rankings.into_iter().enumerate() {
            let (mut pairs, unread) = ranking.pairs(at);
            all.append(&mut pairs);
            for what in unread {
                *self.refused.unread.entry(what).or_default() += 1;
            }
        }
        ImportedRows::Votes(merged(all, &mut self.refused))
    }

    fn rows<T: Says>(&mut self, mut row: impl FnMut(&Record) -> Result<T, Refusal>) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        let limit = self.limit.unwrap_or(usize::MAX);
        self.refused.place = container::records(self.path, self.plain_text, |line, record| {
            if rows.len() >= limit {
                self.limited = true;
                return false;
            }
            self.records += 1;
            let read = record.map_err(Refusal::Bad).and_then(|record| {
                let row = row(&record)?;
                self.unused.count(&record, &row, self.format)?;
                Ok(row)
            });
            match read {
                Ok(row) => rows.push(row),
                Err(refusal) => self.refused.add(line, refusal),
            }
            true
        })?;
        Ok(rows)
    }
}
