//! Charts of a report as SVG: curves over steps, intervals beside each other, points with labels.
//!
//! Owns scales and drawing. Each line has a colour and a dash pattern of its own, so that a chart can be read without colour.
//! Points that are not finite leave a gap. Refuses to smooth or thin out below one value a pixel: a column keeps its least and its
//! greatest value.

use super::escape::escape;
use crate::domain::nice_step;
use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 28.0;

/// Colours that people with the common kinds of colour blindness can tell apart (Okabe and Ito 2008), with dash patterns.
const STYLES: &[(&str, &str)] = &[
    ("#0072b2", ""),
    ("#d55e00", "6 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "8 3 2 3"),
    ("#56b4e9", "12 4"),
    ("#e69f00", "1 4"),
];

/// A line or a set of points.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartLine {
    /// Its name.
    pub name: String,
    /// x and y.
    pub points: Vec<(f64, f64)>,
}

/// A row of an interval chart.
#[derive(Debug, Clone, PartialEq)]
pub struct ChartInterval {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: f64,
    /// The ends.
    pub interval: Option<[f64; 2]>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportChart {
    /// Lines over x.
    Lines {
        /// What it shows.
        title: String,
        /// The name of the x axis.
        x: String,
        /// The lines.
        lines: Vec<ChartLine>,
    },
    /// Intervals below each other, with a line at `null`.
    Intervals {
        /// What it shows.
        title: String,
        /// The value that means "the same".
        null: f64,
        /// The rows.
        rows: Vec<ChartInterval>,
    },
    /// Points with their names.
    Points {
        /// What it shows.
        title: String,
        /// The name of the x axis.
        x: String,
        /// The name of the y axis.
        y: String,
        /// Name, x and y.
        points: Vec<(String, f64, f64)>,
    },
}

impl ReportChart {
    /// Whether there is nothing to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Lines { lines, .. } => lines.iter().all(|line| line.points.iter().all(|(_, y)| !y.is_finite())),
            Self::Intervals { rows, .. } => rows.is_empty(),
            Self::Points { points, .. } => points.is_empty(),
        }
    }

    /// The chart as an SVG element.
    #[must_use]
    pub fn svg(&self) -> String {
        match self {
            Self::Lines { title, x, lines } => lines_svg(title, x, lines),
            Self::Intervals { title, null, rows } => intervals_svg(title, *null, rows),
            Self::Points { title, x, y, points } => points_svg(title, x, y, points),
        }
    }
}

/// A linear scale to pixels.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// A scale over finite values, with a little room; a single value gets room around it.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low { 0.04 * (high - low) } else { low.abs().max(1.0) * 0.1 };
        Self { low: low - room, high: high + room, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values within the scale.
    fn ticks(&self) -> Vec<f64> {
        let step = nice_step((self.high - self.low) / 4.0);
        if !step.is_finite() || step <= 0.0 {
            return Vec::new();
        }
        let first = (self.low / step).ceil();
        (0..12).map(|i| (first + f64::from(i)) * step).take_while(|value| *value <= self.high).collect()
    }
}

fn tick(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{value:.1e}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg class=\"v\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{0}\"><text class=\"t\" x=\"{LEFT}\" y=\"14\">{0}</text>",
        escape(title)
    )
}

fn axes(out: &mut String, x: &Scale, y: &Scale, x_name: &str, y_name: &str) {
    for value in y.ticks() {
        let at = y.at(value);
        let _ = write!(
            out,
            "<line class=\"g\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"a\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            tick(value)
        );
    }
    for value in x.ticks() {
        let _ = write!(
            out,
            "<text class=\"a\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x.at(value),
            HEIGHT - BOTTOM + 14.0,
            tick(value)
        );
    }
    let _ = write!(
        out,
        "<text class=\"a\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        HEIGHT - 2.0,
        escape(x_name)
    );
    if !y_name.is_empty() {
        let _ = write!(out, "<text class=\"a\" x=\"4\" y=\"{TOP}\">{}</text>", escape(y_name));
    }
}

fn lines_svg(title: &str, x_name: &str, lines: &[ChartLine]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let x = Scale::over(all().map(|p| p.0), LEFT, WIDTH - RIGHT);
    let y = Scale::over(all().map(|p| p.1), HEIGHT - BOTTOM, TOP);
    let mut out = open(HEIGHT, title);
    axes(&mut out, &x, &y, x_name, "");
    for (number, line) in lines.iter().enumerate() {
        let (colour, dash) = STYLES[number % STYLES.len()];
        let mut path = String::new();
        let mut pen = 'M';
        for (at, value) in thinned(&line.points, &x) {
            if value.is_finite() {
                let _ = write!(path, "{pen}{:.1} {:.1}", x.at(at), y.at(value));
                pen = 'L';
            } else {
                pen = 'M';
            }
        }
        let _ = write!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-dasharray=\"{dash}\"/>"
        );
        if line.points.len() <= 12 {
            for (at, value) in line.points.iter().filter(|(_, value)| value.is_finite()) {
                let _ = write!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\" fill=\"{colour}\"/>",
                    x.at(*at),
                    y.at(*value)
                );
            }
        }
    }
    out.push_str("</svg><p class=\"k\">");
    for (number, line) in lines.iter().enumerate() {
        let (colour, dash) = STYLES[number % STYLES.len()];
        let _ = write!(
            out,
            "<span><svg viewBox=\"0 0 28 8\" width=\"28\" height=\"8\" aria-hidden=\"true\"><line x1=\"0\" x2=\"28\" y1=\"4\" y2=\"4\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/></svg> {}</span> ",
            escape(&line.name)
        );
    }
    out.push_str("</p>");
    out
}

