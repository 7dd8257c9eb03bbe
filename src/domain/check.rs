//! Verifiable checks: what an answer's text must be like, decided without a model.
//!
//! Owns the table of checks (one row each), the syntax `contains=please;max_words=40` and the score. Refuses judgement: a
//! check holds or it does not. Words and sentences are found by the rules of Unicode (UAX #29), in any language; upper and
//! lower case are the same, and so are all kinds of white space.

use super::nearest::hint;
use serde::de::IgnoredAny;
use std::collections::HashSet;
use std::fmt;
use unicode_segmentation::UnicodeSegmentation;

#[cfg(test)]
mod tests;

/// What stands behind a check's `=`.
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
    /// What it takes.
    pub takes: Takes,
    /// When it holds, in one line.
    pub help: &'static str,
    holds: fn(&Given, &Answer) -> bool,
}

/// The checks there are.
#[must_use]
pub fn checks() -> &'static [Check] {
    TABLE
}

const fn check(name: &'static str, takes: Takes, help: &'static str, holds: fn(&Given, &Answer) -> bool) -> Check {
    Check { name, takes, help, holds }
}

const TABLE: &[Check] = &[
    check("contains", Takes::Phrase, "the phrase occurs as whole words", |given, answer| answer.has(given.phrase())),
    check("forbids", Takes::Phrase, "the phrase does not occur", |given, answer| !answer.has(given.phrase())),
    check("any_of", Takes::List, "at least one of these occurs as whole words", |given, answer| {
        given.phrases.iter().any(|phrase| answer.has(phrase))
    }),
    check("none_of", Takes::List, "none of these occurs", |given, answer| {
        !given.phrases.iter().any(|phrase| answer.has(phrase))
    }),
    check("min_words", Takes::Number, "at least so many words", |given, answer| answer.words() >= given.number),
    check("max_words", Takes::Number, "at most so many words", |given, answer| answer.words() <= given.number),
    check("min_chars", Takes::Number, "at least so many characters", |given, answer| answer.chars() >= given.number),
    check("max_chars", Takes::Number, "at most so many characters", |given, answer| answer.chars() <= given.number),
    check("starts_with", Takes::Phrase, "the text begins so", |given, answer| answer.plain.starts_with(given.phrase())),
    check("ends_with", Takes::Phrase, "the text ends so", |given, answer| answer.plain.ends_with(given.phrase())),
    check("json", Takes::Nothing, "the text is JSON, as it stands or in one code fence", |_, answer| answer.is_json()),
    check("no_repeat", Takes::Nothing, "no sentence occurs twice", |_, answer| !answer.repeats()),
];

/// What is given to a check: phrases in plain form, or a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Given {
    phrases: Vec<String>,
    number: usize,
}

impl Given {
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
    /// A check that takes something stands alone.
    #[error("`{name}` needs {wants}: write {name}={example}")]
    Missing {
        /// The check.
        name: &'static str,
        /// What it takes.
        wants: &'static str,
        /// One that fits.
        example: &'static str,
    },
    /// A check that takes nothing was given something.
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
    /// Two checks of which at most one can hold.
    #[error("`{least}` and `{most}` cannot both hold")]
    Against {
        /// The one.
        least: String,
        /// The other.
        most: String,
    },
}

/// A list of checks.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    list: Vec<(&'static Check, String, Given)>,
}

impl Checks {
    /// Reads `name=value;name=value;name`. Blanks around names and values do not count; an empty text is no check at all.
    ///
    /// # Errors
    /// The first thing that is wrong, as one sentence.
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
            let (value, given) = read(check, value)?;
            list.push((check, value, given));
        }
        let checks = Self { list };
        checks.possible("min_words", "max_words")?;
        checks.possible("min_chars", "max_chars")?;
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
        self.list.iter().map(|(check, value, given)| (written(check, value), (check.holds)(given, &answer))).collect()
    }

    /// Refuses a least number above a most number: nothing could hold both.
    fn possible(&self, least: &str, most: &str) -> Result<(), CheckError> {
        let low = self.list.iter().filter(|(check, ..)| check.name == least).max_by_key(|(.., given)| given.number);
        let high = self.list.iter().filter(|(check, ..)| check.name == most).min_by_key(|(.., given)| given.number);
        match (low, high) {
            (Some(low), Some(high)) if low.2.number > high.2.number => {
                Err(CheckError::Against { least: written(low.0, &low.1), most: written(high.0, &high.1) })
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
            f.write_str(&written(check, value))?;
        }
        Ok(())
    }
}

fn written(check: &Check, value: &str) -> String {
    if check.takes == Takes::Nothing { check.name.to_owned() } else { format!("{}={value}", check.name) }
}

/// A check's value in canonical form, and what it comes to.
fn read(check: &'static Check, value: Option<&str>) -> Result<(String, Given), CheckError> {
    let name = check.name;
    let value = value.filter(|value| !value.is_empty());
    let needs = |wants, example| CheckError::Missing { name, wants, example };
    let given = |value: &str, phrases: Vec<String>| (value.to_owned(), Given { phrases, number: 0 });
    match check.takes {
        Takes::Nothing if value.is_some() => Err(CheckError::Alone(name)),
        Takes::Nothing => Ok((String::new(), Given::default())),
        Takes::Phrase => {
            let value = value.ok_or_else(|| needs("a phrase", "thank you"))?;
            Ok(given(value, vec![plain(value)]))
        }
        Takes::List => {
            let words: Vec<&str> = value.unwrap_or("").split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
            if words.is_empty() {
                return Err(needs("words separated by commas", "yes,no"));
            }
            Ok(given(&words.join(","), words.iter().map(|word| plain(word)).collect()))
        }
        Takes::Number => {
            let value = value.ok_or_else(|| needs("a whole number", "40"))?;
            let number = value.parse().map_err(|_| CheckError::Number { name, given: value.into() })?;
            Ok((format!("{number}"), Given { phrases: Vec::new(), number }))
        }
    }
}

/// Lower case, with single spaces between words and none around the text.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// An answer as the checks look at it.
struct Answer<'a> {
    text: &'a str,
    plain: String,
    /// The byte offsets in `plain` at which a word may begin or end.
    bounds: HashSet<usize>,
}

impl<'a> Answer<'a> {
    fn new(text: &'a str) -> Self {
        let text = text.trim();
        let plain = plain(text);
        let bounds = plain.split_word_bound_indices().map(|(at, _)| at).chain([plain.len()]).collect();
        Self { text, plain, bounds }
    }

    /// Whether a phrase in plain form stands somewhere between two word boundaries.
    fn has(&self, phrase: &str) -> bool {
        // Matches may overlap, so the search goes on behind a match's first character.
        let mut from = 0;
        while let Some(found) = self.plain[from..].find(phrase) {
            let at = from + found;
            if self.bounds.contains(&at) && self.bounds.contains(&(at + phrase.len())) {
                return true;
            }
            from = at + self.plain[at..].chars().next().map_or(1, char::len_utf8);
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

/// What stands inside a code fence, if the whole text is one.
fn unfenced(text: &str) -> &str {
    let inside = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    // The fence's first line may name a language.
    inside.and_then(|rest| rest.split_once('\n')).map_or(text, |(_, body)| body)
}
