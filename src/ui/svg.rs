//! A drawn buffer as an SVG picture: a monospace grid with the terminal's colours, for the README and for reports.

use crate::domain::sanitise;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use std::fmt::Write;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Width and height of a cell and the font's size, in the picture's units.
const CELL: (f64, f64) = (8.4, 18.0);
const FONT: f64 = 14.0;
const MARGIN: f64 = 12.0;
/// Background and text of the picture.
const PAPER: &str = "#16181d";
const INK: &str = "#d7dae0";

/// The picture of a buffer. `title` is its accessible name.
#[must_use]
pub fn svg(buf: &Buffer, title: &str) -> String {
    let area = buf.area;
    let (w, h) = (f64::from(area.width) * CELL.0 + 2.0 * MARGIN, f64::from(area.height) * CELL.1 + 2.0 * MARGIN);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" height=\"{h:.0}\" role=\"img\" font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"{FONT}\">\n<title>{}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{PAPER}\"/>",
        escape(title)
    );
    for y in area.top()..area.bottom() {
        let mut x = area.left();
        while x < area.right() {
            let Some(cell) = buf.cell((x, y)) else { break };
            // Cells of one style form one text; a wide character is a text of its own.
            let start = x;
            let mut text = String::new();
            while let Some(next) = buf.cell((x, y)).filter(|next| x < area.right() && same(cell, next)) {
                let wide = next.symbol().width() > 1;
                if wide && x > start {
                    break;
                }
                text.push_str(next.symbol());
                x += next.symbol().width().max(1) as u16;
                if wide {
                    break;
                }
            }
            run(&mut out, cell, (start - area.left(), y - area.top()), x - start, &text);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn same(a: &Cell, b: &Cell) -> bool {
    a.fg == b.fg && a.bg == b.bg && a.modifier == b.modifier
}

fn run(out: &mut String, cell: &Cell, at: (u16, u16), cells: u16, text: &str) {
    let reversed = cell.modifier.contains(Modifier::REVERSED);
    let (mut fg, mut bg) = (colour(cell.fg).unwrap_or(INK), colour(cell.bg));
    if reversed {
        (fg, bg) = (bg.unwrap_or(PAPER), Some(fg));
    }
    let (x, y) = (MARGIN + f64::from(at.0) * CELL.0, MARGIN + f64::from(at.1) * CELL.1);
    let width = f64::from(cells) * CELL.0;
    if let Some(bg) = bg {
        let _ =
            writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{bg}\"/>", CELL.1);
    }
    if text.trim().is_empty() {
        return;
    }
    let dim = if cell.modifier.contains(Modifier::DIM) { " opacity=\"0.55\"" } else { "" };
    let mut attributes = String::new();
    if cell.modifier.contains(Modifier::BOLD) {
        attributes.push_str(" font-weight=\"bold\"");
    }
    if cell.modifier.contains(Modifier::ITALIC) {
        attributes.push_str(" font-style=\"italic\"");
    }
    if cell.modifier.contains(Modifier::UNDERLINED) {
        attributes.push_str(" text-decoration=\"underline\"");
    }
    let mut shapes = String::new();
    let mut piece = Piece { x, cells: 0, text: String::new() };
    let mut flush = |piece: &mut Piece, next: f64| {
        let words = piece.text.trim_end_matches(' ');
        if !words.trim().is_empty() {
            let width = piece.cells as f64 * CELL.0;
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{fg}\" xml:space=\"preserve\"{attributes}{dim}>{}</text>",
                piece.x,
                y + CELL.1 * 0.75,
                escape(&piece.text)
            );
        }
        *piece = Piece { x: next, cells: 0, text: String::new() };
    };
    let mut at = x;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        let next = at + wide as f64 * CELL.0;
        if shape(&mut shapes, c, (at, y)) {
            flush(&mut piece, next);
        } else if c == ' ' && (piece.text.is_empty() || piece.text.ends_with(' ')) {
            // Words more than a blank apart are placed separately, so that a slightly wider font moves none of them.
            flush(&mut piece, next);
        } else {
            piece.text.push(c);
            piece.cells += wide;
        }
        at = next;
    }
    flush(&mut piece, at);
    if !shapes.is_empty() {
        let _ = writeln!(out, "<path d=\"{shapes}\" fill=\"{fg}\"{dim}/>");
    }
}

