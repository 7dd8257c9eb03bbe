//! Filters: which pairs are meant, as a line of terms.
//!
//! ```text
//! tag:code,math -rater:ana verdict:tie gap:<0.5 text:"two words" disputed
//! ```
//! Terms with blanks between them must all hold, `-` before a term turns it around, and one of the values behind a colon
//! (or of the words joined by commas) is enough. Upper and lower case are the same.
//!
//! Owns the language and what it says of a wrong line. Refuses to know a session: `session::find` looks terms up.

use super::nearest::nearest;
use super::verdict::{Choice, Seen, Strength};
use std::fmt;

/// A filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    text: String,
    /// All of them must hold.
    terms: Vec<FilterTerm>,
}

/// One term of a filter.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterTerm {
    /// Whether none of the tests may hold.
    pub negated: bool,
    /// One of them must hold.
    pub any: Vec<FilterTest>,
}

/// What a filter asks of a pair. Texts are in lower case.
#[derive(Debug, Clone, PartialEq)]
pub enum FilterTest {
    /// Its prompt has this tag.
    Tag(String),
    /// Its prompt came from this file.
    Source(String),
    /// It answers this prompt.
    Prompt(String),
    /// Its prompt or one of its answers contains this.
    Text(String),
    /// A note on it contains this.
    Note(String),
    /// The name of a model (with its run) that wrote one of the answers contains this.
    Model(String),
    /// This strategy chose it.
    Strategy(String),
    /// It is a pair of this evaluation.
    Eval(String),
    /// This rater judged it.
    Rater(String),
    /// A verdict says this.
    Verdict(VerdictWord),
    /// A verdict was given with this much of it read.
    Seen(Seen),
    /// A verdict came this many milliseconds after its pair appeared.
    Ms(Bound, f64),
    /// It was judged by this criterion.
    Criterion(String),
    /// The difference of its scores lies so.
    Gap(Bound, f64),
    /// Its raters disagree.
    Disputed,
    /// Its label and a model's scores disagree.
    Contested,
    /// One of its answers was corrected.
    Corrected,
    /// A verdict was given before both answers had ended.
    Partial,
}

/// What a verdict says, without the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictWord {
    /// One answer is better by so much.
    Prefer(Strength),
    /// Neither is better.
    Tie,
    /// Neither is acceptable.
    BothBad,
    /// It was put off.
    Skip,
    /// There is none.
    None,
}

