//! Series: buckets against brute force, gaps, attempts and smoothing.

use super::*;
use crate::domain::mix64;

fn brute(line: &Line, range: Range<usize>) -> Bucket {
    let mut out = Bucket::default();
    for at in range {
        out.add(line.point(at).unwrap().1);
    }
    out
}

/// Equal as numbers, with NaN equal to NaN.
fn same(a: &Bucket, b: &Bucket) -> bool {
    let eq = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan());
    eq(a.min, b.min)
        && eq(a.max, b.max)
        && eq(a.first, b.first)
        && eq(a.last, b.last)
        && (a.count, a.bad) == (b.count, b.bad)
}

fn noisy(n: u64) -> Line {
    let mut line = Line::default();
    for i in 0..n {
        let r = mix64(i);
        let y = match r % 997 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            _ => (r >> 11) as f64 / 1e12 - 4000.0,
        };
        assert!(line.push(i * 3 + 1, y, i * 10));
    }
    line
}

#[test]
fn buckets_of_a_million_points_equal_brute_force() {
    let line = noisy(1_000_000);
    for k in 0..120u64 {
        let a = (mix64(k) % 1_000_000) as usize;
        let b = (mix64(k + 7000) % 1_000_000) as usize;
        let range = a.min(b)..a.max(b).min(a.min(b) + (mix64(k + 9) % 70_000) as usize);
        assert!(same(&line.bucket(range.clone()), &brute(&line, range.clone())), "{range:?}");
    }
    assert!(same(&line.bucket(0..1_000_000), &brute(&line, 0..1_000_000)));
}

#[test]
fn buckets_are_right_at_every_length_while_a_line_grows() {
    let mut line = Line::default();
    for i in 0..700u64 {
        line.push(i, (mix64(i) % 100) as f64, i);
        let n = line.len();
        for lo in [0, n / 3, n.saturating_sub(17), n - 1] {
            assert!(same(&line.bucket(lo..n), &brute(&line, lo..n)), "{lo}..{n}");
        }
    }
    assert!(line.bucket(5..5).is_empty());
    assert!(line.bucket(900..1000).is_empty());
}

#[test]
fn a_single_spike_survives_any_width() {
    let mut line = Line::default();
    for i in 0..100_000u64 {
        line.push(i, if i == 54_321 { 1e6 } else { 1.0 }, i);
    }
    for columns in [1usize, 7, 80, 380] {
        let per = 100_000 / columns + 1;
        let top = (0..columns).map(|c| line.bucket(c * per..(c + 1) * per).max).fold(f64::MIN, f64::max);
        assert_eq!(top, 1e6);
    }
}

#[test]
fn points_are_found_by_step_and_time() {
    let line = noisy(100);
    assert_eq!(line.before(Axis::Step, 4.0), 1);
    assert_eq!(line.before(Axis::Step, 4.5), 2);
    assert_eq!(line.before(Axis::Time, 20.0), 2);
    assert_eq!(line.nearest(Axis::Step, 5.4), Some(1));
    assert_eq!(line.nearest(Axis::Time, 1e9), Some(99));
    assert_eq!(line.x(Axis::Time, 3), Some(30.0));
    assert_eq!(Line::default().nearest(Axis::Step, 1.0), None);
}

#[test]
fn missing_steps_are_a_gap_and_usual_spacing_is_not() {
    let mut line = Line::default();
    for step in [1, 2, 3, 4, 40, 41] {
        line.push(step, 0.0, 0);
    }
    let gaps: Vec<usize> = (0..6).filter(|i| line.gap_before(*i)).collect();
    assert_eq!(gaps, [4]);
    let mut sparse = Line::default();
    for step in [50, 100, 150, 200, 203] {
        sparse.push(step, 0.0, 0);
    }
    assert!((0..5).all(|i| !sparse.gap_before(i)));
}

#[test]
fn a_later_attempt_leaves_a_ghost() {
    let mut series = Series::default();
    series.set_smoothing(0.6);
    for step in 1..=30 {
        series.push(step, step as f64, step * 100);
    }
    series.restart(20);
    assert_eq!(series.live().last(), Some((20, 20.0, 2000)));
    assert_eq!(series.ghosts().len(), 1);
    assert_eq!(series.ghosts()[0].points().map(|p| p.0).collect::<Vec<_>>(), (21..=30).collect::<Vec<_>>());
    series.push(21, -1.0, 3100);
    assert_eq!(series.live().len(), 21);
    assert_eq!(series.smoothed().unwrap().len(), 21);
    // The smoothed line equals smoothing the live points from the start.
    let mut fresh = series.clone();
    fresh.set_smoothing(0.6);
    assert_eq!(fresh.smoothed(), series.smoothed());
    // A repeated step supersedes; no point is lost.
    series.push(10, 0.5, 4000);
    assert_eq!(series.live().len(), 10);
    assert_eq!(series.ghosts()[1].len(), 12);
}

#[test]
fn a_constant_series_stays_constant_and_nan_does_not_poison() {
    let mut series = Series::default();
    series.set_smoothing(0.97);
    for step in 1..200 {
        series.push(step, if step == 50 { f64::NAN } else { 0.1 }, 0);
    }
    let values: Vec<f64> = series.smoothed().unwrap().points().map(|p| p.1).collect();
    assert!(values[49].is_nan());
    assert!(values.iter().enumerate().all(|(i, v)| i == 49 || *v == 0.1));
    series.push(200, 1.1, 0);
    let last = series.smoothed().unwrap().last().unwrap().1;
    assert!(last > 0.1 && last < 0.2, "{last}");
}

#[test]
fn a_line_smoothed_as_a_whole_is_the_one_smoothed_point_by_point() {
    for len in [0_u64, 1, 15, 16, 17, 256, 1023, 1024, 1025, 5000] {
        let (mut whole, mut each) = (Series::default(), Series::default());
        each.set_smoothing(0.9);
        for k in 0..len {
            let value = (k * 7919 % 1000) as f64 / 100.0;
            whole.push(k + 1, value, k * 20);
            each.push(k + 1, value, k * 20);
        }
        whole.set_smoothing(0.9);
        assert_eq!(whole.smoothed(), each.smoothed(), "{len} points");
    }
}

#[test]
fn smoothing_is_debiased() {
    let mut series = Series::default();
    for (i, y) in [2.0, 4.0, 0.0].into_iter().enumerate() {
        series.push(i as u64 + 1, y, 0);
    }
    series.set_smoothing(0.5);
    let got: Vec<f64> = series.smoothed().unwrap().points().map(|p| p.1).collect();
    let want = [2.0, (0.5 * 1.0 + 0.5 * 4.0) / 0.75, (0.5 * 2.5) / 0.875];
    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
    series.set_smoothing(0.0);
    assert!(series.smoothed().is_none());
}
