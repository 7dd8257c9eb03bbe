//! A session played back: its logs, folded up to a cursor.
//!
//! Owns the playhead. Keeps nothing but the logs, which it asks for when it opens, and the cursor, so the replay shows what the
//! screen showed.

mod entry;
mod timeline;

pub use entry::TimelineEntry;
pub use timeline::{IDLE_CAP_MS, Mark, Moment, Timeline};

use crate::app::contract::Screen;
use crate::app::curves::{CurveAction, CurveView};
use crate::app::effect::Effect;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::Code;
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::Msg;
use crate::app::shared::Shared;
use crate::domain::{EvalReport, RunId, RunState, Verdict};
use crate::protocol::Task;

/// The speeds that the keys step through.
pub const SPEEDS: &[f64] = &[0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// The slowest and the fastest of them.
pub const SPEED_RANGE: (f64, f64) = (0.25, 64.0);
/// How long a verdict stays in view while a run logs events, in milliseconds of the timeline at speed 1.
const LABEL_HOLD_MS: f64 = 1_500.0;
/// The least time between two computations of an evaluation's figures, in milliseconds.
const RECOMPUTE_MS: u64 = 1_000;

/// Which view is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplayView {
    /// The view of the latest entry.
    #[default]
    Auto,
    /// The verdicts.
    Label,
    /// The curves.
    Curves,
}

/// The screen's state.
#[derive(Debug, Clone)]
pub struct ReplayScreen {
    /// The session's timeline; none until its logs are read.
    pub timeline: Option<Timeline>,
    /// Why there is none.
    pub unread: Option<String>,
    /// The ticket of the request for it.
    reading: Option<u64>,
    /// Whether it plays.
    pub playing: bool,
    /// The speed, 1 for real time.
    speed: f64,
    /// The playhead in milliseconds of the timeline.
    head: f64,
    /// When the playhead last moved, on the model's monotonic clock.
    moved_ms: u64,
    /// The selected view.
    pub view: ReplayView,
    /// The view of the curves.
    pub curves: CurveView,
    /// What an evaluation had found at the cursor, or why that cannot be computed; none while it is computed.
    pub report: Option<Result<Box<EvalReport>, String>>,
    /// Which record of which run it is of, or will be.
    reported: Option<(RunId, u64)>,
    /// The ticket of the last request for it, and when that was made.
    asked: Option<(u64, u64)>,
}

impl Default for ReplayScreen {
    fn default() -> Self {
        Self {
            timeline: None,
            unread: None,
            reading: None,
            playing: false,
            speed: 1.0,
            head: 0.0,
            moved_ms: 0,
            view: ReplayView::Auto,
            curves: CurveView::default(),
            report: None,
            reported: None,
            asked: None,
        }
    }
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayAction {
    /// Play or pause.
    PlayPause,
    /// One entry forward.
    NextEntry,
    /// One entry back.
    PreviousEntry,
    /// Forward to the next mark.
    NextMark,
    /// Back to the previous mark.
    PreviousMark,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// Go to the start.
    ToStart,
    /// Go to the end.
    ToEnd,
    /// Switch between verdicts, curves, and the latest of them.
    View,
    /// Change the view of the curves.
    Curves(CurveAction),
    /// Leave the enlarged view, then go back to labelling.
    Back,
}

#[rustfmt::skip]
const KEYS: &[Section<ReplayAction>] = &[Section { title: "replay", rows: &[
    on(c(' '), ReplayAction::PlayPause, "play", "play or pause"),
    on(k(Code::Left), ReplayAction::PreviousEntry, "entry", "one entry back").named("previous entry"),
    on(k(Code::Right), ReplayAction::NextEntry, "entry", "one entry forward").named("next entry"),
    on(c('['), ReplayAction::PreviousMark, "mark", "previous mark: label, launch, checkpoint, finding").named("previous mark"),
    on(c(']'), ReplayAction::NextMark, "mark", "next mark").named("next mark"),
    on(c('-'), ReplayAction::Slower, "speed", "half as fast").named("slower"),
    on(c('+'), ReplayAction::Faster, "speed", "twice as fast").named("faster"),
    on(c('v'), ReplayAction::View, "view", "the labels, the curves, or whichever changed last"),
    on(c('='), ReplayAction::Faster, "", "twice as fast"),
    on(k(Code::Home), ReplayAction::ToStart, "", "to the beginning").named("start"),
    on(k(Code::End), ReplayAction::ToEnd, "", "to the end").named("end"),
    on(k(Code::Tab), ReplayAction::Curves(CurveAction::NextPane), "", "next pane of the curves").named("next pane"),
    on(k(Code::BackTab), ReplayAction::Curves(CurveAction::PreviousPane), "", "previous pane of the curves").named("previous pane"),
    on(k(Code::Enter), ReplayAction::Curves(CurveAction::Enlarge), "", "enlarge one pane, or show all").named("enlarge"),
    on(c('s'), ReplayAction::Curves(CurveAction::Smooth), "", "smooth the curves more, then not at all").named("smooth"),
    on(c('x'), ReplayAction::Curves(CurveAction::XAxis), "", "x axis in steps, epochs or time").named("x axis"),
    on(c('y'), ReplayAction::Curves(CurveAction::LogScale), "", "logarithmic scale").named("log scale"),
    on(k(Code::Esc), ReplayAction::Back, "", "back to labelling").named("back"),
] }];

impl Screen for ReplayScreen {
    type Action = ReplayAction;

