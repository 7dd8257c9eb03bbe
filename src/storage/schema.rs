//! The definition of a format: its name, how its files are recognised, how records become rows and rows become records.
//!
//! Owns the contract between the formats in `formats/`, the container that decodes a file into records, and import and
//! export. Refuses to know any single format.

use super::chat_json::{fits, fits_as_json, is_blank};
use super::given::GivenAnswer;
use super::record::Record;
use crate::domain::{
    Asked, Choice, LabelledPair, PairRow, PartialView, PromptBody, RatedRow, Seen, SftBody, SftRow, Side, Strength,
    TextSet,
};
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
    Prompts(fn(&Record) -> Result<ImportedPrompt, Refusal>),
    /// Judged pairs.
    Pairs(fn(&Record) -> Result<ImportedPair, Refusal>),
    /// Pairs with the votes of several raters, or with none.
    Votes(fn(&Record) -> Result<ImportedVotes, Refusal>),
    /// Texts of a set.
    Texts(TextSet, fn(&Record) -> Result<SftBody, Refusal>),
    /// Rated answers.
    Ratings(fn(&Record) -> Result<ImportedRating, Refusal>),
    /// Several texts of a set a record.
    ManyTexts(TextSet, fn(&Record) -> Result<Vec<SftBody>, Refusal>),
    /// Ranked answers, of which every pair is imported.
    Rankings(fn(&Record) -> Result<Vec<Ranking>, Refusal>),
    /// Ranked answers that several records hold together.
    Gathered(fn() -> Box<dyn Gather>),
}

/// How a row of a session becomes a record, by the kind of row.
#[derive(Debug, Clone, Copy)]
pub enum Writer {
    /// Judged pairs, each with what was said of it.
    Pairs(fn(&PairRow, Option<&LabelledPair<'_>>) -> Value),
    /// Every pair with what was said of it, judged or not.
    Votes(fn(&LabelledPair<'_>) -> Value),
    /// Texts to imitate.
    Texts(fn(&SftRow) -> Value),
    /// Rated answers.
    Ratings(fn(&RatedRow) -> Value),
}

/// A prompt as a file states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedPrompt {
    /// The prompt.
    pub body: PromptBody,
    /// Its tags.
    pub tags: Vec<String>,
    /// What the row holds beyond this: counted for the person who imports it.
    pub unread: Vec<&'static str>,
}

/// A preference as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedPair {
    /// The prompt.
    pub prompt: PromptBody,
    /// The prompt's tags.
    pub tags: Vec<String>,
    /// The preferred answer.
    pub chosen: GivenAnswer,
    /// The other answer.
    pub rejected: GivenAnswer,
    /// The models that wrote them, where the file names them.
    pub models: (Option<String>, Option<String>),
    /// How much better the preferred answer is, in words, where the file says so.
    pub strength: Option<Strength>,
    /// By how much, as a number for losses with a margin, where the file says so.
    pub margin: Option<f64>,
    /// What the person who imports it should know, by its name in the singular.
    pub said: Vec<&'static str>,
}

/// Two answers with the votes of any number of raters, as a file states them.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedVotes {
    /// The prompt.
    pub prompt: PromptBody,
    /// The prompt's tags.
    pub tags: Vec<String>,
    /// The first answer and, where the file names it, the model that wrote it.
    pub a: (GivenAnswer, Option<String>),
    /// The second answer.
    pub b: (GivenAnswer, Option<String>),
    /// The votes, each rater's earlier ones before the latest. None makes a pair to judge.
    pub votes: Vec<ImportedVote>,
    /// Each rater's note.
    pub notes: Vec<(String, String)>,
    /// Better versions of an answer: which one, who wrote it, and the text.
    pub corrections: Vec<(Side, String, String)>,
    /// Who settled the votes' disagreement, how, and by which criterion; none for overall.
    pub adjudications: Vec<(String, Choice, Option<String>)>,
    /// The strategy that chose the pair, and with which probability; none where the file does not say.
    pub selected: Option<(String, f64)>,
    /// What rows of the same pair have in common; rows with the same prompt and answers become one. None where every row is a
    /// pair of its own.
    pub item: Option<String>,
    /// What the row holds beyond this: counted for the person who imports it.
    pub unread: Vec<&'static str>,
    /// The ranking that the pair is of, by its number in the file: its pairs share their answers.
    pub ranking: Option<usize>,
}

impl Default for ImportedVotes {
    fn default() -> Self {
        Self {
            prompt: PromptBody::Text(String::new()),
            tags: Vec::new(),
            a: (GivenAnswer::default(), None),
            b: (GivenAnswer::default(), None),
            votes: Vec::new(),
            notes: Vec::new(),
            corrections: Vec::new(),
            adjudications: Vec::new(),
            selected: None,
            item: None,
            unread: Vec::new(),
            ranking: None,
        }
    }
}

impl ImportedVotes {
    /// Drops every vote of a rater but the latest: by its time, else by its place. Says how many were dropped.
    pub(super) fn keep_latest(&mut self) {
        let mut kept: Vec<ImportedVote> = Vec::new();
        for vote in std::mem::take(&mut self.votes) {
            match kept.iter_mut().find(|other| other.rater == vote.rater) {
                None => kept.push(vote),
                Some(other) => {
                    self.unread.push("vote replaced by a later one of the same rater");
                    if vote.at.zip(other.at).is_none_or(|(this, that)| this >= that) {
                        *other = vote;
                    }
                }
            }
        }
        self.votes = kept;
    }
}

/// One rater's vote, as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedVote {
    /// The rater's name within the file.
    pub rater: String,
    /// The choice.
    pub choice: Choice,
    /// The answer shown on the left.
    pub left: Side,
    /// How much was read.
    pub seen: Seen,
    /// Milliseconds to the decision; 0 where unknown.
    pub ms: u64,
    /// What was asked.
    pub asked: Asked,
    /// When it was given, on the file's own clock.
    pub at: Option<f64>,
    /// What there was of the answers, where it was given before both had ended.
    pub partial: Option<PartialView>,
}

