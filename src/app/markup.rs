//! Markdown in an answer, as styles on the answer's own bytes.
//!
//! Owns what is bold, what is code, which markers are hidden, and which lines keep their columns. Refuses to reflow or
//! reorder: what is shown is the text itself less the markers of emphasis, so a text without Markdown stays as it is.
//! Inside words (`2*3*4`, `__init__`) nothing is hidden, although CommonMark would: a rater judges what was written.

use super::wrap::cells;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};
use std::ops::Range;

/// How a stretch of text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    /// A heading.
    Heading,
    /// `**strong**`.
    Strong,
    /// `*emphasis*`.
    Emphasis,
    /// `~~struck out~~`.
    Struck,
    /// Inline code.
    Code,
    /// A marker that stays visible: the `#` of a heading, a fence.
    Marker,
    /// A thought of the model.
    Thought,
    /// The line that stands for a folded thought.
    Fold,
}

/// The Markdown of a text, in byte ranges of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markup {
    /// Styled stretches; they may nest.
    pub styles: Vec<(Range<usize>, TextStyle)>,
    /// Markers that are not shown, in order.
    pub hidden: Vec<Range<usize>>,
    /// Code blocks and tables: their lines are cut at the edge and never wrapped by words.
    pub verbatim: Vec<Range<usize>>,
    /// Starts of lines that begin a list item, and the cells by which their further rows are indented.
    pub hanging: Vec<(usize, usize)>,
}

impl Markup {
    /// Whether the text has no Markdown.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.styles.is_empty() && self.verbatim.is_empty() && self.hanging.is_empty()
    }

    /// The Markdown of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut out = Self::default();
        // Inside this range nothing is hidden: a table's columns would move.
        let mut kept = 0..0;
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            let inside = range.start < kept.end;
            match event {
                Event::Start(Tag::Heading { .. }) => out.heading(text, range),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => out.fenced(text, range),
                Event::Start(Tag::Table(_)) => {
                    kept = range.clone();
                    out.verbatim.push(trimmed(text, range));
                }
                Event::Start(Tag::Item) => out.item(text, range),
                Event::Start(Tag::Strong) if !inside => out.emphasis(text, range, 2, TextStyle::Strong),
                Event::Start(Tag::Emphasis) if !inside => out.emphasis(text, range, 1, TextStyle::Emphasis),
                Event::Start(Tag::Strikethrough) if !inside => {
                    let marks = text[range.clone()].bytes().take_while(|b| *b == b'~').count();
                    out.emphasis(text, range, marks, TextStyle::Struck);
                }
                Event::Code(_) => out.styles.push((range, TextStyle::Code)),
                Event::Rule => out.styles.push((trimmed(text, range), TextStyle::Marker)),
                _ => {}
            }
        }
        out.hidden.sort_by_key(|range| range.start);
        out
    }

    /// Moves every range by `by` bytes.
    #[must_use]
    pub fn shifted(mut self, by: usize) -> Self {
        let shift = |range: &mut Range<usize>| *range = range.start + by..range.end + by;
        self.styles.iter_mut().for_each(|(range, _)| shift(range));
        self.hidden.iter_mut().for_each(shift);
        self.verbatim.iter_mut().for_each(shift);
        self.hanging.iter_mut().for_each(|(at, _)| *at += by);
        self
    }

    /// A heading is bold, its marks stay, dim: they tell the levels apart.
    fn heading(&mut self, text: &str, range: Range<usize>) {
        let range = trimmed(text, range);
        let line = &text[range.clone()];
        if let Some(marks) = line.find(|c| c != '#').filter(|marks| *marks > 0) {
            self.styles.push((range.start..range.start + marks, TextStyle::Marker));
            self.styles.push((range.start + marks..range.end, TextStyle::Heading));
        } else if let Some(at) = line.rfind('\n') {
            // Underlined with `===` or `---`.
            self.styles.push((range.start..range.start + at, TextStyle::Heading));
            self.styles.push((range.start + at + 1..range.end, TextStyle::Marker));
        }
    }

    fn fenced(&mut self, text: &str, range: Range<usize>) {
        let range = trimmed(text, range);
        let block = &text[range.clone()];
        self.styles.push((range.start..range.start + block.find('\n').unwrap_or(block.len()), TextStyle::Marker));
        if let Some(at) = block.rfind('\n') {
            let last = block[at + 1..].trim_start();
            if last.starts_with("```") || last.starts_with("~~~") {
                self.styles.push((range.start + at + 1..range.end, TextStyle::Marker));
            }
        }
        let start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
        self.verbatim.push(start..range.end);
    }

    fn item(&mut self, text: &str, range: Range<usize>) {
        let item = &text[range.clone()];
        let blanks = item.len() - item.trim_start_matches(' ').len();
        let marker = item[blanks..].find(' ').unwrap_or(0);
        let after = &item[blanks + marker..];
        let content = range.start + blanks + marker + after.len() - after.trim_start_matches(' ').len();
        if marker > 0 {
            let line = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
            self.hanging.push((line, cells(&text[line..content])));
        }
    }

    fn emphasis(&mut self, text: &str, range: Range<usize>, marks: usize, style: TextStyle) {
        if range.len() <= 2 * marks {
            return;
        }
        let inner = range.start + marks..range.end - marks;
        let of_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let in_word = of_word(text[..range.start].chars().next_back()) || of_word(text[range.end..].chars().next());
        let name = text[range.clone()].starts_with("__") && !text[inner.clone()].contains(char::is_whitespace);
        if in_word || name {
            return;
        }
        self.hidden.extend([range.start..inner.start, inner.end..range.end]);
        self.styles.push((inner, style));
    }
}

