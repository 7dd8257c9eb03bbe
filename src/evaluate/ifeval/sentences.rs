//! Sentences as Punkt splits English (Kiss and Strunk 2006, "Unsupervised Multilingual Sentence Boundary Detection"), with
//! the parameters and the details of NLTK 3.9, which counts sentences in the reference.
//!
//! Every `.`, `?` or `!` before white space or other punctuation is a candidate. Its word, and the one after it, decide:
//! abbreviations, initials and ordinals end no sentence unless the next word is one that begins sentences.

use super::text;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// What is known of a word's case in running text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// In lower case, and never capitalised inside a sentence.
    Lower,
    /// In lower case, and capitalised inside a sentence.
    Both,
}

/// The trained parameters.
#[derive(Default)]
struct Punkt {
    abbreviations: HashSet<&'static str>,
    /// Pairs of words, separated by a space, between which no sentence ends.
    collocations: HashSet<&'static str>,
    starters: HashSet<&'static str>,
    seen: HashMap<&'static str, Seen>,
    /// Words that begin sentences in lower case and are never capitalised.
    lower_start: HashSet<&'static str>,
}

static ENGLISH: LazyLock<Punkt> = LazyLock::new(|| {
    let mut punkt = Punkt::default();
    let mut section = "";
    for line in include_str!("../../../assets/punkt-english.txt").lines() {
        if line.starts_with("# ") {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        match section {
            "abbreviations" => drop(punkt.abbreviations.insert(line)),
            "collocations" => drop(punkt.collocations.insert(line)),
            "starters" => drop(punkt.starters.insert(line)),
            "lower" => drop(punkt.seen.insert(line, Seen::Lower)),
            "both" => drop(punkt.seen.insert(line, Seen::Both)),
            _ => drop(punkt.lower_start.insert(line)),
        }
    }
    punkt
});

/// The sentences of a text, without white space around the text's end.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let byte = |at: usize| chars.get(at).map_or(text.len(), |(byte, _)| *byte);
    let letters: Vec<char> = chars.iter().map(|(_, c)| *c).collect();
    let spans = realigned(&letters, &slices(&letters));
    spans.into_iter().map(|(from, to)| &text[byte(from)..byte(to)]).collect()
}

/// Characters that end a word.
fn ends_word(c: char) -> bool {
    matches!(c, ')' | '"' | ';' | '}' | ']' | '*' | ':' | '@' | '\'' | '(' | '{' | '[' | '!' | '?')
}

/// Characters that begin no word.
fn begins_none(c: char) -> bool {
    matches!(c, '(' | '"' | '`' | '{' | '[' | ':' | ';' | '&' | '#' | '*' | '@' | ')' | '}' | ']' | '-' | ',')
}

/// A possible end of a sentence.
struct Candidate {
    /// Where its word begins.
    word: usize,
    /// The `.`, `?` or `!`.
    at: usize,
    /// The end of what follows: one mark, or white space and a word.
    after: usize,
    /// Where the next word begins, after white space.
    next: Option<usize>,
}

/// The candidates that do not share a word with the one after them.
fn candidates(text: &[char]) -> Vec<Candidate> {
    let mut out: Vec<Candidate> = Vec::new();
    let mut previous: Option<Candidate> = None;
    let mut slice = (0, 0);
    for at in 0..text.len() {
        if !matches!(text[at], '.' | '?' | '!') {
            continue;
        }
        let blank = text[at + 1..].iter().take_while(|c| text::is_space(**c)).count();
        let start = at + 1 + blank;
        let (after, next) = match text.get(at + 1) {
            Some(c) if ends_word(*c) => (at + 2, None),
            Some(_) if blank > 0 && start < text.len() => {
                let word = text[start..].iter().take_while(|c| !text::is_space(**c)).count();
                (start + word, Some(start))
            }
            _ => continue,
        };
        // The reference looks for white space from the last candidate's word on; at its very beginning it counts as none.
        let ascii = |c: &char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
        let word = match text[slice.1..at].iter().rposition(ascii) {
            Some(space) if space > 0 => slice.1 + space + 1,
            _ => slice.0,
        };
        if let Some(candidate) = previous.take()
            && slice.1 <= word
        {
            out.push(candidate);
        }
        previous = Some(Candidate { word, at, after, next });
        slice = (word, at);
    }
    out.extend(previous);
    out
}

