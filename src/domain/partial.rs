//! What a rater had seen of two answers when the verdict came before both had ended.
//!
//! Owns the proof: how many characters of each answer were there to read, and their hash. With it a verdict binds to the
//! finished answers by their content: an answer that begins with what was shown is the one that was judged. Refuses to keep
//! the text itself: it is in the run's log once it is finished, and an answer that never ends leaves only its length.

use super::hash::hash64;
use serde::{Deserialize, Serialize};

/// The part of an answer that was there to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPart {
    /// Its length in characters, as the model wrote them.
    pub chars: usize,
    /// Stable hash of these characters, as 16 hex digits.
    pub hash: String,
    /// Whether the answer had ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl ShownPart {
    /// What there was of an answer, as the model wrote it.
    #[must_use]
    pub fn of(text: &str, ended: bool) -> Self {
        Self { chars: text.chars().count(), hash: digest(text), ended }
    }

    /// Whether a finished answer begins with it, and is it where it had ended.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let end = match text.char_indices().nth(self.chars) {
            Some(_) if self.ended => return false,
            Some((end, _)) => end,
            None if text.chars().count() < self.chars => return false,
            None => text.len(),
        };
        digest(&text[..end]) == self.hash
    }
}

fn digest(text: &str) -> String {
    format!("{:016x}", hash64(text.as_bytes()))
}

/// Both answers of a pair when a verdict came before the pair was finished, in the pair's own order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialView {
    /// The pair's `a`.
    pub a: ShownPart,
    /// The pair's `b`.
    pub b: ShownPart,
}

impl PartialView {
    /// Whether one of the answers had not ended.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !(self.a.ended && self.b.ended)
    }

    /// The same for the pair with its sides exchanged.
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self { a: self.b.clone(), b: self.a.clone() }
    }
}

/// What became of the answers that a verdict was given on before they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartialFate {
    /// Both ended and begin with what was shown: the verdict counts.
    Bound,
    /// One of them ended with another text than was shown: the verdict is kept and does not count.
    Differs,
    /// The pair has not arrived: its answers are being written, or never ended. The verdict counts for no pair.
    Missing,
}

/// A session's verdicts that were given before both answers had ended, undone ones aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PartialCounts {
    /// All of them.
    pub given: usize,
    /// Those on answers that ended with another text.
    pub differs: usize,
    /// Those on pairs that have not arrived.
    pub missing: usize,
}

impl PartialCounts {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.given == 0
    }

    /// The counts as one sentence; none if there is nothing to say.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let (verdicts, were) = match self.given {
            1 => ("1 verdict".to_owned(), "was"),
            n => (format!("{n} verdicts"), "were"),
        };
        let mut out = format!("{verdicts} {were} given before both answers had ended");
        for (n, what) in [
            (self.differs, "of an answer that ended with another text, which does not count"),
            (self.missing, "of a pair that has not arrived"),
        ] {
            if n > 0 {
                out.push_str(&format!("; {n} {what}"));
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_part_fits_the_answers_that_begin_with_it() {
        let part = ShownPart::of("Größe", false);
        assert_eq!(part.chars, 5);
        assert!(part.fits("Größe") && part.fits("Größen"));
        assert!(!part.fits("Größ") && !part.fits("Grösse") && !part.fits(""));
        assert!(ShownPart::of("", false).fits("") && ShownPart::of("", false).fits("x"));
    }

    #[test]
    fn an_answer_that_had_ended_fits_itself_alone() {
        let part = ShownPart::of("Yes.", true);
        assert!(part.fits("Yes.") && !part.fits("Yes. But") && !part.fits("Yes"));
        let view = PartialView { a: part.clone(), b: ShownPart::of("N", false) };
        assert!(view.is_partial() && !PartialView { a: part.clone(), b: part }.is_partial());
        assert_eq!(view.swapped().b, view.a);
    }

    #[test]
    fn the_record_holds_lengths_and_hashes_and_no_text() {
        let view = PartialView { a: ShownPart::of("ab", true), b: ShownPart::of("c", false) };
        let json = serde_json::to_string(&view).unwrap();
        assert!(json.starts_with("{\"a\":{\"chars\":2,\"hash\":\"") && !json.contains("ab\""), "{json}");
        assert_eq!(json.matches("ended").count(), 1);
        assert_eq!(serde_json::from_str::<PartialView>(&json).unwrap(), view);
    }

    #[test]
    fn the_counts_say_what_became_of_the_verdicts() {
        let counts = |given, differs, missing| PartialCounts { given, differs, missing }.sentence();
        assert_eq!(counts(0, 0, 0), None);
        assert_eq!(counts(1, 0, 0).unwrap(), "1 verdict was given before both answers had ended");
        assert!(
            counts(3, 1, 1).unwrap().starts_with("3 verdicts were given before both answers had ended; 1 of an answer")
        );
    }
}
