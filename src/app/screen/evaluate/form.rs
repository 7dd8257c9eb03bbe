//! The form for a new evaluation: contestants, suites, judges and how answers are drawn, as typed text and choices.
//!
//! Owns the text, and when the shell is asked to plan it. Refuses to know files and models: the plan that the command `eval`
//! makes decides, so that both launch the same runs.

use crate::app::effect::Effect;
use crate::app::evaluation::{EvalEstimate, EvalRequest, SuiteFiles};
use crate::app::flow;
use crate::app::key::{Code, Key};
use crate::app::open::RunView;
use crate::app::shared::Shared;
use crate::domain::{JudgeOperand, JudgeRow, RunId, RunStatus, SuiteRow, judges, suites, template_variables};
use crate::protocol::Task;
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds from the last key to the request for a plan.
const SETTLE_MS: u64 = 400;
/// A second enter within this many milliseconds does not launch a second run.
const LAUNCH_MS: u64 = 3_000;
/// The longest typed text, in bytes.
const LONGEST: usize = 1_000;

/// A field that can have the focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EvalField {
    /// The model in question.
    A,
    /// What it is compared with.
    B,
    /// A suite, by its place in the table.
    Suite(usize),
    /// A file of a suite of the user's own.
    OwnFile,
    /// The folder of the suites' files.
    Folder,
    /// A judge, by its place in the table.
    Judge(usize),
    /// A file of prompts in place of the session's.
    Prompts,
    /// The most items of each suite.
    Limit,
    /// How often each prompt is answered.
    Seeds,
    /// The temperature.
    Temperature,
    /// The most tokens of an answer.
    MaxTokens,
    /// The variables of the chat template.
    Variables,
}

/// What the shell said about the form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PlanState {
    /// Nothing was asked.
    #[default]
    None,
    /// It is planned.
    Pending,
    /// The work.
    Ready(EvalEstimate),
    /// It cannot start; the sentence says why.
    Failed(String),
}

/// The form.
#[derive(Debug, Clone)]
pub struct EvalForm {
    /// The focused field.
    pub focus: EvalField,
    /// The suites' files; none until the shell looked.
    pub files: Option<SuiteFiles>,
    /// What the shell said.
    pub plan: PlanState,
    typed: BTreeMap<EvalField, String>,
    suites: BTreeSet<&'static str>,
    judges: BTreeSet<&'static str>,
    /// Runs and models to compare, and runs that give rewards.
    players: Vec<String>,
    rewards: Vec<String>,
    models: Vec<String>,
    /// Whether the next character replaces the text.
    fresh: bool,
    opened: bool,
    ticket: u64,
    files_ticket: u64,
    changed_ms: Option<u64>,
    launched_ms: Option<u64>,
    launch_pending: bool,
}

impl Default for EvalForm {
    fn default() -> Self {
        Self {
            focus: EvalField::A,
            files: None,
            plan: PlanState::None,
            typed: BTreeMap::new(),
            suites: std::iter::once("winrate").collect(),
            judges: BTreeSet::new(),
            players: Vec::new(),
            rewards: Vec::new(),
            models: Vec::new(),
            fresh: true,
            opened: false,
            ticket: 0,
            files_ticket: 0,
            changed_ms: None,
            launched_ms: None,
            launch_pending: false,
        }
    }
}

impl EvalForm {
    /// Opens it, with the newest trained run chosen.
    pub fn open(&mut self, shared: &mut Shared) -> Vec<Effect> {
        self.know(shared);
        if !self.opened {
            self.opened = true;
            let newest = self.players.first().cloned().unwrap_or_default();
            self.typed.insert(EvalField::A, newest);
        }
        self.focus = EvalField::A;
        self.fresh = true;
        let mut effects = self.look(shared);
        effects.extend(self.ask(shared));
        effects
    }

