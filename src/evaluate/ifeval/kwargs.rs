//! The values of an instruction, read from an item's `kwargs`.

use super::language::is_known;
use super::text;
use crate::domain::hint;
use regex::{Regex, escape};
use serde_json::{Map, Value};

/// Why an item cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("IFEval item {item}{}: {problem}", place(.instruction))]
pub struct IfevalError {
    /// The item's key.
    pub item: String,
    /// The instruction; empty where the item itself is at fault.
    pub instruction: String,
    /// What is wrong.
    pub problem: IfevalProblem,
}

impl IfevalError {
    pub(super) fn new(item: &str, instruction: &str, problem: IfevalProblem) -> Self {
        Self { item: item.to_owned(), instruction: instruction.to_owned(), problem }
    }
}

fn place(instruction: &str) -> String {
    if instruction.is_empty() { String::new() } else { format!(", instruction {instruction}") }
}

/// What is wrong with an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IfevalProblem {
    /// A key is absent, null or of another type.
    #[error("`{0}` is missing or of the wrong type")]
    Missing(&'static str),
    /// No instruction to check.
    #[error("`instruction_id_list` is empty: there is nothing to check")]
    NoInstruction,
    /// One `kwargs` for each instruction.
    #[error("`instruction_id_list` has {ids} entries and `kwargs` has {kwargs}: they must match")]
    Lengths {
        /// Entries of the one.
        ids: usize,
        /// Entries of the other.
        kwargs: usize,
    },
    /// An entry of `kwargs` of another type.
    #[error("its entry in `kwargs` is not an object")]
    NoObject,
    /// No such instruction; a similar one is suggested.
    #[error("there is no such instruction{0}")]
    Unknown(String),
    /// A key that the instruction does not take.
    #[error("it takes no `{0}`")]
    Unexpected(String),
    /// A value of the wrong kind.
    #[error("`{key}` is {given}, but must be {wants}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given, as JSON.
        given: String,
        /// What it must be.
        wants: &'static str,
    },
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfevalKind {
    /// A whole number, 0 or more.
    Number,
    /// A whole number, 1 or more.
    Position,
    /// `less than` or `at least`.
    Relation,
    /// A text, compared in lower case without white space around it.
    Phrase,
    /// One character.
    Character,
    /// A language's code.
    Language,
    /// A word or phrase to be found anywhere, in any case.
    Keyword,
    /// Several of them.
    Keywords,
    /// Words or phrases to be found whole, in any case.
    WholeWords,
    /// The word before a section's number.
    Splitter,
    /// The beginning of a postscript.
    Postscript,
}

/// The values of an instruction, in the order of its keys.
#[derive(Debug, Clone, Default)]
pub(super) struct KwargValues(Vec<KwargValue>);

#[derive(Debug, Clone)]
enum KwargValue {
    Number(usize),
    AtLeast(bool),
    Text(String),
    Patterns(Vec<Regex>),
}

