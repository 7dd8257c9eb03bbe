//! The watch screen: a run's curves, findings and samples, and its control.
//!
//! Every number comes from the run's folded log. This screen changes a run only through commands to its worker.

use crate::app::contract::Screen;
use crate::app::curves::{CurveAction, CurveView};
use crate::app::effect::Effect;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::Code;
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::Msg;
use crate::app::open::{OpenSession, RunView};
use crate::app::run_control::{RunControl, control};
use crate::app::shared::Shared;
use crate::domain::{PairId, RunStatus};

/// The screen's state.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WatchScreen {
    /// The run and the view of its curves.
    pub view: CurveView,
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchAction {
    /// Change the view of the curves.
    Curves(CurveAction),
    /// Show or hide `worker.log`.
    WorkerLog,
    /// Select the next run.
    NextRun,
    /// Select the previous run.
    PreviousRun,
    /// Pause or resume the run.
    PauseRun,
    /// Write a checkpoint.
    CheckpointRun,
    /// Stop the run.
    StopRun,
    /// Resume a lost or stopped run.
    ResumeRun,
    /// Label a pair again that a finding names.
    Relabel,
    /// Go to another screen of the session.
    Go(&'static str),
    /// Leave the enlarged view, then go back to labelling.
    Back,
}

#[rustfmt::skip]
const KEYS: &[Section<WatchAction>] = &[Section { title: "watch", rows: &[
    on(c('f'), WatchAction::Relabel, "label again", "label a pair again that a finding names"),
    on(k(Code::Left), WatchAction::Curves(CurveAction::CursorLeft), "cursor", "move the cursor left and read values there").named("cursor left"),
    on(k(Code::Right), WatchAction::Curves(CurveAction::CursorRight), "cursor", "move the cursor right and read values there").named("cursor right"),
    on(c('+'), WatchAction::Curves(CurveAction::ZoomIn), "zoom", "zoom in, at the cursor or at the end").named("zoom in"),
    on(c('-'), WatchAction::Curves(CurveAction::ZoomOut), "zoom", "zoom out").named("zoom out"),
    on(k(Code::Tab), WatchAction::Curves(CurveAction::NextPane), "pane", "next pane").named("next pane"),
    on(c('p'), WatchAction::PauseRun, "pause", "pause the run after its step, or resume it"),
    on(c('s'), WatchAction::Curves(CurveAction::Smooth), "smooth", "smooth the curves more, then not at all"),
    on(c('x'), WatchAction::Curves(CurveAction::XAxis), "axis", "x axis in steps, epochs or time").named("x axis"),
    on(c('c'), WatchAction::CheckpointRun, "checkpoint", "write a checkpoint now"),
    on(c('S'), WatchAction::StopRun, "stop", "stop the run with a checkpoint; asks first"),
    on(c('R'), WatchAction::ResumeRun, "resume", "resume a lost or stopped run from its checkpoint"),
    on(c('='), WatchAction::Curves(CurveAction::ZoomIn), "", "zoom in, at the cursor or at the end"),
    on(k(Code::End), WatchAction::Curves(CurveAction::Follow), "", "follow the end, without cursor and zoom").named("follow"),
    on(c('y'), WatchAction::Curves(CurveAction::LogScale), "", "logarithmic scale").named("log scale"),
    on(k(Code::Enter), WatchAction::Curves(CurveAction::Enlarge), "", "enlarge one pane, or show all").named("enlarge"),
    on(k(Code::BackTab), WatchAction::Curves(CurveAction::PreviousPane), "", "previous pane").named("previous pane"),
    on(c(']'), WatchAction::Curves(CurveAction::NextPane), "", "next pane"),
    on(c('['), WatchAction::Curves(CurveAction::PreviousPane), "", "previous pane"),
    on(k(Code::Down), WatchAction::NextRun, "", "next run of the session").named("next run"),
    on(k(Code::Up), WatchAction::PreviousRun, "", "previous run of the session").named("previous run"),
    on(c('o'), WatchAction::WorkerLog, "", "show worker.log instead of the samples").named("worker log"),
    on(c('t'), WatchAction::Go("launch"), "train", "launch another training run").named("launch"),
    on(c('l'), WatchAction::Go("label"), "label", "label pairs"),
    on(c('E'), WatchAction::Go("evaluate"), "", "what the evaluation found, or set one up").named("evaluate"),
    on(k(Code::Esc), WatchAction::Back, "", "back to labelling").named("back"),
] }];

impl Screen for WatchScreen {
    type Action = WatchAction;

    const NAME: &'static str = "watch";
    const KEYS: &'static [Section<WatchAction>] = KEYS;

    /// Shows this run, or the latest live one.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>) {
        let run = match show {
            Show::Run(run) => Some(run),
            _ => None,
        };
        let mut watch = Self { view: CurveView::of(run) };
        let effects = Screen::refresh(&mut watch, shared);
        (watch, effects)
    }

    fn act(&mut self, shared: &mut Shared, action: WatchAction) -> Next {
        let Some(open) = &shared.open else { return Next::default() };
        let next = match action {
            WatchAction::Go("evaluate") => {
                let shown = self.view.shown(open).filter(|run| run.is_evaluation());
                let show = shown.map_or(Show::Default, |run| Show::Run(run.id.clone()));
                return Next::go(Goal::with("evaluate", show));
            }
            WatchAction::Go(screen) => return Next::go(Goal::to(screen)),
            WatchAction::Back if !self.view.unwind() => return Next::go(Goal::to("label")),
            WatchAction::Back => Next::default(),
            WatchAction::NextRun => self.select_run(open, 1).into(),
            WatchAction::PreviousRun => self.select_run(open, -1).into(),
            WatchAction::WorkerLog => {
                self.view.show_output = !self.view.show_output;
                let ask = self.view.run.clone().filter(|_| self.view.show_output);
                ask.map(|run| Effect::ReadWorkerLog { run }).into_iter().collect::<Vec<_>>().into()
            }
            WatchAction::PauseRun => control(shared, self.view.run.as_ref(), RunControl::Pause).into(),
            WatchAction::CheckpointRun => control(shared, self.view.run.as_ref(), RunControl::Checkpoint).into(),
            WatchAction::StopRun => control(shared, self.view.run.as_ref(), RunControl::Stop).into(),
            WatchAction::ResumeRun => control(shared, self.view.run.as_ref(), RunControl::Resume).into(),
            WatchAction::Relabel => match self.named_pairs(open) {
                none if none.is_empty() => {
                    shared.warn("no finding of this run names a pair of this session");
                    Next::default()
                }
                pairs => return Next::go(Goal::with("label", Show::Pairs(pairs))),
            },
            WatchAction::Curves(action) => {
                if let Some(run) = self.view.shown(open) {
                    self.view.apply(&run.state, action);
                }
                Next::default()
            }
        };
        Screen::refresh(self, shared);
        shared.touch();
        next
    }

    fn footer_word(&self, shared: &Shared, action: WatchAction, word: &'static str) -> Option<&'static str> {
        let open = shared.open.as_ref()?;
        let status = self.view.shown(open).map(RunView::status);
        let paused = status == Some(RunStatus::Paused);
        let word = if action == WatchAction::PauseRun && paused { "resume" } else { word };
        let matters = match action {
            WatchAction::Relabel => !self.named_pairs(open).is_empty(),
            // A sampling run has no curves.
            WatchAction::Curves(_) if self.view.shown(open).is_some_and(RunView::is_sampling) => false,
            action => is_useful(status.as_ref(), action),
        };
        matters.then_some(word)
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        if let Some(open) = &mut shared.open {
            self.view.refresh(open);
        }
        Vec::new()
    }

    /// The last lines of a run's worker.log.
    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        if let Msg::WorkerLog { run, lines } = msg
            && self.view.run.as_ref() == Some(&run)
        {
            self.view.output = lines;
            shared.touch();
        }
        Vec::new()
    }
}

