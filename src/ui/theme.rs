//! The styles, in the terminal's own 16 colours: bold for what matters now, dim for context, one accent.
//!
//! Panes draw with these styles and with box, block and braille characters. [`finish`] removes colour or replaces these
//! characters by ASCII if the theme requires it, so that no pane has to.

use crate::app::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

/// Context: frames, units, hints.
pub const DIM: Style = Style::new().add_modifier(Modifier::DIM);
/// Plain text.
pub const TEXT: Style = Style::new();
/// What matters now.
pub const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
/// The one accent: what is selected, what a key does.
pub const ACCENT: Style = Style::new().fg(Color::Cyan);
/// The accent, for what is selected.
pub const ACCENT_BOLD: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
/// Saved, live, finished.
pub const GOOD: Style = Style::new().fg(Color::Green);
/// Probably wrong, not yet saved.
pub const WARN: Style = Style::new().fg(Color::Yellow);
/// Failed, not saved.
pub const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
/// A word that differs.
pub const DIFFERS: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::UNDERLINED);

/// Adapts the drawn cells to the theme: without colour, in ASCII.
pub fn finish(buf: &mut Buffer, area: Rect, theme: Theme) {
    if theme.colour && !theme.ascii {
        return;
    }
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right() {
            let Some(cell) = buf.cell_mut((x, y)) else { continue };
            if !theme.colour {
                cell.set_fg(Color::Reset);
                cell.set_bg(Color::Reset);
            }
            if theme.ascii
                && let Some(plain) = ascii(cell.symbol())
            {
                cell.set_symbol(plain);
            }
        }
    }
}

/// The ASCII replacement of a drawing character; none keeps the character, as in a model's own text.
fn ascii(symbol: &str) -> Option<&'static str> {
    let mut chars = symbol.chars();
    let (c, rest) = (chars.next()?, chars.next());
    if c.is_ascii() || rest.is_some() {
        return None;
    }
    Some(match c {
        '─' | '━' | '╌' | '┄' | '–' | '—' | '−' => "-",
        '│' | '┃' | '╎' | '┆' => "|",
        '┌'..='╋' | '╭'..='╰' => "+",
        '›' | '▸' | '→' | '▶' => ">",
        '‹' | '◂' | '←' => "<",
        '↑' | '▲' => "^",
        '↓' | '▼' => "v",
        '·' | '•' => ".",
        '…' => "~",
        '✓' => "+",
        '✎' => "*",
        '⚠' => "!",
        '✂' => "%",
        '↪' => ">",
        '×' | '✗' => "x",
        '◉' | '●' | '■' | '◆' => "*",
        '○' | '◌' | '◇' => "o",
        '▁' => "_",
        '▂' => ".",
        '▃' | '▄' => "-",
        '▅' | '▆' => "=",
        '▇' | '█' => "#",
        '▍'..='▏' => ".",
        '▉'..='▌' => "#",
        '░' | '▒' => ":",
        '▓' => "#",
        '\u{2800}' => " ",
        // Braille dots in the upper half, in the lower half, in both.
        '\u{2801}'..='\u{28ff}' => {
            let bits = c as u32 - 0x2800;
            match (bits & 0b0001_1011 != 0, bits & 0b1110_0100 != 0) {
                (true, true) => ":",
                (true, false) => "'",
                _ => ".",
            }
        }
        _ => return None,
    })
}
