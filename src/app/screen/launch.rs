//! The launch screen: a form that knows the data.
//!
//! Owns what is typed and when an estimate is asked for. Refuses to start without the data that the method needs or with a
//! value that cannot be.

mod form;

pub use form::{LaunchField, LaunchForm, Start};

use crate::app::contract::Screen;
use crate::app::effect::{Effect, TrainAsk};
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, c, k, on};
use crate::app::masks::MaskSheet;
use crate::app::msg::Msg;
use crate::app::open::{Open, RunView};
use crate::app::popup::{Confirm, Popup, Then};
use crate::app::shared::Shared;
use crate::domain::{ParamKind, Lack, Needs, RunId, RunStatus, Supply};
use crate::protocol::{Estimate, Task};

/// After the last key, so many milliseconds pass before an estimate is asked for.
const SETTLE_MS: u64 = 400;

/// A second enter within so many milliseconds of the first does not launch a second run.
const LAUNCH_MS: u64 = 3_000;

/// The longer answer wins so large a share of the pairs that length may be what is learned.
const LENGTH_CONFOUND: f64 = 0.7;

/// What is known of what the run would take.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Prediction {
    /// Nothing was asked yet.
    #[default]
    None,
    /// A worker is at it.
    Asked,
    /// This.
    Known(Estimate),
    /// It could not be told; the sentence says why.
    Failed(String),
}

/// What the screen knows.
#[derive(Debug, Clone, Default)]
pub struct LaunchScreen {
    /// The form.
    pub form: LaunchForm,
    /// The training data there is.
    pub data: Supply,
    /// The session's name.
    session: String,
    /// The estimate.
    pub answer: Prediction,
    /// Number of the question that [`Prediction::Asked`] waits for.
    ticket: u64,
    /// When the form changed after the last question.
    changed_ms: Option<u64>,
    /// When a launch was last asked for.
    asked_ms: Option<u64>,
    /// Whether the run starts when the estimate comes, if nothing speaks against it.
    waits: bool,
}

impl LaunchScreen {
    /// The share of pairs that the longer answer wins, where it is far enough from chance to say so.
    #[must_use]
    pub fn length_confound(&self) -> Option<f64> {
        // Where nothing is preferred to anything, no answer wins.
        match &self.answer {
            Prediction::Known(_) if self.form.method().needs != Needs::Pairs => None,
            Prediction::Known(e) => {
                Some(e.longer_wins).filter(|w| *w >= LENGTH_CONFOUND || *w <= 1.0 - LENGTH_CONFOUND)
            }
            Prediction::None | Prediction::Asked | Prediction::Failed(_) => None,
        }
    }

    /// Rows of what the chosen method needs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.data.rows(self.form.method().needs)
    }

    /// Why the run cannot start, as one sentence.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let lack = self.data.lacks(self.form.method(), &self.form.params_so_far());
        let rows = lack.filter(|lack| matches!(lack, Lack::Rows(_))).map(|lack| self.lacking(lack));
        let unfit = || match self.form.params() {
            Ok(params) => self.form.method().contradiction(&params),
            Err(why) => Some(why),
        };
        rows.or_else(|| unfit().map(|why| format!("cannot start: {why}")))
            .or_else(|| lack.map(|lack| self.lacking(lack)))
    }

    /// What is lacking and what helps.
    fn lacking(&self, lack: Lack) -> String {
        let import = |kind: &str| format!("`tiebreak import {} FILE --as {kind}`", self.session);
        match lack {
            Lack::Rows(Needs::Pairs) => "no pairs to train on yet: label some first (esc), or import pairs".into(),
            Lack::Rows(Needs::Examples) => {
                format!("no example texts yet: {}, or correct answers while labelling (esc, then e)", import("sft"))
            }
            Lack::Rows(Needs::Ratings) => "no rated answers yet: label pairs first (esc), or import ratings".into(),
            Lack::Rows(Needs::Prompts) => "no prompts yet: import some (esc, then i)".into(),
            Lack::Mix => {
                format!("mix_ratio needs example texts, and there are none: {}, or set it to 0", import("sft"))
            }
            Lack::Probe => {
                format!("probe_steps needs probe texts, and there are none: {}, or set it to 0", import("probe"))
            }
            Lack::Scorer => {
                let rows = self.form.method().rows();
                let keys = rows.iter().filter(|row| row.kind == ParamKind::Checks || row.key == "reward_model");
                let keys: Vec<&str> = keys.map(|row| row.key).collect();
                format!("nothing scores the answers: fill in {}", keys.join(" or "))
            }
        }
    }

    /// Whether a worker has still to say if the run as it stands in the form could go.
    fn unsettled(&self) -> bool {
        self.changed_ms.is_some() || self.answer == Prediction::Asked
    }

    /// Notes a change, after which what was said of the run no longer holds.
    fn change(&mut self, clock_ms: u64) {
        self.changed_ms = Some(clock_ms);
        self.waits = false;
    }

    /// Why the run as it stands in the form could not go, where a worker or the disk has said so.
    fn unfit(&self) -> Option<&str> {
        match &self.answer {
            Prediction::Failed(why) if self.changed_ms.is_none() => Some(why),
            Prediction::Failed(_) | Prediction::None | Prediction::Asked | Prediction::Known(_) => None,
        }
    }

    fn take_data(&mut self, open: &Open) {
        self.data = open.session.supply();
        self.session.clone_from(&open.meta.name);
        let finished = open.runs.iter().filter(|r| {
            let trained = matches!(r.status(), RunStatus::Finished | RunStatus::Stopped);
            trained && !r.is_sampling()
        });
        // A reward model scores answers and writes none: no policy starts from it.
        let (rewards, policies): (Vec<_>, Vec<_>) =
            finished.partition(|run| run.spec.as_ref().is_some_and(|spec| spec.kind() == "reward"));
        self.form.set_runs(policies.into_iter().flat_map(states));
        self.form.set_rewards(rewards.into_iter().flat_map(states));
    }

    fn ask(&self) -> Result<TrainAsk, String> {
        if let Some(why) = self.obstacle() {
            return Err(why);
        }
        let init = match self.form.start() {
            Start::Model => None,
            Start::Run(id) => Some(id.clone()),
        };
        Ok(TrainAsk { method: self.form.method().name.into(), params: self.form.params()?, init, allow_damaged: false })
    }
}

