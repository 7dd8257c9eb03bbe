//! Draws the topmost popup as a sheet over the screen.

mod find;

use super::frame::{put, put_line};
use super::theme::{ACCENT, ACCENT_BOLD, BAD, BOLD, DIM, GOOD, TEXT, WARN};
use crate::app::find::Find;
use crate::app::keymap::Table;
use crate::app::masks::{MaskSheet, MaskStyle, text_area};
use crate::app::{EditBuffer, Help, Model, Palette, Popup, TextInput, cells, clip, find_rows, wrap};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Columns of the help where its two parts do not fit side by side.
const ONE_COLUMN: u16 = 76;
/// Blank columns after the longest line of a part of the help.
const COLUMN_GAP: u16 = 2;
/// Columns of a sheet's edges and the blanks inside them.
const SHEET_EDGES: u16 = 4;
/// Columns for keys in the help.
const KEYS: u16 = 13;
/// Columns for names in the palette.
const NAMES: u16 = 19;
/// Below this width, a sheet takes the whole width.
const NARROW: u16 = 100;

/// Draws the topmost popup.
pub fn draw(buf: &mut Buffer, area: Rect, model: &Model) {
    match model.popups.last() {
        None => {}
        Some(Popup::Help(popup)) => help(buf, area, popup),
        Some(Popup::Palette(popup)) => palette(buf, area, popup),
        Some(Popup::Find(popup)) => search(buf, area, model, popup),
        Some(Popup::Input(popup)) => input(buf, area, popup),
        Some(Popup::Masks(popup)) => masks(buf, area, popup, model.size),
        Some(Popup::Confirm(popup)) => text(buf, area, "", &popup.question),
        Some(Popup::Message { title, body }) => text(buf, area, title, body),
    }
}

/// Clears and frames a sheet in the middle of `area`; returns its inner area.
fn sheet(buf: &mut Buffer, area: Rect, width: u16, height: u16, title: &str) -> Rect {
    // On a narrow terminal, remains of text beside the sheet would only distract.
    let width = if area.width < NARROW { area.width } else { width + SHEET_EDGES };
    let (w, h) = (width.min(area.width), (height + 2).min(area.height));
    buf.set_style(area, DIM);
    let at = Rect { x: area.x + (area.width - w) / 2, y: area.y + (area.height - h) / 3, width: w, height: h };
    for y in at.top()..at.bottom() {
        for x in at.left()..at.right() {
            if let Some(cell) = buf.cell_mut((x, y)) {
                cell.reset();
            }
        }
    }
    let line = "─".repeat(usize::from(w.saturating_sub(2)));
    put(buf, at.x, at.y, w, &format!("╭{line}╮"), DIM);
    put(buf, at.x, at.bottom() - 1, w, &format!("╰{line}╯"), DIM);
    for y in at.y + 1..at.bottom().saturating_sub(1) {
        put(buf, at.x, y, 1, "│", DIM);
        put(buf, at.right() - 1, y, 1, "│", DIM);
    }
    if !title.is_empty() {
        put(
            buf,
            at.x + 2,
            at.y,
            w.saturating_sub(4),
            &format!(" {} ", clip(title, usize::from(w.saturating_sub(6)))),
            BOLD,
        );
    }
    Rect { x: at.x + 2, y: at.y + 1, width: w.saturating_sub(4), height: h.saturating_sub(2) }
}

fn row(area: Rect, y: u16) -> Rect {
    Rect { y: area.y + y, height: 1, ..area }
}

fn help(buf: &mut Buffer, area: Rect, help: &Help) {
    let sections = &help.tables;
    let lines = |part: &[Table]| {
        let mut out: Vec<(String, &str, bool)> = Vec::new();
        for (i, table) in part.iter().enumerate() {
            if i > 0 {
                out.push((String::new(), "", false));
            }
            out.push((table.title.to_owned(), "", true));
            out.extend(table.actions().into_iter().map(|(keys, row)| (keys, row.help, false)));
        }
        out
    };
    // Side by side only where every line fits.
    let (first, others) = sections.split_at(sections.len().min(1));
    let beside = [lines(first), lines(others)];
    let needs = beside.each_ref().map(|lines| lines.iter().map(|line| cells(line.1)).max().unwrap_or(0) as u16);
    let wide = needs.map(|text| KEYS + text + COLUMN_GAP);
    let width = wide[0] + wide[1];
    let (columns, width): (Vec<_>, u16) = if width + SHEET_EDGES <= area.width && !others.is_empty() {
        (beside.into_iter().zip(wide).collect(), width)
    } else {
        (vec![(lines(sections), ONE_COLUMN)], ONE_COLUMN)
    };
    let tallest = columns.iter().map(|(lines, _)| lines.len()).max().unwrap_or(0);
    let inner = sheet(buf, area, width, tallest as u16, "keys");
    let rows = usize::from(inner.height);
    let scroll = help.scroll.min(tallest.saturating_sub(rows));
    let mut next = inner.x;
    for (lines, wide) in &columns {
        let (x, each) = (next, (*wide).min(inner.right().saturating_sub(next)));
        next += wide;
        for (i, (keys, what, title)) in lines.iter().skip(scroll).take(rows).enumerate() {
            let y = inner.y + i as u16;
            if *title {
                put(buf, x, y, each, keys, BOLD);
                continue;
            }
            put(buf, x + 1, y, KEYS - 2, keys, ACCENT);
            let room = each.saturating_sub(KEYS + 1);
            put(buf, x + KEYS, y, room, &clip(what, usize::from(room)), TEXT);
        }
    }
    if scroll + rows < tallest {
        let more = format!(" ↓ {} more ", tallest - rows - scroll);
        let at = inner.right().saturating_sub(cells(&more) as u16);
        put(buf, at, inner.bottom(), inner.width, &more, DIM);
    }
}

