//! Draws the active screen. Every screen listed in `app/screen.rs` has a file here with `header` and `body`.

use crate::app::{ActiveScreen, Model};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Declares the listed modules and dispatches to the active one.
macro_rules! drawing {
    ($($file:ident::$State:ident)*) => {
        $(mod $file;)*

        /// The breadcrumb and the state for the header.
        pub fn header(model: &Model) -> (Vec<String>, Line<'static>) {
            match &model.screen {
                $(ActiveScreen::$State(screen) => $file::header(model, screen),)*
            }
        }

        /// Draws the body; returns the status line.
        pub fn body(buf: &mut Buffer, area: Rect, model: &Model) -> Line<'static> {
            match &model.screen {
                $(ActiveScreen::$State(screen) => $file::body(buf, area, model, screen),)*
            }
        }
    };
}
crate::app::screens!(drawing);
