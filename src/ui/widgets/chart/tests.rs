//! The chart: spikes, NaN, gaps, narrow windows, ASCII, and how few cells a new point changes.

use super::*;
use crate::domain::mix64;

fn line(points: &[(u64, f64)]) -> Line {
    let mut line = Line::default();
    for (step, y) in points {
        line.push(*step, *y, step * 1000);
    }
    line
}

fn chart(line: &Line, stroke: Stroke, last: f64) -> Chart<'_> {
    let all = line.bucket(0..line.len());
    Chart {
        curves: vec![Curve { line, stroke, style: Style::default() }],
        axis: Axis::Step,
        unit: Unit::Step,
        window: StepRange { lo: 0.0, hi: last },
        span: ValueRange::fit(None, all.min, all.max, false),
        cursor: None,
        marks: Vec::new(),
        ascii: false,
        ink: Ink::default(),
    }
}

fn draw(chart: &Chart<'_>, width: u16, height: u16) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    chart.render(area, &mut buf);
    (0..height).map(|y| (0..width).map(|x| buf[(x, y)].symbol().to_owned()).collect()).collect()
}

#[test]
fn a_straight_line_is_straight() {
    let rising = line(&[(0, 0.0), (10, 1.0)]);
    let rows = draw(&chart(&rising, Stroke::Solid, 10.0), GUTTER + 8, 3);
    // Two dots up for two dots to the right: a diagonal without a gap.
    let plot: Vec<String> = rows[..2].iter().map(|r| r.chars().skip(GUTTER.into()).collect()).collect();
    let inked = |column: usize| plot.iter().any(|r| r.chars().nth(column) != Some(' '));
    assert!((0..8).all(inked), "{rows:?}");
    assert!(plot[0].starts_with("   ") && plot[1].ends_with("   "), "{rows:?}");
}

#[test]
fn a_spike_of_one_point_in_a_hundred_thousand_reaches_the_top() {
    let points: Vec<(u64, f64)> = (0..100_000).map(|s| (s, if s == 77_777 { 50.0 } else { 1.0 })).collect();
    let spiky = line(&points);
    for (width, stroke) in [(40, Stroke::Solid), (80, Stroke::Dashed), (200, Stroke::Dotted)] {
        let mut c = chart(&spiky, stroke, 100_000.0);
        c.span = Some(ValueRange { lo: 0.0, hi: 50.0, log: false });
        let rows = draw(&c, width, 8);
        let plot = width - GUTTER;
        let column = usize::from(GUTTER) + (77_777 * usize::from(plot)) / 100_000;
        let top: String = rows[0].chars().skip(column.saturating_sub(1)).take(3).collect();
        assert!(top.chars().any(|c| c > '\u{2800}'), "{width}: {rows:#?}");
    }
}

#[test]
fn nan_is_marked_and_breaks_the_curve() {
    let points: Vec<(u64, f64)> = (0..40).map(|s| (s, if (18..22).contains(&s) { f64::NAN } else { 1.0 })).collect();
    let holed = line(&points);
    let rows = draw(&chart(&holed, Stroke::Solid, 40.0), GUTTER + 40, 5);
    assert!(rows[3].contains("××××NaN"), "{rows:#?}");
    let curve = rows.iter().find(|r| r.chars().any(|c| c > '\u{2800}')).unwrap();
    let middle: String = curve.chars().skip(usize::from(GUTTER) + 19).take(2).collect();
    assert_eq!(middle, "  ", "{rows:#?}");
}

#[test]
fn missing_steps_are_not_bridged() {
    let mut points: Vec<(u64, f64)> = (0..10).map(|s| (s, 1.0)).collect();
    points.extend((30..40).map(|s| (s, 1.0)));
    let gap = line(&points);
    let rows = draw(&chart(&gap, Stroke::Solid, 40.0), GUTTER + 40, 4);
    let curve = rows.iter().find(|r| r.chars().any(|c| c > '\u{2800}')).unwrap();
    assert!(curve.chars().skip(usize::from(GUTTER) + 11).take(18).all(|c| c == ' '), "{rows:#?}");
}

#[test]
fn a_curve_crosses_a_window_without_points() {
    let sparse = line(&[(0, 1.0), (100, 1.0)]);
    let mut c = chart(&sparse, Stroke::Solid, 100.0);
    c.window = StepRange { lo: 40.0, hi: 60.0 };
    // No point is inside, but the line passes through.
    let rows = draw(&c, GUTTER + 10, 4);
    assert!(rows.iter().any(|r| r.chars().filter(|c| *c > '\u{2800}').count() == 10), "{rows:#?}");
}

#[test]
fn ascii_draws_nothing_but_ascii() {
    let points: Vec<(u64, f64)> = (0..200).map(|s| (s, (mix64(s) % 100) as f64 - 50.0)).collect();
    let noise = line(&points);
    let mut c = chart(&noise, Stroke::Solid, 200.0);
    c.ascii = true;
    c.cursor = Some(100.0);
    c.marks = vec![50.0];
    let text = draw(&c, 60, 10).join("\n");
    assert!(text.is_ascii(), "{text}");
    assert!(text.contains('*') && text.contains('|') && text.contains('^'), "{text}");
}

#[test]
fn a_new_point_changes_few_cells() {
    let points: Vec<(u64, f64)> =
        (1..=300).map(|s| (s, 0.7 - s as f64 / 1000.0 + (mix64(s) % 10) as f64 / 100.0)).collect();
    let (area, mut before) = (Rect::new(0, 0, 60, 10), None::<(Buffer, Option<ValueRange>)>);
    let mut most = 0;
    for n in 200..=300 {
        let now = line(&points[..n]);
        let all = now.bucket(0..n);
        let mut c = chart(&now, Stroke::Solid, 0.0);
        c.window = StepRange::fit(n as f64, Some(640.0), 20.0, 0, None);
        c.span = ValueRange::fit(before.as_ref().and_then(|b| b.1), all.min, all.max, false);
        let mut buf = Buffer::empty(area);
        c.render(area, &mut buf);
        if let Some((old, _)) = &before {
            let touched = old.diff(&buf).len();
            // The window grows now and then, which redraws the chart.
            if touched < 30 {
                most = most.max(touched);
            }
        }
        before = Some((buf, c.span));
    }
    assert!(most > 0 && most <= 12, "{most}");
}

#[test]
fn tiny_areas_do_not_panic() {
    let some = line(&[(1, 1.0), (2, f64::NAN), (3, 5.0)]);
    for width in 0..20 {
        for height in 0..5 {
            let mut c = chart(&some, Stroke::Dashed, 3.0);
            c.cursor = Some(2.0);
            c.marks = vec![3.0];
            let area = Rect::new(0, 0, width, height);
            c.render(area, &mut Buffer::empty(area));
        }
    }
}

#[test]
fn times_are_short() {
    let got: Vec<String> = [0.0, 42.0, 180.0, 200.0, 7200.0, 7500.0].into_iter().map(clock).collect();
    assert_eq!(got, ["0s", "42s", "3m", "3:20", "2h", "2h05"]);
}
