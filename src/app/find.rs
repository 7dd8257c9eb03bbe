//! Finding pairs by what is written in them: prompts, answers, the rater's corrections and notes, and names of pairs.
//!
//! ```text
//! ╭ find in prompts, answers, corrections and notes ─────────────╮
//! │ > boil water                                 12 in 9 pairs   │
//! │                                                              │
//! │ › p31·2   answer 1     …then boil the water for ten minutes  │
//! │   p32     prompt       How long do I boil water in the       │
//! ╰──────────────────────────────────────────────────────────────╯
//! ```
//!
//! A text matches if it contains every word of the query, in any order and any case. Owns the query, the place reached
//! in the session and the hits. Refuses to search more than a slice at a time: `update` asks for the next slice when
//! no key waits. Refuses to tell models apart: an answer is named by its side of the screen.

use super::blind::first_side;
use super::edit::EditBuffer;
use super::key::Key;
use super::open::OpenSession;
use super::wrap::{cells, clip, presentable};
use crate::domain::{CompletionId, Pair, PairId, PromptBody, PromptId, Side};
use regex::{Regex, RegexBuilder};
use std::collections::HashMap;
use std::ops::Range;
use unicode_segmentation::UnicodeSegmentation;

/// Bytes of text searched in one slice.
const SLICE: usize = 1 << 20;
/// The cost of looking a pair's texts up, in bytes of searching.
const LOOKUP: usize = 2_000;
/// The longest query, in bytes.
const LONGEST: usize = 400;
/// Bytes of text around a match that an excerpt is made of.
const AROUND: usize = 600;

/// Where a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindPlace {
    /// The name of the pair.
    Name,
    /// A turn of the prompt, from 0.
    Prompt(usize),
    /// The first (0) or second (1) answer on the screen.
    Answer(usize),
    /// The rater's correction of an answer.
    Correction(usize),
    /// The rater's note.
    Note,
}

impl FindPlace {
    /// In words: `answer 1`.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Name => "pair".into(),
            Self::Prompt(_) => "prompt".into(),
            Self::Answer(i) => format!("answer {}", i + 1),
            Self::Correction(i) => format!("correction {}", i + 1),
            Self::Note => "note".into(),
        }
    }
}

/// A match: the first one in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FindHit {
    /// The index of the pair in the session.
    pair: usize,
    place: FindPlace,
    /// The byte of the unsanitised text.
    at: usize,
}

/// The pair that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPair {
    /// The pair.
    pub pair: PairId,
    /// Where the match is, and at which byte of the unsanitised text; none if the pair was chosen without a query.
    pub place: Option<(FindPlace, usize)>,
}

/// A row of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindRow {
    /// The pair.
    pub pair: PairId,
    /// Its name.
    pub name: String,
    /// Where the match is, in words; empty without a query.
    pub place: String,
    /// The text around the match, or the prompt.
    pub text: String,
    /// The matches in `text`.
    pub marks: Vec<Range<usize>>,
}

/// The search.
#[derive(Debug, Clone, Default)]
pub struct Find {
    /// The heading.
    pub title: &'static str,
    /// The query.
    pub query: EditBuffer,
    /// Why the query cannot be searched for.
    pub error: Option<&'static str>,
    words: Vec<Regex>,
    /// Pairs whose names match, before all other hits.
    named: Vec<FindHit>,
    hits: Vec<FindHit>,
    /// Pairs with hits.
    pairs: usize,
    /// The next pair to search.
    next: usize,
    selected: usize,
    /// The prompt searched last and its hits: pairs of one prompt follow each other.
    prompt: Option<(PromptId, Vec<(FindPlace, usize)>)>,
    /// The rater's corrections, by answer.
    corrections: HashMap<CompletionId, String>,
}

impl Find {
    /// A search without a query, which lists every pair.
    #[must_use]
    pub fn new(title: &'static str) -> Self {
        Self { title, ..Self::default() }
    }

    /// Handles a key that edits the query.
    pub fn press(&mut self, key: Key) {
        let before = self.query.text().to_owned();
        if self.query.press(key) && self.query.text() != before {
            self.restart();
        }
    }

    /// Inserts pasted text.
    pub fn insert(&mut self, text: &str) {
        self.query.insert(text);
        self.restart();
    }

    fn restart(&mut self) {
        let Self { title, query, .. } = std::mem::take(self);
        let text = query.text();
        let mut words = Vec::new();
        let mut error = (text.len() > LONGEST).then_some("the query is too long: 400 bytes at most");
        if error.is_none() {
            // An excerpt shows the first word's match: the longest word says most.
            let mut typed: Vec<&str> = text.split_whitespace().collect();
            typed.sort_by_key(|word| std::cmp::Reverse(word.len()));
            for word in typed {
                match RegexBuilder::new(&regex::escape(word)).case_insensitive(true).build() {
                    Ok(word) => words.push(word),
                    Err(_) => error = Some("the query is too long: shorten it"),
                }
            }
        }
        *self = Self { title, query, error, words, ..Self::default() };
    }

