//! Tick labels of a chart's axes: which values are labelled, and the label's text within a fixed width.
//!
//! Owns rounding and width. Refuses ranges: those are in the domain.

use crate::domain::{ValueRange, nice_step};

/// The tick values of a y-axis, at most `most`, ascending.
#[must_use]
pub fn of_range(range: &ValueRange, most: usize) -> Vec<f64> {
    if !range.log {
        return ticks(range.lo, range.hi, most);
    }
    let every = (((range.hi - range.lo + 1.0) / most.max(1) as f64).ceil().max(1.0)) as i32;
    (range.lo as i32..=range.hi as i32).step_by(every as usize).map(|e| 10f64.powi(e)).collect()
}

/// Round values within `lo..=hi`, at most `most`, ascending.
#[must_use]
pub fn ticks(lo: f64, hi: f64, most: usize) -> Vec<f64> {
    if !(lo.is_finite() && hi.is_finite() && hi > lo) || most == 0 {
        return Vec::new();
    }
    let mut step = nice_step((hi - lo) / most.max(2) as f64);
    loop {
        let first = (lo / step - 1e-9).ceil() as i64;
        let last = (hi / step + 1e-9).floor() as i64;
        if last - first < most as i64 {
            return (first..=last).map(|k| k as f64 * step).collect();
        }
        step = nice_step(step * 1.01);
    }
}

/// A value as text of at most `width` characters (6 or more), rounded to about `step`.
#[must_use]
pub fn tick_label(value: f64, step: f64, width: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "NaN" } else { "inf" }.to_owned();
    }
    let value = if value == 0.0 { 0.0 } else { value };
    let step = step.abs();
    let decimals = if step > 0.0 && step < 1.0 { (-step.log10() - 1e-9).ceil() as usize } else { 0 };
    // 2.5, 0.25 … need one more decimal.
    let shown = (step * 10f64.powi(decimals as i32)).fract();
    let decimals = decimals + usize::from(step < 10.0 && (0.01..0.99).contains(&shown));
    if decimals <= 4 {
        let text = format!("{value:.decimals$}").replace('-', "−");
        if text.chars().count() <= width {
            return text;
        }
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.1e}").replace('-', "−");
    if text.chars().count() <= width { text } else { format!("{value:.0e}").replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_gets_at_most_the_requested_number_of_ticks() {
        for (min, max) in [(0.0, 0.0), (5.0, 5.0), (-1e-7, 1e-7), (1e-6, 2e-5), (-3.0, 1e6), (0.7931, 0.7932)] {
            for log in [false, true] {
                let range = ValueRange::fit(None, min, max, log).unwrap();
                assert!(of_range(&range, 4).len() <= 4, "{range:?} {:?}", of_range(&range, 4));
            }
        }
    }

    #[test]
    fn labels_have_a_bounded_width() {
        let cases = [
            (0.69, 0.01, "0.69"),
            (1e-5, 5e-6, "1.0e−5"),
            (-0.25, 0.25, "−0.25"),
            (12000.0, 2000.0, "12000"),
            (1.5e7, 1e6, "1.5e7"),
            (-0.0, 0.5, "0.0"),
            (2.5, 2.5, "2.5"),
            (5.0, 2.5, "5.0"),
            (0.0, 2e-6, "0"),
        ];
        for (value, step, want) in cases {
            let got = tick_label(value, step, 6);
            assert_eq!(got, want);
            assert!(got.chars().count() <= 6);
        }
        assert_eq!(ticks(0.0, 1.0, 3), [0.0, 0.5, 1.0]);
        assert!(ticks(1.0, 1.0, 3).is_empty());
    }
}