/// The states of a finished run that can be gone on from: its last one, and its best one where it was looked for on the way.
fn states(run: &RunView) -> Vec<RunId> {
    let looked = matches!(run.spec.as_ref().map(|spec| &spec.task), Some(Task::Train(train))
        if train.params.usize("eval_steps") > 0 && !train.params.text("metric_for_best_model").is_empty());
    let mut out = vec![run.id.clone()];
    out.extend(looked.then(|| run.id.at_best()));
    out
}

/// What its keys ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchAction {
    /// To the next field.
    NextField,
    /// To the field before.
    PreviousField,
    /// The next of the field's choices.
    NextChoice,
    /// The one before.
    PreviousChoice,
    /// Everything back to the method's defaults.
    Reset,
    /// Show what the run would read and learn.
    ShowMasks,
    /// Start the run, or show and hide the advanced options.
    Accept,
    /// Back to labelling.
    Back,
}

#[rustfmt::skip]
const KEYS: &[Section<LaunchAction>] = &[Section { title: "launch", rows: &[
    on(k(Code::Enter), LaunchAction::Accept, "start", "start the run; on `…` show or hide the advanced options"),
    on(k(Code::Tab), LaunchAction::NextField, "next", "next field").named("next field"),
    on(k(Code::Down), LaunchAction::NextField, "", "next field"),
    on(k(Code::BackTab), LaunchAction::PreviousField, "", "previous field").named("previous field"),
    on(k(Code::Up), LaunchAction::PreviousField, "", "previous field"),
    on(k(Code::Left), LaunchAction::PreviousChoice, "choose", "previous choice of a field that has choices").named("previous choice"),
    on(k(Code::Right), LaunchAction::NextChoice, "choose", "next choice of a field that has choices").named("next choice"),
    on(c(' '), LaunchAction::NextChoice, "", "next choice of a field that has choices"),
    on(c('m'), LaunchAction::ShowMasks, "masks", "show what the model reads and what it learns"),
    on(c('r'), LaunchAction::Reset, "reset", "reset everything to the method's defaults"),
    on(k(Code::Esc), LaunchAction::Back, "back", "back to labelling"),
] }];

impl Screen for LaunchScreen {
    type Action = LaunchAction;