impl VerdictWord {
    const ALL: [(&'static str, Self); 7] = [
        ("tie", Self::Tie),
        ("slight", Self::Prefer(Strength::Slight)),
        ("better", Self::Prefer(Strength::Better)),
        ("much", Self::Prefer(Strength::Much)),
        ("both_bad", Self::BothBad),
        ("skip", Self::Skip),
        ("none", Self::None),
    ];

    /// Whether a choice says this.
    #[must_use]
    pub fn fits(self, choice: Choice) -> bool {
        match (self, choice) {
            (Self::Prefer(strength), Choice::Prefer(_, given)) => strength == given,
            (Self::Tie, Choice::Tie) | (Self::BothBad, Choice::BothBad) | (Self::Skip, Choice::Skip) => true,
            _ => false,
        }
    }
}

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Bound {
    const ALL: [(&'static str, Self); 4] =
        [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Below), (">", Self::Above)];

    /// Whether a number lies so.
    #[must_use]
    pub fn holds(self, x: f64, limit: f64) -> bool {
        match self {
            Self::Below => x < limit,
            Self::AtMost => x <= limit,
            Self::Above => x > limit,
            Self::AtLeast => x >= limit,
        }
    }
}

/// A wrong filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter at character {at}: {what}")]
pub struct FilterError {
    /// Where, counted from 1.
    pub at: usize,
    /// What is wrong, and what is possible.
    pub what: String,
}

/// How the values of a key are read.
enum Values {
    Any(fn(String) -> FilterTest),
    Verdict,
    Seen,
    Number(fn(Bound, f64) -> FilterTest),
}

const KEYS: [(&str, Values); 14] = [
    ("tag", Values::Any(FilterTest::Tag)),
    ("source", Values::Any(FilterTest::Source)),
    ("prompt", Values::Any(FilterTest::Prompt)),
    ("text", Values::Any(FilterTest::Text)),
    ("note", Values::Any(FilterTest::Note)),
    ("model", Values::Any(FilterTest::Model)),
    ("strategy", Values::Any(FilterTest::Strategy)),
    ("eval", Values::Any(FilterTest::Eval)),
    ("rater", Values::Any(FilterTest::Rater)),
    ("criterion", Values::Any(FilterTest::Criterion)),
    ("verdict", Values::Verdict),
    ("seen", Values::Seen),
    ("gap", Values::Number(FilterTest::Gap)),
    ("ms", Values::Number(FilterTest::Ms)),
];

const FLAGS: [(&str, FilterTest); 4] = [
    ("disputed", FilterTest::Disputed),
    ("contested", FilterTest::Contested),
    ("corrected", FilterTest::Corrected),
    ("partial", FilterTest::Partial),
];

const SEEN: [(&str, Seen); 3] = [("full", Seen::Full), ("partial", Seen::Partial), ("unknown", Seen::Unknown)];

/// Every term, for help and hints.
#[must_use]
pub fn filter_words() -> String {
    let keys = KEYS.iter().map(|(key, _)| format!("{key}:"));
    keys.chain(FLAGS.iter().map(|(flag, _)| (*flag).to_owned())).collect::<Vec<_>>().join(" ")
}

impl Filter {
    /// Reads a filter. A line of blanks is the filter that everything matches.
    ///
    /// # Errors
    /// When a term is unknown or wrong: where, and what is possible.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut line = FilterLine { chars: text.chars().collect(), at: 0 };
        let mut terms = Vec::new();
        while line.skip_blanks() {
            terms.push(line.term()?);
        }
        Ok(Self { text: text.trim().to_owned(), terms })
    }

    /// Whether everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Its terms: all must hold.
    #[must_use]
    pub fn terms(&self) -> &[FilterTerm] {
        &self.terms
    }

    /// Whether any term has a test like this.
    #[must_use]
    pub fn asks(&self, test: impl Fn(&FilterTest) -> bool) -> bool {
        self.terms.iter().flat_map(|term| &term.any).any(test)
    }

    /// Whether it asks for the pairs of an evaluation, which match no other filter.
    #[must_use]
    pub fn names_evaluation(&self) -> bool {
        let positive = self.terms.iter().filter(|term| !term.negated);
        positive.flat_map(|term| &term.any).any(|test| matches!(test, FilterTest::Eval(_)))
    }

    /// Whether it tells models apart, so that a rater may guess which one wrote an answer.
    #[must_use]
    pub fn unblinds(&self) -> bool {
        self.asks(|test| matches!(test, FilterTest::Model(_)))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The words of a line. A word in quotes may hold blanks.
///
/// # Errors
/// When a quote is not closed.
pub fn quoted_words(text: &str) -> Result<Vec<String>, FilterError> {
    let mut line = FilterLine { chars: text.chars().collect(), at: 0 };
    let mut words = Vec::new();
    while line.skip_blanks() {
        words.push(line.value(&[])?);
    }
    Ok(words)
}

struct FilterLine {
    chars: Vec<char>,
    at: usize,
}

impl FilterLine {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        self.at += usize::from(there);
        there
    }

    /// Goes to the next term; false at the end.
    fn skip_blanks(&mut self) -> bool {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        self.peek().is_some()
    }

    fn term(&mut self) -> Result<FilterTerm, FilterError> {
        let negated = self.take('-');
        let start = self.at;
        let name = self.word();
        let any = if self.take(':') { self.values(&name, start)? } else { self.flags(&name, start)? };
        Ok(FilterTerm { negated, any })
    }

    /// Text up to a colon, a comma or a blank, in lower case.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| !c.is_whitespace() && !matches!(c, ':' | ',')) {
            word.extend(c.to_lowercase());
            self.at += 1;
        }
        word
    }

    fn flags(&mut self, first: &str, start: usize) -> Result<Vec<FilterTest>, FilterError> {
        let (mut any, mut name, mut at) = (Vec::new(), first.to_owned(), start);
        loop {
            match FLAGS.iter().find(|(flag, _)| *flag == name) {
                Some((_, test)) => any.push(test.clone()),
                None if KEYS.iter().any(|(key, _)| *key == name) => {
                    return Err(wrong(at, format!("`{name}` needs a colon and a value, as in `{name}:…`")));
                }
                None => return Err(unknown(at, &name)),
            }
            if !self.take(',') {
                return Ok(any);
            }
            at = self.at;
            name = self.word();
        }
    }

    fn values(&mut self, key: &str, start: usize) -> Result<Vec<FilterTest>, FilterError> {
        let Some((key, kind)) = KEYS.iter().find(|(known, _)| *known == key) else { return Err(unknown(start, key)) };
        let mut any = Vec::new();
        loop {
            let at = self.at;
            let value = self.value(&[','])?.to_lowercase();
            if value.trim().is_empty() {
                return Err(wrong(at, format!("`{key}:` needs a value")));
            }
            any.push(match kind {
                Values::Any(test) => test(value),
                Values::Verdict => FilterTest::Verdict(choose(at, key, &value, &VerdictWord::ALL)?),
                Values::Seen => FilterTest::Seen(choose(at, key, &value, &SEEN)?),
                Values::Number(test) => bound(at, key, &value, *test)?,
            });
            if !self.take(',') {
                return Ok(any);
            }
        }
    }

