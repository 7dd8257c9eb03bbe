//! A series in one row of text.

use crate::domain::Line;

/// Bars from empty to full.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same without Unicode.
const ASCII: [char; 8] = ['_', '_', '.', '.', '-', '-', '^', '^'];

/// The whole series in at most `width` characters, scaled to its range. A column shows the value farthest from the
/// middle of the range, so that no spike is lost; a column with only non-finite values shows `×`.
#[must_use]
pub fn sparkline(line: &Line, width: usize, ascii: bool) -> String {
    let all = line.bucket(0..line.len());
    let width = width.min(line.len());
    let middle = f64::midpoint(all.min, all.max);
    let bars = if ascii { ASCII } else { BARS };
    let mut out = String::with_capacity(width * 3);
    for column in 0..width {
        let bucket = line.bucket(column * line.len() / width..(column + 1) * line.len() / width);
        if bucket.is_empty() {
            out.push(if ascii { 'x' } else { '×' });
            continue;
        }
        let y = if bucket.max - middle >= middle - bucket.min { bucket.max } else { bucket.min };
        let share = if all.max > all.min { (y - all.min) / (all.max - all.min) } else { 0.5 };
        out.push(bars[((share * 7.0).round() as usize).min(7)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_and_nan_are_visible() {
        let mut line = Line::default();
        for step in 1..=100u64 {
            let y = match step {
                37 => 9.0,
                91..=100 => f64::NAN,
                _ => 1.0,
            };
            line.push(step, y, 0);
        }
        assert_eq!(sparkline(&line, 10, false), "▁▁▁█▁▁▁▁▁×");
        assert_eq!(sparkline(&line, 10, true), "___^_____x");
        assert_eq!(sparkline(&Line::default(), 10, false), "");
    }
}