    /// Learns of the session's runs and the machine's models.
    pub fn know(&mut self, shared: &Shared) {
        let Some(open) = &shared.open else { return };
        let (mut policies, mut rewards) = (Vec::new(), Vec::new());
        for run in open.runs.iter().rev().filter(|run| is_trained(run)) {
            let is_reward = run.spec.as_ref().is_some_and(|spec| spec.kind() == "reward");
            let list = if is_reward { &mut rewards } else { &mut policies };
            list.extend(points(run).into_iter().map(RunId::into_string));
        }
        let cards = shared.models.iter().flatten().filter(|card| card.problem.is_none());
        self.models = cards.map(|card| card.name.clone()).collect();
        if !self.models.contains(&open.meta.model) {
            self.models.insert(0, open.meta.model.clone());
        }
        policies.extend(self.models.iter().cloned());
        (self.players, self.rewards) = (policies, rewards);
    }

    /// The fields in order, as shown.
    #[must_use]
    pub fn fields(&self) -> Vec<EvalField> {
        let mut out = vec![EvalField::A, EvalField::B];
        out.extend((0..suites().len()).map(EvalField::Suite));
        out.extend([EvalField::OwnFile, EvalField::Folder]);
        out.extend((0..judges().len()).map(EvalField::Judge));
        out.extend([EvalField::Prompts, EvalField::Limit, EvalField::Seeds, EvalField::Temperature]);
        out.extend([EvalField::MaxTokens, EvalField::Variables]);
        out
    }

    /// Moves the focus, wrapping at the ends.
    pub fn move_focus(&mut self, by: isize) {
        let fields = self.fields();
        let at = fields.iter().position(|field| *field == self.focus).unwrap_or(0) as isize;
        self.focus = fields[(at + by).rem_euclid(fields.len() as isize) as usize];
        self.fresh = true;
    }

    /// The text of a field.
    #[must_use]
    pub fn text(&self, field: EvalField) -> &str {
        self.typed.get(&field).map_or("", String::as_str)
    }

    /// Whether a suite is ticked.
    #[must_use]
    pub fn has_suite(&self, row: &SuiteRow) -> bool {
        self.suites.contains(row.name)
    }

    /// Whether a judge takes part: a judge with an operand does once it has one.
    #[must_use]
    pub fn has_judge(&self, at: usize, row: &JudgeRow) -> bool {
        match row.takes {
            JudgeOperand::None => self.judges.contains(row.name),
            _ => !self.text(EvalField::Judge(at)).trim().is_empty(),
        }
    }

