//! The watch screen: a run's curves, findings and samples, and its control.
//!
//! Owns what part of which curves is looked at. Every number comes from the run's folded log; nothing here changes it but
//! by asking its worker.

mod panes;

pub use panes::{Pane, panes};

use super::effect::Effect;
use super::flow;
use super::key::Key;
use super::keymap::Action;
use super::model::{Goal, Model};
use super::open::{Open, RunView};
use super::popup::{Confirm, Popup, Then};
use super::screen::Screen;
use crate::domain::{Axis, PairId, RunId, RunState, RunStatus, Span, Window, model_name};
use crate::protocol::{RunCommand, RunSpec, Task};
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

/// What a key did that more than this screen must know about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Done here.
    Done,
    /// Leave the screen.
    Leave,
    /// Ask first whether this run is to stop.
    ConfirmStop(RunId),
    /// Nothing to do; the sentence says why.
    Refused(String),
    /// Judge this pair again, or one of these.
    Relabel(Vec<PairId>),
    /// Something was asked of the worker; the words say what.
    Said(String),
}

/// Shows the screen for the open session: this run, or the one that matters most.
pub fn show(model: &mut Model, run: Option<RunId>) -> Vec<Effect> {
    let watch = Watch { run, ..Watch::default() };
    model.screen = Screen::Watch(Box::new(watch));
    model.touch();
    refresh(model)
}

/// A chance to take a key before the keymap does, for typing; none passes it on.
pub fn press(_model: &mut Model, _key: Key) -> Option<Vec<Effect>> {
    None
}

/// Does what a key of this screen asks for.
pub fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let (Screen::Watch(watch), Some(open)) = (&mut model.screen, &mut model.open) else { return Vec::new() };
    let (outcome, effects) = watch.act(open, action);
    model.touch();
    match outcome {
        Outcome::Done => {}
        Outcome::Leave => return super::act::travel(model, Action::Back),
        Outcome::Refused(why) => model.warn(why),
        Outcome::Said(what) => model.say(what),
        Outcome::Relabel(pairs) => return relabel(model, &pairs),
        Outcome::ConfirmStop(run) => model.popups.push(Popup::Confirm(Confirm {
            question: format!("Stop {run}? It writes a checkpoint first; `R` takes it up again from there."),
            then: Then::Effects(vec![Effect::Command { run, command: RunCommand::Stop }]),
        })),
    }
    effects
}

/// Goes to the label screen, at the pair; with several, the one is asked for there.
fn relabel(model: &mut Model, pairs: &[PairId]) -> Vec<Effect> {
    let effects = flow::go(model, None, Goal::Label);
    match pairs {
        [pair] => super::label::show_pair(model, pair),
        pairs => super::label::ask_pair(model, |pair| pairs.contains(pair)),
    }
    effects
}

/// New records of the open session or its runs have been folded, or the size has changed.
pub fn refresh(model: &mut Model) -> Vec<Effect> {
    if let (Screen::Watch(watch), Some(open)) = (&mut model.screen, &mut model.open) {
        watch.refresh(open);
    }
    Vec::new()
}

/// Time passed. Nothing on this screen moves unless data moved.
pub fn tick(_model: &mut Model) -> Vec<Effect> {
    Vec::new()
}

