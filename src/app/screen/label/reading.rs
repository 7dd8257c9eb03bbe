//! An answer as it is read: Markdown as styles or raw, thoughts folded or not, laid out in a column.
//!
//! Owns the shown text, its styles, and the way back from a place in it to the place in the answer, so that scrolling,
//! differences and what was read survive a change of view. Refuses to know panes or keys.

use crate::app::markup::{Markup, TextStyle};
use crate::app::wrap::{cut_line, wrap_line};
use crate::domain::Thought;
use std::ops::Range;

/// The narrowest column that a hanging indent leaves.
const NARROWEST: usize = 20;

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerView {
    /// As written, without Markdown styles.
    pub raw: bool,
    /// With thoughts unfolded.
    pub unfolded: bool,
}

/// A row of laid-out text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextLine {
    /// Its bytes in the shown text.
    pub range: Range<usize>,
    /// The cells it is indented by, beyond the text's own.
    pub indent: usize,
    /// Whether it goes on with a line of code or a table that was too long.
    pub continued: bool,
}

/// An answer as shown.
#[derive(Debug, Clone, Default)]
pub struct ShownText {
    /// The text.
    pub text: String,
    /// Styles of its bytes; they may nest.
    pub styles: Vec<(Range<usize>, TextStyle)>,
    /// Whether the answer has Markdown, shown as styles or not.
    pub markdown: bool,
    verbatim: Vec<Range<usize>>,
    hanging: Vec<(usize, usize)>,
    pieces: Vec<Piece>,
    /// The length of the answer in bytes.
    source: usize,
}

/// A stretch of the shown text and the bytes of the answer it stands for.
#[derive(Debug, Clone)]
struct Piece {
    shown: usize,
    source: Range<usize>,
    folded: bool,
}

impl ShownText {
    /// An answer in this view.
    #[must_use]
    pub fn of(source: &str, thoughts: &[Thought], view: AnswerView) -> Self {
        let mut out = Self { source: source.len(), ..Self::default() };
        let mut at = 0;
        for thought in thoughts {
            out.prose(source, at..thought.range.start, view);
            if view.unfolded {
                let start = out.text.len();
                out.copy(source, thought.range.clone());
                out.styles.push((start..out.text.len(), TextStyle::Thought));
            } else {
                out.fold(thought);
            }
            at = thought.range.end;
        }
        out.prose(source, at..source.len(), view);
        out
    }

    /// A part of the answer outside its thoughts.
    fn prose(&mut self, source: &str, range: Range<usize>, view: AnswerView) {
        if range.is_empty() {
            return;
        }
        let markup = Markup::of(&source[range.clone()]).shifted(range.start);
        self.markdown |= !markup.is_plain();
        if view.raw {
            return self.copy(source, range);
        }
        let mut at = range.start;
        for hidden in &markup.hidden {
            self.copy(source, at..hidden.start.max(at));
            at = hidden.end.max(at);
        }
        self.copy(source, at..range.end);
        let here = |range: &Range<usize>| self.to_shown(range.start)..self.to_shown(range.end);
        let styles: Vec<_> = markup.styles.iter().map(|(range, style)| (here(range), *style)).collect();
        let verbatim: Vec<_> = markup.verbatim.iter().map(here).collect();
        let hanging: Vec<_> = markup.hanging.iter().map(|(at, by)| (self.to_shown(*at), *by)).collect();
        self.styles.extend(styles);
        self.verbatim.extend(verbatim);
        self.hanging.extend(hanging);
    }

    fn copy(&mut self, source: &str, range: Range<usize>) {
        if !range.is_empty() {
            self.pieces.push(Piece { shown: self.text.len(), source: range.clone(), folded: false });
            self.text.push_str(&source[range]);
        }
    }

    fn fold(&mut self, thought: &Thought) {
        let start = self.text.len();
        self.pieces.push(Piece { shown: start, source: thought.range.clone(), folded: true });
        let noun = if thought.words == 1 { "word" } else { "words" };
        let open = if thought.closed { "" } else { ", not ended" };
        self.text.push_str(&format!("▸ thought, {} {noun}{open}", thought.words));
        self.styles.push((start..self.text.len(), TextStyle::Fold));
    }

    /// The byte of the answer at a byte of the shown text. What is hidden or folded before it counts as passed.
    #[must_use]
    pub fn to_source(&self, at: usize) -> usize {
        if at >= self.text.len() {
            return self.source;
        }
        let Some(piece) = self.pieces.iter().rfind(|piece| piece.shown <= at) else { return 0 };
        match piece.folded {
            true if at > piece.shown => piece.source.end,
            true => piece.source.start,
            false => (piece.source.start + at - piece.shown).min(piece.source.end),
        }
    }

