//! Which words of two answers differ.

use similar::{ChangeTag, TextDiff};
use std::ops::Range;

/// Byte ranges of the words that only one of two answers has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WordDiff {
    /// The ranges in order, for each answer.
    pub only: [Vec<Range<usize>>; 2],
}

impl WordDiff {
    /// The word diff of two texts; differences in white space do not count.
    #[must_use]
    pub fn of(first: &str, second: &str) -> Self {
        let mut only = [Vec::new(), Vec::new()];
        let mut at = [0, 0];
        for change in TextDiff::from_unicode_words(first, second).iter_all_changes() {
            let len = change.value().len();
            let blank = change.value().trim().is_empty();
            match change.tag() {
                ChangeTag::Equal => {
                    at[0] += len;
                    at[1] += len;
                }
                ChangeTag::Delete => {
                    add(&mut only[0], first, at[0]..at[0] + len, blank);
                    at[0] += len;
                }
                ChangeTag::Insert => {
                    add(&mut only[1], second, at[1]..at[1] + len, blank);
                    at[1] += len;
                }
            }
        }
        Self { only }
    }
}

/// Adds a range, merged with the last one if only blanks are between them.
fn add(ranges: &mut Vec<Range<usize>>, text: &str, range: Range<usize>, blank: bool) {
    if blank {
        return;
    }
    match ranges.last_mut() {
        Some(last) if text[last.end..range.start].trim().is_empty() => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_words_are_marked_and_blanks_are_not() {
        let (a, b) = ("the sky is  blue today", "the sea is blue today");
        let diff = WordDiff::of(a, b);
        assert_eq!(diff.only[0].iter().map(|r| &a[r.clone()]).collect::<Vec<_>>(), ["sky"]);
        assert_eq!(diff.only[1].iter().map(|r| &b[r.clone()]).collect::<Vec<_>>(), ["sea"]);
        assert_eq!(WordDiff::of(a, a), WordDiff::default());
    }
}
