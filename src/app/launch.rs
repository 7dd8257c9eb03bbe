//! The launch screen: a form that knows the data.
//!
//! Owns what is typed and when an estimate is asked for. Refuses to start without the data that the method needs or with a
//! value that cannot be.

mod form;

pub use form::{Field, Form, Start};

use super::effect::{Effect, TrainAsk};
use super::key::{Code, Key};
use super::keymap::Action;
use super::masks::MaskSheet;
use super::model::Model;
use super::open::{Open, RunView};
use super::popup::{Confirm, Popup, Then};
use super::screen::Screen;
use crate::domain::{Kind, Lack, Needs, RunId, RunStatus, Supply};
use crate::protocol::{Estimate, Task};

/// After the last key, so many milliseconds pass before an estimate is asked for.
const SETTLE_MS: u64 = 400;

/// A second enter within so many milliseconds of the first does not launch a second run.
const LAUNCH_MS: u64 = 3_000;

/// The longer answer wins so large a share of the pairs that length may be what is learned.
const LENGTH_CONFOUND: f64 = 0.7;

/// What is known of what the run would take.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Answer {
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
pub struct Launch {
    /// The form.
    pub form: Form,
    /// The training data there is.
    pub data: Supply,
    /// The session's name.
    session: String,
    /// The estimate.
    pub answer: Answer,
    /// Number of the question that [`Answer::Asked`] waits for.
    ticket: u64,
    /// When the form changed after the last question.
    changed_ms: Option<u64>,
    /// When a launch was last asked for.
    asked_ms: Option<u64>,
    /// Whether the run starts when the estimate comes, if nothing speaks against it.
    waits: bool,
}

impl Launch {
    /// The share of pairs that the longer answer wins, where it is far enough from chance to say so.
    #[must_use]
    pub fn length_confound(&self) -> Option<f64> {
        // Where nothing is preferred to anything, no answer wins.
        match &self.answer {
            Answer::Known(_) if self.form.method().needs != Needs::Pairs => None,
            Answer::Known(e) => Some(e.longer_wins).filter(|w| *w >= LENGTH_CONFOUND || *w <= 1.0 - LENGTH_CONFOUND),
            Answer::None | Answer::Asked | Answer::Failed(_) => None,
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
            Lack::Rows(Needs::Pairs) => {
                "there are no pairs to train on yet: judge some first (esc), or import pairs".into()
            }
            Lack::Rows(Needs::Examples) => format!(
                "there are no texts to imitate yet: {}, or write better answers while judging (esc, then e)",
                import("sft")
            ),
            Lack::Rows(Needs::Ratings) => {
                "there are no good or bad answers yet: judge pairs first (esc), or import ratings".into()
            }
            Lack::Rows(Needs::Prompts) => "there are no prompts yet: import some (esc, then i)".into(),
            Lack::Mix => {
                format!("mix_ratio mixes in texts to imitate, and there are none: {}, or set it to 0", import("sft"))
            }
            Lack::Probe => format!(
                "probe_steps measures forgetting on probe texts, and there are none: {}, or set it to 0",
                import("probe")
            ),
            Lack::Scorer => {
                let rows = self.form.method().rows();
                let keys = rows.iter().filter(|row| row.kind == Kind::Checks || row.key == "reward_model");
                let keys: Vec<&str> = keys.map(|row| row.key).collect();
                format!("nothing scores the answers: fill in {}", keys.join(" or "))
            }
        }
    }

    /// Whether a worker has still to say if the run as it stands in the form could go.
    fn unsettled(&self) -> bool {
        self.changed_ms.is_some() || self.answer == Answer::Asked
    }

    /// Notes a change, after which what was said of the run no longer holds.
    fn change(&mut self, clock_ms: u64) {
        self.changed_ms = Some(clock_ms);
        self.waits = false;
    }

