//! A metric's series at full resolution, with buckets that give a chart of any width its exact extremes.
//!
//! Owns the columns (step, value, running time), attempts, gaps, non-finite marks and smoothing. Refuses decimation: no
//! point is ever dropped, and a bucket holds the true minimum and maximum of the points it covers.
//!
//! **Invariant:** within a [`Line`] steps increase strictly, so a range of steps is a range of indices.

use super::part_list::PartList;
use std::ops::Range;

#[cfg(test)]
mod tests;

/// Points per bucket of the finest level, and buckets per bucket of the next level.
const FANOUT: usize = 16;

/// A jump in steps this many times the usual spacing is a gap.
const GAP: u32 = 4;

/// Summary of a range of points. Without a finite point `min` is `+∞` and `max` is `−∞`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Smallest finite value.
    pub min: f64,
    /// Largest finite value.
    pub max: f64,
    /// First finite value; NaN where there is none.
    pub first: f64,
    /// Last finite value; NaN where there is none.
    pub last: f64,
    /// Finite points.
    pub count: u32,
    /// Points that are NaN or infinite.
    pub bad: u32,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { min: f64::INFINITY, max: f64::NEG_INFINITY, first: f64::NAN, last: f64::NAN, count: 0, bad: 0 }
    }
}

impl Bucket {
    /// Adds the next point.
    pub fn add(&mut self, y: f64) {
        if y.is_finite() {
            self.min = self.min.min(y);
            self.max = self.max.max(y);
            if self.count == 0 {
                self.first = y;
            }
            self.last = y;
            self.count += 1;
        } else {
            self.bad += 1;
        }
    }

    /// Adds the bucket of the points that follow.
    pub fn merge(&mut self, next: &Self) {
        self.min = self.min.min(next.min);
        self.max = self.max.max(next.max);
        if self.count == 0 {
            self.first = next.first;
        }
        if next.count > 0 {
            self.last = next.last;
        }
        self.count += next.count;
        self.bad += next.bad;
    }

    fn of_values(values: &[f64]) -> Self {
        let mut out = Self::default();
        for value in values {
            out.add(*value);
        }
        out
    }

    fn of_buckets(buckets: &[Self]) -> Self {
        let mut out = Self::default();
        for bucket in buckets {
            out.merge(bucket);
        }
        out
    }

    /// Whether it has no finite point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The horizontal axis of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axis {
    /// Optimizer steps (an epoch axis is this one with other labels).
    #[default]
    Step,
    /// Running time in milliseconds.
    Time,
}

/// The points of a metric in one sequence: columns and their buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    steps: PartList<u32>,
    values: PartList<f64>,
    times: PartList<u32>,
    /// `levels[k][i]` covers the `FANOUT^(k+1)` points from `i·FANOUT^(k+1)` on; only full buckets are kept.
    levels: Vec<PartList<Bucket>>,
    /// The usual spacing by majority vote, and its lead in votes.
    spacing: (u32, u32),
}

impl Line {
    /// Appends a point: `step`, its value, and the run's running time in milliseconds. A step that is not after the
    /// last one changes nothing and returns `false`.
    pub fn push(&mut self, step: u64, value: f64, ms: u64) -> bool {
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        if let Some(last) = self.steps.last() {
            if step <= *last {
                return false;
            }
            let jump = step - last;
            match self.spacing {
                (usual, lead) if usual == jump => self.spacing = (usual, lead + 1),
                (_, 0) => self.spacing = (jump, 1),
                (usual, lead) => self.spacing = (usual, lead - 1),
            }
        }
        self.steps.push(step);
        self.values.push(value);
        self.times.push(u32::try_from(ms).unwrap_or(u32::MAX));
        self.close_buckets();
        true
    }