    /// The byte of the shown text at a byte of the answer.
    #[must_use]
    pub fn to_shown(&self, at: usize) -> usize {
        let Some(piece) = self.pieces.iter().rfind(|piece| piece.source.start <= at) else { return 0 };
        if piece.folded && at < piece.source.end {
            return piece.shown;
        }
        let next = self.pieces.iter().find(|next| next.shown > piece.shown).map_or(self.text.len(), |next| next.shown);
        let within = if piece.folded { next } else { piece.shown + (at - piece.source.start).min(piece.source.len()) };
        within.min(next)
    }

    /// The rows of the text in a column of `width` cells.
    #[must_use]
    pub fn lines(&self, width: usize) -> Vec<TextLine> {
        let width = width.max(1);
        let mut out = Vec::new();
        let mut ranges = Vec::new();
        let mut at = 0;
        for line in self.text.trim_end().split('\n') {
            let verbatim = self.verbatim.iter().any(|range| range.start <= at && at < range.end);
            let hanging = self.hanging.iter().rfind(|(start, _)| *start == at).map_or(0, |(_, by)| *by);
            let indent = if width >= hanging + NARROWEST { hanging } else { 0 };
            if verbatim {
                cut_line(line, at, width, &mut ranges);
            } else {
                wrap_line(line, at, (width, width - indent), &mut ranges);
            }
            out.extend(ranges.drain(..).enumerate().map(|(row, range)| TextLine {
                range,
                indent: if row > 0 { indent } else { 0 },
                continued: verbatim && row > 0,
            }));
            at += line.len() + 1;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::wrap::{cells, wrap};
    use crate::domain::thoughts;

    const RAW: AnswerView = AnswerView { raw: true, unfolded: false };
    const STYLED: AnswerView = AnswerView { raw: false, unfolded: false };

    fn shown(source: &str, view: AnswerView) -> ShownText {
        ShownText::of(source, &thoughts(source), view)
    }

    fn rows(source: &str, width: usize) -> Vec<String> {
        let shown = shown(source, STYLED);
        let rows = shown.lines(width).into_iter();
        rows.map(|row| format!("{}{}", " ".repeat(row.indent), &shown.text[row.range])).collect()
    }

    #[test]
    fn text_without_markdown_is_laid_out_as_before() {
        let text = "The sky is blue, and\n\n    it *stays* so: 2*3*4 = 24 every day of the year.\n日本語のテキスト\n";
        let plain = text.replace("*stays*", "stays");
        for width in 1..50 {
            for view in [RAW, STYLED] {
                let shown = shown(&plain, view);
                let ranges: Vec<_> = shown.lines(width).into_iter().map(|row| row.range).collect();
                assert_eq!((shown.text.as_str(), ranges), (plain.as_str(), wrap(&plain, width)));
                assert!(!shown.markdown);
            }
        }
    }

    #[test]
    fn places_survive_a_change_of_view() {
        let text = "A **bold** and *thin* word.\n<think>\nso many words\n</think>\nThe `end`.";
        let (raw, styled) = (shown(text, RAW), shown(text, STYLED));
        assert!(raw.markdown && styled.markdown);
        assert_eq!(styled.text, "A bold and thin word.\n▸ thought, 3 words\nThe `end`.");
        for word in ["bold", "thin", "word", "The", "end"] {
            let at = text.find(word).unwrap();
            for view in [&raw, &styled] {
                let here = view.to_shown(at);
                assert!(view.text[here..].starts_with(word), "{word}: {:?}", &view.text[here..]);
                assert_eq!(view.to_source(here), at);
            }
        }
        assert_eq!(styled.to_source(styled.text.len()), text.len());
        let fold = styled.text.find('▸').unwrap();
        assert_eq!(styled.to_shown(text.find("many").unwrap()), fold);
        assert_eq!(styled.to_source(fold + 5), text.find("\nThe").unwrap());
    }

    #[test]
    fn code_is_cut_without_a_new_indent_and_items_hang() {
        let code = "```\n    let x = alpha + beta;  // sum\n```";
        assert_eq!(rows(code, 16), ["```", "    let x = alph", "a + beta;  // su", "m", "```"]);
        assert_eq!(rows("1. one two three four five six", 23), ["1. one two three four", "   five six"]);
        let long = format!("- {}", "word ".repeat(40));
        assert!(rows(&long, 30).iter().all(|row| cells(row) <= 30));
    }
}