/// Text written as one element.
struct Piece {
    x: f64,
    cells: usize,
    text: String,
}

/// Draws rules, bars and chart dots as shapes, since fonts differ in their width and position. False for text.
fn shape(out: &mut String, c: char, (x, y): (f64, f64)) -> bool {
    let (w, h) = CELL;
    let (mx, my) = (x + w / 2.0, y + h / 2.0);
    let mut fill = |x: f64, y: f64, w: f64, h: f64| {
        let _ = write!(out, "M{x:.1} {y:.1}h{w:.1}v{h:.1}h{:.1}z", -w);
    };
    let code = u32::from(c);
    match c {
        '\u{2800}'..='\u{28ff}' => {
            for (bit, column, row) in
                [(0, 0, 0), (1, 0, 1), (2, 0, 2), (6, 0, 3), (3, 1, 0), (4, 1, 1), (5, 1, 2), (7, 1, 3)]
            {
                if (code >> bit) & 1 == 1 {
                    let (x, y) = (x + w * (0.25 + 0.5 * f64::from(column)), y + h * (0.125 + 0.25 * f64::from(row)));
                    fill(x - 1.1, y - 1.1, 2.2, 2.2);
                }
            }
        }
        '─' => fill(x, my - 0.5, w, 1.0),
        '━' => fill(x, my - 1.0, w, 2.0),
        '╌' => {
            fill(x + w * 0.1, my - 0.5, w * 0.3, 1.0);
            fill(x + w * 0.6, my - 0.5, w * 0.3, 1.0);
        }
        '│' => fill(mx - 0.5, y, 1.0, h),
        '┃' => fill(mx - 1.0, y, 2.0, h),
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => {
            // The arms of the junction.
            let (left, right) = ("┐┘┤┬┴┼".contains(c), "┌└├┬┴┼".contains(c));
            let (up, down) = ("└┘├┤┴┼".contains(c), "┌┐├┤┬┼".contains(c));
            let (from, to) = (if left { x } else { mx - 0.5 }, if right { x + w } else { mx + 0.5 });
            fill(from, my - 0.5, to - from, 1.0);
            let (from, to) = (if up { y } else { my - 0.5 }, if down { y + h } else { my + 0.5 });
            fill(mx - 0.5, from, 1.0, to - from);
        }
        '▁'..='█' => {
            let share = f64::from(code - 0x2580) / 8.0;
            fill(x, y + h * (1.0 - share), w, h * share);
        }
        '▉'..='▏' => fill(x, y + h * 0.15, w * f64::from(0x2590 - code) / 8.0, h * 0.7),
        '░' => {
            for (dx, dy) in [(0.15, 0.25), (0.6, 0.4), (0.15, 0.55), (0.6, 0.7)] {
                fill(x + w * dx, y + h * dy, 1.2, 1.2);
            }
        }
        _ => return false,
    }
    true
}

fn colour(colour: Color) -> Option<&'static str> {
    Some(match colour {
        Color::Black => "#16181d",
        Color::Red => "#e06c75",
        Color::Green => "#98c379",
        Color::Yellow => "#e5c07b",
        Color::Blue => "#61afef",
        Color::Magenta => "#c678dd",
        Color::Cyan => "#56b6c2",
        Color::Gray => "#abb2bf",
        Color::DarkGray => "#5c6370",
        Color::LightRed => "#ef8f97",
        Color::LightGreen => "#b5d99c",
        Color::LightYellow => "#f0d399",
        Color::LightBlue => "#8cc5f5",
        Color::LightMagenta => "#d89be8",
        Color::LightCyan => "#7fd0da",
        Color::White => "#ffffff",
        _ => return None,
    })
}

fn escape(text: &str) -> String {
    sanitise(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