/// Whether the footer shows an action for a run with this status.
fn is_useful(status: Option<&RunStatus>, action: WatchAction) -> bool {
    let live = status.is_some_and(RunStatus::is_live);
    match action {
        WatchAction::PauseRun | WatchAction::CheckpointRun | WatchAction::StopRun => live,
        WatchAction::ResumeRun => matches!(status, Some(RunStatus::Lost | RunStatus::Stopped | RunStatus::Failed(_))),
        WatchAction::Go(_) => !live,
        _ => status.is_some(),
    }
}

impl WatchScreen {
    fn select_run(&mut self, open: &OpenSession, by: isize) -> Vec<Effect> {
        if open.runs.is_empty() {
            return Vec::new();
        }
        let at = open.runs.iter().position(|r| Some(&r.id) == self.view.run.as_ref()).unwrap_or(0) as isize;
        let next = open.runs[(at + by).rem_euclid(open.runs.len() as isize) as usize].id.clone();
        let ask = self.view.show_output.then(|| Effect::ReadWorkerLog { run: next.clone() });
        self.view.switch_to(next);
        ask.into_iter().collect()
    }

    /// This session's pairs that the run's findings name, newest finding first.
    #[must_use]
    pub fn named_pairs(&self, open: &OpenSession) -> Vec<PairId> {
        let findings = self.view.shown(open).map_or(&[][..], |run| run.state.findings.as_slice());
        let mut pairs: Vec<PairId> = Vec::new();
        for pair in findings.iter().rev().filter_map(|f| f.pair.as_ref()) {
            if open.session.pair(pair).is_some() && !pairs.contains(pair) {
                pairs.push(pair.clone());
            }
        }
        pairs
    }
}