/// The sentences by number of character, before closing marks are moved.
fn slices(text: &[char]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut last = 0;
    for candidate in candidates(text) {
        if ends_sentence(&text[candidate.word..candidate.after]) {
            out.push((last, candidate.at + 1));
            last = candidate.next.unwrap_or(candidate.at + 1);
        }
    }
    let blank = text.iter().rev().take_while(|c| text::is_space(**c)).count();
    out.push((last, text.len() - blank));
    out
}

/// Moves closing quotes and brackets at a sentence's beginning to the one before.
fn realigned(text: &[char], slices: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut shift = 0;
    for (i, slice) in slices.iter().enumerate() {
        let (from, to) = (slice.0 + shift, slice.1);
        shift = 0;
        if let Some(next) = slices.get(i + 1) {
            let following = text.get(next.0..next.1.max(next.0)).unwrap_or_default();
            if let Some((marks, moved)) = closing(following) {
                out.push((from.min(next.0 + marks), next.0 + marks));
                shift = moved;
                continue;
            }
        }
        if from < to {
            out.push((from, to));
        }
    }
    out
}

/// How many closing marks a text begins with, and with the white space after them. They must stand before white space, two
/// dashes, or the end.
fn closing(text: &[char]) -> Option<(usize, usize)> {
    let marks = text.iter().take_while(|c| matches!(c, '"' | '\'' | ')' | ']' | '}')).count();
    if marks == 0 {
        return None;
    }
    let rest = &text[marks..];
    let blank = rest.iter().take_while(|c| text::is_space(**c)).count();
    (blank > 0 || rest.is_empty() || rest.starts_with(&['-', '-'])).then_some((marks, marks + blank))
}

/// A word with what the first pass says of it.
struct Token {
    word: String,
    /// In lower case; a number is `##number##`.
    kind: String,
    breaks: bool,
    abbreviation: bool,
    ellipsis: bool,
}

/// Whether a sentence ends inside a candidate's word and what follows it.
fn ends_sentence(context: &[char]) -> bool {
    let lines = context.split(|c| *c == '\n');
    let mut tokens: Vec<Token> = lines.flat_map(split).map(Token::new).collect();
    for i in 0..tokens.len().saturating_sub(1) {
        let (before, after) = tokens.split_at_mut(i + 1);
        before[i].consider(&after[0]);
        if before[i].breaks {
            return true;
        }
    }
    false
}

/// Splits punctuation from words, but not full stops.
fn split(line: &[char]) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < line.len() {
        if text::is_space(line[at]) {
            at += 1;
            continue;
        }
        let mut end = at + several(&line[at..]).unwrap_or(1);
        if end == at + 1 && !begins_none(line[at]) {
            while !word_ends(&line[end..]) {
                end += 1;
            }
        }
        out.push(line[at..end].iter().collect());
        at = end;
    }
    out
}

/// The length of `--`, `..`, or `. . .` at the beginning.
fn several(text: &[char]) -> Option<usize> {
    let run = |mark: char| text.iter().take_while(|c| **c == mark).count();
    let spaced = text.chunks(2).take_while(|pair| matches!(pair, ['.', space] if text::is_space(*space))).count();
    match (run('-'), run('.')) {
        (dashes, _) if dashes > 1 => Some(dashes),
        (_, dots) if dots > 1 => Some(dots),
        // `(?:\.\s){2,}\.`: as many as leave a full stop after them.
        _ => (2..=spaced).rev().find(|n| text.get(2 * n) == Some(&'.')).map(|n| 2 * n + 1),
    }
}

/// Whether a word ends before this.
fn word_ends(rest: &[char]) -> bool {
    let stops = |rest: &[char]| match rest.first() {
        None => true,
        Some(c) => text::is_space(*c) || ends_word(*c) || several(rest).is_some(),
    };
    stops(rest) || (rest[0] == ',' && stops(&rest[1..]))
}

impl Token {
    /// The first pass: what the word alone says.
    fn new(word: String) -> Self {
        let lower = word.to_lowercase();
        let stem = lower.strip_suffix('.');
        let known = |stem: &str| ENGLISH.abbreviations.contains(stem);
        let dots = word.len() > 1 && word.chars().all(|c| c == '.');
        let (mut breaks, mut abbreviation) = (matches!(word.as_str(), "." | "?" | "!"), false);
        if let Some(stem) = stem.filter(|_| !breaks && !dots && !word.ends_with("..")) {
            abbreviation = known(stem) || stem.rsplit('-').next().is_some_and(known);
            breaks = !abbreviation;
        }
        let kind = if is_number(&lower) { "##number##".to_owned() } else { lower };
        Self { word, kind, breaks, abbreviation, ellipsis: dots }
    }

