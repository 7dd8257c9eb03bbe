//! The line chart: from series to cells, without losing a spike.
//!
//! Owns the drawing of points as dots, axis labels and marks. Refuses to choose ranges (the state machine does, so that
//! they are stable) and to tell curves apart by colour alone: each has its own stroke.

pub use super::raster::Stroke;

use super::raster::Raster;
use super::ticks::{of_range, tick_label, ticks};
use crate::domain::{Axis, Line, StepRange, ValueRange};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;

#[cfg(test)]
mod tests;

/// The width of the y-axis labels, left of the plot.
pub const GUTTER: u16 = 7;

/// One curve.
#[derive(Debug, Clone, Copy)]
pub struct Curve<'a> {
    /// Its points.
    pub line: &'a Line,
    /// Its stroke.
    pub stroke: Stroke,
    /// Its colour and weight.
    pub style: Style,
}

/// The unit of the x-axis labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// Steps.
    Step,
    /// Epochs of this many steps.
    Epoch(f64),
    /// Running time.
    Time,
}

/// Styles of the parts that are not curves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ink {
    /// Axis labels.
    pub faint: Style,
    /// The cursor.
    pub cursor: Style,
    /// Non-finite values.
    pub alarm: Style,
    /// Checkpoints.
    pub mark: Style,
}

/// A chart over a window. Later curves are drawn over earlier ones.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    /// The curves.
    pub curves: Vec<Curve<'a>>,
    /// The x-axis.
    pub axis: Axis,
    /// The unit of its labels.
    pub unit: Unit,
    /// The visible part of the x-axis.
    pub window: StepRange,
    /// The range of values; none without values.
    pub span: Option<ValueRange>,
    /// The cursor's position on the x-axis.
    pub cursor: Option<f64>,
    /// The checkpoints' positions on the x-axis.
    pub marks: Vec<f64>,
    /// Whether only ASCII may be drawn.
    pub ascii: bool,
    /// Styles of the parts that are not curves.
    pub ink: Ink,
}

impl Widget for &Chart<'_> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        let area = area.intersection(buf.area);
        if area.height < 2 || area.width <= GUTTER + 2 {
            return;
        }
        let plot = Rect { x: area.x + GUTTER, width: area.width - GUTTER, height: area.height - 1, ..area };
        self.numbers(area, plot, buf);
        let Some(span) = self.span else { return };
        let mut raster = Raster::new(plot.width, plot.height, self.ascii);
        let mut broken = Vec::new();
        for (index, curve) in self.curves.iter().enumerate() {
            broken.extend(self.trace(&mut raster, curve, index, span));
        }
        raster.paint(plot, buf, |index| self.curves[index].style);
        self.alarms(&broken, plot, buf);
        self.draw_cursor(plot, buf);
    }
}