    /// Moves the selection; [`Find::advance`] keeps it inside the list.
    pub fn select(&mut self, by: isize) {
        self.selected = self.selected.saturating_add_signed(by);
    }

    /// The selected row.
    #[must_use]
    pub fn selected(&self) -> usize {
        self.selected
    }

    /// Searches the next slice. True if more is left.
    pub fn advance(&mut self, open: &OpenSession) -> bool {
        let all = open.session.pairs();
        if !self.words.is_empty() {
            if self.next == 0 {
                self.corrections = own_corrections(open);
            }
            let mut left = SLICE;
            while left > 0
                && let Some(pair) = all.get(self.next)
            {
                let cost = self.search(open, self.next, pair);
                left = left.saturating_sub(cost + LOOKUP);
                self.next += 1;
            }
        }
        self.selected = self.selected.min(self.len(open).saturating_sub(1));
        self.is_behind(open)
    }

    /// Whether there are pairs that it has not searched.
    #[must_use]
    pub fn is_behind(&self, open: &OpenSession) -> bool {
        !self.words.is_empty() && self.next < open.session.pairs().len()
    }

    /// Searches a pair; returns how many bytes that took.
    fn search(&mut self, open: &OpenSession, index: usize, pair: &Pair) -> usize {
        let session = &open.session;
        let mut cost = 0;
        if let Some(at) = self.first_match(&open.names.name(&open.session, pair)) {
            self.named.push(FindHit { pair: index, place: FindPlace::Name, at });
        }
        let before = self.hits.len();
        if self.prompt.as_ref().is_none_or(|(id, _)| *id != pair.prompt) {
            let mut hits = Vec::new();
            let turns = session.prompt(&pair.prompt).map_or(Vec::new(), |prompt| turns(&prompt.body));
            for (i, turn) in turns.into_iter().enumerate() {
                cost += turn.len();
                hits.extend(self.first_match(turn).map(|at| (FindPlace::Prompt(i), at)));
            }
            self.prompt = Some((pair.prompt.clone(), hits));
        }
        let of_prompt = self.prompt.iter().flat_map(|(_, hits)| hits);
        self.hits.extend(of_prompt.map(|(place, at)| FindHit { pair: index, place: *place, at: *at }));
        let mut texts: Vec<(FindPlace, &str)> = Vec::new();
        if let Some((a, b)) = session.sides(pair) {
            let sides = if first_side(&pair.id, &open.rater) == Side::A { [a, b] } else { [b, a] };
            for (i, answer) in sides.into_iter().enumerate() {
                texts.push((FindPlace::Answer(i), &answer.text));
                if let Some(text) = self.corrections.get(&answer.id) {
                    texts.push((FindPlace::Correction(i), text));
                }
            }
        }
        texts.extend(session.note_of(&pair.id, &open.rater).map(|note| (FindPlace::Note, note)));
        let mut found = Vec::new();
        for (place, text) in texts {
            cost += text.len();
            found.extend(self.first_match(text).map(|at| FindHit { pair: index, place, at }));
        }
        self.hits.extend(found);
        self.pairs += usize::from(self.hits.len() > before);
        cost
    }

    /// The first place of the longest word, in a text that has every word.
    fn first_match(&self, text: &str) -> Option<usize> {
        let (first, others) = self.words.split_first()?;
        let at = first.find(text)?.start();
        others.iter().all(|word| word.is_match(text)).then_some(at)
    }

    /// Whether it lists every pair, without a query.
    #[must_use]
    pub fn is_listing(&self) -> bool {
        self.words.is_empty() && self.error.is_none()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self, open: &OpenSession) -> usize {
        if self.is_listing() { open.session.pairs().len() } else { self.named.len() + self.hits.len() }
    }

    /// The state in words: `12 in 9 pairs`, `searching… 40 %`.
    #[must_use]
    pub fn status(&self, open: &OpenSession) -> String {
        if let Some(error) = self.error {
            return error.into();
        }
        let all = open.session.pairs().len();
        let pairs = |n: usize| crate::domain::counted(n, "pair");
        if self.words.is_empty() {
            return pairs(all);
        }
        let found = match (self.named.len(), self.hits.len()) {
            (0, 0) => "none".to_owned(),
            (named, 0) => format!("{} by name", pairs(named)),
            (_, hits) => format!("{hits} in {}", pairs(self.pairs)),
        };
        if self.next < all {
            return format!("{found} · searching… {} %", self.next * 100 / all);
        }
        found
    }

    fn hit(&self, row: usize) -> Option<FindHit> {
        self.named.get(row).or_else(|| self.hits.get(row.checked_sub(self.named.len())?)).copied()
    }

    /// The pair of the selected row.
    #[must_use]
    pub fn chosen(&self, open: &OpenSession) -> Option<FoundPair> {
        if self.is_listing() {
            let pair = open.session.pairs().get(self.selected)?;
            return Some(FoundPair { pair: pair.id.clone(), place: None });
        }
        let hit = self.hit(self.selected)?;
        let pair = open.session.pairs().get(hit.pair)?;
        Some(FoundPair { pair: pair.id.clone(), place: Some((hit.place, hit.at)) })
    }