impl KwargValues {
    /// Reads the values of `keys`.
    pub(super) fn read(
        keys: &[(&'static str, IfevalKind)],
        kwargs: &Map<String, Value>,
    ) -> Result<Self, IfevalProblem> {
        let known = |name: &String| keys.iter().any(|(key, _)| key == name);
        if let Some((name, _)) = kwargs.iter().find(|(name, value)| !value.is_null() && !known(name)) {
            return Err(IfevalProblem::Unexpected(name.clone()));
        }
        let read = |(key, kind): &(&'static str, IfevalKind)| match kwargs.get(*key) {
            None | Some(Value::Null) => Err(IfevalProblem::Missing(key)),
            Some(value) => KwargValue::read(*kind, value).ok_or_else(|| IfevalProblem::Value {
                key,
                given: value.to_string(),
                wants: wants(*kind),
            }),
        };
        let given = Self(keys.iter().map(read).collect::<Result<_, _>>()?);
        // Only one instruction has two numbers: the paragraph looked at is one of those asked for.
        if let [(_, IfevalKind::Number), (key, IfevalKind::Position), ..] = keys
            && given.number(1) > given.number(0)
        {
            let wants = "at most the number of paragraphs";
            return Err(IfevalProblem::Value { key, given: given.number(1).to_string(), wants });
        }
        Ok(given)
    }

    pub(super) fn number(&self, at: usize) -> usize {
        if let Some(KwargValue::Number(n)) = self.0.get(at) { *n } else { 0 }
    }

    pub(super) fn text(&self, at: usize) -> &str {
        if let Some(KwargValue::Text(text)) = self.0.get(at) { text } else { "" }
    }

    pub(super) fn patterns(&self, at: usize) -> &[Regex] {
        if let Some(KwargValue::Patterns(patterns)) = self.0.get(at) { patterns } else { &[] }
    }

    /// Whether `count` is in the given relation to the given number: at least it, or less than it.
    pub(super) fn compares(&self, count: usize, number: usize, relation: usize) -> bool {
        let least = matches!(self.0.get(relation), Some(KwargValue::AtLeast(true)));
        (count >= self.number(number)) == least
    }
}

impl KwargValue {
    fn read(kind: IfevalKind, value: &Value) -> Option<Self> {
        let text = || value.as_str().map(text::trim).filter(|text| !text.is_empty());
        let list = || -> Option<Vec<&str>> {
            let words: Vec<&str> = value.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
            (!words.is_empty() && words.iter().all(|word| !word.is_empty())).then_some(words)
        };
        let patterns = |patterns: Vec<String>| {
            patterns.iter().map(|pattern| Regex::new(pattern)).collect::<Result<_, _>>().ok().map(Self::Patterns)
        };
        match kind {
            IfevalKind::Number => whole(value).map(Self::Number),
            IfevalKind::Position => whole(value).filter(|n| *n > 0).map(Self::Number),
            IfevalKind::Relation => match value.as_str()? {
                "at least" => Some(Self::AtLeast(true)),
                "less than" => Some(Self::AtLeast(false)),
                _ => None,
            },
            IfevalKind::Phrase => Some(Self::Text(text()?.to_lowercase())),
            IfevalKind::Character => {
                let text = value.as_str()?;
                (text.chars().count() == 1).then(|| Self::Text(text.to_lowercase()))
            }
            IfevalKind::Language => text().filter(|code| is_known(code)).map(|code| Self::Text(code.to_owned())),
            IfevalKind::Keyword => patterns(vec![format!("(?i){}", escape(text()?))]),
            IfevalKind::Keywords => patterns(list()?.iter().map(|word| format!("(?i){}", escape(word))).collect()),
            IfevalKind::WholeWords => {
                patterns(list()?.iter().map(|word| format!(r"(?i)\b{}\b", escape(word))).collect())
            }
            IfevalKind::Splitter => patterns(vec![format!(r"{}\s?\d+", escape(text()?))]),
            IfevalKind::Postscript => patterns(vec![match text()? {
                "P.P.S" => r"p\.\s?p\.\s?s".to_owned(),
                "P.S." => r"p\.\s?s\.".to_owned(),
                other => escape(&other.to_lowercase()),
            }]),
        }
    }
}

/// A whole number, also as `3.0`: some copies of the set store numbers in a column of floats.
fn whole(value: &Value) -> Option<usize> {
    let integer = value.as_u64().map(|n| n as usize);
    integer.or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && (0.0..1e9).contains(x)).map(|x| x as usize))
}

fn wants(kind: IfevalKind) -> &'static str {
    match kind {
        IfevalKind::Number => "a whole number, 0 or more",
        IfevalKind::Position => "a whole number, 1 or more",
        IfevalKind::Relation => "\"less than\" or \"at least\"",
        IfevalKind::Phrase | IfevalKind::Keyword | IfevalKind::Splitter | IfevalKind::Postscript => "a text",
        IfevalKind::Character => "one character",
        IfevalKind::Language => "the code of a language that can be identified",
        IfevalKind::Keywords | IfevalKind::WholeWords => "a list of texts",
    }
}

/// An unknown instruction, with the nearest one.
pub(super) fn unknown(id: &str, known: impl Iterator<Item = &'static str>) -> IfevalProblem {
    IfevalProblem::Unknown(hint(id, known))
}
