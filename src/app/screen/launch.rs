//! The launch screen: a form with the method, its hyper-parameters and the data they meet.
//!
//! Owns the form and when an estimate is requested. Refuses to start without the data that the method needs or with an
//! invalid value.

mod form;

pub use form::{LaunchField, LaunchForm, Start};

use crate::app::contract::Screen;
use crate::app::effect::{Effect, TrainRequest};
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, c, k, on};
use crate::app::masks::MaskSheet;
use crate::app::msg::Msg;
use crate::app::open::{OpenSession, RunView};
use crate::app::popup::{Confirm, OnYes, Popup};
use crate::app::shared::Shared;
use crate::domain::{Lack, Needs, ParamKind, Supply, counted};
use crate::protocol::Estimate;

/// Milliseconds from the last key to the request for an estimate.
const SETTLE_MS: u64 = 400;

/// A second enter within this many milliseconds does not launch a second run.
const LAUNCH_MS: u64 = 3_000;

/// From this share of pairs won by the longer answer, the run may learn length.
const LENGTH_CONFOUND: f64 = 0.7;

/// The estimate of the run's steps, time and memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum EstimateState {
    /// Not requested yet.
    #[default]
    None,
    /// A worker is computing it.
    Pending,
    /// The estimate.
    Ready(Estimate),
    /// There is none; the sentence says why.
    Failed(String),
}

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct LaunchScreen {
    /// The form.
    pub form: LaunchForm,
    /// The available training data.
    pub data: Supply,
    /// The session's name.
    session: String,
    /// The estimate.
    pub estimate: EstimateState,
    /// The ticket that [`EstimateState::Pending`] waits for.
    ticket: u64,
    /// When the form changed after the last request.
    changed_ms: Option<u64>,
    /// When a launch was last requested.
    launched_ms: Option<u64>,
    /// Whether the run starts when the estimate arrives without an error.
    launch_pending: bool,
}

impl LaunchScreen {
    /// The share of pairs that the longer answer wins, if it is far enough from chance to warn.
    #[must_use]
    pub fn length_confound(&self) -> Option<f64> {
        // Without pairs, no answer wins.
        match &self.estimate {
            EstimateState::Ready(_) if self.form.method().needs != Needs::Pairs => None,
            EstimateState::Ready(e) => {
                Some(e.longer_wins).filter(|w| *w >= LENGTH_CONFOUND || *w <= 1.0 - LENGTH_CONFOUND)
            }
            EstimateState::None | EstimateState::Pending | EstimateState::Failed(_) => None,
        }
    }