    const NAME: &'static str = "launch";
    const KEYS: &'static [Section<LaunchAction>] = KEYS;

    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let mut launch = Self::default();
        let effects = Screen::refresh(&mut launch, shared);
        (launch, effects)
    }

    fn typed(&mut self, shared: &mut Shared, key: Key) -> Option<Vec<Effect>> {
        let taken = match key.code {
            Code::Backspace => self.form.backspace(),
            _ => key.typed().is_some_and(|c| self.form.type_char(c)),
        };
        if !taken {
            return None;
        }
        self.change(shared.clock_ms);
        shared.touch();
        Some(Vec::new())
    }

    fn act(&mut self, shared: &mut Shared, action: LaunchAction) -> Next {
        let clock_ms = shared.clock_ms;
        match action {
            LaunchAction::NextField => self.form.go(1),
            LaunchAction::PreviousField => self.form.go(-1),
            LaunchAction::NextChoice | LaunchAction::PreviousChoice => {
                if self.form.turn(if action == LaunchAction::NextChoice { 1 } else { -1 }) {
                    self.change(clock_ms);
                }
            }
            LaunchAction::Reset => {
                self.form.reset();
                self.change(clock_ms);
            }
            LaunchAction::Accept if self.form.focus == LaunchField::More => {
                self.form.turn(1);
            }
            LaunchAction::Accept => return start(self, shared).into(),
            LaunchAction::ShowMasks => return show_masks(self, shared).into(),
            LaunchAction::Back => return Next::go(Goal::to("label")),
        }
        shared.touch();
        // Leaving a field settles it.
        let leaves = matches!(action, LaunchAction::NextField | LaunchAction::PreviousField);
        if leaves { question(self, shared).into() } else { Next::default() }
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        let known = |launch: &Self| (launch.data, launch.form.starts().len(), launch.form.rewards().len());
        let before = known(self);
        self.take_data(open);
        if before == known(self) {
            return Vec::new();
        }
        self.change(shared.clock_ms);
        shared.touch();
        question(self, shared)
    }

    fn tick(&mut self, shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        let settled = self.changed_ms.is_some_and(|at| shared.clock_ms.saturating_sub(at) >= SETTLE_MS);
        if settled { question(self, shared) } else { Vec::new() }
    }

    /// The answer to an estimate this screen asked for; a run that waited for it starts, or is said not to.
    fn hear(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        let Msg::EstimateReady { ticket, answer } = msg else { return Vec::new() };
        if self.ticket != ticket || self.answer != Prediction::Asked {
            return Vec::new();
        }
        self.answer = answer.map_or_else(Prediction::Failed, Prediction::Known);
        let waits = std::mem::take(&mut self.waits);
        shared.touch();
        if waits { start(self, shared) } else { Vec::new() }
    }
}

/// Asks what the run would read and learn, and shows it when it comes.
fn show_masks(launch: &LaunchScreen, model: &mut Shared) -> Vec<Effect> {
    let ticket = model.question();
    match launch.ask() {
        Ok(ask) => {
            model.popups.push(Popup::Masks(MaskSheet::new(ticket)));
            model.touch();
            vec![Effect::Masks { ticket, ask }]
        }
        Err(why) => {
            model.warn(why);
            Vec::new()
        }
    }
}

fn start(launch: &mut LaunchScreen, model: &mut Shared) -> Vec<Effect> {
    let clock_ms = model.clock_ms;
    let read_only = model.open.as_ref().and_then(|o| o.read_only.clone());
    let ask = match read_only {
        Some(holder) => Err(format!("read-only: {holder} holds this session; close it there to write here")),
        None if launch.asked_ms.is_some_and(|at| clock_ms < at + LAUNCH_MS) => {
            Err("the run is starting already".into())
        }
        None => launch.unfit().map_or_else(|| launch.ask(), |why| Err(format!("cannot start: {why}"))),
    };
    match ask {
        // What could not go would only say so when it has begun; who does not want to wait presses once more.
        Ok(_) if launch.unsettled() && !launch.waits => {
            launch.waits = true;
            model.say("checking whether it fits, then starting · enter: start now");
            question(launch, model)
        }
        Ok(ask) => {
            launch.waits = false;
            let damage = model.open.as_ref().filter(|open| !open.integrity.is_intact());
            if let Some(damage) = damage.map(|open| open.integrity.sentence()) {
                let ask = TrainAsk { allow_damaged: true, ..ask };
                model.popups.push(Popup::Confirm(Confirm {
                    question: format!("The session's logs have {damage}. Train on what can be read?"),
                    then: Then::Effects(vec![Effect::Launch(ask)]),
                }));
                return Vec::new();
            }
            launch.asked_ms = Some(clock_ms);
            model.say("starting the run …");
            vec![Effect::Launch(ask)]
        }
        Err(why) => {
            model.warn(why);
            Vec::new()
        }
    }
}

/// Asks what the run would take, if the form changed since the last question and can be asked about.
fn question(launch: &mut LaunchScreen, model: &mut Shared) -> Vec<Effect> {
    let ticket = model.question();
    let loaded = model.open.as_ref().is_some_and(|o| o.loaded);
    if launch.changed_ms.is_none() || !loaded {
        return Vec::new();
    }
    launch.changed_ms = None;
    let ask = launch.ask();
    launch.ticket = ticket;
    // Without an answer the field or the data line says why there is none.
    launch.answer = if ask.is_ok() { Prediction::Asked } else { Prediction::None };
    model.touch();
    ask.into_iter().map(|ask| Effect::Estimate { ticket, ask }).collect()
}