fn palette(buf: &mut Buffer, area: Rect, palette: &Palette) {
    let found = palette.matches();
    let width = area.width.saturating_sub(8).min(84);
    // The sheet keeps its size while the user types.
    let height = (palette.entries.len() as u16 + 2).min(area.height.saturating_sub(2)).min(20);
    let inner = sheet(buf, area, width, height, &palette.title);
    let hint = if palette.takes_paths() { "type to find, or a path" } else { "type to find" };
    typed(buf, row(inner, 0), &palette.query, hint);
    let rows = usize::from(inner.height.saturating_sub(2));
    if found.is_empty() {
        let words = if palette.takes_paths() { "enter takes it as a folder or a .gguf file" } else { "no matches" };
        put(buf, inner.x, inner.y + 2, inner.width, words, DIM);
    }
    let selected = palette.selected();
    let first = (selected.unwrap_or(0) + 1).saturating_sub(rows);
    for (i, entry) in found.iter().enumerate().skip(first).take(rows) {
        let y = inner.y + 2 + (i - first) as u16;
        let (mark, style) = if Some(i) == selected { ("› ", ACCENT_BOLD) } else { ("  ", TEXT) };
        let detail = clip(&entry.detail, usize::from(inner.width / 3));
        let detail_width = cells(&detail) as u16;
        let room = inner.width.saturating_sub(detail_width + 4);
        put(buf, inner.x, y, 2, mark, ACCENT_BOLD);
        let used = put(buf, inner.x + 2, y, room, &clip(&entry.title, usize::from(room)), style);
        let at = (used + 2).max(NAMES);
        let room = room.saturating_sub(at);
        put(buf, inner.x + 2 + at, y, room, &clip(&entry.about, usize::from(room)), DIM);
        put(buf, inner.right().saturating_sub(detail_width), y, detail_width, &detail, DIM);
    }
    if found.len() > first + rows {
        let more = format!(" ↓ {} more ", found.len() - first - rows);
        put(buf, inner.right().saturating_sub(cells(&more) as u16), inner.bottom(), inner.width, &more, DIM);
    }
}

/// The search for pairs: the query, how far it is, and the matches.
fn search(buf: &mut Buffer, area: Rect, model: &Model, search: &Find) {
    let Some(open) = &model.open else { return };
    let rows = find_rows(model.size) as u16 + 2;
    let inner = sheet(buf, area, area.width.saturating_sub(8).min(150), rows, search.title);
    let status = search.status(open);
    let wide = cells(&status) as u16;
    let top = row(inner, 0);
    typed(buf, Rect { width: top.width.saturating_sub(wide + 2), ..top }, &search.query, "words, in any order");
    let style = if search.error.is_some() { WARN } else { DIM };
    put(buf, inner.right().saturating_sub(wide), top.y, wide, &status, style);
    find::draw(buf, Rect { y: inner.y + 2, height: inner.height.saturating_sub(2), ..inner }, open, search);
}

/// A text field of one line; the cursor stays visible.
fn typed(buf: &mut Buffer, area: Rect, buffer: &EditBuffer, hint: &str) {
    put(buf, area.x, area.y, 2, "> ", ACCENT);
    let area = Rect { x: area.x + 2, width: area.width.saturating_sub(2), ..area };
    if buffer.text().is_empty() {
        put(buf, area.x + 2, area.y, area.width.saturating_sub(2), hint, DIM);
    }
    line_with_cursor(buf, area, buffer.text(), buffer.cursor(), TEXT);
}

