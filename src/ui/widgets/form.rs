//! Draws a form: its fields below each other, the focused one with its help, and below them what will happen.

use super::plain::more_mark;
use crate::app::{Field, FieldValue, Form, cells, clip, presentable, wrap};
use crate::ui::frame::{put, rule};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BAD, BOLD, DIM, TEXT, WARN};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Span;

/// The most columns of a label.
const LABELS: usize = 34;

/// What stands below a form.
#[derive(Debug, Default)]
pub struct FormOutcome<'a> {
    /// Its heading.
    pub title: &'a str,
    /// Lines with their styles; long ones wrap.
    pub lines: Vec<(String, Style)>,
}

/// One row: whether it belongs to the focused field, and its parts with their columns.
struct Row {
    focus: bool,
    parts: Vec<(u16, String, Style)>,
    /// The column of the cursor, if it is in this row.
    cursor: Option<u16>,
}

/// Draws the form and, at the bottom, its outcome.
pub fn draw(buf: &mut Buffer, area: Rect, form: &Form, outcome: &FormOutcome<'_>) {
    let width = usize::from(area.width.saturating_sub(6)).max(1);
    let mut below: Vec<(String, Style)> = Vec::new();
    for (text, style) in &outcome.lines {
        let text = presentable(text);
        below.extend(wrap(&text, width).into_iter().map(|range| (text[range].to_owned(), *style)));
    }
    // The fields keep at least half of the rows.
    let tail = (below.len() as u16 + 1).min(area.height / 2);
    let head = Rect { height: area.height - tail, ..area };
    fields(buf, head, form);
    let at = Rect { y: head.bottom(), height: tail, ..area };
    rule(buf, at, &Span::styled(outcome.title.to_owned(), DIM), "");
    let room = usize::from(tail.saturating_sub(1));
    for (i, (text, style)) in below.iter().take(room).enumerate() {
        put(buf, area.x + 3, at.y + 1 + i as u16, area.width.saturating_sub(4), text, *style);
    }
    if below.len() > room {
        more_mark(buf, Rect { y: at.bottom().saturating_sub(1), ..at }, below.len() - room);
    }
}

fn fields(buf: &mut Buffer, area: Rect, form: &Form) {
    let widest = form.fields.iter().filter(|f| f.shown).map(|f| label(f).1).max().unwrap_or(0);
    let values = (widest.min(LABELS).min(usize::from(area.width) / 2) + 5) as u16;
    let rows: Vec<Row> = form
        .fields
        .iter()
        .filter(|field| field.shown)
        .enumerate()
        .flat_map(|(i, field)| rows_of(field, form.is_focused(field), i == 0, values, area.width))
        .collect();
    let height = usize::from(area.height);
    let last = rows.iter().rposition(|row| row.focus).unwrap_or(0);
    let at = rows.iter().position(|row| row.focus).unwrap_or(0);
    // The focused field with its help, as near to the top as the form allows.
    let first = (last + 2).saturating_sub(height).min(at).min(rows.len().saturating_sub(height));
    for (i, row) in rows.iter().skip(first).take(height).enumerate() {
        let y = area.y + i as u16;
        for (x, text, style) in &row.parts {
            put(buf, area.x + x, y, area.width.saturating_sub(*x + 1), text, *style);
        }
        if let Some(cell) = row.cursor.and_then(|x| buf.cell_mut((area.x + x, y))) {
            cell.modifier.insert(Modifier::REVERSED);
        }
    }
    if first + height < rows.len() {
        more_mark(buf, Rect { y: area.bottom().saturating_sub(1), ..area }, rows.len() - first - height);
    }
}

/// A field's name, with its mark, and the width of both.
fn label(field: &Field) -> (String, usize) {
    let name = presentable(&field.label).replace('\n', " ");
    let text = match &field.value {
        FieldValue::Mark(true) => format!("[x] {name}"),
        FieldValue::Mark(false) => format!("[ ] {name}"),
        FieldValue::Text(_) | FieldValue::Number(_) | FieldValue::Choice { .. } => name,
    };
    let width = cells(&text);
    (text, width)
}

fn rows_of(field: &Field, focused: bool, first: bool, values: u16, width: u16) -> Vec<Row> {
    let mut out = Vec::new();
    if let Some(heading) = field.heading {
        if !first {
            out.push(Row { focus: false, parts: Vec::new(), cursor: None });
        }
        out.push(Row { focus: false, parts: vec![(1, heading.to_owned(), DIM)], cursor: None });
    }
    let name_style = if focused { ACCENT_BOLD } else { TEXT };
    let mut parts = Vec::new();
    if focused {
        parts.push((1, "▸".to_owned(), ACCENT_BOLD));
    }
    parts.push((3, clip(&label(field).0, usize::from(values) - 5), name_style));
    let room = usize::from(width.saturating_sub(values + 1));
    let value_style = match (&field.problem, focused) {
        (Some(_), _) => BAD,
        (None, true) => BOLD,
        (None, false) => TEXT,
    };
    let mut cursor = None;
    let shown = match &field.value {
        FieldValue::Mark(_) => String::new(),
        FieldValue::Choice { options, at } => {
            let word = presentable(options.get(*at).map_or("", String::as_str));
            if focused { format!("‹ {word} ›") } else { word }
        }
        FieldValue::Text(buffer) | FieldValue::Number(buffer) => {
            let (text, at) = buffer.shown();
            let from = start_for(&text, at, room);
            if focused {
                cursor = Some(values + cells(&text[from..at]) as u16);
            }
            text[from..].to_owned()
        }
    };
    let used = cells(&shown).min(room);
    if !shown.is_empty() {
        parts.push((values, clip_kept(&shown, room), value_style));
    }
    let beside = values + if used > 0 { used as u16 + 3 } else { u16::from(cursor.is_some()) * 2 };
    let (about, style) = match &field.problem {
        Some(_) if !focused => ("⚠ invalid", WARN),
        _ => (field.about.as_str(), DIM),
    };
    let about = presentable(about);
    let room = usize::from(width.saturating_sub(beside + 1));
    if room > 3 && !about.is_empty() {
        parts.push((beside, clip(&about, room), style));
    }
    out.push(Row { focus: focused, parts, cursor });
    if focused {
        let (text, style) = match &field.problem {
            Some(why) => (format!("⚠ {}", presentable(why)), WARN),
            None => (presentable(&field.help), DIM),
        };
        for range in wrap(&text, usize::from(width.saturating_sub(7)).max(1)) {
            out.push(Row { focus: true, parts: vec![(5, text[range].to_owned(), style)], cursor: None });
        }
        // Choices that fit are all in sight.
        if let FieldValue::Choice { options, .. } = &field.value
            && options.len() > 2
        {
            let all = presentable(&options.join("  "));
            for range in wrap(&all, usize::from(width.saturating_sub(7)).max(1)) {
                out.push(Row { focus: true, parts: vec![(5, all[range].to_owned(), ACCENT)], cursor: None });
            }
        }
    }
    out
}

/// Where a text begins so that the cursor is in sight.
fn start_for(text: &str, cursor: usize, room: usize) -> usize {
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.take_while(|at| *at <= cursor).find(|at| cells(&text[*at..cursor]) < room.max(1)).unwrap_or(cursor)
}

/// The text in at most `room` cells; keeps inner blanks if it fits.
fn clip_kept(text: &str, room: usize) -> String {
    if cells(text) <= room { text.to_owned() } else { clip(text, room) }
}