    const NAME: &'static str = "replay";
    const KEYS: &'static [Section<ReplayAction>] = KEYS;

    /// Shows the open session; with a speed it starts playing.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>) {
        let speed = match show {
            Show::Speed(speed) => Some(speed),
            _ => None,
        };
        let (least, most) = SPEED_RANGE;
        let mut replay = Self {
            playing: speed.is_some(),
            speed: speed.map_or(1.0, |speed| speed.clamp(least, most)),
            moved_ms: shared.clock_ms,
            ..Self::default()
        };
        let effects = Screen::refresh(&mut replay, shared);
        (replay, effects)
    }

    fn act(&mut self, shared: &mut Shared, action: ReplayAction) -> Next {
        if action == ReplayAction::Back && !self.curves.unwind() {
            return Next::go(Goal::to("label"));
        }
        self.control(action, shared.clock_ms);
        shared.touch();
        Next::default()
    }

    fn footer_word(&self, _shared: &Shared, action: ReplayAction, word: &'static str) -> Option<&'static str> {
        Some(if action == ReplayAction::PlayPause && self.playing { "pause" } else { word })
    }

    /// The replay covers what the logs held when it opened.
    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        if self.reading.is_some() || !open.loaded {
            return Vec::new();
        }
        let runs = open.runs.iter().map(|run| run.id.clone()).collect();
        let known = Box::new(open.session.clone());
        let ticket = shared.next_ticket();
        self.reading = Some(ticket);
        vec![Effect::ReadTimeline { ticket, runs, known }]
    }

    fn tick(&mut self, shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        if self.play_to(shared.clock_ms) {
            shared.touch();
        }
        self.compute(shared)
    }

    /// The timeline, and the figures of the evaluation at the cursor.
    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::TimelineRead { ticket, answer } if self.reading == Some(ticket) => {
                match answer {
                    Ok(timeline) => self.timeline = Some(*timeline),
                    Err(error) => self.unread = Some(error),
                }
                // Reading took time that is not played.
                self.moved_ms = shared.clock_ms;
                shared.touch();
            }
            Msg::EvalReportReady { ticket, answer } if self.asked.is_some_and(|(asked, _)| asked == ticket) => {
                self.report = Some(answer);
                shared.touch();
            }
            _ => {}
        }
        Vec::new()
    }
}

impl ReplayScreen {
    /// The speed, 1 for real time.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The playhead in milliseconds of the timeline.
    #[must_use]
    pub fn head_ms(&self) -> u64 {
        self.head as u64
    }

    /// The run whose curves show: that of the last run entry up to the cursor.
    #[must_use]
    pub fn run(&self) -> Option<(RunId, &RunState)> {
        let line = self.timeline.as_ref()?;
        let (at, _) = line.last_of_a_run()?;
        Some((line.runs()[at].0.clone(), &*line.state().runs[at]))
    }

    /// The evaluation at the cursor and the number of its last record.
    fn evaluation(&self) -> Option<(RunId, u64)> {
        let line = self.timeline.as_ref()?;
        let (at, envelope) = line.last_of_a_run()?;
        let (id, spec) = &line.runs()[at];
        let evaluates = spec.as_ref().is_some_and(|spec| matches!(spec.task, Task::Eval(_)));
        evaluates.then(|| (id.clone(), envelope.n))
    }

    /// Requests the figures of the evaluation at the cursor if it moved, at most once in a while.
    fn compute(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some((run, upto)) = self.evaluation().filter(|_| self.shows_curves()) else { return Vec::new() };
        let rested = self.asked.is_none_or(|(_, at)| shared.clock_ms.saturating_sub(at) >= RECOMPUTE_MS);
        if !rested || self.reported.as_ref().is_some_and(|of| *of == (run.clone(), upto)) {
            return Vec::new();
        }
        if self.reported.as_ref().is_some_and(|(of, _)| *of != run) {
            self.report = None;
        }
        let ticket = shared.next_ticket();
        self.asked = Some((ticket, shared.clock_ms));
        self.reported = Some((run.clone(), upto));
        vec![Effect::EvalReport { ticket, run, upto: Some(upto) }]
    }