impl ImportedVote {
    /// A vote of which only the rater and the choice are known.
    #[must_use]
    pub fn new(rater: impl Into<String>, choice: Choice) -> Self {
        Self {
            rater: rater.into(),
            choice,
            left: Side::A,
            seen: Seen::Unknown,
            ms: 0,
            asked: Asked::default(),
            at: None,
            partial: None,
        }
    }
}

/// Answers in an order, as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// The prompt.
    pub prompt: PromptBody,
    /// The prompt's tags.
    pub tags: Vec<String>,
    /// Who ranked.
    pub rater: String,
    /// The answers.
    pub answers: Vec<RankedAnswer>,
    /// What the row holds beyond this: counted for the person who imports it.
    pub unread: Vec<&'static str>,
}

/// One answer of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedAnswer {
    /// The answer.
    pub answer: GivenAnswer,
    /// The model that wrote it, where the file names it.
    pub model: Option<String>,
    /// What orders it: higher is better. None where the file does not say.
    pub score: Option<f64>,
}

impl Ranking {
    /// The same ranking, where it can give a pair.
    ///
    /// # Errors
    /// When the prompt is empty, fewer than two answers have a score, or a text does not fit into a log.
    pub(super) fn sound(self) -> Result<Self, Refusal> {
        let ranked = self.answers.iter().filter(|one| one.score.is_some_and(f64::is_finite) && !one.answer.is_blank());
        match ranked.count() {
            _ if is_blank(&self.prompt) => Err(Refusal::Empty),
            0 | 1 => Err("has fewer than two answers with a rank".into()),
            _ => {
                fits_as_json("prompt", &self.prompt)?;
                self.answers.iter().try_for_each(|one| fits("answer", &one.answer.text))?;
                Ok(self)
            }
        }
    }

    /// Every pair of its answers that have a score, with the vote of who ranked: the higher score wins, equal ones tie; and what
    /// is left out, by its name in the singular.
    #[must_use]
    pub fn pairs(self, number: usize) -> (Vec<ImportedVotes>, Vec<&'static str>) {
        let Self { prompt, tags, rater, answers, mut unread } = self;
        let all = answers.len();
        let answers: Vec<(RankedAnswer, f64)> = answers
            .into_iter()
            .filter(|one| !one.answer.is_blank())
            .filter_map(|one| Some((one.clone(), one.score.filter(|s| s.is_finite())?)))
            .collect();
        unread.extend(std::iter::repeat_n("answer without a rank or a text", all - answers.len()));
        let mut out = Vec::new();
        for (at, (a, x)) in answers.iter().enumerate() {
            for (b, y) in &answers[at + 1..] {
                if a.answer.says_the_same(&b.answer) {
                    unread.push("pair of equal answers");
                    continue;
                }
                let choice = match x.total_cmp(y) {
                    std::cmp::Ordering::Greater => Choice::Prefer(Side::A, Strength::Better),
                    std::cmp::Ordering::Less => Choice::Prefer(Side::B, Strength::Better),
                    std::cmp::Ordering::Equal => Choice::Tie,
                };
                out.push(ImportedVotes {
                    prompt: prompt.clone(),
                    tags: tags.clone(),
                    a: (a.answer.clone(), a.model.clone()),
                    b: (b.answer.clone(), b.model.clone()),
                    votes: vec![ImportedVote::new(rater.as_str(), choice)],
                    selected: Some(("ranking".into(), 1.0)),
                    ranking: Some(number),
                    ..ImportedVotes::default()
                });
            }
        }
        (out, unread)
    }
}

/// Takes a file's records one by one, and makes rankings of all of them.
pub trait Gather {
    /// Takes a record. Returns the prompt's text and everything that was read of it.
    ///
    /// # Errors
    /// When it does not fit the format; it is then left out.
    fn take(&mut self, record: &Record) -> Result<(String, String), Refusal>;

    /// What all records make.
    fn end(self: Box<Self>) -> Gathered;
}

/// What a file's records make together.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The rankings, in the file's order.
    pub rankings: Vec<Ranking>,
    /// What gave none, by its name in the singular.
    pub left_out: Vec<(&'static str, usize)>,
}

/// A rating as a file states it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImportedRating {
    /// The prompt.
    pub prompt: PromptBody,
    /// The answer.
    pub completion: GivenAnswer,
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