impl Chart<'_> {
    /// The column of `x`, of `columns` columns.
    fn column(&self, x: f64, columns: usize) -> i64 {
        // The right end belongs to the last column.
        let at = (self.window.place(x) * columns as f64).floor() as i64;
        if x == self.window.hi { columns as i64 - 1 } else { at }
    }

    /// Draws a curve; returns the cell columns with non-finite values, each with one such value.
    fn trace(&self, raster: &mut Raster, curve: &Curve<'_>, owner: usize, span: ValueRange) -> Vec<(u16, f64)> {
        let (columns, rows) = (raster.columns(), raster.rows());
        let row = |y: f64| ((1.0 - span.place(y).clamp(0.0, 1.0)) * (rows as f64 - 1.0)).round() as i64;
        let width = self.window.hi - self.window.lo;
        let edge = |c: usize| self.window.lo + width * c as f64 / columns as f64;
        let line = curve.line;
        let mut broken = Vec::new();
        let start = line.before(self.axis, self.window.lo);
        // Start at the point left of the window, so that the curve enters it correctly.
        let mut pen = start.checked_sub(1).and_then(|at| self.stand(line, at, columns, &row));
        let mut from = start;
        for c in 0..columns {
            let to = if c + 1 == columns {
                // The right end is included.
                line.before(self.axis, self.window.hi + width * 1e-9).max(from)
            } else {
                line.before(self.axis, edge(c + 1)).max(from)
            };
            if from == to {
                continue;
            }
            let bucket = line.bucket(from..to);
            if bucket.bad > 0 {
                let value = (from..to).filter_map(|at| line.point(at)).map(|p| p.1).find(|y| !y.is_finite());
                broken.push((raster.cell_of(c), value.unwrap_or(f64::NAN)));
            }
            let here = c as i64;
            if !bucket.is_empty() {
                let opens = line.point(from).is_some_and(|p| p.1.is_finite()) && !line.gap_before(from);
                if curve.stroke == Stroke::Marks {
                    raster.mark(here, row(bucket.min), owner);
                    raster.mark(here, row(bucket.max), owner);
                } else {
                    if let Some((column, last)) = pen.filter(|_| opens) {
                        raster.join((column, last), (here, row(bucket.first)), curve.stroke, owner);
                    }
                    raster.column(here, row(bucket.max), row(bucket.min), curve.stroke, owner);
                }
            }
            pen = match line.point(to - 1) {
                Some((_, y, _)) if y.is_finite() => Some((here, row(y))),
                _ => None,
            };
            from = to;
        }
        // Join to the point right of the window.
        if let (Some(pen), Some(next)) = (pen, self.stand(line, from, columns, &row))
            && curve.stroke != Stroke::Marks
            && !line.gap_before(from)
        {
            raster.join(pen, next, curve.stroke, owner);
        }
        broken
    }

    /// The column and row of a finite point.
    fn stand(&self, line: &Line, at: usize, columns: usize, row: &dyn Fn(f64) -> i64) -> Option<(i64, i64)> {
        let (_, y, _) = line.point(at)?;
        y.is_finite().then_some((self.column(line.x(self.axis, at)?, columns), row(y)))
    }

    /// The axis labels and the checkpoint marks.
    fn numbers(&self, area: Rect, plot: Rect, buf: &mut Buffer) {
        if let Some(span) = self.span {
            let most = usize::from(plot.height / 2).clamp(2, 8).min(usize::from(plot.height));
            let values = of_range(&span, most);
            let step = if span.log { 0.0 } else { values.windows(2).map(|w| w[1] - w[0]).next().unwrap_or(span.hi) };
            let mut said: Vec<String> = Vec::new();
            for value in values {
                let row = ((1.0 - span.place(value)) * (f64::from(plot.height) - 1.0)).round() as u16;
                let text = if span.log {
                    format!("1e{}", value.log10().round()).replace('-', "−")
                } else {
                    tick_label(value, step, usize::from(GUTTER) - 1)
                };
                let text = if self.ascii { text.replace('−', "-") } else { text };
                // Skip a label that is equal after rounding.
                if said.contains(&text) {
                    continue;
                }
                buf.set_string(area.x, plot.y + row.min(plot.height - 1), format!("{text:>6}"), self.ink.faint);
                said.push(text);
            }
        }
        let y = area.bottom() - 1;
        for mark in self.marks.iter().filter(|m| self.window.holds(**m)) {
            let column = self.column(*mark, usize::from(plot.width)).clamp(0, i64::from(plot.width) - 1) as u16;
            buf.set_string(plot.x + column, y, if self.ascii { "^" } else { "▴" }, self.ink.mark);
        }
        let scale = match self.unit {
            Unit::Step => 1.0,
            Unit::Epoch(steps) => steps.max(1.0),
            Unit::Time => 1000.0,
        };
        let (lo, hi) = (self.window.lo / scale, self.window.hi / scale);
        let values =
            if self.unit == Unit::Time { clock_ticks(lo, hi, plot.width) } else { round_ticks(lo, hi, plot.width) };
        let step = values.windows(2).map(|w| w[1] - w[0]).next().unwrap_or(1.0);
        // Only whole steps.
        let values = values.into_iter().filter(|v| self.unit != Unit::Step || v.fract() == 0.0);
        let mut free = plot.x;
        for value in values {
            let text = match self.unit {
                Unit::Time => clock(value),
                Unit::Step => tick_label(value, step.floor(), 6),
                Unit::Epoch(_) => tick_label(value, step, 6),
            };
            let len = text.chars().count() as u16;
            let at = plot.x + self.column(value * scale, usize::from(plot.width)).max(0) as u16;
            // Centred below its column, or right after a checkpoint mark; the last label ends at the edge.
            let under = at.saturating_sub(if at == plot.x { 0 } else { len / 2 });
            let place = [under, at + 1, at.saturating_sub(len)].into_iter().find(|start| {
                let end = start + len;
                *start >= free && end <= plot.right() && !(*start..end).any(|x| self.has_mark(x, plot))
            });
            if let Some(start) = place {
                buf.set_string(start, y, &text, self.ink.faint);
                free = start + len + 1;
            }
        }
    }

    fn has_mark(&self, x: u16, plot: Rect) -> bool {
        self.marks
            .iter()
            .filter(|m| self.window.holds(**m))
            .any(|m| self.column(*m, usize::from(plot.width)).clamp(0, i64::from(plot.width) - 1) as u16 + plot.x == x)
    }

    /// Marks non-finite values at the bottom of the plot, with a word beside the last one.
    fn alarms(&self, broken: &[(u16, f64)], plot: Rect, buf: &mut Buffer) {
        let y = plot.bottom() - 1;
        for (column, _) in broken {
            buf.set_string(plot.x + column, y, if self.ascii { "x" } else { "×" }, self.ink.alarm);
        }
        if let Some((column, value)) = broken.iter().max_by_key(|b| b.0) {
            let word = if value.is_nan() { "NaN" } else { "inf" };
            let after = plot.x + column + 1;
            let at = if after + 3 <= plot.right() { after } else { (plot.x + column).saturating_sub(3) };
            buf.set_string(at, y, word, self.ink.alarm);
        }
    }

    fn draw_cursor(&self, plot: Rect, buf: &mut Buffer) {
        let Some(x) = self.cursor.filter(|x| self.window.holds(*x)) else { return };
        let column = self.column(x, usize::from(plot.width)).clamp(0, i64::from(plot.width) - 1) as u16;
        for y in plot.top()..plot.bottom() {
            if let Some(cell) = buf.cell_mut((plot.x + column, y)) {
                if cell.symbol() == " " {
                    cell.set_symbol(if self.ascii { "|" } else { "│" });
                }
                cell.set_style(self.ink.cursor);
            }
        }
    }
}

/// Round tick values for an axis `width` cells wide; whole numbers if the range allows.
fn round_ticks(lo: f64, hi: f64, width: u16) -> Vec<f64> {
    let most = usize::from(width / 10).clamp(2, 8);
    ticks(lo, hi, most)
}

/// Round tick times in seconds: steps of seconds, minutes, hours or days.
fn clock_ticks(lo: f64, hi: f64, width: u16) -> Vec<f64> {
    let most = f64::from((width / 10).clamp(2, 8));
    let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0];
    let raw = (hi - lo) / most;
    let step = steps.into_iter().find(|s| *s >= raw).unwrap_or((raw / 86400.0).ceil().max(1.0) * 86400.0);
    let first = (lo / step).ceil() as i64;
    let last = (hi / step).floor() as i64;
    (first..=last).map(|k| k as f64 * step).collect()
}

/// Seconds as `42s`, `3m`, `3:20`, `2h`, `2h05`.
#[must_use]
pub fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}:{s:02}"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h{m:02}"),
    }
}
