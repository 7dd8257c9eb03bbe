//! The watch screen: a run's curves, findings and samples, and its control.
//!
//! Every number comes from the run's folded log; this screen changes a run only by asking its worker.

use crate::app::contract::Screen;
use crate::app::curves::{CurveView, Look};
use crate::app::effect::Effect;
use crate::app::goal::{Goal, Outcome, Show};
use crate::app::key::Code;
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::Msg;
use crate::app::open::{Open, RunView};
use crate::app::popup::{Confirm, Popup, Then};
use crate::app::shared::Shared;
use crate::domain::{PairId, RunStatus};
use crate::protocol::RunCommand;

/// What the screen knows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WatchScreen {
    /// What is looked at.
    pub view: CurveView,
}

/// What its keys ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Look at the curves in another way.
    Look(Look),
    /// The worker's own output.
    WorkerLog,
    /// The next run.
    NextRun,
    /// The run before.
    PreviousRun,
    /// Pause the run, or go on.
    PauseRun,
    /// Write a checkpoint.
    CheckpointRun,
    /// Stop the run.
    StopRun,
    /// Resume a lost or stopped run.
    ResumeRun,
    /// Label a pair again that a finding names.
    Relabel,
    /// To another screen of the session.
    Go(&'static str),
    /// Back from looking closer, then to labelling.
    Back,
}

#[rustfmt::skip]
const KEYS: &[Section<Action>] = &[Section { title: "watch", rows: &[
    on(c('f'), Action::Relabel, "label again", "label a pair again that a finding names"),
    on(k(Code::Left), Action::Look(Look::CursorLeft), "cursor", "move the cursor left and read values there").named("cursor left"),
    on(k(Code::Right), Action::Look(Look::CursorRight), "cursor", "move the cursor right and read values there").named("cursor right"),
    on(c('+'), Action::Look(Look::ZoomIn), "zoom", "zoom in, at the cursor or at the end").named("zoom in"),
    on(c('-'), Action::Look(Look::ZoomOut), "zoom", "zoom out").named("zoom out"),
    on(k(Code::Tab), Action::Look(Look::NextPane), "pane", "next pane").named("next pane"),
    on(c('p'), Action::PauseRun, "pause", "pause the run after its step, or resume it"),
    on(c('s'), Action::Look(Look::Smooth), "smooth", "smooth the curves more, then not at all"),
    on(c('x'), Action::Look(Look::XAxis), "axis", "x axis in steps, epochs or time").named("x axis"),
    on(c('c'), Action::CheckpointRun, "checkpoint", "write a checkpoint now"),
    on(c('S'), Action::StopRun, "stop", "stop the run with a checkpoint; asks first"),
    on(c('R'), Action::ResumeRun, "resume", "resume a lost or stopped run from its checkpoint"),
    on(c('='), Action::Look(Look::ZoomIn), "", "zoom in, at the cursor or at the end"),
    on(k(Code::End), Action::Look(Look::Follow), "", "follow the end, without cursor and zoom").named("follow"),
    on(c('y'), Action::Look(Look::LogScale), "", "logarithmic scale").named("log scale"),
    on(k(Code::Enter), Action::Look(Look::Enlarge), "", "enlarge one pane, or show all").named("enlarge"),
    on(k(Code::BackTab), Action::Look(Look::PreviousPane), "", "previous pane").named("previous pane"),
    on(c(']'), Action::Look(Look::NextPane), "", "next pane"),
    on(c('['), Action::Look(Look::PreviousPane), "", "previous pane"),
    on(k(Code::Down), Action::NextRun, "", "next run of the session").named("next run"),
    on(k(Code::Up), Action::PreviousRun, "", "previous run of the session").named("previous run"),
    on(c('o'), Action::WorkerLog, "", "show worker.log instead of the samples").named("worker log"),
    on(c('t'), Action::Go("launch"), "train", "launch another training run").named("launch"),
    on(c('l'), Action::Go("label"), "label", "label pairs"),
    on(k(Code::Esc), Action::Back, "", "back to labelling").named("back"),
] }];

impl Screen for WatchScreen {
    type Action = Action;

    const NAME: &'static str = "watch";
    const KEYS: &'static [Section<Action>] = KEYS;