/// The last lines of a run's worker.log.
pub fn worker_log(model: &mut Model, run: &RunId, lines: Vec<String>) {
    if let Screen::Watch(watch) = &mut model.screen
        && watch.run.as_ref() == Some(run)
    {
        watch.output = lines;
        model.touch();
    }
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Watch {
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
    spans: HashMap<String, Span>,
}

impl Watch {
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
    pub fn window(&self, run: &RunState) -> Window {
        let end = |axis| {
            let lines = run.metrics().filter_map(|m| run.series(m)).map(crate::domain::Series::live);
            lines.filter_map(|l| l.x(axis, l.len().checked_sub(1)?)).fold(0.0, f64::max)
        };
        match self.unit.axis() {
            Axis::Step => {
                let total = run.plan.as_ref().map(|p| p.total_steps as f64);
                Window::over(end(Axis::Step), total, LEAST_STEPS, self.zoom, self.cursor)
            }
            Axis::Time => Window::over(end(Axis::Time), None, LEAST_MS, self.zoom, self.cursor),
        }
    }

    /// The range of a pane's values.
    #[must_use]
    pub fn span(&self, pane: &Pane) -> Option<Span> {
        self.spans.get(&pane.title).copied()
    }

    /// Fits each pane's range to what is visible of it. Ranges hold still until data leaves them.
    pub fn fit(&mut self, run: &RunState) {
        let window = self.window(run);
        let axis = self.unit.axis();
        for pane in panes(run) {
            if pane.share {
                self.spans.insert(pane.title, Span { lo: 0.0, hi: 1.0, log: false });
                continue;
            }
            let mut all = crate::domain::Bucket::default();
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
            match Span::fit(previous, all.min, all.max, self.log_scale && all.min > 0.0) {
                Some(span) => self.spans.insert(pane.title, span),
                None => self.spans.remove(&pane.title),
            };
        }
    }

    /// What a key of this screen does. `Effect`s go to the shell.
    fn act(&mut self, open: &mut Open, action: Action) -> (Outcome, Vec<Effect>) {
        let done = (Outcome::Done, Vec::new());
        let out = match action {
            Action::NextRun => self.go_run(open, 1),
            Action::PreviousRun => self.go_run(open, -1),
            Action::WorkerLog => {
                self.show_output = !self.show_output;
                let ask = self.run.clone().filter(|_| self.show_output);
                (Outcome::Done, ask.map(|run| Effect::ReadWorkerLog { run }).into_iter().collect())
            }
            Action::PauseRun | Action::CheckpointRun | Action::StopRun | Action::ResumeRun => {
                self.control(open, action)
            }
            Action::Relabel => match self.named(open) {
                none if none.is_empty() => {
                    let why = "no finding of this run names a pair that can be judged here";
                    (Outcome::Refused(why.into()), Vec::new())
                }
                pairs => (Outcome::Relabel(pairs), Vec::new()),
            },
            Action::Back if self.unwind() => done,
            Action::Back => (Outcome::Leave, Vec::new()),
            _ => {
                if let Some(run) = self.shown(open) {
                    self.look(&run.state, action);
                }
                done
            }
        };
        self.refresh(open);
        out
    }

    /// The keys that only change how a run is looked at; replay shares them.
    pub fn look(&mut self, run: &RunState, action: Action) {
        let count = panes(run).len().max(1);
        match action {
            Action::CursorLeft => self.move_cursor(run, -1.0),
            Action::CursorRight => self.move_cursor(run, 1.0),
            Action::ZoomIn => self.zoom = (self.zoom + 1).min(DEEPEST),
            Action::ZoomOut => self.zoom = self.zoom.saturating_sub(1),
            Action::Smooth => self.smoothing = (self.smoothing + 1) % SMOOTHING.len(),
            Action::XAxis => self.turn_axis(run),
            Action::LogScale => self.log_scale = !self.log_scale,
            Action::NextPane => self.pane = (self.pane + 1) % count,
            Action::PreviousPane => self.pane = (self.pane + count - 1) % count,
            Action::Enlarge => self.enlarged = !self.enlarged,
            Action::Follow => (self.cursor, self.zoom) = (None, 0),
            _ => {}
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
        let Some(line) = first.map(crate::domain::Series::live).filter(|l| !l.is_empty()) else { return };
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

    fn go_run(&mut self, open: &Open, by: isize) -> (Outcome, Vec<Effect>) {
        if open.runs.is_empty() {
            return (Outcome::Done, Vec::new());
        }
        let at = open.runs.iter().position(|r| Some(&r.id) == self.run.as_ref()).unwrap_or(0) as isize;
        let next = open.runs[(at + by).rem_euclid(open.runs.len() as isize) as usize].id.clone();
        let ask = self.show_output.then(|| Effect::ReadWorkerLog { run: next.clone() });
        self.turn_to(next);
        (Outcome::Done, ask.into_iter().collect())
    }

    /// Looks at another run, from the beginning.
    pub fn turn_to(&mut self, run: RunId) {
        self.output.clear();
        self.spans.clear();
        (self.cursor, self.zoom, self.pane) = (None, 0, 0);
        self.run = Some(run);
    }

    /// The pairs of this session that the run's findings name, newest finding first.
    #[must_use]
    pub fn named(&self, open: &Open) -> Vec<PairId> {
        let findings = self.shown(open).map_or(&[][..], |run| run.state.findings.as_slice());
        let mut pairs: Vec<PairId> = Vec::new();
        for pair in findings.iter().rev().filter_map(|f| f.pair.as_ref()) {
            if open.session.pair(pair).is_some() && !pairs.contains(pair) {
                pairs.push(pair.clone());
            }
        }
        pairs
    }

    fn control(&self, open: &Open, action: Action) -> (Outcome, Vec<Effect>) {
        let refuse = |why: String| (Outcome::Refused(why), Vec::new());
        let Some(run) = self.shown(open) else { return refuse("there is no run to control yet".into()) };
        if let Some(holder) = &open.read_only {
            return refuse(format!("this session is open for reading only: {holder} holds it"));
        }
        let (id, status) = (run.id.clone(), run.status());
        let command = |command: RunCommand, said: String| {
            (Outcome::Said(said), vec![Effect::Command { run: id.clone(), command }])
        };
        match (action, &status) {
            (Action::PauseRun, RunStatus::Paused) => command(RunCommand::Resume, format!("{id} goes on")),
            (Action::PauseRun, RunStatus::Running) => {
                command(RunCommand::Pause, format!("{id} pauses after this step"))
            }
            (Action::CheckpointRun, RunStatus::Running | RunStatus::Paused) => {
                command(RunCommand::Checkpoint, format!("{id} writes a checkpoint after this step"))
            }
            (Action::StopRun, status) if status.is_live() => (Outcome::ConfirmStop(id), Vec::new()),
            (Action::ResumeRun, RunStatus::Paused) => command(RunCommand::Resume, format!("{id} goes on")),
            (Action::ResumeRun, RunStatus::Lost | RunStatus::Stopped | RunStatus::Failed(_)) => {
                (Outcome::Said(format!("{id} is taken up again")), vec![Effect::ResumeRun { run: id }])
            }
            (Action::ResumeRun, status) => refuse(format!("{id} is {}: there is nothing to resume", status.word())),
            (_, status) => refuse(format!("{id} is {}: nobody is there to tell", status.word())),
        }
    }
}

/// What a run is about, for beside its curves: name and value.
#[must_use]
pub fn facts(run: &RunView) -> Vec<(&'static str, String)> {
    run.spec.as_ref().map_or_else(Vec::new, spec_facts)
}

/// A model's name without the folders it lies in; `owner/name` stays whole.
#[must_use]
pub fn short(name: &str) -> String {
    let path = name.starts_with(['/', '.', '~']) || name.matches('/').count() > 1;
    if path { model_name(name) } else { name.to_owned() }
}

/// What a run was asked to do: name and value.
#[must_use]
pub fn spec_facts(spec: &RunSpec) -> Vec<(&'static str, String)> {
    match &spec.task {
        Task::Train(train) => {
            let from = train.init.as_ref().map_or(String::new(), |run| format!(" + {run}"));
            let p = &train.params;
            let mut out = vec![
                ("method", format!("{} · {}", train.method, p.text("tune"))),
                ("model", format!("{}{from}", short(&train.model.name))),
                ("rate", format!("{} {}", p.text("learning_rate"), p.text("lr_scheduler_type"))),
            ];
            if !p.text("beta").is_empty() {
                out.push(("beta", p.text("beta").to_owned()));
            }
            out
        }
        Task::Sample(sample) => {
            let models: Vec<String> = sample.models.iter().map(|m| short(&m.name)).collect();
            vec![
                ("model", models.join(", ")),
                ("answers", format!("{} a prompt", sample.per_prompt)),
                ("temperature", format!("{} · top-p {}", sample.sampler.temperature, sample.sampler.top_p)),
            ]
        }
    }
}
