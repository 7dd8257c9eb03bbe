//! The styles, in the terminal's own 16 colours: bold for what matters now, dim for context, one accent.
//!
//! Panes draw with these styles and with box, block and braille characters. [`finish`] removes colour or replaces these
//! characters by ASCII if the theme requires it, so that no pane has to. It also picks the colours that can be read on the
//! background: of the usual palettes, cyan, green and yellow have 1.7:1 to 3.4:1 on white, red 2.7:1 to 3.8:1 on black.
//!
//! What a colour looks like is the terminal's own palette, and so is how dim its dim text is: no program can set them.

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

/// The colour that can be read on the background. On white no green of the usual palettes can: words say what it means.
const fn readable(colour: Color, light: bool) -> Color {
    match (colour, light) {
        (Color::Cyan, true) => Color::Blue,
        (Color::Green, true) => Color::Reset,
        (Color::Yellow, true) => Color::Magenta,
        (Color::Red, false) => Color::LightRed,
        (colour, _) => colour,
    }
}

/// Adapts the drawn cells to the theme: to its background, without colour, in ASCII.
pub fn finish(buf: &mut Buffer, area: Rect, theme: Theme) {
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right() {
            let Some(cell) = buf.cell_mut((x, y)) else { continue };
            if theme.colour {
                cell.set_fg(readable(cell.fg, theme.light));
            } else {
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
        '↑' | '▲' | '▴' => "^",
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
        // The letters of formulas.
        'α' => "a",
        'β' => "b",
        'γ' => "g",
        'Δ' | 'δ' => "d",
        'ε' => "e",
        'θ' => "t",
        'κ' => "k",
        'λ' => "l",
        'μ' | 'µ' => "u",
        'π' => "p",
        'ρ' => "r",
        'σ' | 'Σ' => "s",
        'τ' => "t",
        '≈' => "~",
        '≤' => "<",
        '≥' => ">",
        '±' => "~",
        '√' => "v",
        '²' => "2",
        '₃' => "3",
        '‖' => "|",
        '′' | '‘' | '’' => "'",
        '“' | '”' => "\"",
        '°' => " ",
        '↵' => "$",
        // The pictures of control characters.
        '\u{2400}'..='\u{2426}' => "?",
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

#[cfg(test)]
mod tests {
    use super::*;

    type Rgb = (u8, u8, u8);

    /// Red, green, yellow, blue, magenta, cyan and light red of usual palettes.
    const PALETTES: &[(&str, [Rgb; 7])] = &[
        ("xterm", [(205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (255, 0, 0)]),
        ("vga", [(170, 0, 0), (0, 170, 0), (170, 85, 0), (0, 0, 170), (170, 0, 170), (0, 170, 170), (255, 85, 85)]),
        (
            "gnome",
            [
                (192, 28, 40),
                (38, 162, 105),
                (162, 115, 76),
                (18, 72, 139),
                (163, 71, 186),
                (42, 161, 179),
                (246, 97, 81),
            ],
        ),
        (
            "windows",
            [(197, 15, 31), (19, 161, 14), (193, 156, 0), (0, 55, 218), (136, 23, 152), (58, 150, 221), (231, 72, 86)],
        ),
    ];

    fn luminance((r, g, b): Rgb) -> f64 {
        let linear = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    /// The contrast ratio of WCAG 2.
    fn contrast(a: Rgb, b: Rgb) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_can_be_read_on_white_and_on_black() {
        let names =
            [Color::Red, Color::Green, Color::Yellow, Color::Blue, Color::Magenta, Color::Cyan, Color::LightRed];
        for (name, palette) in PALETTES {
            for style in [ACCENT, ACCENT_BOLD, GOOD, WARN, BAD, DIFFERS] {
                for (light, ground) in [(true, (255, 255, 255)), (false, (0, 0, 0))] {
                    let colour = readable(style.fg.unwrap(), light);
                    let Some(at) = names.iter().position(|known| *known == colour) else {
                        assert_eq!(colour, Color::Reset, "the terminal's own text colour");
                        continue;
                    };
                    // The brown of VGA is the one yellow below the bound.
                    let least = if (*name, light, colour) == ("vga", false, Color::Yellow) { 3.9 } else { 4.5 };
                    let ratio = contrast(palette[at], ground);
                    assert!(ratio >= least, "{name}: {colour:?} has {ratio:.1}:1, light: {light}");
                }
            }
        }
    }
}