    /// The choices of a field; empty where its text is only typed.
    #[must_use]
    pub fn choices(&self, field: EvalField) -> Vec<&str> {
        let none = || std::iter::once("");
        match field {
            EvalField::A => self.players.iter().map(String::as_str).collect(),
            EvalField::B => none().chain(self.players.iter().map(String::as_str)).collect(),
            EvalField::Judge(at) => match judges().get(at).map(|row| (row.name, row.takes)) {
                Some(("reward", JudgeOperand::Run)) => none().chain(self.rewards.iter().map(String::as_str)).collect(),
                Some((_, JudgeOperand::Run)) => {
                    let runs = self.players.iter().filter(|name| !self.models.contains(*name));
                    none().chain(runs.map(String::as_str)).collect()
                }
                Some((_, JudgeOperand::Model)) => none().chain(self.models.iter().map(String::as_str)).collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Takes the field's next choice. True if something changed.
    pub fn choose(&mut self, by: isize) -> bool {
        if matches!(self.focus, EvalField::Suite(_)) {
            return self.toggle();
        }
        let choices = self.choices(self.focus);
        if choices.is_empty() {
            return self.toggle();
        }
        let now = choices.iter().position(|choice| *choice == self.text(self.focus));
        let at = now.map_or(0, |at| (at as isize + by).rem_euclid(choices.len() as isize) as usize);
        let choice = choices[at].to_owned();
        self.fresh = true;
        self.typed.insert(self.focus, choice);
        true
    }

    /// Ticks or unticks the focused suite or judge. True if something changed.
    pub fn toggle(&mut self) -> bool {
        let (set, name) = match self.focus {
            EvalField::Suite(at) => (&mut self.suites, suites().get(at).map(|row| row.name)),
            EvalField::Judge(at) => {
                let row = judges().into_iter().nth(at).filter(|row| row.takes == JudgeOperand::None);
                (&mut self.judges, row.map(|row| row.name))
            }
            _ => return false,
        };
        let Some(name) = name else { return false };
        if !set.remove(name) {
            set.insert(name);
        }
        true
    }

    /// Takes a key as typed text. False if the focused field takes none.
    pub fn typed(&mut self, key: Key) -> bool {
        let takes_text = match self.focus {
            EvalField::Suite(_) => false,
            EvalField::Judge(at) => judges().get(at).is_some_and(|row| row.takes != JudgeOperand::None),
            _ => true,
        };
        if !takes_text {
            return false;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let text = self.typed.entry(self.focus).or_default();
        match (key.code, key.typed()) {
            (Code::Backspace, _) => {
                text.pop();
            }
            (Code::Char('u'), None) if key.ctrl => text.clear(),
            // A blank begins no text: it ticks.
            (_, Some(' ')) if text.is_empty() || fresh => {
                self.fresh = fresh;
                return false;
            }
            (_, Some(c)) if text.len() < LONGEST && !c.is_control() => {
                if fresh {
                    text.clear();
                }
                text.push(c);
            }
            _ => {
                self.fresh = fresh;
                return false;
            }
        }
        true
    }

    /// The evaluation.
    ///
    /// # Errors
    /// What is missing or not a number, as one sentence.
    pub fn request(&self) -> Result<EvalRequest, String> {
        let text = |field| self.text(field).trim().to_owned();
        let some = |field| Some(text(field)).filter(|text| !text.is_empty());
        let a = some(EvalField::A).ok_or("choose the model in question: ← → offer runs and models")?;
        let mut chosen: Vec<String> =
            suites().iter().filter(|row| self.has_suite(row)).map(|row| row.name.to_owned()).collect();
        chosen.extend(some(EvalField::OwnFile));
        if chosen.is_empty() {
            return Err("tick a suite: space ticks the one with the focus".into());
        }
        let mut named = Vec::new();
        for (at, row) in judges().into_iter().enumerate().filter(|(at, row)| self.has_judge(*at, row)) {
            named.push(match some(EvalField::Judge(at)) {
                Some(operand) => format!("{}:{operand}", row.name),
                None => row.name.to_owned(),
            });
        }
        let whole = |field, what: &str, most: usize| -> Result<Option<usize>, String> {
            let Some(text) = some(field) else { return Ok(None) };
            let n = text.parse::<usize>().ok().filter(|n| (1..=most).contains(n));
            n.map(Some).ok_or_else(|| format!("{what} is `{text}`: write a whole number from 1 to {most}"))
        };
        let temperature = match some(EvalField::Temperature) {
            None => 0.0,
            Some(text) => text
                .parse::<f64>()
                .ok()
                .filter(|t| (0.0..=10.0).contains(t))
                .ok_or_else(|| format!("temperature is `{text}`: write a number from 0 to 10"))?,
        };
        Ok(EvalRequest {
            a,
            b: some(EvalField::B),
            suites: chosen,
            judges: named,
            prompts: some(EvalField::Prompts),
            folder: some(EvalField::Folder),
            limit: whole(EvalField::Limit, "limit", 1_000_000)?,
            seeds: whole(EvalField::Seeds, "seeds", 100)?.map_or(1, |n| n as u32),
            temperature,
            max_new_tokens: whole(EvalField::MaxTokens, "max_new_tokens", 1_000_000)?,
            variables: template_variables(&text(EvalField::Variables)).map_err(|why| format!("template: {why}"))?,
        })
    }

    /// Notes a change; what the shell said is of the form before.
    pub fn changed(&mut self, shared: &mut Shared) -> Vec<Effect> {
        (self.changed_ms, self.launch_pending) = (Some(shared.clock_ms), false);
        self.plan = match self.request() {
            Ok(_) => PlanState::Pending,
            Err(why) => PlanState::Failed(why),
        };
        if self.focus == EvalField::Folder { self.look(shared) } else { Vec::new() }
    }

    /// Asks for a plan once no key was pressed for a while.
    pub fn settle(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let settled = self.changed_ms.is_some_and(|at| shared.clock_ms.saturating_sub(at) >= SETTLE_MS);
        if settled { self.ask(shared) } else { Vec::new() }
    }

    fn look(&mut self, shared: &mut Shared) -> Vec<Effect> {
        self.files_ticket = shared.next_ticket();
        let typed = self.text(EvalField::Folder).trim();
        let folder = (!typed.is_empty()).then(|| typed.to_owned());
        vec![Effect::FindSuites { ticket: self.files_ticket, folder }]
    }

    fn ask(&mut self, shared: &mut Shared) -> Vec<Effect> {
        self.changed_ms = None;
        self.ticket = shared.next_ticket();
        shared.touch();
        match self.request() {
            Ok(request) => {
                self.plan = PlanState::Pending;
                vec![Effect::PlanEvaluation { ticket: self.ticket, request }]
            }
            Err(why) => {
                self.plan = PlanState::Failed(why);
                Vec::new()
            }
        }
    }

    /// Takes where the suites' files are.
    pub fn found(&mut self, shared: &mut Shared, ticket: u64, files: SuiteFiles) -> Vec<Effect> {
        if ticket == self.files_ticket {
            self.files = Some(files);
            shared.touch();
        }
        Vec::new()
    }

    /// Takes what the shell said; a run that waited for it starts.
    pub fn planned(&mut self, shared: &mut Shared, ticket: u64, answer: Result<EvalEstimate, String>) -> Vec<Effect> {
        if ticket != self.ticket || self.changed_ms.is_some() {
            return Vec::new();
        }
        self.plan = answer.map_or_else(PlanState::Failed, PlanState::Ready);
        shared.touch();
        if std::mem::take(&mut self.launch_pending) { self.start(shared) } else { Vec::new() }
    }

    /// Starts the evaluation once its plan is known to hold.
    pub fn start(&mut self, shared: &mut Shared) -> Vec<Effect> {
        if !flow::writable(shared) {
            return Vec::new();
        }
        if self.launched_ms.is_some_and(|at| shared.clock_ms < at + LAUNCH_MS) {
            shared.warn("the evaluation is starting already");
            return Vec::new();
        }
        match (&self.plan, self.request()) {
            (_, Err(why)) => shared.warn(format!("cannot start: {why}")),
            (PlanState::Failed(why), Ok(_)) if self.changed_ms.is_none() => {
                let why = format!("cannot start: {why}");
                shared.warn(why);
            }
            (PlanState::Ready(_), Ok(request)) if self.changed_ms.is_none() => {
                self.launched_ms = Some(shared.clock_ms);
                shared.say("starting the evaluation …");
                return vec![Effect::Evaluate(request)];
            }
            _ => {
                self.launch_pending = true;
                shared.say("checking the plan, then starting");
                if self.changed_ms.is_some() || self.plan == PlanState::None {
                    let effects = self.ask(shared);
                    self.launch_pending = !effects.is_empty();
                    return effects;
                }
            }
        }
        Vec::new()
    }
}

/// Whether a run ended as a training run that others can go on from.
fn is_trained(run: &RunView) -> bool {
    let ended = matches!(run.status(), RunStatus::Finished | RunStatus::Stopped);
    ended && run.spec.as_ref().is_some_and(|spec| matches!(spec.task, Task::Train(_)))
}

/// The run's last checkpoint, and its best one if it selected that.
fn points(run: &RunView) -> Vec<RunId> {
    let selects_best = matches!(run.spec.as_ref().map(|spec| &spec.task), Some(Task::Train(train))
        if train.params.usize("eval_steps") > 0 && !train.params.text("metric_for_best_model").is_empty());
    let mut out = vec![run.id.clone()];
    out.extend(selects_best.then(|| run.id.at_best()));
    out
}
