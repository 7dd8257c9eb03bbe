//! Draws the rank screen: the prompt, its answers one below the other, and the order so far.

use crate::app::screen::rank::{RankRow, RankScreen, RankSheet};
use crate::app::{Model, clip};
use crate::ui::frame::{damage, put, rule, running, saved};
use crate::ui::theme::{ACCENT_BOLD, BOLD, DIM, TEXT};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

/// The breadcrumb and the state for the header.
pub fn header(model: &Model, _screen: &RankScreen) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map_or_else(String::new, |open| clip(&open.meta.name, 40));
    let mut spans = running(model);
    spans.extend(damage(model, usize::from(model.size.0 / 3)));
    spans.extend(saved(model, usize::from(model.size.0 / 2)));
    (vec![name, "rank".into()], Line::from(spans))
}

/// Draws the body; returns the status line.
pub fn body(buf: &mut Buffer, area: Rect, model: &Model, screen: &RankScreen) -> Line<'static> {
    let Some(sheet) = &screen.sheet else {
        let key = model.keys.key("label", "best of");
        let text = format!("No prompt is chosen: open a pair on the label screen and press {key}.");
        put(buf, area.x + 3, area.y + area.height / 3, area.width.saturating_sub(4), &text, BOLD);
        return Line::default();
    };
    let mut title = format!("prompt {} · {} answers", sheet.prompt, sheet.answers.len());
    if sheet.left_out > 0 {
        title.push_str(&format!(" · {} equal, empty or beyond nine not shown", sheet.left_out));
    }
    let keys: Vec<String> = (1..=sheet.answers.len()).map(|n| model.keys.key("rank", &format!("pick {n}"))).collect();
    let numbered = keys.iter().enumerate().all(|(at, key)| *key == (at + 1).to_string());
    let how = match (sheet.ranking, numbered) {
        (true, true) => "numbers in order: best first",
        (false, true) => "a number picks the best",
        (true, false) => "the answers' keys in order: best first",
        (false, false) => "an answer's key picks it as the best",
    };
    rule(buf, area, &Span::styled(title, DIM), how);
    let width = area.width.saturating_sub(3);
    for (i, line) in sheet.question_lines.iter().take(usize::from(sheet.question_rows)).enumerate() {
        put(buf, area.x + 3, area.y + 1 + i as u16, width, &sheet.question[line.clone()], BOLD);
    }
    let top = area.y + 1 + sheet.question_rows;
    for (i, row) in sheet.rows.iter().skip(sheet.top).take(usize::from(sheet.height)).enumerate() {
        let here = Rect { y: top + i as u16, height: 1, ..area };
        match row {
            RankRow::Head(at) => head(buf, here, sheet, *at, keys.get(*at).filter(|_| !numbered)),
            RankRow::Line(at, line) => {
                put(buf, here.x + 3, here.y, width, &sheet.answers[*at].text[line.clone()], TEXT);
            }
        }
    }
    status(sheet)
}

/// The rule above an answer, with its key where that is not its number.
fn head(buf: &mut Buffer, area: Rect, sheet: &RankSheet, at: usize, key: Option<&String>) {
    let answer = &sheet.answers[at];
    let mut remark = Vec::new();
    if answer.tokens > 0 {
        remark.push(format!("{} tok", answer.tokens));
    }
    let name = key.map_or_else(|| (at + 1).to_string(), |key| format!("{} [{key}]", at + 1));
    let (title, style) = match sheet.place(at) {
        Some(place) => (format!("{name} · place {place}"), ACCENT_BOLD),
        None => (name, BOLD),
    };
    rule(buf, area, &Span::styled(title, style), &remark.join(" · "));
}

/// The order so far, and which answers were not read to their end.
fn status(sheet: &RankSheet) -> Line<'static> {
    let group = |group: &Vec<usize>| group.iter().map(|at| (at + 1).to_string()).collect::<Vec<_>>().join(" = ");
    let mut order = sheet.order.iter().map(group).collect::<Vec<_>>().join(" > ");
    if sheet.ranking {
        order.push_str(match (order.is_empty(), sheet.equal) {
            (true, _) => "nothing ranked yet",
            (false, true) => " = …",
            (false, false) => "",
        });
    }
    let unread: Vec<String> =
        (0..sheet.answers.len()).filter(|at| !sheet.is_read(*at)).map(|at| (at + 1).to_string()).collect();
    let read =
        if unread.is_empty() { "all read".to_owned() } else { format!("not read to the end: {}", unread.join(", ")) };
    let gap = if order.is_empty() { "" } else { "   " };
    Line::from(vec![Span::styled(order, ACCENT_BOLD), Span::raw(gap), Span::styled(read, DIM)])
}
