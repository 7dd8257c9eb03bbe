//! Verifiable checks: requirements on an answer's text, decided without a model.
//!
//! Owns the table of checks (one row each), the syntax `contains=please;max_words=40` and the score. Refuses judgement:
//! a check holds or it does not. Words and sentences follow Unicode's rules (UAX #29), in any language; case and the
//! kind of white space are ignored.

use super::nearest::hint;
use serde::de::IgnoredAny;
use std::collections::HashSet;
use std::fmt;
use unicode_segmentation::UnicodeSegmentation;

#[cfg(test)]
mod tests;

/// The kind of value after a check's `=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A word or phrase.
    Phrase,
    /// Words or phrases separated by commas.
    List,
    /// A whole number, 0 or more.
    Number,
    /// Nothing: the check is written without `=`.
    Nothing,
}

/// A row of the table.
#[derive(Debug)]
pub struct Check {
    /// Its name in the syntax.
    pub name: &'static str,
    /// The value it takes.
    pub takes: Takes,
    /// When it holds, in one line.
    pub help: &'static str,
    holds: fn(&CheckValue, &Answer) -> bool,
}

/// All checks.
#[must_use]
pub fn checks() -> &'static [Check] {
    TABLE
}

const fn check(name: &'static str, takes: Takes, help: &'static str, holds: fn(&CheckValue, &Answer) -> bool) -> Check {
    Check { name, takes, help, holds }
}

const TABLE: &[Check] = &[
    check("contains", Takes::Phrase, "the phrase occurs as whole words", |given, answer| {
        answer.contains(given.phrase())
    }),
    check("forbids", Takes::Phrase, "the phrase does not occur", |given, answer| !answer.contains(given.phrase())),
    check("any_of", Takes::List, "at least one of these occurs as whole words", |given, answer| {
        given.phrases.iter().any(|phrase| answer.contains(phrase))
    }),
    check("none_of", Takes::List, "none of these occurs", |given, answer| {
        !given.phrases.iter().any(|phrase| answer.contains(phrase))
    }),
    check("min_words", Takes::Number, "at least this many words", |given, answer| answer.words() >= given.number),
    check("max_words", Takes::Number, "at most this many words", |given, answer| answer.words() <= given.number),
    check("min_chars", Takes::Number, "at least this many characters", |given, answer| answer.chars() >= given.number),
    check("max_chars", Takes::Number, "at most this many characters", |given, answer| answer.chars() <= given.number),
    check("starts_with", Takes::Phrase, "the text begins with the phrase", |given, answer| {
        answer.normalised.starts_with(given.phrase())
    }),
    check("ends_with", Takes::Phrase, "the text ends with the phrase", |given, answer| {
        answer.normalised.ends_with(given.phrase())
    }),
    check("json", Takes::Nothing, "the text is JSON, bare or in one code fence", |_, answer| answer.is_json()),
    check("no_repeat", Takes::Nothing, "no sentence occurs twice", |_, answer| !answer.repeats()),
];

/// The parsed value of a check: normalised phrases, or a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct CheckValue {
    phrases: Vec<String>,
    number: usize,
}

impl CheckValue {
    fn phrase(&self) -> &str {
        self.phrases.first().map_or("", String::as_str)
    }
}

/// Why a text is not a list of checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// No such check; a similar one is suggested.
    #[error("`{given}` is not a check{hint}")]
    Unknown {
        /// What was given.
        given: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// A check lacks its value.
    #[error("`{name}` needs {wants}: write {name}={example}")]
    Missing {
        /// The check.
        name: &'static str,
        /// The value it takes.
        wants: &'static str,
        /// An example of one.
        example: &'static str,
    },
    /// A check that takes no value was given one.
    #[error("`{0}` takes no value: write it alone")]
    Alone(&'static str),
    /// No number where one is needed.
    #[error("`{name}={given}` needs a whole number, 0 or more")]
    Number {
        /// The check.
        name: &'static str,
        /// What was given.
        given: String,
    },
    /// Two checks that cannot both hold.
    #[error("`{least}` and `{most}` cannot both hold")]
    Contradiction {
        /// The one.
        least: String,
        /// The other.
        most: String,
    },
}

/// A list of checks.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    list: Vec<(&'static Check, String, CheckValue)>,
}

