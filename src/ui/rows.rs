//! Rows of an evaluation's figures: headings, wrapped text, parts in a row. Owns no figure.

use crate::app::{cells, clip, wrap};
use crate::domain::Conclusion;
use crate::ui::theme::{BAD, DIM, GOOD, TEXT};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Text in rows of this width.
pub(super) fn wrapped(text: &str, width: usize, indent: usize, style: Style) -> Vec<Line<'static>> {
    let room = width.saturating_sub(indent + 1).max(10);
    let rows = wrap(text, room).into_iter().map(|range| format!("{}{}", " ".repeat(indent), &text[range]));
    rows.map(|row| Line::styled(row, style)).collect()
}

/// A rule as a line of the list, with a title.
pub(super) fn heading(title: &str, width: usize) -> Line<'static> {
    let title = clip(title, width.saturating_sub(6));
    let rest = width.saturating_sub(cells(&title) + 3);
    Line::styled(format!("─ {title} {}", "─".repeat(rest)), DIM)
}

/// Parts in a row, `·` between them, that go on in the next row where they do not fit.
pub(super) fn flow(parts: Vec<(String, Style)>, indent: usize, width: usize) -> Vec<Line<'static>> {
    let mut out: Vec<Line<'static>> = Vec::new();
    let indent = if width < indent + 34 { 4 } else { indent };
    let room = width.saturating_sub(indent + 1).max(10);
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut used = 0;
    for (text, style) in parts {
        let wide = cells(&text);
        if used > 0 && used + 3 + wide > room {
            out.push(Line::from(std::mem::take(&mut spans)));
            used = 0;
        }
        if used > 0 {
            spans.push(Span::styled(" · ", DIM));
            used += 3;
        } else {
            spans.push(Span::raw(" ".repeat(indent)));
        }
        if wide > room {
            spans.clear();
            out.extend(wrapped(&text, width, indent, style));
            continue;
        }
        used += wide;
        spans.push(Span::styled(text, style));
    }
    if used > 0 {
        out.push(Line::from(spans));
    }
    out
}

/// A conclusion in words, and how it looks.
pub(super) fn conclusion(of: &Conclusion) -> (String, Style) {
    let style = match of.word {
        "better" => GOOD,
        "worse" => BAD,
        "cannot tell" => DIM,
        _ => TEXT,
    };
    let text = of.detail.as_ref().map_or_else(|| of.word.to_owned(), |detail| format!("{}: {detail}", of.word));
    (text, style)
}
