//! Small helpers: progress bars, short numbers, centred lines.

use crate::app::{cells, clip};
use crate::ui::theme::{BOLD, DIM};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

/// A fraction as a bar `width` cells wide, in eighths of a cell.
#[must_use]
pub fn bar(share: f64, width: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut out: String = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        out.push(PARTS[eighths % 8]);
    }
    let rest = width.saturating_sub(eighths.div_ceil(8));
    out + &"·".repeat(rest)
}

/// A fraction as a bar on a shaded background, `width` cells wide, in eighths of a cell.
#[must_use]
pub fn gauge(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut out = "█".repeat(eighths / 8);
    if let Some(part) = [None, Some('▏'), Some('▎'), Some('▍'), Some('▌'), Some('▋'), Some('▊'), Some('▉')][eighths % 8]
    {
        out.push(part);
    }
    while out.chars().count() < width {
        out.push('░');
    }
    out
}

/// Lines in the middle of an area, the first one bold.
pub fn centred(buf: &mut Buffer, area: Rect, lines: &[String]) {
    let top = area.y + area.height.saturating_sub(lines.len() as u16) / 2;
    for (i, text) in lines.iter().enumerate() {
        let y = top + i as u16;
        if y >= area.bottom() {
            return;
        }
        let text = clip(text, usize::from(area.width));
        let x = area.x + (area.width.saturating_sub(cells(&text) as u16)) / 2;
        buf.set_string(x, y, text, if i == 0 { BOLD } else { DIM });
    }
}

/// 12345678 as `12.3 M`.
#[must_use]
pub fn count(n: u64) -> String {
    match n {
        0..=9_999 => n.to_string(),
        10_000..=999_999 => format!("{:.0} k", n as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.1} G", n as f64 / 1e9),
    }
}

/// Bytes as `1.9 GB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    match n {
        0..=999 => format!("{n} B"),
        1_000..=999_999 => format!("{:.0} kB", n as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.0} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// Says at the right end of a row that so many more follow below.
pub fn more_mark(buf: &mut Buffer, row: Rect, more: usize) {
    let text = format!("   ↓ {more} more ");
    let width = cells(&text) as u16;
    buf.set_stringn(row.right().saturating_sub(width), row.y, text, usize::from(width), DIM);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_the_requested_width() {
        for (share, want) in
            [(0.0, "····"), (0.5, "██··"), (1.0, "████"), (0.3, "█▎··"), (7.0, "████"), (f64::NAN, "····")]
        {
            assert_eq!(bar(share, 4), want, "{share}");
        }
        assert_eq!(
            (count(1234), count(12_345_678), bytes(1_900_000_000)),
            ("1234".into(), "12.3 M".into(), "1.9 GB".into())
        );
    }
}
