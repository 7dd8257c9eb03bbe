//! One pane of the watch screen: title, values, chart.

use super::scene::Scene;
use crate::app::curves::{CurvePane, XUnit};
use crate::app::{cells, clip};
use crate::domain::Axis;
use crate::ui::frame::{over_rule, put_line, rule};
use crate::ui::theme::{ACCENT, ACCENT_BOLD, BAD, BOLD, DIM};
use crate::ui::widgets::chart::{Chart, Curve, Ink, Stroke, Unit};
use crate::ui::widgets::ticks::tick_label;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

/// Colours of a pane's curves; their strokes differ too.
const CURVES: [Style; 2] = [Style::new().fg(Color::Cyan), Style::new().fg(Color::Magenta)];
/// Evaluations and checkpoints.
const MARK: Style = Style::new().fg(Color::Yellow);

/// Draws a pane.
pub fn draw(scene: &Scene<'_>, pane: &CurvePane, focused: bool, area: Rect, buf: &mut Buffer) {
    if area.height < 2 || area.width < 4 {
        return;
    }
    let (run, watch) = (scene.run, scene.view);
    let axis = watch.unit.axis();
    let smooth = watch.smoothing() > 0.0;
    let mut curves = Vec::new();
    let mut groups = Vec::new();
    let mut legend = Vec::new();
    // Context is drawn below the main curves.
    for (at, (name, _)) in pane.curves.iter().enumerate() {
        let Some(series) = run.series(name) else { continue };
        for ghost in series.ghosts() {
            curves.push(Curve { line: ghost, stroke: Stroke::Dotted, style: DIM });
        }
        if smooth {
            curves.push(Curve {
                line: series.live(),
                stroke: Stroke::Dotted,
                style: CURVES[at % CURVES.len()].patch(DIM),
            });
        }
    }
    for (at, (name, label)) in pane.curves.iter().enumerate() {
        let stroke = if at == 0 { Stroke::Solid } else { Stroke::Dashed };
        let style = CURVES[at % CURVES.len()];
        if let Some(series) = run.series(name) {
            let shown = series.smoothed().unwrap_or(series.live());
            curves.push(Curve { line: shown, stroke, style });
            if !label.is_empty() {
                legend.push(Span::styled(format!("{} ", stroke.sample(scene.ascii)), style));
                // In a narrow pane, the first letters are enough.
                let room = if area.width < 50 { 3 } else { label.len() };
                legend.push(Span::styled(label.chars().take(room).collect::<String>(), DIM));
            }
            legend.push(Span::styled(value_at(shown, axis, watch.cursor), Style::default()));
        }
        groups.push(Group { spans: std::mem::take(&mut legend), marks: false });
        if let Some(eval) = run.eval_series(name) {
            curves.push(Curve { line: eval.live(), stroke: Stroke::Marks, style: MARK });
            legend.push(Span::styled(format!(" {} eval ", Stroke::Marks.sample(scene.ascii)), MARK));
            legend.push(Span::styled(value_at(eval.live(), axis, watch.cursor), Style::default()));
            groups.push(Group { spans: std::mem::take(&mut legend), marks: true });
        }
        legend.push(Span::raw(" "));
    }
    if watch.span(pane).is_some_and(|s| s.log) {
        legend.push(Span::styled("log ", DIM));
    }
    groups.push(Group { spans: legend, marks: false });
    title(buf, area, &pane.title, focused, groups);
    let per_epoch = run.plan.as_ref().map_or(0, |p| p.steps_per_epoch);
    let chart = Chart {
        curves,
        axis,
        unit: match watch.unit {
            XUnit::Step => Unit::Step,
            XUnit::Epoch => Unit::Epoch(per_epoch as f64),
            XUnit::Time => Unit::Time,
        },
        window: watch.window(run),
        span: watch.span(pane),
        cursor: watch.cursor,
        marks: run.checkpoints.iter().map(|c| if axis == Axis::Time { c.ms as f64 } else { c.step as f64 }).collect(),
        ascii: scene.ascii,
        ink: Ink { faint: DIM, cursor: ACCENT, alarm: BAD, mark: MARK },
    };
    (&chart).render(Rect { y: area.y + 1, height: area.height - 1, ..area }, buf);
}

/// The legend entry of a curve or of its evaluations: shown in full or not at all.
struct Group {
    spans: Vec<Span<'static>>,
    marks: bool,
}

/// The pane's first row: its name and current values. If not all fit, the evaluations' numbers are dropped first (their
/// marks stay in the chart), then the rightmost entries.
fn title(buf: &mut Buffer, area: Rect, name: &str, focused: bool, groups: Vec<Group>) {
    let mark = if focused { Span::styled("▸ ", over_rule(ACCENT_BOLD)) } else { Span::styled("─ ", DIM) };
    let style = over_rule(if focused { ACCENT_BOLD } else { BOLD });
    let mut spans = vec![mark, Span::styled(clip(name, usize::from(area.width) / 2), style), Span::raw(" ")];
    let mut used: usize = spans.iter().map(|s| cells(&s.content)).sum();
    let width = |group: &Group| group.spans.iter().map(|s| cells(&s.content)).sum::<usize>();
    let all = groups.iter().map(width).sum::<usize>();
    let marks_fit = used + all <= usize::from(area.width);
    for group in groups.into_iter().filter(|group| marks_fit || !group.marks) {
        used += width(&group);
        if used > usize::from(area.width) {
            break;
        }
        spans.extend(group.spans.into_iter().map(|span| Span::styled(span.content, over_rule(span.style))));
    }
    rule(buf, area, &Span::raw(""), "");
    put_line(buf, area, Line::from(spans));
}

/// The value at the cursor, or the last one.
fn value_at(line: &crate::domain::Line, axis: Axis, cursor: Option<f64>) -> String {
    let at = match cursor {
        Some(x) => line.nearest(axis, x),
        None => line.len().checked_sub(1),
    };
    at.and_then(|at| line.point(at)).map_or_else(|| "–".into(), |(_, y, _)| value(y))
}

/// A value with about four significant digits, always eight characters, the first one blank.
pub fn value(y: f64) -> String {
    let size = y.abs();
    let text = if !y.is_finite() {
        if y.is_nan() {
            "NaN".to_owned()
        } else if y > 0.0 {
            "inf".to_owned()
        } else {
            "−inf".to_owned()
        }
    } else if size != 0.0 && size < 1e-3 {
        format!("{y:.1e}").replace('-', "−")
    } else if size < 10.0 {
        format!("{y:.4}").replace('-', "−")
    } else if size < 100_000.0 {
        tick_label(y, if size < 1000.0 { 0.01 } else { 1.0 }, 7)
    } else {
        format!("{y:.2e}").replace('-', "−")
    };
    format!(" {text:>7}")
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn values_are_eight_wide() {
        for y in [0.0, 0.5931, -0.4031, 1e-5, -2.5e-6, 12.3456, 123.4, 98_765.4, 1.5e7, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(value(y).chars().count(), 8, "{y}: {:?}", value(y));
        }
        assert_eq!(value(0.593_15), "  0.5931");
    }
}
