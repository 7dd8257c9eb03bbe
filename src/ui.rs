//! Pure drawing of the application's model.
//!
//! Owns the frame (header, status line, footer), the panes of every screen, the popups and the theme. Refuses to change
//! the model, read files or know the time: the same model gives the same cells.
//!
//! **Invariant.** Colours are the terminal's 16, and nothing is shown by colour alone.

mod evaluation;
mod frame;
mod popup;
mod ratings;
mod rows;
mod run;
mod screen;
mod svg;
pub mod theme;
pub mod widgets;

pub use frame::{Areas, areas, duration, rule};
pub use svg::svg;

use crate::app::{Model, cells};
use crate::domain::is_shown;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Draws the model.
pub fn render(frame: &mut Frame, model: &Model) {
    let area = frame.area();
    paint(frame.buffer_mut(), area, model);
}

/// Draws the model into a buffer, as [`render`] does on a terminal.
pub fn paint(buf: &mut Buffer, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    draw(buf, area, model);
    sanitise_cells(buf, area);
}

/// Most characters in a cell: marks can be stacked without end.
const MOST_CHARS: usize = 12;

fn is_clean(symbol: &str) -> bool {
    symbol.chars().all(is_shown) && symbol.chars().nth(MOST_CHARS).is_none()
}

/// Takes out of every cell what must not be shown: the last place before a terminal, a picture or a test, whatever a screen drew.
fn sanitise_cells(buf: &mut Buffer, area: Rect) {
    for at in area.positions() {
        let Some(cell) = buf.cell_mut(at).filter(|cell| !is_clean(cell.symbol())) else { continue };
        let shown: String = cell.symbol().chars().filter(|c| is_shown(*c)).take(MOST_CHARS).collect();
        cell.set_symbol(if shown.is_empty() { " " } else { &shown });
    }
}

fn draw(buf: &mut Buffer, area: Rect, model: &Model) {
    match areas(area) {
        None => frame::too_small(buf, area),
        Some(areas) => {
            let (title, mut right) = screen::header(model);
            let place: usize = title.iter().map(|part| cells(part) + 3).sum();
            let room = usize::from(areas.header.width.saturating_sub(frame::width_of(&right))).saturating_sub(place);
            let rater = frame::rater(model, false);
            let fits = rater.iter().map(|span| cells(&span.content)).sum::<usize>() <= room;
            right.spans.splice(0..0, if fits { rater } else { frame::rater(model, true) });
            frame::header(buf, areas.header, title, right);
            let status = screen::body(buf, areas.body, model);
            frame::status(buf, areas.status, model, status);
            frame::footer(buf, areas.footer, model);
            popup::draw(buf, areas.body, model);
        }
    }
    theme::finish(buf, area, model.theme);
}