    /// Rows of the kind that the chosen method needs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.data.rows(self.form.method().needs)
    }

    /// Why the run cannot start, as one sentence.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let lack = self.data.lacks(self.form.method(), &self.form.params_or_defaults());
        let rows = lack.filter(|lack| matches!(lack, Lack::Rows(_))).map(|lack| self.lack_message(lack));
        let problem = || match self.form.params() {
            Ok(params) => self.form.method().contradiction(&params),
            Err(why) => Some(why),
        };
        let choice = self.form.choice().err().map(|why| format!("cannot start: {why}"));
        choice
            .or(rows)
            .or_else(|| problem().map(|why| format!("cannot start: {why}")))
            .or_else(|| lack.map(|lack| self.lack_message(lack)))
    }

    /// What is missing, and how to provide it.
    fn lack_message(&self, lack: Lack) -> String {
        let import = |kind: &str| format!("`tiebreak import {} FILE --as {kind}`", self.session);
        if matches!(lack, Lack::Rows(_)) && !self.form.filter_text().trim().is_empty() {
            if let n @ 1.. = self.data.left.total() {
                return format!(
                    "no row matches the filter: the {} that match give none; change it",
                    counted(n, "pair")
                );
            }
            let left = match self.data.left.filtered {
                0 => String::new(),
                n => format!(" ({} do not match it)", counted(n, "judged pair")),
            };
            return format!("no row matches the filter{left}: change it, or empty it");
        }
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

    /// Whether the estimate for the current form is outstanding.
    fn estimate_pending(&self) -> bool {
        self.changed_ms.is_some() || self.estimate == EstimateState::Pending
    }

    /// Notes a change of the form, which makes the estimate obsolete.
    fn mark_changed(&mut self, clock_ms: u64) {
        self.changed_ms = Some(clock_ms);
        self.launch_pending = false;
    }

    /// Why the estimate for the current form failed, if it did.
    fn refusal(&self) -> Option<&str> {
        match &self.estimate {
            EstimateState::Failed(why) if self.changed_ms.is_none() => Some(why),
            EstimateState::Failed(_) | EstimateState::None | EstimateState::Pending | EstimateState::Ready(_) => None,
        }
    }

    fn update_data(&mut self, open: &OpenSession) {
        self.form.set_criteria(open.session.criteria());
        self.data = open.session.supply_of(&self.form.choice().unwrap_or_default());
        self.session.clone_from(&open.meta.name);
        let finished = open.runs.iter().filter(|run| run.has_result());
        // A reward model writes no answers, so no policy starts from it.
        let (rewards, policies): (Vec<_>, Vec<_>) = finished.partition(|run| run.is_reward());
        self.form.set_runs(policies.into_iter().flat_map(RunView::start_points));
        self.form.set_rewards(rewards.into_iter().flat_map(RunView::start_points));
    }

    /// Counts the rows anew where the form says which.
    fn count_rows(&mut self, shared: &Shared) {
        if let Some(open) = shared.open.as_ref().filter(|_| self.form.chooses_rows()) {
            self.data = open.session.supply_of(&self.form.choice().unwrap_or_default());
        }
    }

    fn request(&self) -> Result<TrainRequest, String> {
        if let Some(why) = self.obstacle() {
            return Err(why);
        }
        let init = match self.form.start() {
            Start::Model => None,
            Start::Run(id) => Some(id.into_string()),
            Start::Folder(folder) => Some(folder),
        };
        Ok(TrainRequest {
            method: self.form.method().name.into(),
            params: self.form.params()?,
            choice: self.form.choice()?,
            init,
            allow_damaged: false,
        })
    }
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchAction {
    /// Focus the next field.
    NextField,
    /// Focus the previous field.
    PreviousField,
    /// Take the field's next choice.
    NextChoice,
    /// Take the field's previous choice.
    PreviousChoice,
    /// Reset every value to the method's default.
    Reset,
    /// Show the masks of the first rows.
    ShowMasks,
    /// Start the run, or show and hide the advanced options.
    Accept,
    /// Go back to labelling.
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
            Code::Char('u') if key.ctrl => self.form.clear(),
            _ => key.typed().is_some_and(|c| self.form.type_char(c)),
        };
        if !taken {
            return None;
        }
        self.mark_changed(shared.clock_ms);
        self.count_rows(shared);
        shared.touch();
        Some(Vec::new())
    }

    fn act(&mut self, shared: &mut Shared, action: LaunchAction) -> Next {
        let clock_ms = shared.clock_ms;
        match action {
            LaunchAction::NextField => self.form.move_focus(1),
            LaunchAction::PreviousField => self.form.move_focus(-1),
            LaunchAction::NextChoice | LaunchAction::PreviousChoice => {
                if self.form.change_choice(if action == LaunchAction::NextChoice { 1 } else { -1 }) {
                    self.mark_changed(clock_ms);
                    self.count_rows(shared);
                }
            }
            LaunchAction::Reset => {
                self.form.reset();
                self.mark_changed(clock_ms);
                if let Some(open) = &shared.open {
                    self.update_data(open);
                }
            }
            LaunchAction::Accept if self.form.focus == LaunchField::More => {
                self.form.change_choice(1);
            }
            LaunchAction::Accept => return start(self, shared).into(),
            LaunchAction::ShowMasks => return show_masks(self, shared).into(),
            LaunchAction::Back => return Next::go(Goal::to("label")),
        }
        shared.touch();
        // Leaving a field requests an estimate at once.
        let leaves = matches!(action, LaunchAction::NextField | LaunchAction::PreviousField);
        if leaves { request_estimate(self, shared).into() } else { Next::default() }
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        let known = |launch: &Self| (launch.data, launch.form.starts().len(), launch.form.rewards().len());
        let before = known(self);
        self.update_data(open);
        if before == known(self) {
            return Vec::new();
        }
        self.mark_changed(shared.clock_ms);
        shared.touch();
        request_estimate(self, shared)
    }

    fn tick(&mut self, shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        let settled = self.changed_ms.is_some_and(|at| shared.clock_ms.saturating_sub(at) >= SETTLE_MS);
        if settled { request_estimate(self, shared) } else { Vec::new() }
    }

    /// Takes the estimate. A run that waited for it starts, or the notice says why not.
    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        let Msg::EstimateReady { ticket, answer } = msg else { return Vec::new() };
        if self.ticket != ticket || self.estimate != EstimateState::Pending {
            return Vec::new();
        }
        self.estimate = answer.map_or_else(EstimateState::Failed, EstimateState::Ready);
        let launch_pending = std::mem::take(&mut self.launch_pending);
        shared.touch();
        if launch_pending { start(self, shared) } else { Vec::new() }
    }
}