    /// Shows this run, or the one that matters most.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>) {
        let run = match show {
            Show::Run(run) => Some(run),
            _ => None,
        };
        let mut watch = Self { view: CurveView::of(run) };
        let effects = Screen::refresh(&mut watch, shared);
        (watch, effects)
    }

    fn act(&mut self, shared: &mut Shared, action: Action) -> Outcome {
        let Some(open) = &shared.open else { return Outcome::default() };
        let outcome = match action {
            Action::Go(screen) => return Outcome::go(Goal::to(screen)),
            Action::Back if !self.view.unwind() => return Outcome::go(Goal::to("label")),
            Action::Back => Outcome::default(),
            Action::NextRun => self.go_run(open, 1).into(),
            Action::PreviousRun => self.go_run(open, -1).into(),
            Action::WorkerLog => {
                self.view.show_output = !self.view.show_output;
                let ask = self.view.run.clone().filter(|_| self.view.show_output);
                ask.map(|run| Effect::ReadWorkerLog { run }).into_iter().collect::<Vec<_>>().into()
            }
            Action::PauseRun | Action::CheckpointRun | Action::StopRun | Action::ResumeRun => {
                self.control(shared, action).into()
            }
            Action::Relabel => match self.named(open) {
                none if none.is_empty() => {
                    shared.warn("no finding of this run names a pair of this session");
                    Outcome::default()
                }
                pairs => return Outcome::go(Goal::with("label", Show::Pairs(pairs))),
            },
            Action::Look(look) => {
                if let Some(run) = self.view.shown(open) {
                    self.view.look(&run.state, look);
                }
                Outcome::default()
            }
        };
        Screen::refresh(self, shared);
        shared.touch();
        outcome
    }

    fn foot(&self, shared: &Shared, action: Action, word: &'static str) -> Option<&'static str> {
        let open = shared.open.as_ref()?;
        let status = self.view.shown(open).map(RunView::status);
        let paused = status == Some(RunStatus::Paused);
        let word = if action == Action::PauseRun && paused { "resume" } else { word };
        let matters = match action {
            Action::Relabel => !self.named(open).is_empty(),
            action => matters_watching(status.as_ref(), action),
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
    fn hear(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        if let Msg::WorkerLog { run, lines } = msg
            && self.view.run.as_ref() == Some(&run)
        {
            self.view.output = lines;
            shared.touch();
        }
        Vec::new()
    }
}

/// Whether a key matters while the run shown is at this point of its life.
fn matters_watching(status: Option<&RunStatus>, action: Action) -> bool {
    let live = status.is_some_and(RunStatus::is_live);
    match action {
        Action::PauseRun | Action::CheckpointRun | Action::StopRun => live,
        Action::ResumeRun => matches!(status, Some(RunStatus::Lost | RunStatus::Stopped | RunStatus::Failed(_))),
        Action::Go(_) => !live,
        _ => status.is_some(),
    }
}

impl WatchScreen {
    fn go_run(&mut self, open: &Open, by: isize) -> Vec<Effect> {
        if open.runs.is_empty() {
            return Vec::new();
        }
        let at = open.runs.iter().position(|r| Some(&r.id) == self.view.run.as_ref()).unwrap_or(0) as isize;
        let next = open.runs[(at + by).rem_euclid(open.runs.len() as isize) as usize].id.clone();
        let ask = self.view.show_output.then(|| Effect::ReadWorkerLog { run: next.clone() });
        self.view.turn_to(next);
        ask.into_iter().collect()
    }

    /// The pairs of this session that the run's findings name, newest finding first.
    #[must_use]
    pub fn named(&self, open: &Open) -> Vec<PairId> {
        let findings = self.view.shown(open).map_or(&[][..], |run| run.state.findings.as_slice());
        let mut pairs: Vec<PairId> = Vec::new();
        for pair in findings.iter().rev().filter_map(|f| f.pair.as_ref()) {
            if open.session.pair(pair).is_some() && !pairs.contains(pair) {
                pairs.push(pair.clone());
            }
        }
        pairs
    }

    fn control(&self, shared: &mut Shared, action: Action) -> Vec<Effect> {
        match self.command(shared.open.as_ref(), action) {
            Ok((said, effect)) => {
                shared.say(said);
                vec![effect]
            }
            Err(Refused::Because(why)) => {
                shared.warn(why);
                Vec::new()
            }
            Err(Refused::AskFirst(confirm)) => {
                shared.popups.push(Popup::Confirm(confirm));
                Vec::new()
            }
        }
    }

    /// What is asked of the worker, with words that say so.
    fn command(&self, open: Option<&Open>, action: Action) -> Result<(String, Effect), Refused> {
        let refuse = |why: String| Err(Refused::Because(why));
        let Some((open, run)) = open.and_then(|open| Some((open, self.view.shown(open)?))) else {
            return refuse("no run yet".into());
        };
        if let Some(holder) = &open.read_only {
            return refuse(format!("read-only: {holder} holds this session; close it there to write here"));
        }
        let (id, status) = (run.id.clone(), run.status());
        let command = |command: RunCommand, said: String| Ok((said, Effect::Command { run: id.clone(), command }));
        match (action, &status) {
            (Action::PauseRun, RunStatus::Paused) => command(RunCommand::Resume, format!("{id} resumes")),
            (Action::PauseRun, RunStatus::Running) => {
                command(RunCommand::Pause, format!("pausing {id} after this step"))
            }
            (Action::CheckpointRun, RunStatus::Running | RunStatus::Paused) => {
                command(RunCommand::Checkpoint, format!("writing a checkpoint of {id} after this step"))
            }
            (Action::StopRun, status) if status.is_live() => Err(Refused::AskFirst(Confirm {
                question: format!("Stop {id}? It writes a checkpoint first; `R` resumes it from there."),
                then: Then::Effects(vec![Effect::Command { run: id, command: RunCommand::Stop }]),
            })),
            (Action::ResumeRun, RunStatus::Paused) => command(RunCommand::Resume, format!("{id} resumes")),
            (Action::ResumeRun, RunStatus::Lost | RunStatus::Stopped | RunStatus::Failed(_)) => {
                Ok((format!("resuming {id}"), Effect::ResumeRun { run: id }))
            }
            (Action::ResumeRun, status) => refuse(format!("{id} is {}: nothing to resume", status.word())),
            (_, status) => refuse(format!("{id} is {}: the run is not active", status.word())),
        }
    }
}

/// Why nothing is asked of the worker at once.
enum Refused {
    /// It makes no sense now.
    Because(String),
    /// It is asked first.
    AskFirst(Confirm),
}