    /// Adds the buckets that the newest point has filled. Amortised O(1): a level gets one bucket per `FANOUT` below it.
    fn close_buckets(&mut self) {
        let len = self.values.len();
        let mut span = FANOUT;
        let mut level = 0_usize;
        while len.is_multiple_of(span) {
            let bucket = match level.checked_sub(1).and_then(|k| self.levels.get(k)) {
                Some(below) => Bucket::of_buckets(below.last_group(FANOUT)),
                None => Bucket::of_values(self.values.last_group(FANOUT)),
            };
            if level == self.levels.len() {
                self.levels.push(PartList::default());
            }
            self.levels[level].push(bucket);
            span *= FANOUT;
            level += 1;
        }
    }

    /// Number of points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Step, value and running time (ms) of a point.
    #[must_use]
    pub fn point(&self, index: usize) -> Option<(u64, f64, u64)> {
        Some((u64::from(*self.steps.get(index)?), *self.values.get(index)?, u64::from(*self.times.get(index)?)))
    }

    /// The last point.
    #[must_use]
    pub fn last(&self) -> Option<(u64, f64, u64)> {
        self.point(self.len().checked_sub(1)?)
    }

    /// Points in order.
    pub fn points(&self) -> impl Iterator<Item = (u64, f64, u64)> + '_ {
        let places = self.steps.iter().zip(self.values.iter()).zip(self.times.iter());
        places.map(|((step, value), ms)| (u64::from(*step), *value, u64::from(*ms)))
    }

    /// How many points are before `x` on an axis: the index of the first one at or after it.
    #[must_use]
    pub fn before(&self, axis: Axis, x: f64) -> usize {
        match axis {
            Axis::Step => self.steps.partition_point(|s| f64::from(*s) < x),
            Axis::Time => self.times.partition_point(|t| f64::from(*t) < x),
        }
    }

    /// A point's coordinate on an axis.
    #[must_use]
    pub fn x(&self, axis: Axis, index: usize) -> Option<f64> {
        match axis {
            Axis::Step => self.steps.get(index),
            Axis::Time => self.times.get(index),
        }
        .map(|x| f64::from(*x))
    }

    /// The exact bucket of a range of indices, in O(log n).
    #[must_use]
    pub fn bucket(&self, range: Range<usize>) -> Bucket {
        let (mut at, end) = (range.start, range.end.min(self.len()));
        let mut out = Bucket::default();
        while at < end {
            let mut span = 1;
            let mut level = None;
            while at.is_multiple_of(span * FANOUT) && at + span * FANOUT <= end {
                let next = level.map_or(0, |k: usize| k + 1);
                if next >= self.levels.len() {
                    break;
                }
                level = Some(next);
                span *= FANOUT;
            }
            match level.and_then(|k| self.levels[k].get(at / span)) {
                Some(bucket) => out.merge(bucket),
                None => self.values.get(at).into_iter().for_each(|y| out.add(*y)),
            }
            at += span;
        }
        out
    }

    /// Whether steps are missing before the point at `index`: the jump is far wider than the usual spacing.
    #[must_use]
    pub fn gap_before(&self, index: usize) -> bool {
        let Some((now, before)) = index.checked_sub(1).and_then(|b| Some((self.steps.get(index)?, self.steps.get(b)?)))
        else {
            return false;
        };
        now - before > self.spacing.0.max(1).saturating_mul(GAP)
    }

    /// The index of the point nearest to `x` on an axis.
    #[must_use]
    pub fn nearest(&self, axis: Axis, x: f64) -> Option<usize> {
        let after = self.before(axis, x);
        let distance = |index: usize| self.x(axis, index).map_or(f64::INFINITY, |found| (found - x).abs());
        match after.checked_sub(1) {
            Some(before) if distance(before) <= distance(after) => Some(before),
            _ if after < self.len() => Some(after),
            _ => None,
        }
    }

    /// A line of other values at the same steps and times, which both lines share.
    fn with_values(&self, mut value: impl FnMut(f64) -> f64) -> Self {
        let values = self.values.map(|known| value(*known));
        let mut levels = Vec::new();
        let mut buckets: PartList<Bucket> = values.groups(FANOUT).map(Bucket::of_values).collect();
        while !buckets.is_empty() {
            let above = buckets.groups(FANOUT).map(Bucket::of_buckets).collect();
            levels.push(std::mem::replace(&mut buckets, above));
        }
        Self { steps: self.steps.clone(), times: self.times.clone(), values, levels, spacing: self.spacing }
    }

    /// Truncates the line after `step` and returns the later points.
    fn split_after(&mut self, step: u64) -> Self {
        let keep = self.steps.partition_point(|s| u64::from(*s) <= step);
        let mut later = Self::default();
        for (step, value, ms) in self.points().skip(keep) {
            later.push(step, value, ms);
        }
        let mut earlier = Self::default();
        for (step, value, ms) in self.points().take(keep) {
            earlier.push(step, value, ms);
        }
        *self = earlier;
        later
    }
}

