//! The evaluate screen: is a model better than another? What an evaluation found, its items side by side, and a form that
//! sets one up.
//!
//! Owns which evaluation shows, when its figures are computed again, and the way of lost items to the label queue. Refuses to
//! compute the figures: bootstraps take tens of milliseconds and more, so the shell does it.

mod form;
mod items;
mod losses;

pub use form::{EvalField, EvalForm, PlanState};
pub use items::ItemsView;

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::Msg;
use crate::app::open::{OpenSession, RunView};
use crate::app::run_control::{RunControl, control};
use crate::app::shared::Shared;
use crate::domain::{EvalReport, Filter, ItemKey, RunId, RunStatus};

/// The least time between two computations of the figures, in milliseconds.
const RECOMPUTE_MS: u64 = 1_000;
/// Rows that a page key scrolls the figures by.
const PAGE: usize = 5;

/// What the screen shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EvaluateView {
    /// The figures of an evaluation.
    #[default]
    Figures,
    /// Its items, one at a time.
    Items,
    /// The form for a new one.
    Form,
}

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct EvaluateScreen {
    /// What shows.
    pub view: EvaluateView,
    /// The shown evaluation.
    pub run: Option<RunId>,
    /// Its figures, or why there are none; none until they are computed.
    pub report: Option<Result<Box<EvalReport>, String>>,
    /// The first row shown of the figures.
    pub scroll: usize,
    /// The items.
    pub items: ItemsView,
    /// The form.
    pub form: EvalForm,
    /// The ticket of the last request for figures.
    ticket: u64,
    /// Whether its answer is outstanding.
    pending: bool,
    /// When it was requested.
    asked_ms: Option<u64>,
    /// The records of all evaluations at that time, and people's verdicts on their pairs.
    asked_records: usize,
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluateAction {
    /// Show the items, start what the form says, or go back to the figures.
    Accept,
    /// Send the losses, or the shown item, to the label queue.
    Label,
    /// Judge its pairs, blind.
    JudgeBlind,
    /// Set up a new evaluation.
    New,
    /// Pause or resume the run.
    PauseRun,
    /// Stop the run.
    StopRun,
    /// Resume a lost or stopped run.
    ResumeRun,
    /// The next evaluation, a row down, or the next field.
    Down,
    /// The previous evaluation, a row up, or the previous field.
    Up,
    /// Scroll a page down.
    PageDown,
    /// Scroll a page up.
    PageUp,
    /// The next item or choice.
    Right,
    /// The previous item or choice.
    Left,
    /// Tick or untick.
    Toggle,
    /// The next filter of the items.
    Filter,
    /// The next judge, or the next field.
    Tab,
    /// The previous field.
    BackTab,
    /// Unfold the answers' thoughts, or fold them.
    Thoughts,
    /// Show Markdown as written, or rendered.
    Raw,
    /// Go to another screen of the session.
    Go(&'static str),
    /// Leave the items or the form, then go back to labelling.
    Back,
}

use EvaluateAction as A;

#[rustfmt::skip]
const KEYS: &[Section<EvaluateAction>] = &[
    Section { title: "evaluate", rows: &[
        on(k(Code::Enter), A::Accept, "side by side", "show the answers side by side; on the form, start").named("side by side"),
        on(c('l'), A::Label, "label losses", "send the losses, or the item shown, to the label queue").named("label losses"),
        on(c('j'), A::JudgeBlind, "judge blind", "judge the evaluation's pairs yourself, without names"),
        on(c('n'), A::New, "new", "set up a new evaluation").named("new evaluation"),
        on(c('p'), A::PauseRun, "pause", "pause the evaluation, or resume it"),
        on(c('S'), A::StopRun, "stop", "stop the evaluation; asks first"),
        on(c('R'), A::ResumeRun, "resume", "resume a lost or stopped evaluation where it ended"),
        on(k(Code::Down), A::Down, "other", "an earlier evaluation, further down, or the next field").named("earlier evaluation"),
        on(k(Code::Up), A::Up, "other", "a later evaluation, further up, or the previous field").named("later evaluation"),
        on(k(Code::PageDown), A::PageDown, "", "scroll a page down").named("page down"),
        on(k(Code::PageUp), A::PageUp, "", "scroll a page up").named("page up"),
        on(k(Code::Right), A::Right, "", "next item; on the form the next choice").named("next item"),
        on(k(Code::Left), A::Left, "", "previous item; on the form the previous choice").named("previous item"),
        on(c('f'), A::Filter, "", "all, losses, wins, ties, judges disagree, changed items").named("filter items"),
        on(k(Code::Tab), A::Tab, "", "next judge of the filter; on the form the next field").named("next judge"),
        on(k(Code::BackTab), A::BackTab, "", "on the form the previous field").named("previous field"),
        on(c(' '), A::Toggle, "", "on the form tick or untick").named("tick"),
        on(c('m'), A::Thoughts, "", "unfold the answers' thoughts, or fold them").named("thoughts"),
        on(c('v'), A::Raw, "", "show Markdown as written, or rendered").named("raw"),
        on(c('w'), A::Go("watch"), "", "watch the session's runs").named("watch"),
        on(c('t'), A::Go("launch"), "", "launch a training run").named("launch"),
        on(k(Code::Esc), A::Back, "back", "back to the figures, then to labelling"),
    ] },
    Section { title: "evaluate, items", rows: &[
        on(k(Code::Left), A::Left, "item", "previous item"),
        on(k(Code::Right), A::Right, "item", "next item"),
        on(c('f'), A::Filter, "filter", "all, losses, wins, ties, judges disagree, changed items"),
        on(k(Code::Tab), A::Tab, "judge", "whose losses and wins the filter takes"),
        on(c('l'), A::Label, "label it", "send this item to the label queue"),
        on(k(Code::Up), A::Up, "scroll", "scroll both answers up"),
        on(k(Code::Down), A::Down, "scroll", "scroll both answers down"),
        on(c('m'), A::Thoughts, "", "unfold the answers' thoughts, or fold them"),
        on(c('v'), A::Raw, "", "show Markdown as written, or rendered"),
        on(k(Code::Esc), A::Back, "figures", "back to the figures"),
    ] },
    Section { title: "evaluate, form", rows: &[
        on(k(Code::Enter), A::Accept, "start", "start the evaluation"),
        on(k(Code::Tab), A::Tab, "next", "next field"),
        on(k(Code::Down), A::Down, "", "next field"),
        on(k(Code::BackTab), A::BackTab, "", "previous field"),
        on(k(Code::Up), A::Up, "", "previous field"),
        on(k(Code::Left), A::Left, "choose", "previous choice"),
        on(k(Code::Right), A::Right, "choose", "next choice"),
        on(c(' '), A::Toggle, "tick", "tick or untick a suite or a judge"),
        on(k(Code::Esc), A::Back, "back", "back to the figures"),
    ] },
];

impl Screen for EvaluateScreen {
    type Action = EvaluateAction;

    const NAME: &'static str = "evaluate";
    const KEYS: &'static [Section<EvaluateAction>] = KEYS;

    /// Shows this evaluation, or the newest one.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>) {
        let run = match show {
            Show::Run(run) => Some(run),
            _ => None,
        };
        let mut screen = Self { run, ..Self::default() };
        let effects = Screen::refresh(&mut screen, shared);
        (screen, effects)
    }

    fn typed(&mut self, shared: &mut Shared, key: Key) -> Option<Vec<Effect>> {
        if self.view != EvaluateView::Form || !self.form.typed(key) {
            return None;
        }
        shared.touch();
        Some(self.form.changed(shared))
    }

    fn act(&mut self, shared: &mut Shared, action: EvaluateAction) -> Next {
        let next = match (self.view, action) {
            (EvaluateView::Figures | EvaluateView::Items, A::Go(screen)) => return Next::go(Goal::to(screen)),
            (EvaluateView::Figures, A::Back) => return Next::go(Goal::to("label")),
            (_, A::Back) => {
                self.view = EvaluateView::Figures;
                Next::default()
            }
            (EvaluateView::Form, action) => self.in_form(shared, action).into(),
            (_, A::JudgeBlind) => return self.judge_blind(shared),
            (_, A::New) => {
                self.view = EvaluateView::Form;
                self.form.open(shared).into()
            }
            (_, A::PauseRun) => control(shared, self.run.as_ref(), RunControl::Pause).into(),
            (_, A::StopRun) => control(shared, self.run.as_ref(), RunControl::Stop).into(),
            (_, A::ResumeRun) => control(shared, self.run.as_ref(), RunControl::Resume).into(),
            (EvaluateView::Items, action) => self.in_items(shared, action).into(),
            (EvaluateView::Figures, action) => self.in_figures(shared, action).into(),
        };
        shared.touch();
        next
    }

    fn section(&self, _shared: &Shared) -> usize {
        match self.view {
            EvaluateView::Figures => 0,
            EvaluateView::Items => 1,
            EvaluateView::Form => 2,
        }
    }

    fn footer_word(&self, shared: &Shared, action: EvaluateAction, word: &'static str) -> Option<&'static str> {
        let open = shared.open.as_ref()?;
        let run = self.shown(open);
        let status = run.map(RunView::status);
        if self.view != EvaluateView::Figures {
            return Some(word);
        }
        let matters = match action {
            A::Accept | A::Label => run.is_some_and(|run| !run.state.eval.is_empty() && unjudged(open, run) == 0),
            A::JudgeBlind => run.is_some_and(|run| unjudged(open, run) > 0),
            A::PauseRun | A::StopRun => status.as_ref().is_some_and(RunStatus::is_live),
            A::ResumeRun => matches!(status, Some(RunStatus::Lost | RunStatus::Stopped | RunStatus::Failed(_))),
            A::Up | A::Down => evaluations(open).count() > 1,
            _ => true,
        };
        let word = if action == A::PauseRun && status == Some(RunStatus::Paused) { "resume" } else { word };
        matters.then_some(word)
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let (size, Some(open)) = (shared.size, &shared.open) else { return Vec::new() };
        if self.run.as_ref().is_none_or(|run| open.run(run).is_none()) && open.loaded {
            self.run = evaluations(open).next().map(|run| run.id.clone());
        }
        if let Some(run) = self.shown(open).filter(|_| self.view == EvaluateView::Items) {
            self.items.follow(run, &open.session);
            self.items.lay_out(&run.state.eval, size);
        }
        if self.view == EvaluateView::Form {
            self.form.know(shared);
        }
        self.compute(shared)
    }

    fn tick(&mut self, shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        let mut effects = self.compute(shared);
        if self.view == EvaluateView::Form {
            effects.extend(self.form.settle(shared));
        }
        effects
    }

    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::EvalReportReady { ticket, answer } if ticket == self.ticket => {
                self.pending = false;
                self.report = Some(answer);
            }
            Msg::SuitesFound { ticket, files } => return self.form.found(shared, ticket, files),
            Msg::EvaluationPlanned { ticket, answer } => return self.form.planned(shared, ticket, answer),
            _ => return Vec::new(),
        }
        shared.touch();
        Vec::new()
    }
}

