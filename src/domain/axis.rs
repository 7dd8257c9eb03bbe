//! Ranges of a chart's axes.
//!
//! Owns the rules that keep a live chart stable: the y-range changes only when data leaves it or shrinks within it, the
//! x-range grows by quarters, and a following view scrolls by eighths of its width. A new point then redraws one or two
//! columns, which saves SSH bandwidth.

/// The range of the y-axis, `lo < hi`. On a logarithmic axis both ends are exponents of ten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueRange {
    /// Lower bound.
    pub lo: f64,
    /// Upper bound.
    pub hi: f64,
    /// Whether `lo` and `hi` are exponents of ten.
    pub log: bool,
}

impl ValueRange {
    /// A range that contains the finite `min..=max`. The previous range is kept while the data fits and fills at least two
    /// fifths of it. None without data.
    #[must_use]
    pub fn fit(previous: Option<Self>, min: f64, max: f64, log: bool) -> Option<Self> {
        if !(min.is_finite() && max.is_finite() && min <= max) {
            return previous.filter(|p| p.log == log);
        }
        if let Some(p) = previous.filter(|p| p.log == log) {
            let (lo, hi) = (p.place(min), p.place(max));
            let inside = if log { p.holds(min) && p.holds(max) } else { lo >= 0.0 && hi <= 1.0 };
            if inside && (hi - lo >= 0.4 || (min == max && !log)) {
                return Some(p);
            }
        }
        if log {
            let floor = if min > 0.0 { min } else { (max / 1e6).max(f64::MIN_POSITIVE) };
            let (lo, hi) = (floor.log10().floor(), max.max(floor).log10().ceil());
            return Some(Self { lo, hi: if hi > lo { hi } else { lo + 1.0 }, log });
        }
        if min == max {
            // A constant is centred in a range of its own magnitude.
            let half = if min == 0.0 { 1.0 } else { nice_step(min.abs() / 2.0) };
            return Some(Self { lo: min - half, hi: max + half, log });
        }
        let step = nice_step((max - min) / 4.0);
        let (lo, hi) = ((min / step).floor() * step, (max / step).ceil() * step);
        Some(Self { lo, hi: if hi > lo { hi } else { lo + step }, log })
    }

    /// A value's position: 0 at the lower bound, 1 at the upper. On a logarithmic axis a value ≤ 0 is below the range.
    #[must_use]
    pub fn place(&self, y: f64) -> f64 {
        let y = match self.log {
            true if y > 0.0 => y.log10(),
            true => return -1.0,
            false => y,
        };
        (y - self.lo) / (self.hi - self.lo)
    }

    fn holds(&self, y: f64) -> bool {
        (0.0..=1.0).contains(&self.place(y))
    }
}

/// The visible range of the x-axis, in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRange {
    /// Left end.
    pub lo: f64,
    /// Right end.
    pub hi: f64,
}

impl StepRange {
    /// The range for data up to `last`, planned up to `total`. `least` is the smallest width at zoom 0. Each `zoom` level
    /// halves the width. The range is centred on `centre`, or follows the end by eighths of its width.
    #[must_use]
    pub fn fit(last: f64, total: Option<f64>, least: f64, zoom: u32, centre: Option<f64>) -> Self {
        let mut end = least.max(1.0);
        while end < last {
            end = (end * 1.25).ceil();
        }
        let end = match total {
            Some(total) if total >= last && total > 0.0 => end.min(total),
            _ => end,
        };
        let wide = end / f64::from(1_u32 << zoom.min(20));
        let hi = match centre {
            Some(centre) => (centre + wide / 2.0).clamp(wide, end),
            None => ((last / (wide / 8.0)).ceil() * (wide / 8.0)).clamp(wide, end.max(wide)),
        };
        Self { lo: hi - wide, hi }
    }

    /// The position of `x`: 0 at the left end, 1 at the right.
    #[must_use]
    pub fn place(&self, x: f64) -> f64 {
        (x - self.lo) / (self.hi - self.lo)
    }

    /// Whether `x` is visible.
    #[must_use]
    pub fn holds(&self, x: f64) -> bool {
        x >= self.lo && x <= self.hi
    }
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `x`.
#[must_use]
pub fn nice_step(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    let unit = x / power;
    // Rounding slack, so that 0.2 / 0.1 counts as 2.
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|s| unit <= s * (1.0 + 1e-9)).unwrap_or(10.0);
    step * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_stays_until_data_leaves_or_shrinks() {
        let first = ValueRange::fit(None, 0.31, 0.69, false).unwrap();
        assert!((first.lo - 0.3).abs() < 1e-9 && (first.hi - 0.7).abs() < 1e-9, "{first:?}");
        assert_eq!(ValueRange::fit(Some(first), 0.35, 0.65, false), Some(first));
        let wider = ValueRange::fit(Some(first), 0.31, 0.75, false).unwrap();
        assert!(wider.hi >= 0.75);
        let narrower = ValueRange::fit(Some(wider), 0.31, 0.35, false).unwrap();
        assert!(narrower.hi < 0.4);
        assert_eq!(ValueRange::fit(Some(first), f64::INFINITY, f64::NEG_INFINITY, false), Some(first));
        assert_eq!(ValueRange::fit(None, f64::INFINITY, f64::NEG_INFINITY, false), None);
    }

    #[test]
    fn every_range_holds_its_data_and_has_width() {
        for (min, max) in [(0.0, 0.0), (5.0, 5.0), (-1e-7, 1e-7), (1e-6, 2e-5), (-3.0, 1e6), (0.7931, 0.7932)] {
            for log in [false, true] {
                let range = ValueRange::fit(None, min, max, log).unwrap();
                assert!(range.hi > range.lo, "{min} {max} {log}");
                if !log || min > 0.0 {
                    assert!(range.holds(min) && range.holds(max), "{min} {max} {log} {range:?}");
                }
            }
        }
    }

    #[test]
    fn the_window_grows_in_quarters_and_ends_at_the_plan() {
        let ends: Vec<f64> = (1..=640).map(|s| StepRange::fit(f64::from(s), Some(640.0), 20.0, 0, None).hi).collect();
        let changes = ends.windows(2).filter(|w| w[0] != w[1]).count();
        assert!(changes <= 17, "{changes}");
        assert_eq!(ends[639], 640.0);
        assert_eq!(StepRange::fit(9.0, Some(12.0), 20.0, 0, None), StepRange { lo: 0.0, hi: 12.0 });
        // More steps than planned are still shown.
        assert!(StepRange::fit(50.0, Some(12.0), 20.0, 0, None).hi >= 50.0);
    }

    #[test]
    fn a_following_window_moves_in_eighths_and_holds_the_end() {
        let mut seen = Vec::new();
        for last in 500..=600 {
            let w = StepRange::fit(f64::from(last), Some(800.0), 20.0, 3, None);
            assert!(w.holds(f64::from(last)), "{last} {w:?}");
            if seen.last() != Some(&w) {
                seen.push(w);
            }
        }
        assert!(seen.len() <= 12, "{}", seen.len());
        let centred = StepRange::fit(600.0, Some(800.0), 20.0, 2, Some(300.0));
        assert!((centred.place(300.0) - 0.5).abs() < 1e-9);
    }
}
