//! The view of a run's curves, shared by the watch screen and the replay.
//!
//! Owns the cursor, the zoom, the axis and the value ranges. Changes nothing of a run except its smoothing.

mod panes;

pub use panes::{CurvePane, panes};

use super::open::{OpenSession, RunView};
use crate::domain::{Axis, Bucket, RunId, RunState, Series, StepRange, ValueRange};
use std::collections::HashMap;

/// The smoothing factors that the key cycles through.
pub const SMOOTHING: &[f64] = &[0.0, 0.6, 0.9, 0.98];
/// The shortest full range of a chart, in steps and in milliseconds.
const MIN_STEPS: f64 = 20.0;
const MIN_MS: f64 = 60_000.0;
/// The deepest zoom: each level halves the window.
const MAX_ZOOM: u32 = 12;

/// What the x-axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XUnit {
    /// Optimizer steps.
    #[default]
    Step,
    /// Passes over the data.
    Epoch,
    /// Running time, pauses of the machine left out.
    Time,
}

impl XUnit {
    /// The series column it reads.
    #[must_use]
    pub fn axis(self) -> Axis {
        match self {
            Self::Step | Self::Epoch => Axis::Step,
            Self::Time => Axis::Time,
        }
    }

    /// Its word on the screen.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Epoch => "epoch",
            Self::Time => "time",
        }
    }
}

/// A key's action that changes only the view of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CurveAction {
    /// Move the cursor left.
    CursorLeft,
    /// Move the cursor right.
    CursorRight,
    /// Halve the window.
    ZoomIn,
    /// Double the window.
    ZoomOut,
    /// Drop cursor and zoom, and follow the end.
    Follow,
    /// Next smoothing factor.
    Smooth,
    /// What the x-axis counts.
    XAxis,
    /// Toggle the logarithmic scale.
    LogScale,
    /// Focus the next pane.
    NextPane,
    /// Focus the previous pane.
    PreviousPane,
    /// Enlarge the focused pane, or show all.
    Enlarge,
}

/// The view.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CurveView {
    /// The run; none while the session has none.
    pub run: Option<RunId>,
    /// Which pane has the focus.
    pub pane: usize,
    /// Whether the focused pane fills the screen.
    pub enlarged: bool,
    /// How many times the window is halved.
    pub zoom: u32,
    /// The cursor on the x-axis, in steps or in milliseconds; none follows the end.
    pub cursor: Option<f64>,
    /// What the x-axis counts.
    pub unit: XUnit,
    /// Whether the scale is logarithmic.
    pub log_scale: bool,
    /// Whether `worker.log` replaces the samples.
    pub show_output: bool,
    /// The last lines of `worker.log`.
    pub output: Vec<String>,
    smoothing: usize,
    spans: HashMap<String, ValueRange>,
}

impl CurveView {
    /// The view of this run; none selects the latest live one.
    #[must_use]
    pub fn of(run: Option<RunId>) -> Self {
        Self { run, ..Self::default() }
    }

    /// Selects a run if none is selected, and fits the ranges to new values.
    pub fn refresh(&mut self, open: &mut OpenSession) {
        if self.run.as_ref().is_none_or(|id| open.run(id).is_none()) {
            let live = open.runs.iter().rev().find(|r| r.status().is_live());
            if let Some(run) = live.or(open.runs.last()).map(|r| r.id.clone()) {
                self.run = Some(run);
            }
        }
        let beta = self.smoothing();
        if let Some(run) = self.run.as_ref().and_then(|id| open.runs.iter_mut().find(|r| r.id == *id)) {
            run.state.set_smoothing(beta);
            self.fit(&run.state);
        }
    }

