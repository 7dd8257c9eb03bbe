//! A session played back: the same folds, up to a cursor.
//!
//! Owns the play head. The picture at a point is the picture that was there: nothing is kept but the logs and the cursor.

mod timeline;

pub use timeline::{Entry, IDLE_CAP_MS, Mark, Moment, Timeline};

use super::effect::Effect;
use super::key::Key;
use super::keymap::Action;
use super::model::Model;
use super::screen::Screen;
use super::watch::Watch;
use crate::domain::{RunId, RunState, Verdict};
use crate::protocol::SessionRecord;

/// The speeds the keys go through.
pub const SPEEDS: &[f64] = &[0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// The slowest and the fastest of them.
pub const SPEED_RANGE: (f64, f64) = (0.25, 64.0);
/// After a verdict it stays in view for so long (on the time line, at normal speed), even while a run logs beside it.
const LABEL_STAYS_MS: f64 = 1_500.0;

/// Which of the two pictures is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// The one in which something happened last.
    #[default]
    Auto,
    /// What was judged.
    Label,
    /// The curves.
    Curves,
}

/// What the screen knows.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The session; none while its logs are still being read.
    pub line: Option<Timeline>,
    /// Whether it plays.
    pub playing: bool,
    /// How many times faster than it was.
    speed: f64,
    /// The play head in milliseconds of the time line.
    head: f64,
    /// When the head was last moved, in the model's time.
    moved_ms: u64,
    /// What the person asked to see.
    pub view: View,
    /// How the curves are looked at.
    pub watch: Watch,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            line: None,
            playing: false,
            speed: 1.0,
            head: 0.0,
            moved_ms: 0,
            view: View::Auto,
            watch: Watch::default(),
        }
    }
}

/// Shows the screen for the open session; with a speed it begins to play.
pub fn show(model: &mut Model, speed: Option<f64>) -> Vec<Effect> {
    let (least, most) = SPEED_RANGE;
    let replay = Replay {
        playing: speed.is_some(),
        speed: speed.map_or(1.0, |speed| speed.clamp(least, most)),
        moved_ms: model.clock_ms,
        ..Replay::default()
    };
    model.screen = Screen::Replay(Box::new(replay));
    model.touch();
    refresh(model)
}

/// A chance to take a key before the keymap does, for typing; none passes it on.
pub fn press(_model: &mut Model, _key: Key) -> Option<Vec<Effect>> {
    None
}

/// Does what a key of this screen asks for.
pub fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let clock_ms = model.clock_ms;
    let Screen::Replay(replay) = &mut model.screen else { return Vec::new() };
    if action == Action::Back && !replay.watch.unwind() {
        return super::act::travel(model, action);
    }
    replay.act(action, clock_ms);
    model.touch();
    Vec::new()
}

/// New records of the open session or its runs have been folded, or the size has changed. What is replayed is what was in
/// the logs when the replay began.
pub fn refresh(model: &mut Model) -> Vec<Effect> {
    let (Screen::Replay(replay), Some(open)) = (&mut model.screen, &model.open) else { return Vec::new() };
    if replay.line.is_none() && open.loaded {
        let runs = open.runs.iter().map(|r| (r.id.clone(), r.records.clone())).collect();
        replay.line = Some(Timeline::merge(open.records.clone(), runs));
        model.touch();
    }
    Vec::new()
}

/// Time passed.
pub fn tick(model: &mut Model) -> Vec<Effect> {
    let clock_ms = model.clock_ms;
    if let Screen::Replay(replay) = &mut model.screen
        && replay.play_to(clock_ms)
    {
        model.touch();
    }
    Vec::new()
}

impl Replay {
    /// How many times faster than it was.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The play head in milliseconds of the time line.
    #[must_use]
    pub fn head_ms(&self) -> u64 {
        self.head as u64
    }

    /// The run whose curves are shown: of the entry at the cursor, or the last one before it that had begun.
    #[must_use]
    pub fn run(&self) -> Option<(RunId, &RunState)> {
        let line = self.line.as_ref()?;
        let at = line.entries()[..line.cursor()].iter().rev().find_map(|e| match e {
            Entry::Run(at, _) => Some(*at),
            Entry::Session(_) => None,
        })?;
        Some((line.runs()[at].0.clone(), &line.now().runs[at]))
    }

