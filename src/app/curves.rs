//! What part of which curves is looked at: the watch screen and the replay share it.
//!
//! Owns the cursor, the zoom, the axis and the ranges. Changes nothing of a run but how it is smoothed.

mod panes;

pub use panes::{CurvePane, panes};

use super::open::{Open, RunView};
use crate::domain::{Axis, Bucket, RunId, RunState, Series, StepRange, ValueRange};
use std::collections::HashMap;

/// The smoothing factors that the key goes through.
pub const SMOOTHING: &[f64] = &[0.0, 0.6, 0.9, 0.98];
/// Fewest steps, and milliseconds, that a whole chart spans.
const LEAST_STEPS: f64 = 20.0;
const LEAST_MS: f64 = 60_000.0;
/// The deepest zoom: each level halves the window.
const DEEPEST: u32 = 12;

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
    /// The columns it is measured in.
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

/// What the keys that only change how a run is looked at ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The cursor to the left.
    CursorLeft,
    /// The cursor to the right.
    CursorRight,
    /// Half of the window.
    ZoomIn,
    /// Twice the window.
    ZoomOut,
    /// No cursor, no zoom.
    Follow,
    /// The next smoothing.
    Smooth,
    /// What the x-axis counts.
    XAxis,
    /// Logarithmic values.
    LogScale,
    /// The focus to the next pane.
    NextPane,
    /// The focus to the pane before.
    PreviousPane,
    /// One pane alone.
    Enlarge,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CurveView {
    /// The run; none while the session has none.
    pub run: Option<RunId>,
    /// Which pane has the focus.
    pub pane: usize,
    /// Whether it fills the screen.
    pub enlarged: bool,
    /// How often the window is halved.
    pub zoom: u32,
    /// Where on the x-axis the cursor stands (steps, or milliseconds on the time axis); none: the end is followed.
    pub cursor: Option<f64>,
    /// What the x-axis counts.
    pub unit: XUnit,
    /// Whether values are on a logarithmic scale.
    pub log_scale: bool,
    /// Whether the worker's own output is shown in place of the samples.
    pub show_output: bool,
    /// The last lines of the worker's output.
    pub output: Vec<String>,
    smoothing: usize,
    spans: HashMap<String, ValueRange>,
}

impl CurveView {
    /// The curves of this run; none for the one that matters most.
    #[must_use]
    pub fn of(run: Option<RunId>) -> Self {
        Self { run, ..Self::default() }
    }

    /// Chooses a run where none is chosen and fits the ranges to what was measured since.
    pub fn refresh(&mut self, open: &mut Open) {
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

    /// The run looked at.
    #[must_use]
    pub fn shown<'a>(&self, open: &'a Open) -> Option<&'a RunView> {
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
                StepRange::fit(end(Axis::Step), total, LEAST_STEPS, self.zoom, self.cursor)
            }
            Axis::Time => StepRange::fit(end(Axis::Time), None, LEAST_MS, self.zoom, self.cursor),
        }
    }

    /// The range of a pane's values.
    #[must_use]
    pub fn span(&self, pane: &CurvePane) -> Option<ValueRange> {
        self.spans.get(&pane.title).copied()
    }

    /// Fits each pane's range to what is visible of it. Ranges hold still until data leaves them.
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
                        // One point to each side, so that a curve that only crosses the window lies within the range.
                        let from = line.before(axis, window.lo).saturating_sub(1);
                        let to = line.before(axis, window.hi + 1e-9) + 1;
                        all.merge(&line.bucket(from..to));
                    }
                }
            }
            let previous = self.spans.get(&pane.title).copied();
            // A pane with values that have no logarithm stays as it is: nothing may vanish from it.
            match ValueRange::fit(previous, all.min, all.max, self.log_scale && all.min > 0.0) {
                Some(span) => self.spans.insert(pane.title, span),
                None => self.spans.remove(&pane.title),
            };
        }
    }

    /// Does what a key asks for.
    pub fn look(&mut self, run: &RunState, action: Look) {
        let count = panes(run).len().max(1);
        match action {
            Look::CursorLeft => self.move_cursor(run, -1.0),
            Look::CursorRight => self.move_cursor(run, 1.0),
            Look::ZoomIn => self.zoom = (self.zoom + 1).min(DEEPEST),
            Look::ZoomOut => self.zoom = self.zoom.saturating_sub(1),
            Look::Smooth => self.smoothing = (self.smoothing + 1) % SMOOTHING.len(),
            Look::XAxis => self.turn_axis(run),
            Look::LogScale => self.log_scale = !self.log_scale,
            Look::NextPane => self.pane = (self.pane + 1) % count,
            Look::PreviousPane => self.pane = (self.pane + count - 1) % count,
            Look::Enlarge => self.enlarged = !self.enlarged,
            Look::Follow => (self.cursor, self.zoom) = (None, 0),
        }
    }

    /// Takes back one layer of looking closer. False when there was none.
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

    /// Moves the cursor by a hundredth of the window, and by one step at least.
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

    fn turn_axis(&mut self, run: &RunState) {
        let epochs = run.plan.as_ref().is_some_and(|p| p.steps_per_epoch > 0);
        self.unit = match self.unit {
            XUnit::Step if epochs => XUnit::Epoch,
            XUnit::Step | XUnit::Epoch => XUnit::Time,
            XUnit::Time => XUnit::Step,
        };
        // Steps and milliseconds are different places.
        if self.unit != XUnit::Epoch {
            self.cursor = None;
        }
    }

    /// Looks at another run, from the beginning.
    pub fn turn_to(&mut self, run: RunId) {
        self.output.clear();
        self.spans.clear();
        (self.cursor, self.zoom, self.pane) = (None, 0, 0);
        self.run = Some(run);
    }
}
