//! Draws the list of sessions.
use crate::app::Model;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Place and state for the header.
pub fn header(model: &Model) -> (Vec<String>, Line<'static>) {
    (vec!["tiebreak".into()], Line::from(model.device.clone()))
}

/// Draws the body and gives the status line.
pub fn body(_buf: &mut Buffer, _area: Rect, _model: &Model) -> Line<'static> {
    Line::default()
}