    /// The run in view.
    #[must_use]
    pub fn shown<'a>(&self, open: &'a OpenSession) -> Option<&'a RunView> {
        open.run(self.run.as_ref()?)
    }

    /// The smoothing factor.
    #[must_use]
    pub fn smoothing(&self) -> f64 {
        SMOOTHING[self.smoothing]
    }

    /// The visible part of the x-axis.
    #[must_use]
    pub fn window(&self, run: &RunState) -> StepRange {
        let end = |axis| {
            let lines = run.metrics().filter_map(|m| run.series(m)).map(Series::live);
            lines.filter_map(|l| l.x(axis, l.len().checked_sub(1)?)).fold(0.0, f64::max)
        };
        match self.unit.axis() {
            Axis::Step => {
                let total = run.plan.as_ref().map(|p| p.total_steps as f64);
                StepRange::fit(end(Axis::Step), total, MIN_STEPS, self.zoom, self.cursor)
            }
            Axis::Time => StepRange::fit(end(Axis::Time), None, MIN_MS, self.zoom, self.cursor),
        }
    }

    /// The range of a pane's values.
    #[must_use]
    pub fn span(&self, pane: &CurvePane) -> Option<ValueRange> {
        self.spans.get(&pane.title).copied()
    }

    /// Fits each pane's range to its visible values. A range stays until data leaves it.
    pub fn fit(&mut self, run: &RunState) {
        let window = self.window(run);
        let axis = self.unit.axis();
        for pane in panes(run) {
            if pane.share {
                self.spans.insert(pane.title, ValueRange { lo: 0.0, hi: 1.0, log: false });
                continue;
            }
            let mut all = Bucket::default();
            for (name, _) in &pane.curves {
                for series in [run.series(name), run.eval_series(name)].into_iter().flatten() {
                    for line in std::iter::once(series.live()).chain(series.ghosts()) {
                        // One point to each side, so that a curve that only crosses the window fits too.
                        let from = line.before(axis, window.lo).saturating_sub(1);
                        let to = line.before(axis, window.hi + 1e-9) + 1;
                        all.merge(&line.bucket(from..to));
                    }
                }
            }
            let previous = self.spans.get(&pane.title).copied();
            // A pane with values that have no logarithm keeps its linear scale: no point may vanish.
            match ValueRange::fit(previous, all.min, all.max, self.log_scale && all.min > 0.0) {
                Some(span) => self.spans.insert(pane.title, span),
                None => self.spans.remove(&pane.title),
            };
        }
    }

    /// Does what a key asks for.
    pub fn apply(&mut self, run: &RunState, action: CurveAction) {
        let count = panes(run).len().max(1);
        match action {
            CurveAction::CursorLeft => self.move_cursor(run, -1.0),
            CurveAction::CursorRight => self.move_cursor(run, 1.0),
            CurveAction::ZoomIn => self.zoom = (self.zoom + 1).min(MAX_ZOOM),
            CurveAction::ZoomOut => self.zoom = self.zoom.saturating_sub(1),
            CurveAction::Smooth => self.smoothing = (self.smoothing + 1) % SMOOTHING.len(),
            CurveAction::XAxis => self.next_axis(run),
            CurveAction::LogScale => self.log_scale = !self.log_scale,
            CurveAction::NextPane => self.pane = (self.pane + 1) % count,
            CurveAction::PreviousPane => self.pane = (self.pane + count - 1) % count,
            CurveAction::Enlarge => self.enlarged = !self.enlarged,
            CurveAction::Follow => (self.cursor, self.zoom) = (None, 0),
        }
    }

    /// Leaves the enlarged pane, the cursor or the worker log, one at a time. False if none was active.
    pub fn unwind(&mut self) -> bool {
        if self.enlarged {
            self.enlarged = false;
        } else if self.cursor.is_some() {
            self.cursor = None;
        } else if self.show_output {
            self.show_output = false;
        } else {
            return false;
        }
        true
    }

    /// Moves the cursor by a hundredth of the window, at least by one step.
    fn move_cursor(&mut self, run: &RunState, direction: f64) {
        let window = self.window(run);
        let axis = self.unit.axis();
        let first = run.metrics().find_map(|m| run.series(m));
        let Some(line) = first.map(Series::live).filter(|l| !l.is_empty()) else { return };
        let from = self.cursor.or_else(|| line.x(axis, line.len() - 1)).unwrap_or(0.0);
        let far = from + direction * (window.hi - window.lo) / 100.0;
        let now = line.nearest(axis, from).unwrap_or(0);
        let mut at = line.nearest(axis, far).unwrap_or(now);
        if at == now {
            at = if direction < 0.0 { now.saturating_sub(1) } else { (now + 1).min(line.len() - 1) };
        }
        self.cursor = line.x(axis, at);
    }

    fn next_axis(&mut self, run: &RunState) {
        let epochs = run.plan.as_ref().is_some_and(|p| p.steps_per_epoch > 0);
        self.unit = match self.unit {
            XUnit::Step if epochs => XUnit::Epoch,
            XUnit::Step | XUnit::Epoch => XUnit::Time,
            XUnit::Time => XUnit::Step,
        };
        // A cursor in steps has no meaning in milliseconds.
        if self.unit != XUnit::Epoch {
            self.cursor = None;
        }
    }

    /// Switches to another run and resets the view.
    pub fn switch_to(&mut self, run: RunId) {
        self.output.clear();
        self.spans.clear();
        (self.cursor, self.zoom, self.pane) = (None, 0, 0);
        self.run = Some(run);
    }
}