/// Bias-corrected exponential moving average: `m ← βm + (1−β)y`, shown as `m / (1 − βᵏ)` after `k` finite points
/// (Adam's correction; Kingma & Ba 2015, §3). A constant series stays exactly constant; non-finite points pass through.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ema {
    beta: f64,
    mean: f64,
    weight: f64,
    /// The value while every finite point so far was the same.
    constant: Option<f64>,
    started: bool,
}

impl Ema {
    fn new(beta: f64) -> Self {
        Self { beta: beta.clamp(0.0, 0.999), mean: 0.0, weight: 0.0, constant: None, started: false }
    }

    fn next(&mut self, y: f64) -> f64 {
        if !y.is_finite() {
            return y;
        }
        self.constant = match (self.started, self.constant) {
            (false, _) => Some(y),
            (true, Some(c)) if c == y => Some(c),
            _ => None,
        };
        self.started = true;
        self.mean = self.beta * self.mean + (1.0 - self.beta) * y;
        self.weight = self.beta * self.weight + (1.0 - self.beta);
        self.constant.unwrap_or(self.mean / self.weight)
    }
}

/// A metric over a whole run: the live line, its smoothed version, and ghosts: points of earlier attempts after the
/// checkpoint that a later one resumed from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    live: Line,
    ghosts: Vec<Line>,
    smooth: Line,
    ema: Option<Ema>,
}

impl Series {
    /// Appends a point in O(1). A step at or before the last one supersedes the points from there on.
    pub fn push(&mut self, step: u64, value: f64, ms: u64) {
        if self.live.last().is_some_and(|(last, ..)| step <= last) {
            self.restart(step.saturating_sub(1));
        }
        self.live.push(step, value, ms);
        if let Some(ema) = &mut self.ema {
            let smoothed = ema.next(value);
            self.smooth.push(step, smoothed, ms);
        }
    }

    /// A later attempt resumes from `step`: later points become a ghost line.
    pub fn restart(&mut self, step: u64) {
        let later = self.live.split_after(step);
        if !later.is_empty() {
            self.ghosts.push(later);
            self.set_smoothing(self.smoothing());
        }
    }

    /// The points that count.
    #[must_use]
    pub fn live(&self) -> &Line {
        &self.live
    }

    /// Superseded points, oldest attempt first.
    #[must_use]
    pub fn ghosts(&self) -> &[Line] {
        &self.ghosts
    }

    /// The smoothed line, if smoothing is on. Computed from every point, not from a chart's buckets.
    #[must_use]
    pub fn smoothed(&self) -> Option<&Line> {
        self.ema.is_some().then_some(&self.smooth)
    }

    /// The smoothing factor β; 0 is off.
    #[must_use]
    pub fn smoothing(&self) -> f64 {
        self.ema.map_or(0.0, |e| e.beta)
    }

    /// Sets the smoothing factor β in 0..=0.999; 0 turns it off. A view setting, not part of the run's state.
    pub fn set_smoothing(&mut self, beta: f64) {
        self.smooth = Line::default();
        self.ema = (beta > 0.0).then(|| Ema::new(beta));
        let Some(mut ema) = self.ema else { return };
        self.smooth = self.live.with_values(|value| ema.next(value));
        self.ema = Some(ema);
    }
}
