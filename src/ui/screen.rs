//! The screens' drawing: what each says in the header and draws in the body. The list is in `app/screen.rs`; every name of
//! it has a file here with `header` and `body`.

use crate::app::{ActiveScreen, Model};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Makes of the list its files and the way to the one that is shown.
macro_rules! drawing {
    ($($file:ident::$State:ident)*) => {
        $(mod $file;)*

        /// Place and state for the header.
        pub fn header(model: &Model) -> (Vec<String>, Line<'static>) {
            match &model.screen {
                $(ActiveScreen::$State(screen) => $file::header(model, screen),)*
            }
        }

        /// Draws the body and gives the status line.
        pub fn body(buf: &mut Buffer, area: Rect, model: &Model) -> Line<'static> {
            match &model.screen {
                $(ActiveScreen::$State(screen) => $file::body(buf, area, model, screen),)*
            }
        }
    };
}
crate::app::screens!(drawing);