    /// A row, its text in at most `width` cells.
    #[must_use]
    pub fn row(&self, open: &OpenSession, row: usize, width: usize) -> Option<FindRow> {
        let hit = if self.is_listing() { None } else { Some(self.hit(row)?) };
        let pair = open.session.pairs().get(hit.map_or(row, |hit| hit.pair))?;
        let prompt = open.session.prompt(&pair.prompt);
        let (text, at) = match hit {
            Some(hit) if hit.place != FindPlace::Name => (self.text_of(open, pair, hit.place)?, hit.at),
            _ => (prompt.map_or("", |prompt| prompt.body.headline()), 0),
        };
        let text = excerpt(text, at, width);
        let mut marks: Vec<Range<usize>> =
            self.words.iter().flat_map(|word| word.find_iter(&text).map(|m| m.range())).collect();
        marks.sort_by_key(|mark| mark.start);
        Some(FindRow {
            pair: pair.id.clone(),
            name: open.names.name(&open.session, pair),
            place: hit.map_or_else(String::new, |hit| hit.place.words()),
            text,
            marks,
        })
    }

    fn text_of<'a>(&'a self, open: &'a OpenSession, pair: &'a Pair, place: FindPlace) -> Option<&'a str> {
        let session = &open.session;
        let answer = |i: usize| {
            let (a, b) = session.sides(pair)?;
            let first = first_side(&pair.id, &open.rater) == Side::A;
            Some(if first == (i == 0) { a } else { b })
        };
        match place {
            FindPlace::Name => None,
            FindPlace::Prompt(i) => turns(&session.prompt(&pair.prompt)?.body).get(i).copied(),
            FindPlace::Answer(i) => Some(&answer(i)?.text),
            FindPlace::Correction(i) => self.corrections.get(&answer(i)?.id).map(String::as_str),
            FindPlace::Note => session.note_of(&pair.id, &open.rater),
        }
    }
}

/// The texts of a prompt's turns.
fn turns(body: &PromptBody) -> Vec<&str> {
    match body {
        PromptBody::Text(text) => vec![text],
        PromptBody::Chat(turns) => turns.iter().map(|turn| turn.content.as_str()).collect(),
    }
}

/// The rater's corrections that hold, by answer.
fn own_corrections(open: &OpenSession) -> HashMap<CompletionId, String> {
    let mut out = HashMap::new();
    for correction in open.session.corrections() {
        if correction.rater == open.rater {
            // An empty text withdraws the ones before it.
            if correction.text.trim().is_empty() {
                out.remove(&correction.completion);
            } else {
                out.insert(correction.completion.clone(), correction.text.clone());
            }
        }
    }
    out
}

/// The text around a byte, safe to show, on one line of at most `width` cells.
fn excerpt(text: &str, at: usize, width: usize) -> String {
    let from = text.floor_char_boundary(at.saturating_sub(AROUND));
    let to = text.ceil_char_boundary((at + AROUND).min(text.len()));
    let squeeze = |text: &str| presentable(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut before = squeeze(&text[from..at]);
    if text[from..at].ends_with(char::is_whitespace) && !before.is_empty() {
        before.push(' ');
    }
    // Keep the end of what comes before.
    let room = width / 3;
    if cells(&before) > room {
        let mut kept = 0;
        let start = before.grapheme_indices(true).rev().find(|(_, cluster)| {
            kept += cells(cluster);
            kept + 1 > room
        });
        before = format!("…{}", start.map_or("", |(at, cluster)| &before[at + cluster.len()..]));
    }
    // Clipping would drop a blank at the end of `before`, so both are clipped together.
    clip(&format!("{before}{}", squeeze(&text[at..to])), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_shows_the_match_and_fits() {
        let text = format!("{}then BOIL\nthe water {}", "before ".repeat(200), "after ".repeat(200));
        let at = text.find("BOIL").unwrap();
        for width in 12..90 {
            let line = excerpt(&text, at, width);
            assert!(line.contains("BOIL") && cells(&line) <= width, "{width}: {line}");
        }
        assert_eq!(excerpt(&text, at, 40), "…before then BOIL the water after after…");
        assert_eq!(excerpt("日本語 text", "日本語 ".len(), 12), "…語 text");
        assert_eq!(excerpt("\u{1b}[2Jred", 0, 20), "␛[2Jred");
    }

    #[test]
    fn every_word_must_be_in_the_text_in_any_case() {
        let mut find = Find::new("find");
        find.insert("ÄRGER (x+ um");
        assert!(find.first_match("viel Ärger um (X+1)").is_some());
        assert!(find.first_match("viel Ärger um nichts").is_none());
        find.insert(&"y".repeat(LONGEST));
        assert!(find.error.is_some() && find.first_match("y").is_none());
    }
}
