//! The 25 checks, one row each. A check holds on a text that is not empty.

use super::kwargs::{IfevalKind, IfevalProblem, KwargValues, unknown};
use super::{language, sentences, text, words};
use regex::Regex;
use serde::de::IgnoredAny;
use std::sync::LazyLock;

/// A row of the table.
#[derive(Debug)]
pub struct IfevalCheck {
    /// Its name in the set.
    pub id: &'static str,
    /// The keys of its values, all needed.
    pub keys: &'static [(&'static str, IfevalKind)],
    pub(super) holds: fn(&KwargValues, &str) -> bool,
}

/// All checks.
#[must_use]
pub fn ifeval_checks() -> &'static [IfevalCheck] {
    TABLE
}

/// The check of that name.
pub(super) fn find(id: &str) -> Result<&'static IfevalCheck, IfevalProblem> {
    TABLE.iter().find(|check| check.id == id).ok_or_else(|| unknown(id, TABLE.iter().map(|check| check.id)))
}

const fn row(
    id: &'static str,
    keys: &'static [(&'static str, IfevalKind)],
    holds: fn(&KwargValues, &str) -> bool,
) -> IfevalCheck {
    IfevalCheck { id, keys, holds }
}

use IfevalKind::{
    Character, Keyword, Keywords, Language, Number, Phrase, Position, Postscript, Relation, Splitter, WholeWords,
};

const TABLE: &[IfevalCheck] = &[
    row("keywords:existence", &[("keywords", Keywords)], |given, text| {
        given.patterns(0).iter().all(|keyword| keyword.is_match(text))
    }),
    row("keywords:frequency", &[("keyword", Keyword), ("frequency", Number), ("relation", Relation)], |given, text| {
        given.compares(matches(given, text), 1, 2)
    }),
    row("keywords:forbidden_words", &[("forbidden_words", WholeWords)], |given, text| {
        !given.patterns(0).iter().any(|word| word.is_match(text))
    }),
    row(
        "keywords:letter_frequency",
        &[("letter", Character), ("let_frequency", Number), ("let_relation", Relation)],
        |given, text| given.compares(text.to_lowercase().matches(given.text(0)).count(), 1, 2),
    ),
    row("language:response_language", &[("language", Language)], |given, text| language::may_be(text, given.text(0))),
    row("length_constraints:number_sentences", &[("num_sentences", Number), ("relation", Relation)], |given, text| {
        given.compares(sentences::sentences(text).len(), 0, 1)
    }),
    row("length_constraints:number_paragraphs", &[("num_paragraphs", Number)], |given, text| {
        filled(PARAGRAPH.split(text)).is_some_and(|parts| parts.len() == given.number(0))
    }),
    row("length_constraints:number_words", &[("num_words", Number), ("relation", Relation)], |given, text| {
        given.compares(WORD.find_iter(text).count(), 0, 1)
    }),
    row(
        "length_constraints:nth_paragraph_first_word",
        &[("num_paragraphs", Number), ("nth_paragraph", Position), ("first_word", Phrase)],
        nth_paragraph,
    ),
    row("detectable_content:number_placeholders", &[("num_placeholders", Number)], |given, text| {
        PLACEHOLDER.find_iter(text).count() >= given.number(0)
    }),
    row("detectable_content:postscript", &[("postscript_marker", Postscript)], |given, text| {
        given.patterns(0).iter().any(|marker| marker.is_match(&text.to_lowercase()))
    }),
    row("detectable_format:number_bullet_lists", &[("num_bullets", Number)], |given, text| {
        STARS.find_iter(text).count() + DASHES.find_iter(text).count() == given.number(0)
    }),
    row("detectable_format:constrained_response", &[], |_, text| {
        ["My answer is yes.", "My answer is no.", "My answer is maybe."].iter().any(|option| text.contains(option))
    }),
    row("detectable_format:number_highlighted_sections", &[("num_highlights", Number)], |given, text| {
        let single = HIGHLIGHT.find_iter(text).filter(|m| !text::trim(m.as_str().trim_matches('*')).is_empty());
        let inside = |m: &str| m.get(2..m.len() - 2).is_some_and(|inside| !text::trim(inside).is_empty());
        let double = DOUBLE_HIGHLIGHT.find_iter(text).filter(|m| inside(m.as_str()));
        single.count() + double.count() >= given.number(0)
    }),
    row(
        "detectable_format:multiple_sections",
        &[("section_spliter", Splitter), ("num_sections", Number)],
        |given, text| matches(given, text) >= given.number(1),
    ),
    row("detectable_format:json_format", &[], |_, text| is_json(text)),
    row("detectable_format:title", &[], |_, text| {
        let inside = |m: &str| !text::trim(m.trim_start_matches('<').trim_end_matches('>')).is_empty();
        TITLE.find_iter(text).any(|m| inside(m.as_str()))
    }),
    row("combination:two_responses", &[], |_, text| {
        filled(text.split("******")).is_some_and(|parts| matches!(parts[..], [a, b] if a != b))
    }),
    row("combination:repeat_prompt", &[("prompt_to_repeat", Phrase)], |given, text| {
        text::trim(text).to_lowercase().starts_with(given.text(0))
    }),
    row("startend:end_checker", &[("end_phrase", Phrase)], |given, text| {
        text::trim(text).trim_matches('"').to_lowercase().ends_with(given.text(0))
    }),
    row("startend:quotation", &[], |_, text| {
        let text = text::trim(text);
        text.len() > 1 && text.starts_with('"') && text.ends_with('"')
    }),
    row(
        "change_case:capital_word_frequency",
        &[("capital_frequency", Number), ("capital_relation", Relation)],
        |given, text| given.compares(words::tokens(text).iter().filter(|word| text::is_upper(word)).count(), 0, 1),
    ),
    row("change_case:english_capital", &[], |_, text| text::is_upper(text) && language::may_be(text, "en")),
    row("change_case:english_lowercase", &[], |_, text| text::is_lower(text) && language::may_be(text, "en")),
    row("punctuation:no_comma", &[], |_, text| !text.contains(',')),
];

