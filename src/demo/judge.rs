//! Rules that classify manners, endings and sums in any text.
//!
//! Owns the marker lists. Refuses to guess: a text without markers, or with a tie, has no manner.

use super::text::NUMBERS;
use super::traits::{Manner, StoryEnd};

/// Words and phrases of kind answers, in lower case.
const KIND: &[&str] = &[
    "please",
    "gladly",
    "of course",
    "happy to",
    "glad",
    "dear",
    "pleasure",
    "lovely",
    "thank you",
    "take care",
    "my friend",
    "welcome",
    "i hope",
];
/// Words and phrases of rude answers, in lower case.
const RUDE: &[&str] = &[
    "fool",
    "go away",
    "stupid",
    "bored",
    "not my problem",
    "bother",
    "leave me alone",
    "ugh",
    "do not care",
    "silly",
    "lazy",
    "waste",
    "whatever",
    "dull",
    "nonsense",
];
/// Words and phrases of stories that end well.
const HAPPY: &[&str] = &["laughed", "smiled", "all was well", "danced", "safe"];
/// Words and phrases of stories that end badly.
const SAD: &[&str] = &["cried", "nobody helped", "never came back", "lost forever", "wept"];

/// The manner of a text: the one with more markers, matched as whole words or phrases in any case. None without markers or with
/// a tie.
#[must_use]
pub fn manner_of(text: &str) -> Option<Manner> {
    dominant(text, KIND, RUDE).map(|kind| if kind { Manner::Kind } else { Manner::Rude })
}

/// Whether a text is kind by [`manner_of`].
#[must_use]
pub fn is_kind(text: &str) -> bool {
    manner_of(text) == Some(Manner::Kind)
}

/// How the story in a text ends, by its markers; none without markers or with a tie.
#[must_use]
pub fn end_of(text: &str) -> Option<StoryEnd> {
    dominant(text, HAPPY, SAD).map(|happy| if happy { StoryEnd::Happy } else { StoryEnd::Sad })
}

/// The result of the sum that a prompt asks for ("3 plus 4", "nine minus two"); none when it asks for none.
#[must_use]
pub fn sum_of(prompt: &str) -> Option<usize> {
    let text = words(prompt);
    let list: Vec<&str> = text.split_whitespace().collect();
    list.windows(3).find_map(|w| {
        let (a, b) = (number_in(w[0])?.0, number_in(w[2])?.0);
        match w[1] {
            "plus" => Some(a + b),
            "minus" => a.checked_sub(b),
            _ => None,
        }
    })
}

/// Whether the last number in an answer is the result of the sum that the prompt asks for; none when it asks for none.
#[must_use]
pub fn is_right(prompt: &str, answer: &str) -> Option<bool> {
    let result = sum_of(prompt)?;
    Some(words(answer).split_whitespace().rev().find_map(number_in).is_some_and(|(n, _)| n == result))
}

/// The number that a word or digits stand for, and whether it is a word.
pub(super) fn number_in(word: &str) -> Option<(usize, bool)> {
    if let Some(n) = NUMBERS.iter().position(|name| *name == word) {
        return Some((n, true));
    }
    word.parse().ok().map(|n| (n, false))
}

/// True when the first list has more markers in the text, false when the second has.
fn dominant(text: &str, first: &[&str], second: &[&str]) -> Option<bool> {
    let text = words(text);
    let count = |list: &[&str]| list.iter().map(|marker| text.matches(&format!(" {marker} ")).count()).sum::<usize>();
    let (a, b) = (count(first), count(second));
    (a != b).then_some(a > b)
}

/// The words in lower case, each with a space on both sides.
fn words(text: &str) -> String {
    let mut out = String::from(" ");
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        out.push_str(&word.to_lowercase());
        out.push(' ');
    }
    out
}