/// The evaluations of a session, the newest first.
pub fn evaluations(open: &OpenSession) -> impl Iterator<Item = &RunView> {
    open.runs.iter().rev().filter(|run| run.is_evaluation())
}

/// The pairs of an evaluation that this rater has yet to judge blind.
#[must_use]
pub fn unjudged(open: &OpenSession, run: &RunView) -> usize {
    if run.state.eval.posed().next().is_none() {
        return 0;
    }
    let set = open.session.blind_sets(&open.rater).into_iter().find(|set| set.run == run.id);
    set.map_or(0, |set| set.pairs.saturating_sub(set.judged))
}

/// Verdicts in the session, where an evaluation asks people.
fn judged(open: &OpenSession) -> usize {
    let asks = evaluations(open).any(|run| run.state.eval.posed().next().is_some());
    if asks { open.session.verdicts().count() } else { 0 }
}

impl EvaluateScreen {
    /// Shows the evaluation's pairs on the label screen.
    fn judge_blind(&self, shared: &mut Shared) -> Next {
        let filter = shared.open.as_ref().and_then(|open| {
            let run = self.shown(open).filter(|run| run.state.eval.posed().next().is_some())?;
            Filter::parse(&format!("eval:{}", run.id)).ok()
        });
        let Some(filter) = filter else {
            shared.warn("this evaluation asks no person: tick the judge human for one that does");
            return Next::default();
        };
        if let Some(open) = &mut shared.open {
            open.set_filter(Some(filter));
            open.finish_queue();
        }
        Next::go(Goal::to("label"))
    }