    /// The last verdict at or before the cursor, its number and whether it was taken back since.
    #[must_use]
    pub fn judged(&self) -> Option<(u64, &Verdict, bool)> {
        let line = self.line.as_ref()?;
        let seq = line.entries()[..line.cursor()].iter().rev().find_map(|e| match e {
            Entry::Session(e) => match e.known()? {
                SessionRecord::Judged(_) => Some(e.n),
                SessionRecord::Undone { of } | SessionRecord::Redone { of } => Some(*of),
                _ => None,
            },
            Entry::Run(..) => None,
        })?;
        let (_, judged) = line.now().session.verdicts().find(|(n, _)| *n == seq)?;
        Some((seq, &judged.verdict, judged.undone))
    }

    /// Whether the curves are shown, and not what was judged.
    #[must_use]
    pub fn shows_curves(&self) -> bool {
        let Some(line) = &self.line else { return false };
        match self.view {
            View::Curves => true,
            View::Label => false,
            View::Auto => {
                let now = line.time_of(line.cursor().saturating_sub(1)) as f64;
                let stays = LABEL_STAYS_MS * self.speed();
                let recent = line.marks().iter().rev().find(|(at, m)| *at < line.cursor() && *m == Mark::Label);
                let fresh = recent.is_some_and(|(at, _)| now - line.time_of(*at) as f64 <= stays);
                !fresh && matches!(line.current(), Some(Entry::Run(..)))
            }
        }
    }

    fn act(&mut self, action: Action, clock_ms: u64) {
        self.play_to(clock_ms);
        match action {
            Action::PlayPause => {
                let ended = self.line.as_ref().is_some_and(|l| l.cursor() == l.len());
                if ended && !self.playing {
                    self.seek(0);
                }
                self.playing = !self.playing;
                self.moved_ms = clock_ms;
            }
            Action::Faster => self.speed = SPEEDS.iter().copied().find(|s| *s > self.speed).unwrap_or(self.speed),
            Action::Slower => self.speed = SPEEDS.iter().rev().copied().find(|s| *s < self.speed).unwrap_or(self.speed),
            Action::NextEvent => self.hop(|l| Some(l.cursor() + 1)),
            Action::PreviousEvent => self.hop(|l| l.cursor().checked_sub(1)),
            Action::NextMark => self.hop(|l| l.next_mark().or(Some(l.len()))),
            Action::PreviousMark => self.hop(|l| l.previous_mark().or(Some(0))),
            Action::ToStart => self.hop(|_| Some(0)),
            Action::ToEnd => self.hop(|l| Some(l.len())),
            Action::ReplayView => {
                self.view = match self.view {
                    View::Auto if self.shows_curves() => View::Label,
                    View::Auto => View::Curves,
                    View::Label | View::Curves => View::Auto,
                };
            }
            other => {
                let mut watch = std::mem::take(&mut self.watch);
                if let Some((_, state)) = self.run() {
                    watch.look(state, other);
                }
                if let Some(line) = &mut self.line {
                    line.set_smoothing(watch.smoothing());
                }
                self.watch = watch;
            }
        }
        self.fit();
    }

    /// Stops playing and goes where `to` says.
    fn hop(&mut self, to: impl FnOnce(&Timeline) -> Option<usize>) {
        self.playing = false;
        if let Some(n) = self.line.as_ref().and_then(to) {
            self.seek(n);
        }
    }

    fn seek(&mut self, n: usize) {
        if let Some(line) = &mut self.line {
            line.seek(n);
            self.head = line.cursor().checked_sub(1).map_or(0.0, |at| line.time_of(at) as f64);
        }
        self.fit();
    }

    /// Lets the play head go on to the model's time. True when something is to be painted.
    fn play_to(&mut self, clock_ms: u64) -> bool {
        let passed = clock_ms.saturating_sub(self.moved_ms) as f64;
        self.moved_ms = clock_ms;
        let speed = self.speed();
        let Some(line) = self.line.as_mut().filter(|_| self.playing) else { return false };
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
        let mut watch = std::mem::take(&mut self.watch);
        if let Some((id, state)) = self.run() {
            if watch.run.as_ref() != Some(&id) {
                watch.turn_to(id);
            }
            watch.fit(state);
        }
        self.watch = watch;
    }
}
