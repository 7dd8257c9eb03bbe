//! Pure drawing of the application's model.
//!
//! Owns the frame (header, status line, footer), the panes of every screen, the popups and the theme. Refuses to change the
//! model, to read files or to know the time: the same model gives the same cells.
//!
//! **Invariant.** Colours are the terminal's 16, and nothing is said by colour alone.

mod frame;
mod home;
mod label;
mod launch;
mod popup;
mod replay;
mod svg;
pub mod theme;
mod watch;
pub mod widgets;

pub use frame::{Frame as Places, duration, places, rule};
pub use svg::svg;

use crate::app::{Model, Screen};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Draws the model.
pub fn render(frame: &mut Frame, model: &Model) {
    let area = frame.area();
    paint(frame.buffer_mut(), area, model);
}

/// Draws the model into a buffer: what [`render`] does, without a terminal.
pub fn paint(buf: &mut Buffer, area: Rect, model: &Model) {
    if area.is_empty() {
        return;
    }
    match places(area) {
        None => frame::too_small(buf, area),
        Some(places) => {
            let (title, right) = match &model.screen {
                Screen::Home(_) => home::header(model),
                Screen::Label(_) => label::header(model),
                Screen::Launch(screen) => launch::header(model, screen),
                Screen::Watch(screen) => watch::header(model, screen),
                Screen::Replay(screen) => replay::header(model, screen),
            };
            frame::header(buf, places.header, title, right);
            let status = match &model.screen {
                Screen::Home(_) => home::body(buf, places.body, model),
                Screen::Label(screen) => label::body(buf, places.body, model, screen),
                Screen::Launch(screen) => launch::body(buf, places.body, model, screen),
                Screen::Watch(screen) => watch::body(buf, places.body, model, screen),
                Screen::Replay(screen) => replay::body(buf, places.body, model, screen),
            };
            frame::status(buf, places.status, model, status);
            frame::footer(buf, places.footer, model);
            popup::draw(buf, places.body, model);
        }
    }
    theme::finish(buf, area, model.theme);
}