/// Opens the mask sheet and requests the masks.
fn show_masks(launch: &LaunchScreen, model: &mut Shared) -> Vec<Effect> {
    let ticket = model.next_ticket();
    match launch.request() {
        Ok(request) => {
            model.popups.push(Popup::Masks(MaskSheet::new(ticket)));
            model.touch();
            vec![Effect::Masks { ticket, request }]
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
    let request = match read_only {
        Some(holder) => Err(crate::app::open::read_only_sentence(&holder)),
        None if launch.launched_ms.is_some_and(|at| clock_ms < at + LAUNCH_MS) => {
            Err("the run is starting already".into())
        }
        None => launch.refusal().map_or_else(|| launch.request(), |why| Err(format!("cannot start: {why}"))),
    };
    match request {
        // Wait for the estimate, since it finds what would stop the run; a second enter starts without it.
        Ok(_) if launch.estimate_pending() && !launch.launch_pending => {
            launch.launch_pending = true;
            model.say("checking whether it fits, then starting · enter: start now");
            request_estimate(launch, model)
        }
        Ok(request) => {
            launch.launch_pending = false;
            let damage = model.open.as_ref().filter(|open| !open.integrity.is_intact());
            if let Some(damage) = damage.map(|open| open.integrity.sentence()) {
                let request = TrainRequest { allow_damaged: true, ..request };
                model.popups.push(Popup::Confirm(Confirm {
                    question: format!("The session's logs have {damage}. Train on what can be read?"),
                    on_yes: OnYes::Effects(vec![Effect::Launch(request)]),
                }));
                return Vec::new();
            }
            launch.launched_ms = Some(clock_ms);
            model.say("starting the run …");
            vec![Effect::Launch(request)]
        }
        Err(why) => {
            model.warn(why);
            Vec::new()
        }
    }
}

/// Requests an estimate if the form changed since the last one and is valid.
fn request_estimate(launch: &mut LaunchScreen, model: &mut Shared) -> Vec<Effect> {
    let ticket = model.next_ticket();
    let loaded = model.open.as_ref().is_some_and(|o| o.loaded);
    if launch.changed_ms.is_none() || !loaded {
        return Vec::new();
    }
    launch.changed_ms = None;
    let request = launch.request();
    launch.ticket = ticket;
    // Without a request, the field or the data line says why.
    launch.estimate = if request.is_ok() { EstimateState::Pending } else { EstimateState::None };
    model.touch();
    request.into_iter().map(|request| Effect::Estimate { ticket, request }).collect()
}
