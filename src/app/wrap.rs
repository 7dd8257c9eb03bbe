//! Text in terminal cells: sanitising, measuring, clipping and wrapping.
//!
//! `textwrap` does not fit: it breaks a long word by `char`, which splits joined emoji, and it returns text instead of
//! byte ranges.

use crate::domain::sanitise;
use std::ops::Range;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Text from a model or a file, safe to show: without control characters, its longest graphemes cut.
#[must_use]
pub fn presentable(text: &str) -> String {
    sanitise(text)
}

/// How many cells a text takes on one line.
#[must_use]
pub fn cells(text: &str) -> usize {
    text.width()
}

/// The text in at most `width` cells, with `…` if it was cut; line breaks become spaces.
#[must_use]
pub fn clip(text: &str, width: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if cells(&line) <= width {
        return line;
    }
    let mut out = String::new();
    let mut used = 0;
    for cluster in line.graphemes(true) {
        let w = cells(cluster);
        if used + w + 1 > width {
            break;
        }
        used += w;
        out.push_str(cluster);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// The lines of a text in a column of `width` cells, as byte ranges without line breaks and trailing blanks. Breaks at
/// blanks if possible, else inside a word; keeps blank lines and indents.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<Range<usize>> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut at = 0;
    for line in text.trim_end().split('\n') {
        wrap_line(line, at, (width, width), &mut lines);
        at += line.len() + 1;
    }
    lines
}

/// Wraps one line of a text, which begins at `offset`: `widths` are those of its first and of its other rows.
pub(super) fn wrap_line(line: &str, offset: usize, widths: (usize, usize), lines: &mut Vec<Range<usize>>) {
    let mut width = widths.0.max(1);
    let mut start = 0; // of the line being filled
    let mut end = 0; // of its last word
    let mut used = 0; // cells from start, blanks included
    for (at, word) in pieces(line) {
        let w = cells(word);
        let blank = word.trim().is_empty();
        if used + w <= width {
            used += w;
        } else if blank {
            // The line break replaces a blank at the edge.
            used = width;
            continue;
        } else {
            if end > start {
                lines.push(offset + start..offset + end);
                width = widths.1.max(1);
            }
            start = at;
            used = 0;
            // A word longer than a line is split at the edge.
            for (i, cluster) in word.grapheme_indices(true) {
                let c = cells(cluster);
                if used + c > width && at + i > start {
                    lines.push(offset + start..offset + at + i);
                    width = widths.1.max(1);
                    start = at + i;
                    used = 0;
                }
                used += c;
            }
        }
        if !blank {
            end = at + word.len();
        }
    }
    lines.push(offset + start..offset + end.max(start));
}

/// Cuts one line of a text at the edge of a column, blanks included: for code and tables, whose columns mean something.
pub(super) fn cut_line(line: &str, offset: usize, width: usize, lines: &mut Vec<Range<usize>>) {
    let (mut start, mut used) = (0, 0);
    for (at, cluster) in line.grapheme_indices(true) {
        let c = cells(cluster);
        if used + c > width && at > start {
            lines.push(offset + start..offset + at);
            start = at;
            used = 0;
        }
        used += c;
    }
    lines.push(offset + start..offset + line.len());
}

/// The pieces between which a line may break, with their offsets: blanks, words with their punctuation, and each wide
/// character (Chinese, Japanese and Korean text has no blanks) with the narrow ones and the closing marks after it.
fn pieces(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut boundaries = vec![0];
    let mut last: Option<&str> = None;
    for (at, cluster) in line.grapheme_indices(true) {
        if let Some(before) = last {
            let blank = |c: &str| c.trim().is_empty();
            let wide = |c: &str| cells(c) > 1;
            let closing = "、。，．！？：；）」』】〕》〉".contains(cluster);
            if blank(before) != blank(cluster) || (!closing && !blank(cluster) && (wide(before) || wide(cluster))) {
                boundaries.push(at);
            }
        }
        last = Some(cluster);
    }
    boundaries.push(line.len());
    boundaries.windows(2).map(|b| (b[0], &line[b[0]..b[1]])).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, width: usize) -> Vec<&str> {
        wrap(text, width).into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn words_stay_whole_if_they_fit() {
        assert_eq!(lines("the sky is blue", 8), ["the sky", "is blue"]);
        assert_eq!(lines("one\n\ntwo", 8), ["one", "", "two"]);
        assert_eq!(lines("    code();\nx", 20), ["    code();", "x"]);
        assert_eq!(lines("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(lines("to the end. (9)", 9), ["to the", "end. (9)"]);
        assert_eq!(lines("空が青い。", 6), ["空が青", "い。"]);
        assert_eq!(lines("", 4), [""]);
        assert_eq!(lines("  \nx", 4), ["", "x"]);
    }

    #[test]
    fn no_line_is_wider_than_the_column_and_no_word_is_lost() {
        let text =
            "日本語のテキスト and 👩‍👩‍👧‍👦 families, supercalifragilistic   words\n\n  - item one\n\tz\u{301}\u{301} end";
        let text = presentable(text);
        for width in 2..40 {
            let got = lines(&text, width);
            assert!(got.iter().all(|l| cells(l) <= width), "{width}: {got:?}");
            let words = |s: &str| s.split_whitespace().collect::<String>();
            assert_eq!(words(&got.concat()), words(&text), "{width}");
        }
    }

    #[test]
    fn no_grapheme_is_split() {
        let families = "👩‍👩‍👧‍👦".repeat(3);
        assert_eq!(lines(&families, 4), [&"👩‍👩‍👧‍👦".repeat(2), "👩‍👩‍👧‍👦"]);
        assert_eq!(lines("e\u{301}e\u{301}e\u{301}", 2), ["e\u{301}e\u{301}", "e\u{301}"]);
    }

    #[test]
    fn combining_marks_are_capped_and_clips_fit() {
        let zalgo = format!("a{}b", "\u{301}".repeat(500));
        assert_eq!(presentable(&zalgo), format!("a{}…b", "\u{301}".repeat(11)));
        for width in 0..12 {
            assert!(cells(&clip("日本語 text", width)) <= width);
        }
    }
}
