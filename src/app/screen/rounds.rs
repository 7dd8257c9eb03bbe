//! The loop screen: rounds of sampling, pairing, judging, training and evaluation, as they go on; and a form that plans them.
//!
//! ```text
//!  round  sample    pairs judged ties  train     win rate over the round before
//!    1    finished     26     26   13  finished  62.5 % [51.0 – 73.0] of 40      │├─●─┤    better
//!    2    finished     26     26   11  running   –
//! ─ loop-1 ─────────────────────────────────────────────────────────────────────
//!    round 2 of 3: train (running) · 12 of 40 steps
//!    3 rounds · 26 prompts each, 4 answers · best_worst · judge check:… · dpo
//! ```
//!
//! Owns which loop shows and when its evaluations' figures are asked for. Where a loop stands is derived, as its process derives
//! it. Refuses to do a step: the loop's process does, with or without this screen.

mod form;

pub use form::{LoopForm, LoopPlan};

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::Msg;
use crate::app::open::{OpenSession, RunView};
use crate::app::shared::Shared;
use crate::domain::{Filter, LoopProgress, LoopSpec, LoopState, LoopStep, RoundRuns, RoundWin, RunId, RunStatus};
use std::collections::BTreeMap;

/// What the screen shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoopView {
    /// The rounds of a loop.
    #[default]
    Rounds,
    /// The form for a new one.
    Form,
}

