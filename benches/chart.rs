//! The chart: drawing long curves and appending points: `cargo bench --bench chart`.
#![allow(missing_docs, reason = "Criterion's macros make public functions")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::Widget;
use std::hint::black_box;
use tiebreak::domain::{Axis, Line, StepRange, ValueRange};
use tiebreak::ui::widgets::chart::{Chart, Curve, Ink, Stroke, Unit};

/// A noisy falling curve, like a loss.
fn line(points: u64) -> Line {
    let mut line = Line::default();
    for step in 0..points {
        let noise = f64::from((step as u32).wrapping_mul(2_654_435_761) >> 20) / 40_960.0;
        line.push(step, 1.0 / (1.0 + step as f64 / 1000.0) + noise, step * 250);
    }
    line
}

fn draw(c: &mut Criterion) {
    let mut group = c.benchmark_group("chart");
    for points in [1_000, 100_000, 1_000_000] {
        let line = line(points);
        let all = line.bucket(0..line.len());
        let chart = Chart {
            curves: vec![Curve { line: &line, stroke: Stroke::Solid, style: Style::default() }],
            axis: Axis::Step,
            unit: Unit::Step,
            window: StepRange { lo: 0.0, hi: points as f64 },
            span: ValueRange::fit(None, all.min, all.max, false),
            cursor: Some(points as f64 / 2.0),
            marks: Vec::new(),
            ascii: false,
            ink: Ink::default(),
        };
        let area = Rect::new(0, 0, 120, 30);
        let mut buf = Buffer::empty(area);
        group.bench_with_input(BenchmarkId::new("draw", points), &chart, |b, chart| {
            b.iter(|| {
                buf.reset();
                black_box(chart).render(area, &mut buf);
            });
        });
    }
    group.bench_function("push", |b| b.iter_with_large_drop(|| black_box(line(10_000))));
    group.finish();
}

criterion_group!(benches, draw);
criterion_main!(benches);
