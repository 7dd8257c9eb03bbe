//! Draws the launch screen.

use crate::app::Model;
use crate::app::launch::Launch;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Place and state for the header.
pub fn header(model: &Model, _screen: &Launch) -> (Vec<String>, Line<'static>) {
    let name = model.open.as_ref().map(|open| open.meta.name.clone()).unwrap_or_default();
    (vec![name, "launch".into()], Line::default())
}

/// Draws the body and gives the status line.
pub fn body(_buf: &mut Buffer, _area: Rect, _model: &Model, _screen: &Launch) -> Line<'static> {
    Line::default()
}