    /// The second pass: what the next word says.
    fn consider(&mut self, next: &Self) {
        if !self.word.ends_with('.') {
            return;
        }
        let stem = without_stop(&self.kind);
        let following = if next.breaks { without_stop(&next.kind) } else { &next.kind };
        if ENGLISH.collocations.contains(format!("{stem} {following}").as_str()) {
            self.breaks = false;
            return;
        }
        let initial = self.is_initial();
        let starts = next.starts_sentence(following);
        let upper = next.word.starts_with(char::is_uppercase);
        if (self.abbreviation || self.ellipsis)
            && !initial
            && (starts == Some(true) || (upper && ENGLISH.starters.contains(following)))
        {
            self.breaks = true;
            return;
        }
        let never_lower = || upper && !ENGLISH.seen.contains_key(following);
        if (initial || stem == "##number##")
            && (starts == Some(false) || (starts.is_none() && initial && never_lower()))
        {
            self.breaks = false;
        }
    }

    /// Whether the word begins sentences, by its case; none where the case says nothing.
    fn starts_sentence(&self, kind: &str) -> Option<bool> {
        if matches!(self.word.as_str(), ";" | ":" | "," | "." | "!" | "?") {
            return Some(false);
        }
        let first = self.word.chars().next()?;
        if first.is_uppercase() && ENGLISH.seen.get(kind) == Some(&Seen::Lower) {
            return Some(true);
        }
        (first.is_lowercase() && !ENGLISH.lower_start.contains(kind)).then_some(false)
    }

    /// One letter and a full stop.
    fn is_initial(&self) -> bool {
        let mut chars = self.word.chars();
        let letter = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
        letter && chars.as_str() == "."
    }
}

fn without_stop(kind: &str) -> &str {
    if kind.len() > 1 { kind.strip_suffix('.').unwrap_or(kind) } else { kind }
}

/// `-?[.,]?\d[\d,.-]*\.?`
fn is_number(word: &str) -> bool {
    let rest = word.strip_prefix('-').unwrap_or(word);
    let rest = rest.strip_prefix(['.', ',']).unwrap_or(rest);
    let digit = |c: char| c.is_ascii_digit() || is_decimal(c);
    rest.starts_with(digit) && rest.chars().all(|c| digit(c) || matches!(c, ',' | '.' | '-'))
}

/// A decimal digit of any script.
fn is_decimal(c: char) -> bool {
    static DIGIT: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(r"\A\d\z").ok());
    !c.is_ascii() && DIGIT.as_ref().is_some_and(|digit| digit.is_match(c.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_of(text: &str) -> Vec<&str> {
        sentences(text)
    }

    #[test]
    fn plain_sentences() {
        assert_eq!(split_of("It rains. We stay in! Why?\nBecause."), ["It rains.", "We stay in!", "Why?", "Because."]);
        assert_eq!(split_of("no end"), ["no end"]);
        assert!(split_of("").is_empty());
        assert!(split_of("   ").is_empty());
    }

    #[test]
    fn abbreviations_initials_and_numbers_end_none() {
        assert_eq!(split_of("Dr. Smith saw J. R. Bach at 3.5 p.m. today.").len(), 1);
        assert_eq!(
            split_of("Mr. Brown works for Acme Inc. The firm is old."),
            ["Mr. Brown works for Acme Inc.", "The firm is old."]
        );
        assert_eq!(split_of("He left in No. 5. Then he came back."), ["He left in No.", "5.", "Then he came back."]);
        assert_eq!(split_of("1. the first\n2. the second").len(), 1);
    }

    #[test]
    fn closing_marks_stay_with_their_sentence() {
        assert_eq!(split_of("(Sentence one.) Sentence two."), ["(Sentence one.)", "Sentence two."]);
        assert_eq!(split_of("\"Go!\" she said. He went."), ["\"Go!\"", "she said.", "He went."]);
        assert_eq!(split_of("Wait... what? Yes!!! I promise."), ["Wait... what?", "Yes!!!", "I promise."]);
    }
}