/// At most the least, the greatest, the first and the last value of each pixel column, in order.
fn thinned(points: &[(f64, f64)], x: &Scale) -> Vec<(f64, f64)> {
    if points.len() < 2 * WIDTH as usize {
        return points.to_vec();
    }
    let mut out = Vec::new();
    for column in points.chunk_by(|a, b| x.at(a.0).floor() == x.at(b.0).floor()) {
        let by = |i: &usize, j: &usize| column[*i].1.total_cmp(&column[*j].1);
        let ends = [0, column.len() - 1];
        let extremes = [(0..column.len()).min_by(by).unwrap_or(0), (0..column.len()).max_by(by).unwrap_or(0)];
        let mut kept: Vec<usize> = ends.into_iter().chain(extremes).collect();
        kept.sort_unstable();
        kept.dedup();
        out.extend(kept.into_iter().map(|i| column[i]));
    }
    out
}

fn intervals_svg(title: &str, null: f64, rows: &[ChartInterval]) -> String {
    let left = 250.0;
    let ends = rows.iter().flat_map(|row| row.interval.unwrap_or([row.value; 2]));
    let x = Scale::over(ends.chain(rows.iter().map(|row| row.value)).chain([null]), left, WIDTH - RIGHT);
    let height = TOP + 22.0 * rows.len() as f64 + BOTTOM;
    let mut out = open(height, title);
    let _ = write!(
        out,
        "<line class=\"n\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1:.1}\"/>",
        x.at(null),
        height - BOTTOM
    );
    for value in x.ticks() {
        let _ = write!(
            out,
            "<text class=\"a\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x.at(value),
            height - BOTTOM + 14.0,
            tick(value)
        );
    }
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + 22.0 * (number as f64 + 0.5);
        let _ = write!(
            out,
            "<text class=\"l\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 10.0,
            y + 4.0,
            escape(&row.name)
        );
        if let Some([low, high]) = row.interval {
            let _ = write!(
                out,
                "<path d=\"M{0:.1} {y:.1}L{1:.1} {y:.1}M{0:.1} {2:.1}L{0:.1} {3:.1}M{1:.1} {2:.1}L{1:.1} {3:.1}\" stroke=\"#0072b2\" stroke-width=\"1.6\" fill=\"none\"/>",
                x.at(low),
                x.at(high),
                y - 4.0,
                y + 4.0
            );
        }
        let _ = write!(out, "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#0072b2\"/>", x.at(row.value));
    }
    out.push_str("</svg>");
    out
}

fn points_svg(title: &str, x_name: &str, y_name: &str, points: &[(String, f64, f64)]) -> String {
    let x = Scale::over(points.iter().map(|p| p.1), LEFT, WIDTH - RIGHT - 90.0);
    let y = Scale::over(points.iter().map(|p| p.2), HEIGHT - BOTTOM, TOP + 12.0);
    let mut out = open(HEIGHT, title);
    axes(&mut out, &x, &y, x_name, y_name);
    for (number, (name, at, value)) in points.iter().enumerate() {
        let colour = STYLES[number % STYLES.len()].0;
        let _ = write!(
            out,
            "<circle cx=\"{0:.1}\" cy=\"{1:.1}\" r=\"4\" fill=\"{colour}\"/><text class=\"l\" x=\"{2:.1}\" y=\"{3:.1}\">{4}</text>",
            x.at(*at),
            y.at(*value),
            x.at(*at) + 8.0,
            y.at(*value) + 4.0,
            escape(name)
        );
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_among_many_points_is_drawn_and_a_gap_stays_a_gap() {
        let mut points: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i), 1.0)).collect();
        points[2503].1 = 9.0;
        let x = Scale::over(points.iter().map(|p| p.0), LEFT, WIDTH - RIGHT);
        let kept = thinned(&points, &x);
        assert!(kept.len() < 3000 && kept.contains(&(2503.0, 9.0)));
        let line = ChartLine { name: "a".into(), points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)] };
        let svg = ReportChart::Lines { title: "t".into(), x: "step".into(), lines: vec![line] }.svg();
        assert_eq!(svg.matches("<path d=\"M").count(), 1);
        assert_eq!(svg.split("<path d=\"").nth(1).unwrap().split('"').next().unwrap().matches('M').count(), 2);
    }

    #[test]
    fn names_are_text() {
        let rows = vec![ChartInterval { name: "<script>".into(), value: 0.5, interval: Some([0.4, 0.6]) }];
        let svg = ReportChart::Intervals { title: "\"&<".into(), null: 0.5, rows }.svg();
        assert!(
            !svg.contains("<script>")
                && svg.contains("&lt;script&gt;")
                && svg.contains("aria-label=\"&quot;&amp;&lt;\"")
        );
    }
}
