//! Draws what lies over a screen.
use crate::app::Model;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// Draws the topmost popup.
pub fn draw(_buf: &mut Buffer, _area: Rect, _model: &Model) {}