/// A pattern of this file.
macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("the pattern is valid"));
    };
}

pattern!(WORD, r"[\p{L}\p{N}_]+");
pattern!(PARAGRAPH, r"[\s\x1c-\x1f]?\*\*\*[\s\x1c-\x1f]?");
pattern!(PLACEHOLDER, r"\[.*?\]");
pattern!(STARS, r"(?m)^[\s\x1c-\x1f]*\*[^\*].*$");
pattern!(DASHES, r"(?m)^[\s\x1c-\x1f]*-.*$");
pattern!(HIGHLIGHT, r"\*[^\n\*]*\*");
pattern!(DOUBLE_HIGHLIGHT, r"\*\*[^\n\*]*\*\*");
pattern!(TITLE, r"<<[^\n]+>>");

/// How often the first pattern occurs.
fn matches(given: &KwargValues, text: &str) -> usize {
    given.patterns(0).first().map_or(0, |pattern| pattern.find_iter(text).count())
}

/// The parts of a text that are not blank, trimmed; none where a blank one stands between others.
fn filled<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let parts: Vec<&str> = parts.map(text::trim).collect();
    let inner = parts.len().saturating_sub(1);
    let blank_inside = parts.iter().enumerate().any(|(i, part)| part.is_empty() && i != 0 && i != inner);
    (!blank_inside).then(|| parts.into_iter().filter(|part| !part.is_empty()).collect())
}

/// Paragraphs are separated by blank lines; the n-th one counts blank ones, as the reference does.
fn nth_paragraph(given: &KwargValues, text: &str) -> bool {
    let paragraphs: Vec<&str> = text.split("\n\n").map(text::trim).collect();
    let filled = paragraphs.iter().filter(|paragraph| !paragraph.is_empty()).count();
    let (wanted, nth) = (given.number(0), given.number(1));
    if filled != wanted || nth > filled {
        return false;
    }
    let word = paragraphs.get(nth - 1).and_then(|p| p.split(text::is_space).next()).unwrap_or_default();
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(word.len());
    !word.is_empty() && word[..end].to_lowercase() == given.text(2)
}

/// Whether the text, bare or in a code fence, is JSON as Python reads it: NaN and Infinity are numbers.
fn is_json(text: &str) -> bool {
    let mut text = text::trim(text);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    let text = text::trim(text.strip_suffix("```").unwrap_or(text));
    serde_json::from_str::<IgnoredAny>(&with_plain_numbers(text)).is_ok()
}

/// The text with `NaN`, `Infinity` and `-Infinity` outside strings replaced by 0.
fn with_plain_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut at) = (false, 0);
    while let Some(c) = text[at..].chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| text[at..].starts_with(word));
        let joined = out.ends_with(|before: char| before.is_alphanumeric() || before == '-' || before == '.');
        match word {
            Some(word) if !inside && !joined => {
                out.push('0');
                at += word.len();
                continue;
            }
            _ if inside && c == '\\' => {
                let next = text[at + 1..].chars().next();
                out.push(c);
                out.extend(next);
                at += 1 + next.map_or(0, char::len_utf8);
                continue;
            }
            _ => inside ^= c == '"',
        }
        out.push(c);
        at += c.len_utf8();
    }
    out
}