    /// The last verdict at or before the cursor, its sequence number, and whether it is undone.
    #[must_use]
    pub fn current_verdict(&self) -> Option<(u64, &Verdict, bool)> {
        let line = self.timeline.as_ref()?;
        let seq = line.last_verdict()?;
        let judged = line.state().session.judged_at(seq)?;
        Some((seq, judged.verdict, judged.undone))
    }

    /// Whether the curves show, not the verdicts.
    #[must_use]
    pub fn shows_curves(&self) -> bool {
        let Some(line) = &self.timeline else { return false };
        match self.view {
            ReplayView::Curves => true,
            ReplayView::Label => false,
            ReplayView::Auto => {
                let now = line.time_of(line.cursor().saturating_sub(1)) as f64;
                let hold = LABEL_HOLD_MS * self.speed();
                let recent = line.last_mark(Mark::Label);
                let fresh = recent.is_some_and(|at| now - line.time_of(at) as f64 <= hold);
                !fresh && line.current().is_some_and(|entry| entry.of_a_run().is_some())
            }
        }
    }

    fn control(&mut self, action: ReplayAction, clock_ms: u64) {
        self.play_to(clock_ms);
        match action {
            ReplayAction::PlayPause => {
                let ended = self.timeline.as_ref().is_some_and(|l| l.cursor() == l.len());
                if ended && !self.playing {
                    self.seek(0);
                }
                self.playing = !self.playing;
                self.moved_ms = clock_ms;
            }
            ReplayAction::Faster => self.speed = SPEEDS.iter().copied().find(|s| *s > self.speed).unwrap_or(self.speed),
            ReplayAction::Slower => {
                self.speed = SPEEDS.iter().rev().copied().find(|s| *s < self.speed).unwrap_or(self.speed);
            }
            ReplayAction::NextEntry => self.jump(|l| Some(l.cursor() + 1)),
            ReplayAction::PreviousEntry => self.jump(|l| l.cursor().checked_sub(1)),
            ReplayAction::NextMark => self.jump(|l| l.next_mark().or(Some(l.len()))),
            ReplayAction::PreviousMark => self.jump(|l| l.previous_mark().or(Some(0))),
            ReplayAction::ToStart => self.jump(|_| Some(0)),
            ReplayAction::ToEnd => self.jump(|l| Some(l.len())),
            ReplayAction::View => {
                self.view = match self.view {
                    ReplayView::Auto if self.shows_curves() => ReplayView::Label,
                    ReplayView::Auto => ReplayView::Curves,
                    ReplayView::Label | ReplayView::Curves => ReplayView::Auto,
                };
            }
            ReplayAction::Curves(action) => {
                let mut curves = std::mem::take(&mut self.curves);
                if let Some((_, state)) = self.run() {
                    curves.apply(state, action);
                }
                if let Some(line) = &mut self.timeline {
                    line.set_smoothing(curves.smoothing());
                }
                self.curves = curves;
            }
            ReplayAction::Back => {}
        }
        self.fit();
    }

    /// Stops playing and seeks to where `to` says.
    fn jump(&mut self, to: impl FnOnce(&Timeline) -> Option<usize>) {
        self.playing = false;
        if let Some(n) = self.timeline.as_ref().and_then(to) {
            self.seek(n);
        }
    }

    fn seek(&mut self, n: usize) {
        if let Some(line) = &mut self.timeline {
            line.seek(n);
            self.head = line.cursor().checked_sub(1).map_or(0.0, |at| line.time_of(at) as f64);
        }
        self.fit();
    }

    /// Advances the playhead to the model's clock. True if something visible changed.
    fn play_to(&mut self, clock_ms: u64) -> bool {
        let passed = clock_ms.saturating_sub(self.moved_ms) as f64;
        self.moved_ms = clock_ms;
        let speed = self.speed();
        let Some(line) = self.timeline.as_mut().filter(|_| self.playing) else { return false };
        self.head = (self.head + passed * speed).min(line.length() as f64);
        let n = line.count_at(self.head as u64);
        let moved = n > line.cursor();
        if moved {
            line.seek(n);
        }
        let ended = line.cursor() == line.len();
        if ended {
            self.playing = false;
        }
        if moved {
            self.fit();
        }
        moved || ended
    }

    fn fit(&mut self) {
        let mut curves = std::mem::take(&mut self.curves);
        if let Some((id, state)) = self.run() {
            if curves.run.as_ref() != Some(&id) {
                curves.switch_to(id);
            }
            curves.fit(state);
        }
        self.curves = curves;
    }
}