    /// Why the run as it stands in the form could not go, where a worker or the disk has said so.
    fn unfit(&self) -> Option<&str> {
        match &self.answer {
            Answer::Failed(why) if self.changed_ms.is_none() => Some(why),
            Answer::Failed(_) | Answer::None | Answer::Asked | Answer::Known(_) => None,
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

/// Shows the screen for the open session.
pub fn show(model: &mut Model) -> Vec<Effect> {
    model.screen = Screen::Launch(Box::default());
    model.touch();
    refresh(model)
}

/// A chance to take a key before the keymap does, for typing; none passes it on.
pub fn press(model: &mut Model, key: Key) -> Option<Vec<Effect>> {
    let clock_ms = model.clock_ms;
    let Screen::Launch(launch) = &mut model.screen else { return None };
    let taken = match key.code {
        Code::Backspace => launch.form.backspace(),
        _ => key.typed().is_some_and(|c| launch.form.type_char(c)),
    };
    if !taken {
        return None;
    }
    launch.change(clock_ms);
    model.touch();
    Some(Vec::new())
}

/// Does what a key of this screen asks for.
pub fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let clock_ms = model.clock_ms;
    let Screen::Launch(launch) = &mut model.screen else { return Vec::new() };
    match action {
        Action::NextField => launch.form.go(1),
        Action::PreviousField => launch.form.go(-1),
        Action::NextChoice | Action::PreviousChoice => {
            if launch.form.turn(if action == Action::NextChoice { 1 } else { -1 }) {
                launch.change(clock_ms);
            }
        }
        Action::ResetForm => {
            launch.form.reset();
            launch.change(clock_ms);
        }
        Action::Accept if launch.form.focus == Field::More => {
            launch.form.turn(1);
        }
        Action::Accept => return start(model),
        Action::ShowMasks => return show_masks(model),
        _ => return super::act::travel(model, action),
    }
    model.touch();
    // Leaving a field settles it.
    if matches!(action, Action::NextField | Action::PreviousField) { question(model) } else { Vec::new() }
}

/// Asks what the run would read and learn, and shows it when it comes.
fn show_masks(model: &mut Model) -> Vec<Effect> {
    let ticket = model.question();
    let Screen::Launch(launch) = &model.screen else { return Vec::new() };
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

fn start(model: &mut Model) -> Vec<Effect> {
    let clock_ms = model.clock_ms;
    let Screen::Launch(launch) = &mut model.screen else { return Vec::new() };
    let read_only = model.open.as_ref().and_then(|o| o.read_only.clone());
    let ask = match read_only {
        Some(holder) => Err(format!("this session is open for reading only: {holder} holds it")),
        None if launch.asked_ms.is_some_and(|at| clock_ms < at + LAUNCH_MS) => Err("the run is being started".into()),
        None => launch.unfit().map_or_else(|| launch.ask(), |why| Err(format!("cannot start: {why}"))),
    };
    match ask {
        // What could not go would only say so when it has begun; who does not want to wait presses once more.
        Ok(_) if launch.unsettled() && !launch.waits => {
            launch.waits = true;
            model.say("checking whether it fits, then it starts · enter: at once");
            question(model)
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

/// New records of the open session or its runs have been folded, or the size has changed.
pub fn refresh(model: &mut Model) -> Vec<Effect> {
    let clock_ms = model.clock_ms;
    let (Screen::Launch(launch), Some(open)) = (&mut model.screen, &model.open) else { return Vec::new() };
    let known = |launch: &Launch| (launch.data, launch.form.starts().len(), launch.form.rewards().len());
    let before = known(launch);
    launch.take_data(open);
    if before == known(launch) {
        return Vec::new();
    }
    launch.change(clock_ms);
    model.touch();
    question(model)
}

/// Time passed.
pub fn tick(model: &mut Model) -> Vec<Effect> {
    let clock_ms = model.clock_ms;
    match &model.screen {
        Screen::Launch(l) if l.changed_ms.is_some_and(|at| clock_ms.saturating_sub(at) >= SETTLE_MS) => question(model),
        _ => Vec::new(),
    }
}

/// Asks what the run would take, if the form changed since the last question and can be asked about.
fn question(model: &mut Model) -> Vec<Effect> {
    let ticket = model.question();
    let loaded = model.open.as_ref().is_some_and(|o| o.loaded);
    let Screen::Launch(launch) = &mut model.screen else { return Vec::new() };
    if launch.changed_ms.is_none() || !loaded {
        return Vec::new();
    }
    launch.changed_ms = None;
    let ask = launch.ask();
    launch.ticket = ticket;
    // Without an answer the field or the data line says why there is none.
    launch.answer = if ask.is_ok() { Answer::Asked } else { Answer::None };
    model.touch();
    ask.into_iter().map(|ask| Effect::Estimate { ticket, ask }).collect()
}

/// The answer to an estimate this screen asked for; a run that waited for it starts, or is said not to.
pub fn estimate_ready(model: &mut Model, ticket: u64, answer: Result<Estimate, String>) -> Vec<Effect> {
    let Screen::Launch(launch) = &mut model.screen else { return Vec::new() };
    if launch.ticket != ticket || launch.answer != Answer::Asked {
        return Vec::new();
    }
    launch.answer = answer.map_or_else(Answer::Failed, Answer::Known);
    let waits = std::mem::take(&mut launch.waits);
    model.touch();
    if waits { start(model) } else { Vec::new() }
}