    /// The shown evaluation.
    #[must_use]
    pub fn shown<'a>(&self, open: &'a OpenSession) -> Option<&'a RunView> {
        open.run(self.run.as_ref()?).filter(|run| run.is_evaluation())
    }

    /// Requests the figures if something was logged since the last request, at most once in a while.
    fn compute(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = shared.open.as_ref().filter(|open| open.loaded) else { return Vec::new() };
        let Some(run) = self.shown(open).filter(|run| !run.state.eval.is_empty()) else { return Vec::new() };
        let records = evaluations(open).map(|run| run.records).sum::<usize>() + judged(open);
        let rested = self.asked_ms.is_none_or(|at| shared.clock_ms.saturating_sub(at) >= RECOMPUTE_MS);
        if self.pending || !rested || records == self.asked_records {
            return Vec::new();
        }
        let run = run.id.clone();
        (self.asked_records, self.asked_ms, self.pending) = (records, Some(shared.clock_ms), true);
        self.ticket = shared.next_ticket();
        vec![Effect::EvalReport { ticket: self.ticket, run, upto: None }]
    }

    /// Shows another evaluation.
    fn show(&mut self, run: RunId) {
        self.run = Some(run);
        (self.report, self.scroll, self.items) = (None, 0, ItemsView::default());
        (self.pending, self.asked_ms, self.asked_records) = (false, None, 0);
    }

    fn in_figures(&mut self, shared: &mut Shared, action: EvaluateAction) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        match action {
            A::Accept | A::Label if self.shown(open).is_some_and(|run| unjudged(open, run) > 0) => {
                let key = shared.keys.key("evaluate", "judge blind");
                shared.warn(format!("judge its pairs first, by {key}: you would see who wrote what"));
            }
            A::Accept if self.shown(open).is_some_and(|run| !run.state.eval.is_empty()) => {
                self.view = EvaluateView::Items;
            }
            A::Accept => shared.warn("nothing is measured yet"),
            A::Label => {
                let Some(run) = self.shown(open) else {
                    shared.warn("no evaluation is shown");
                    return Vec::new();
                };
                let id = run.id.clone();
                self.items.follow(run, &open.session);
                let keys: Vec<ItemKey> = self.items.losses().map(|item| item.key.clone()).collect();
                if keys.is_empty() {
                    shared.warn("no item is lost so far");
                    return Vec::new();
                }
                return losses::send(shared, &id, &keys);
            }
            A::Down | A::Up => {
                let runs: Vec<&RunId> = evaluations(open).map(|run| &run.id).collect();
                let at = runs.iter().position(|run| Some(*run) == self.run.as_ref()).unwrap_or(0);
                let to = if action == A::Down { at + 1 } else { at.saturating_sub(1) };
                if let Some(run) = runs.get(to).filter(|run| Some(**run) != self.run.as_ref()) {
                    self.show((*run).clone());
                }
            }
            // The drawing stops at the last row.
            A::PageDown => self.scroll = (self.scroll + PAGE).min(self.rows()),
            A::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            _ => {}
        }
        Screen::refresh(self, shared)
    }

    /// At least as many as there are rows of figures.
    fn rows(&self) -> usize {
        let Some(Ok(report)) = &self.report else { return 0 };
        let measures: usize = report.suites.iter().map(|suite| 2 * suite.measures.len() + 2).sum();
        let ratings: usize =
            report.standings.iter().map(|t| 2 * t.rows.len() + t.remarks.len() + t.not_headline.len() + 6).sum();
        measures + ratings + report.judges.iter().map(|judge| 6 + judge.not_headline.len()).sum::<usize>() + 8
    }

    fn in_items(&mut self, shared: &mut Shared, action: EvaluateAction) -> Vec<Effect> {
        match action {
            A::Accept => self.view = EvaluateView::Figures,
            A::Label => match (self.run.clone(), self.items.current()) {
                (Some(run), Some(item)) => return losses::send(shared, &run, std::slice::from_ref(&item.key)),
                _ => shared.warn("no item is shown"),
            },
            A::Right => self.items.step(1),
            A::Left => self.items.step(-1),
            A::Down => self.items.scroll_by(1),
            A::Up => self.items.scroll_by(-1),
            A::PageDown => self.items.scroll_by(self.items.page()),
            A::PageUp => self.items.scroll_by(-self.items.page()),
            A::Filter => self.items.next_filter(),
            A::Tab => self.items.next_judge(),
            A::Thoughts => self.items.toggle_thoughts(),
            A::Raw => self.items.toggle_raw(),
            _ => {}
        }
        Screen::refresh(self, shared)
    }

    fn in_form(&mut self, shared: &mut Shared, action: EvaluateAction) -> Vec<Effect> {
        match action {
            A::Accept => return self.form.start(shared),
            A::Down | A::Tab => self.form.move_focus(1),
            A::Up | A::BackTab => self.form.move_focus(-1),
            A::Right | A::Left if self.form.choose(if action == A::Right { 1 } else { -1 }) => {
                return self.form.changed(shared);
            }
            A::Toggle if self.form.toggle() => return self.form.changed(shared),
            _ => {}
        }
        Vec::new()
    }
}
