//! Draws what a search for pairs found: the pairs' names, the places, and the text around each match.

use crate::app::find::{Find, FindRow};
use crate::app::screen::label::verdict_words;
use crate::app::{OpenSession, cells};
use crate::ui::frame::{put, put_line};
use crate::ui::theme::{ACCENT_BOLD, BOLD, DIM, TEXT};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

/// Columns for a pair's name, for the place of a match, and for the verdict.
const NAME: u16 = 9;
const PLACE: u16 = 13;
const VERDICT: u16 = 11;
/// From this width on, the verdicts show.
const WIDE: u16 = 90;

/// Draws the rows of a search.
pub fn draw(buf: &mut Buffer, area: Rect, open: &OpenSession, find: &Find) {
    let all = find.len(open);
    if all == 0 && !find.is_behind(open) {
        let text = if open.session.pairs().is_empty() { "no pairs yet" } else { "no matches" };
        put(buf, area.x, area.y, area.width, text, DIM);
    }
    let shown = usize::from(area.height);
    let first = (find.selected() + 1).saturating_sub(shown);
    let verdict = if area.width >= WIDE { VERDICT } else { 0 };
    let place = if find.is_listing() { 0 } else { PLACE };
    let columns = NAME + place + 2;
    let room = area.width.saturating_sub(columns + verdict);
    for i in 0..shown {
        let Some(found) = find.row(open, first + i, usize::from(room)) else { break };
        let y = area.y + i as u16;
        let selected = first + i == find.selected();
        let (mark, style) = if selected { ("› ", ACCENT_BOLD) } else { ("  ", TEXT) };
        put(buf, area.x, y, 2, mark, ACCENT_BOLD);
        let name = put(buf, area.x + 2, y, columns - 3, &found.name, style).max(NAME - 1) + 1;
        put(buf, area.x + 2 + name, y, place.saturating_sub(1), &found.place, DIM);
        let at = area.x + 2 + name + place;
        let width = area.right().saturating_sub(at + verdict);
        put_line(buf, Rect { x: at, y, width, height: 1 }, marked(&found));
        if verdict > 0 {
            let words = own_verdict(open, &found);
            put(buf, area.right() - verdict + 1, y, verdict - 1, &words, DIM);
        }
    }
    if all > first + shown {
        let more = format!(" ↓ {} more ", all - first - shown);
        put(buf, area.right().saturating_sub(cells(&more) as u16), area.bottom(), area.width, &more, DIM);
    }
}

/// The text around a match; the match is bold and underlined.
fn marked(found: &FindRow) -> Line<'_> {
    let mut spans = Vec::new();
    let mut at = 0;
    for mark in &found.marks {
        if mark.start < at {
            continue;
        }
        spans.push(Span::raw(&found.text[at..mark.start]));
        spans.push(Span::styled(&found.text[mark.clone()], BOLD.add_modifier(Modifier::UNDERLINED)));
        at = mark.end;
    }
    spans.push(Span::raw(&found.text[at..]));
    Line::from(spans)
}

fn own_verdict(open: &OpenSession, found: &FindRow) -> String {
    open.session.verdict_of(&found.pair, &open.rater).map_or_else(String::new, |(_, verdict)| verdict_words(verdict))
}