    /// A value: in quotes, or up to a blank or one of the `ends`.
    fn value(&mut self, ends: &[char]) -> Result<String, FilterError> {
        let start = self.at;
        let mut value = String::new();
        if let Some(quote) = self.peek().filter(|c| matches!(c, '"' | '\'')) {
            self.at += 1;
            loop {
                match self.peek() {
                    None => return Err(wrong(start, format!("the quote {quote} is not closed"))),
                    Some(c) if c == quote => break self.at += 1,
                    Some(c) => value.push(c),
                }
                self.at += 1;
            }
            if self.peek().is_some_and(|c| !c.is_whitespace() && !ends.contains(&c)) {
                return Err(wrong(self.at, "expected a blank after the quote".into()));
            }
            return Ok(value);
        }
        while let Some(c) = self.peek().filter(|c| !c.is_whitespace() && !ends.contains(c)) {
            value.push(c);
            self.at += 1;
        }
        Ok(value)
    }
}

fn wrong(at: usize, what: String) -> FilterError {
    FilterError { at: at + 1, what }
}

fn unknown(at: usize, name: &str) -> FilterError {
    if name.is_empty() {
        return wrong(at, format!("a term is missing; the terms are {}", filter_words()));
    }
    let names = KEYS.iter().map(|(key, _)| *key).chain(FLAGS.iter().map(|(flag, _)| *flag));
    let near = nearest(name, names).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    wrong(at, format!("`{name}` is no term{near}; the terms are {}", filter_words()))
}

fn choose<T: Copy>(at: usize, key: &str, value: &str, among: &[(&str, T)]) -> Result<T, FilterError> {
    among.iter().find(|(name, _)| *name == value).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = among.iter().map(|(name, _)| *name).collect();
        wrong(at, format!("`{key}:` takes {}, not `{value}`", names.join(", ")))
    })
}

fn bound(at: usize, key: &str, value: &str, test: fn(Bound, f64) -> FilterTest) -> Result<FilterTest, FilterError> {
    let read = |(sign, bound): &(&str, Bound)| {
        let number: f64 = value.strip_prefix(sign)?.parse().ok()?;
        number.is_finite().then(|| test(*bound, number))
    };
    Bound::ALL
        .iter()
        .find_map(read)
        .ok_or_else(|| wrong(at, format!("`{key}:` takes a bound such as <0.5, <=0.5, >1 or >=1, not `{value}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests_of(text: &str) -> Vec<(bool, Vec<FilterTest>)> {
        let filter = Filter::parse(text).unwrap();
        filter.terms.into_iter().map(|term| (term.negated, term.any)).collect()
    }

    #[test]
    fn terms_are_read_with_their_alternatives_and_quotes() {
        let found = tests_of(
            "tag:Code,math -verdict:tie  text:\"Two, words\" gap:<=0.5 ms:<250 disputed,corrected rater:'a b',c",
        );
        let text = |t: &str| t.to_owned();
        assert_eq!(
            found,
            [
                (false, vec![FilterTest::Tag(text("code")), FilterTest::Tag(text("math"))]),
                (true, vec![FilterTest::Verdict(VerdictWord::Tie)]),
                (false, vec![FilterTest::Text(text("two, words"))]),
                (false, vec![FilterTest::Gap(Bound::AtMost, 0.5)]),
                (false, vec![FilterTest::Ms(Bound::Below, 250.0)]),
                (false, vec![FilterTest::Disputed, FilterTest::Corrected]),
                (false, vec![FilterTest::Rater(text("a b")), FilterTest::Rater(text("c"))]),
            ]
        );
        assert!(Filter::parse("  ").unwrap().is_empty());
        assert!(Filter::parse("-model:dpo-1").unwrap().unblinds() && !Filter::parse("tag:model").unwrap().unblinds());
        assert_eq!(Filter::parse(" tag:a ").unwrap().to_string(), "tag:a");
        assert_eq!(Filter::parse("prompt:p17 text:http://x").unwrap().terms().len(), 2);
    }

    #[test]
    fn a_wrong_filter_names_the_place_and_what_is_possible() {
        for (text, at, says) in [
            ("tga:code", 1, "did you mean `tag`"),
            ("tag:x code", 7, "the terms are tag: source:"),
            ("-tag", 2, "needs a colon"),
            ("tag:", 5, "needs a value"),
            ("tag:a,", 7, "needs a value"),
            ("verdict:good", 9, "tie, slight, better, much, both_bad, skip, none"),
            ("seen:half", 6, "full, partial, unknown"),
            ("gap:0.5", 5, "<0.5"),
            ("gap:<x", 5, "<0.5"),
            ("ms:250", 4, "`ms:` takes a bound"),
            ("ä text:\"open", 1, "is no term"),
            ("tag:ä text:\"open", 12, "not closed"),
            ("text:\"a\"b", 9, "blank"),
            ("disputed,bad", 10, "is no term"),
            ("-", 2, "a term is missing"),
        ] {
            let error = Filter::parse(text).unwrap_err();
            let words = error.to_string();
            assert!(error.at == at && words.contains(says) && words.lines().count() == 1, "{text}: {words}");
        }
    }

    #[test]
    fn words_in_quotes_hold_blanks() {
        assert_eq!(quoted_words(" a \"b c\" d,e").unwrap(), ["a", "b c", "d,e"]);
        assert!(quoted_words("a \"b").is_err());
    }
}