/// The figures of an evaluation, and the request for them.
#[derive(Debug, Clone, Default)]
struct Figures {
    /// The comparison that decides; none where nothing was compared.
    win: Option<RoundWin>,
    /// The verdicts and records that were known at that time.
    of: usize,
    ready: bool,
}

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct LoopScreen {
    /// What shows.
    pub view: LoopView,
    /// The shown loop.
    pub name: Option<String>,
    /// Where it stands; none without one.
    pub progress: Option<LoopProgress>,
    /// The first round shown.
    pub scroll: usize,
    /// The form.
    pub form: LoopForm,
    figures: BTreeMap<RunId, Figures>,
    /// The request for figures whose answer is outstanding: its ticket, the evaluation, and what was known.
    asked: Option<(u64, RunId, usize)>,
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundsAction {
    /// Label what waits for people; on the form start.
    Accept,
    /// Plan a new loop.
    New,
    /// Stop the loop's process.
    Stop,
    /// Start it again.
    Resume,
    /// The next loop, or the next field.
    Down,
    /// The previous loop, or the previous field.
    Up,
    /// Scroll the rounds down.
    PageDown,
    /// Scroll the rounds up.
    PageUp,
    /// Complete nothing: the next field.
    Tab,
    /// The previous field.
    BackTab,
    /// Go to another screen of the session.
    Go(&'static str),
    /// Leave the form, then go back to labelling.
    Back,
}

use RoundsAction as A;

#[rustfmt::skip]
const KEYS: &[Section<RoundsAction>] = &[
    Section { title: "loop", rows: &[
        on(k(Code::Enter), A::Accept, "label", "label the pairs that wait; on the form, start").named("label what waits"),
        on(c('n'), A::New, "new", "plan a new loop").named("new loop"),
        on(c('S'), A::Stop, "stop", "stop the loop after a checkpoint of its run"),
        on(c('R'), A::Resume, "resume", "go on with the loop where it broke off"),
        on(k(Code::Down), A::Down, "other", "an earlier loop, or the next field").named("earlier loop"),
        on(k(Code::Up), A::Up, "other", "a later loop, or the previous field").named("later loop"),
        on(k(Code::PageDown), A::PageDown, "", "later rounds").named("later rounds"),
        on(k(Code::PageUp), A::PageUp, "", "earlier rounds").named("earlier rounds"),
        on(k(Code::Tab), A::Tab, "", "on the form the next field").named("next field"),
        on(k(Code::BackTab), A::BackTab, "", "on the form the previous field").named("previous field"),
        on(c('w'), A::Go("watch"), "watch", "watch the loop's runs"),
        on(c('E'), A::Go("evaluate"), "figures", "the evaluations of the rounds").named("evaluate"),
        on(k(Code::Esc), A::Back, "back", "back to the rounds, then to labelling"),
    ] },
    Section { title: "loop, form", rows: &[
        on(k(Code::Enter), A::Accept, "start", "start the loop"),
        on(k(Code::Tab), A::Tab, "next", "next field"),
        on(k(Code::Down), A::Down, "", "next field; space marks, ← → choose"),
        on(k(Code::BackTab), A::BackTab, "", "previous field"),
        on(k(Code::Up), A::Up, "", "previous field"),
        on(k(Code::Esc), A::Back, "back", "back to the rounds"),
    ] },
];

impl Screen for LoopScreen {
    type Action = RoundsAction;

    const NAME: &'static str = "loop";
    const KEYS: &'static [Section<RoundsAction>] = KEYS;

    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let mut screen = Self::default();
        let effects = Screen::refresh(&mut screen, shared);
        (screen, effects)
    }

    fn typed(&mut self, shared: &mut Shared, key: Key) -> Option<Vec<Effect>> {
        if self.view != LoopView::Form || !self.form.typed(shared, key) {
            return None;
        }
        shared.touch();
        Some(Vec::new())
    }

    fn paste(&mut self, shared: &mut Shared, text: &str) -> bool {
        self.view == LoopView::Form && self.form.paste(shared, text)
    }

    fn act(&mut self, shared: &mut Shared, action: RoundsAction) -> Next {
        shared.touch();
        match (self.view, action) {
            (LoopView::Form, A::Back) => self.view = LoopView::Rounds,
            (LoopView::Form, A::Accept) => {
                let effects = self.form.start(shared);
                if !effects.is_empty() {
                    // The newest loop shows as soon as it is planned.
                    (self.view, self.name) = (LoopView::Rounds, None);
                }
                return effects.into();
            }
            (LoopView::Form, A::Down | A::Tab) => self.form.fields.move_focus(1),
            (LoopView::Form, A::Up | A::BackTab) => self.form.fields.move_focus(-1),
            (LoopView::Form, _) => {}
            (_, A::Go(screen)) => return Next::go(Goal::to(screen)),
            (_, A::Back) => return Next::go(Goal::to("label")),
            (_, A::New) => {
                self.view = LoopView::Form;
                self.form.open(shared);
            }
            (_, A::Accept) => return self.label(shared),
            (_, A::Stop) => return self.stop(shared).into(),
            (_, A::Resume) => return self.resume(shared).into(),
            (_, A::Down) => return self.other(shared, 1).into(),
            (_, A::Up) => return self.other(shared, -1).into(),
            (_, A::PageDown) => {
                let last = self.progress.as_ref().map_or(0, |p| p.rounds.len().saturating_sub(1));
                self.scroll = (self.scroll + 5).min(last);
            }
            (_, A::PageUp) => self.scroll = self.scroll.saturating_sub(5),
            (_, A::Tab | A::BackTab) => {}
        }
        Next::default()
    }

    fn section(&self, _shared: &Shared) -> usize {
        usize::from(self.view == LoopView::Form)
    }

    fn footer_word(&self, shared: &Shared, action: RoundsAction, word: &'static str) -> Option<&'static str> {
        let open = shared.open.as_ref()?;
        if self.view == LoopView::Form {
            return Some(word);
        }
        let (spec, running) = (self.shown(open), self.is_running(open));
        let ended = self.progress.as_ref().is_some_and(LoopProgress::has_ended);
        let matters = match action {
            A::Accept => matches!(self.progress.as_ref().map(|p| &p.state), Some(LoopState::Waits { .. })),
            A::Stop => running,
            A::Resume => spec.is_some() && !running && !ended,
            A::Up | A::Down => open.session.loops().len() > 1,
            A::Go(_) => spec.is_some(),
            _ => true,
        };
        matters.then_some(word)
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        if self.shown(open).is_none() {
            self.name = open.session.loops().last().map(|spec| spec.name.clone());
        }
        self.progress = self.shown(open).map(|spec| {
            let rounds: Vec<RoundRuns> = (1..=spec.rounds).map(|round| self.runs(open, spec, round)).collect();
            LoopProgress::of(spec, &open.session, &rounds)
        });
        if self.view == LoopView::Form {
            self.form.know(shared);
        }
        self.ask(shared)
    }

    fn tick(&mut self, shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        if self.view == LoopView::Form { self.form.settle(shared) } else { Vec::new() }
    }

    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::EvalReportReady { ticket, answer } => {
                let Some((_, run, of)) = self.asked.take_if(|(asked, ..)| *asked == ticket) else { return Vec::new() };
                let win = answer.ok().and_then(|report| RoundWin::of(&report));
                self.figures.insert(run, Figures { win, of, ready: true });
                shared.touch();
                Screen::refresh(self, shared)
            }
            Msg::LoopPlanned { ticket, answer } => {
                self.form.planned(shared, ticket, answer);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

impl LoopScreen {
    /// The shown loop.
    #[must_use]
    pub fn shown<'a>(&self, open: &'a OpenSession) -> Option<&'a LoopSpec> {
        open.session.planned_loop(self.name.as_ref()?)
    }

    /// Whether a process carries it out.
    #[must_use]
    pub fn is_running(&self, open: &OpenSession) -> bool {
        self.name.as_ref().and_then(|name| open.live_loops.get(name)).copied().unwrap_or(false)
    }

    /// The run that is under way, or that comes next and has begun.
    #[must_use]
    pub fn current<'a>(&self, open: &'a OpenSession) -> Option<&'a RunView> {
        let (spec, progress) = (self.shown(open)?, self.progress.as_ref()?);
        let LoopState::Next { round, step, .. } = &progress.state else { return None };
        let id = match step {
            LoopStep::Sample => spec.sampling(*round),
            LoopStep::Train => spec.training(*round),
            LoopStep::Evaluate => spec.evaluation(*round),
            LoopStep::Pair | LoopStep::Judge => return None,
        };
        open.run(&id)
    }

    /// What became of a round's runs. Before the figures of a finished evaluation are there, it counts as under way.
    fn runs(&self, open: &OpenSession, spec: &LoopSpec, round: u32) -> RoundRuns {
        let status = |id: &RunId| open.run(id).map(RunView::status);
        let id = spec.evaluation(round);
        let figures = self.figures.get(&id).filter(|figures| figures.ready);
        let evaluation = match status(&id) {
            Some(RunStatus::Finished) if figures.is_none() => Some(RunStatus::Running),
            status => status,
        };
        RoundRuns {
            sampling: status(&spec.sampling(round)),
            training: status(&spec.training(round)),
            evaluation,
            win: figures.and_then(|figures| figures.win.clone()),
            asked: false,
        }
    }

    /// Asks for the figures of the first finished evaluation whose figures are missing or older than its records.
    fn ask(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = shared.open.as_ref().filter(|open| open.loaded) else { return Vec::new() };
        let Some(spec) = self.shown(open).filter(|_| self.asked.is_none()) else { return Vec::new() };
        let missing = (1..=spec.rounds).map(|round| spec.evaluation(round)).find_map(|id| {
            let run = open.run(&id).filter(|run| run.status() == RunStatus::Finished)?;
            // People go on judging after the run's last record.
            let judged = if run.state.eval.posed().next().is_some() { open.session.verdicts().count() } else { 0 };
            let known = run.records + judged;
            let fresh = self.figures.get(&id).is_some_and(|figures| figures.ready && figures.of == known);
            (!fresh).then_some((id, known))
        });
        let Some((run, known)) = missing else { return Vec::new() };
        let ticket = shared.next_ticket();
        self.asked = Some((ticket, run.clone(), known));
        vec![Effect::EvalReport { ticket, run, upto: None }]
    }

    /// Shows the pairs that wait on the label screen.
    fn label(&self, shared: &mut Shared) -> Next {
        let filter = shared.open.as_ref().and_then(|open| {
            let (spec, progress) = (self.shown(open)?, self.progress.as_ref()?);
            let LoopState::Waits { round, step, .. } = &progress.state else { return None };
            let text = match step {
                LoopStep::Evaluate => format!("eval:{}", spec.evaluation(*round)),
                _ => format!("model:{}", spec.sampling(*round)),
            };
            Filter::parse(&text).ok()
        });
        let Some(filter) = filter else {
            shared.warn("nothing waits for labels");
            return Next::default();
        };
        if let Some(open) = &mut shared.open {
            open.set_filter(Some(filter));
        }
        Next::go(Goal::to("label"))
    }

    fn stop(&self, shared: &mut Shared) -> Vec<Effect> {
        let running = shared.open.as_ref().is_some_and(|open| self.is_running(open));
        let Some(name) = self.name.clone().filter(|_| running) else {
            shared.warn("no loop is running");
            return Vec::new();
        };
        shared.say(format!("stopping {name} …"));
        vec![Effect::StopLoop { name }]
    }

    fn resume(&self, shared: &mut Shared) -> Vec<Effect> {
        let why = match (&self.name, &shared.open) {
            (Some(_), Some(open)) if self.is_running(open) => "it is running already",
            (Some(_), Some(_)) if self.progress.as_ref().is_some_and(LoopProgress::has_ended) => "it has ended",
            (Some(name), Some(_)) => {
                let name = name.clone();
                shared.say(format!("going on with {name} …"));
                return vec![Effect::ResumeLoop { name }];
            }
            _ => "no loop is planned",
        };
        shared.warn(why);
        Vec::new()
    }

    /// Shows an earlier or a later loop.
    fn other(&mut self, shared: &mut Shared, by: isize) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        let names: Vec<&String> = open.session.loops().iter().rev().map(|spec| &spec.name).collect();
        let at = names.iter().position(|name| Some(*name) == self.name.as_ref()).unwrap_or(0);
        let to = at.saturating_add_signed(by).min(names.len().saturating_sub(1));
        if let Some(name) = names.get(to).filter(|_| to != at) {
            (self.name, self.scroll) = (Some((*name).clone()), 0);
        }
        Screen::refresh(self, shared)
    }
}