impl Checks {
    /// Reads `name=value;name=value;name`. White space around names and values is ignored; an empty text is an empty
    /// list.
    ///
    /// # Errors
    /// The first problem, as one sentence.
    pub fn parse(text: &str) -> Result<Self, CheckError> {
        let mut list = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (part, None),
            };
            let Some(check) = TABLE.iter().find(|check| check.name == name) else {
                let hint = hint(name, TABLE.iter().map(|check| check.name));
                return Err(CheckError::Unknown { given: name.into(), hint });
            };
            let (value, given) = parse_value(check, value)?;
            list.push((check, value, given));
        }
        let checks = Self { list };
        checks.check_bounds("min_words", "max_words")?;
        checks.check_bounds("min_chars", "max_chars")?;
        Ok(checks)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The share of the checks that hold for an answer's text, in 0..=1; 1 where there is no check.
    #[must_use]
    pub fn score(&self, text: &str) -> f64 {
        if self.list.is_empty() {
            return 1.0;
        }
        let answer = Answer::new(text);
        let held = self.list.iter().filter(|(check, _, given)| (check.holds)(given, &answer)).count();
        held as f64 / self.list.len() as f64
    }

    /// Each check as written, and whether it holds for an answer's text.
    #[must_use]
    pub fn verdicts(&self, text: &str) -> Vec<(String, bool)> {
        let answer = Answer::new(text);
        self.list.iter().map(|(check, value, given)| (canonical(check, value), (check.holds)(given, &answer))).collect()
    }

    /// Refuses a minimum above a maximum: no text could satisfy both.
    fn check_bounds(&self, least: &str, most: &str) -> Result<(), CheckError> {
        let low = self.list.iter().filter(|(check, ..)| check.name == least).max_by_key(|(.., given)| given.number);
        let high = self.list.iter().filter(|(check, ..)| check.name == most).min_by_key(|(.., given)| given.number);
        match (low, high) {
            (Some(low), Some(high)) if low.2.number > high.2.number => {
                Err(CheckError::Contradiction { least: canonical(low.0, &low.1), most: canonical(high.0, &high.1) })
            }
            _ => Ok(()),
        }
    }
}

/// The canonical text, which parses to the same checks.
impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (check, value, _)) in self.list.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ";" })?;
            f.write_str(&canonical(check, value))?;
        }
        Ok(())
    }
}

fn canonical(check: &Check, value: &str) -> String {
    if check.takes == Takes::Nothing { check.name.to_owned() } else { format!("{}={value}", check.name) }
}

/// Parses a check's value; also returns its canonical text.
fn parse_value(check: &'static Check, value: Option<&str>) -> Result<(String, CheckValue), CheckError> {
    let name = check.name;
    let value = value.filter(|value| !value.is_empty());
    let needs = |wants, example| CheckError::Missing { name, wants, example };
    let given = |value: &str, phrases: Vec<String>| (value.to_owned(), CheckValue { phrases, number: 0 });
    match check.takes {
        Takes::Nothing if value.is_some() => Err(CheckError::Alone(name)),
        Takes::Nothing => Ok((String::new(), CheckValue::default())),
        Takes::Phrase => {
            let value = value.ok_or_else(|| needs("a phrase", "thank you"))?;
            Ok(given(value, vec![normalise(value)]))
        }
        Takes::List => {
            let words: Vec<&str> = value.unwrap_or("").split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
            if words.is_empty() {
                return Err(needs("words separated by commas", "yes,no"));
            }
            Ok(given(&words.join(","), words.iter().map(|word| normalise(word)).collect()))
        }
        Takes::Number => {
            let value = value.ok_or_else(|| needs("a whole number", "40"))?;
            let number = value.parse().map_err(|_| CheckError::Number { name, given: value.into() })?;
            Ok((format!("{number}"), CheckValue { phrases: Vec::new(), number }))
        }
    }
}

/// Lower case, with single spaces between words and none around the text.
fn normalise(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// An answer prepared for the checks.
struct Answer<'a> {
    text: &'a str,
    normalised: String,
    /// The byte offsets in `normalised` at which a word may begin or end.
    bounds: HashSet<usize>,
}

impl<'a> Answer<'a> {
    fn new(text: &'a str) -> Self {
        let text = text.trim();
        let normalised = normalise(text);
        let bounds = normalised.split_word_bound_indices().map(|(at, _)| at).chain([normalised.len()]).collect();
        Self { text, normalised, bounds }
    }

    /// Whether a normalised phrase occurs between two word boundaries.
    fn contains(&self, phrase: &str) -> bool {
        // Matches may overlap, so the search continues after a match's first character.
        let mut from = 0;
        while let Some(found) = self.normalised[from..].find(phrase) {
            let at = from + found;
            if self.bounds.contains(&at) && self.bounds.contains(&(at + phrase.len())) {
                return true;
            }
            from = at + self.normalised[at..].chars().next().map_or(1, char::len_utf8);
        }
        false
    }

    fn words(&self) -> usize {
        self.text.unicode_words().count()
    }

    /// Characters as a reader counts them.
    fn chars(&self) -> usize {
        self.text.graphemes(true).count()
    }

    fn is_json(&self) -> bool {
        serde_json::from_str::<IgnoredAny>(unfenced(self.text)).is_ok()
    }

    fn repeats(&self) -> bool {
        let mut seen = HashSet::new();
        let sentences = self.text.lines().flat_map(UnicodeSegmentation::unicode_sentences);
        let words = sentences.map(|s| s.to_lowercase().unicode_words().collect::<Vec<_>>().join(" "));
        words.filter(|words| !words.is_empty()).any(|words| !seen.insert(words))
    }
}

/// The content of a code fence, if the whole text is one.
fn unfenced(text: &str) -> &str {
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    // The fence's first line may name a language.
    inside.and_then(|rest| rest.split_once('\n')).map_or(text, |(_, body)| body)
}