fn line_with_cursor(buf: &mut Buffer, area: Rect, text: &str, cursor: usize, style: Style) {
    let before = cells(&text[..cursor]) as u16;
    // Cut on the left, so that the cursor stays inside.
    let mut from = 0;
    let mut hidden = 0;
    while before - hidden + 1 > area.width {
        let Some(c) = text[from..].chars().next() else { break };
        from += c.len_utf8();
        hidden = cells(&text[..from]) as u16;
    }
    put(buf, area.x, area.y, area.width, &text[from..], style);
    if let Some(cell) = buf.cell_mut((area.x + before - hidden, area.y)) {
        cell.modifier.insert(Modifier::REVERSED);
    }
}

fn input(buf: &mut Buffer, area: Rect, input: &TextInput) {
    let many = input.buffer.is_multiline();
    let most = if many || area.width < NARROW { 100 } else { 72 };
    let width = area.width.saturating_sub(4).min(most);
    let (shown, cursor) = input.buffer.shown();
    let lines = wrap(&shown, usize::from(width.max(1)));
    let (note, style) = match &input.error {
        Some(error) => (error.as_str(), BAD),
        None => (input.hint.as_str(), DIM),
    };
    // A long note of a short text is shown in full.
    let notes = wrap(note, usize::from(width.max(1)));
    let notes = if many { &notes[..0] } else { &notes[..notes.len().min(5)] };
    let below = (notes.len() as u16).max(1);
    let height = if many { (lines.len() as u16 + 4).clamp(8, area.height.saturating_sub(2)) } else { 2 + below };
    let inner = sheet(buf, area, width, height, &input.title);
    if many {
        let rows = usize::from(inner.height.saturating_sub(2));
        // The cursor may be in blanks that wrapping drops: it belongs to the last line that starts before it.
        let at = lines.iter().rposition(|line| line.start <= cursor).unwrap_or(0);
        let first = (at + 1).saturating_sub(rows);
        for (i, line) in lines.iter().enumerate().skip(first).take(rows) {
            let here = row(inner, (i - first) as u16);
            put(buf, here.x, here.y, here.width, &shown[line.clone()], TEXT);
            if i == at {
                let column = cells(&shown[line.start..cursor.clamp(line.start, line.end)]);
                if let Some(cell) = buf.cell_mut((here.x + (column as u16).min(here.width.saturating_sub(1)), here.y)) {
                    cell.modifier.insert(Modifier::REVERSED);
                }
            }
        }
    } else {
        typed(buf, row(inner, 0), &input.buffer, "");
    }
    if notes.len() > 1 {
        for (i, line) in notes.iter().enumerate() {
            let here = row(inner, inner.height.saturating_sub(below) + i as u16);
            put(buf, here.x, here.y, here.width, &note[line.clone()], style);
        }
        return;
    }
    let last = row(inner, inner.height.saturating_sub(1));
    put(buf, last.x, last.y, last.width, &clip(note, usize::from(last.width)), style);
}

/// Learned text is underlined, in the accent or, for mixed-in rows, in green; context is dim.
fn masks(buf: &mut Buffer, area: Rect, mask_sheet: &MaskSheet, size: (u16, u16)) {
    let (width, rows) = text_area(size);
    let height = mask_sheet.lines.len().clamp(3, rows) as u16;
    let inner = sheet(buf, area, width as u16, height, "what the model reads · underlined: what it learns");
    let rows = usize::from(inner.height);
    for (i, line) in mask_sheet.lines.iter().skip(mask_sheet.scroll).take(rows).enumerate() {
        let spans = line.iter().map(|(text, ink)| {
            Span::styled(
                text.as_str(),
                match ink {
                    MaskStyle::Head => BOLD,
                    MaskStyle::Read => DIM,
                    MaskStyle::Learned => ACCENT.add_modifier(Modifier::UNDERLINED),
                    MaskStyle::Mixed => GOOD.add_modifier(Modifier::UNDERLINED),
                    MaskStyle::TextStart => ACCENT,
                    MaskStyle::LeftOut => WARN,
                },
            )
        });
        put_line(buf, row(inner, i as u16), spans.collect::<Line>());
    }
    if mask_sheet.scroll + rows < mask_sheet.lines.len() {
        let more = format!(" ↓ {} more ", mask_sheet.lines.len() - rows - mask_sheet.scroll);
        let at = inner.right().saturating_sub(cells(&more) as u16);
        put(buf, at, inner.bottom(), inner.width, &more, DIM);
    }
}

fn text(buf: &mut Buffer, area: Rect, title: &str, body: &str) {
    let body = crate::app::presentable(body);
    let width = area.width.saturating_sub(8).min(72);
    let lines = wrap(&body, usize::from(width.max(1)));
    let inner = sheet(buf, area, width, lines.len() as u16, title);
    for (i, line) in lines.iter().take(usize::from(inner.height)).enumerate() {
        put_line(buf, row(inner, i as u16), Line::from(Span::raw(&body[line.clone()])));
    }
}