/// The range without the line breaks and blanks at its end.
fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    range.start..range.start + text[range.clone()].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn styled(text: &str) -> Vec<(&str, TextStyle)> {
        Markup::of(text).styles.into_iter().map(|(range, style)| (&text[range], style)).collect()
    }

    fn shown(text: &str) -> String {
        let mut out = text.to_owned();
        for range in Markup::of(text).hidden.into_iter().rev() {
            out.replace_range(range, "");
        }
        out
    }

    #[test]
    fn text_without_markdown_is_plain() {
        for text in [
            "The sky is blue.\n\n    indented verse\n\nend",
            "2*3*4 = 24 and 5 * 6",
            "call __init__ of snake_case_name",
            "a_b_c 3 < 4 > 2, #hash, 1.5",
            "",
        ] {
            assert!(Markup::of(text).is_plain(), "{text:?}: {:?}", Markup::of(text));
        }
    }

    #[test]
    fn emphasis_loses_its_markers_and_nothing_else_does() {
        assert_eq!(shown("a **b** *c* ~~d~~ ***e***, `f`"), "a b c d e, `f`");
        assert_eq!(styled("## Two\ntext"), [("##", TextStyle::Marker), (" Two", TextStyle::Heading)]);
        assert_eq!(styled("Title\n===\n"), [("Title", TextStyle::Heading), ("===", TextStyle::Marker)]);
        assert_eq!(styled("use `x`"), [("`x`", TextStyle::Code)]);
        assert_eq!(shown("| a | **b** |\n|---|---|\n| 1 | 2 |\n"), "| a | **b** |\n|---|---|\n| 1 | 2 |\n");
    }

    #[test]
    fn code_and_tables_are_verbatim_and_items_hang() {
        let text = "so:\n```python\nif x:\n    **y**\n```\nend";
        let markup = Markup::of(text);
        assert_eq!(&text[markup.verbatim[0].clone()], "```python\nif x:\n    **y**\n```");
        assert!(markup.hidden.is_empty());
        assert_eq!(styled(text), [("```python", TextStyle::Marker), ("```", TextStyle::Marker)]);
        assert_eq!(Markup::of("```\nx").verbatim, vec![0..5; 1], "a block that was cut");
        assert_eq!(Markup::of("- a\n- b\n  1. c\n").hanging, [(0, 2), (4, 2), (8, 5)]);
    }
}
