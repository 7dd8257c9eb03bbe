//! The form for a new loop, in the words of the command `loop`.
//!
//! Owns the fields, and when the shell is asked to check them. Refuses to know files and models: the plan that the command makes
//! decides, so that both start the same loops.

use crate::app::effect::Effect;
use crate::app::form::{Field, Form, FormKey};
use crate::app::key::Key;
use crate::app::loop_request::LoopRequest;
use crate::app::open::RunView;
use crate::app::shared::Shared;
use crate::domain::{LOOP_HELD_OUT, LoopRows, Needs, PEOPLE, RunId, STRATEGIES, Sampler, methods, quoted_words};

/// Milliseconds from the last key to the request for a plan.
const SETTLE_MS: u64 = 400;
/// A second enter within this many milliseconds does not start twice.
const START_MS: u64 = 3_000;
/// The start from the session's model.
const BASE: &str = "the session's model";
/// The judges, with what each takes.
const JUDGES: [(&str, &str); 5] = [
    ("check", "checks, such as contains=please;max_words=40"),
    ("reward", "a reward run of this session"),
    ("implicit", "a dpo, orpo … run of this session"),
    ("llm", "a model, or http://127.0.0.1:8080/v1#NAME"),
    (PEOPLE, ""),
];

/// What the shell said about the form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LoopPlan {
    /// Nothing was asked.
    #[default]
    None,
    /// It is checked.
    Pending,
    /// What it would do.
    Ready(Vec<String>),
    /// It cannot start; the sentence says why.
    Failed(String),
}

/// The form.
#[derive(Debug, Clone, Default)]
pub struct LoopForm {
    /// The fields.
    pub fields: Form,
    /// What the shell said.
    pub plan: LoopPlan,
    ticket: u64,
    changed_ms: Option<u64>,
    started_ms: Option<u64>,
}

impl LoopForm {
    /// Opens it; what was typed before is kept.
    pub(super) fn open(&mut self, shared: &mut Shared) {
        if self.fields.fields.is_empty() {
            self.fields = Form::new(fields());
        }
        self.know(shared);
        self.changed(shared);
    }

    /// Learns of the session's runs.
    pub(super) fn know(&mut self, shared: &Shared) {
        let Some(open) = &shared.open else { return };
        let trained = open.runs.iter().rev().filter(|run| run.has_result() && !run.is_reward());
        let starts = trained.flat_map(RunView::start_points).map(RunId::into_string);
        self.fields.offer("start", std::iter::once(BASE.to_owned()).chain(starts).collect());
        let judge = self.fields.content("judge");
        let takes = JUDGES.iter().find(|(name, _)| *name == judge).map_or("", |(_, takes)| takes);
        self.fields.show("by", !takes.is_empty());
        if let Some(field) = self.fields.field_mut("by") {
            takes.clone_into(&mut field.help);
        }
    }

    /// Handles a key in a field; false if it may be a command.
    pub(super) fn typed(&mut self, shared: &mut Shared, key: Key) -> bool {
        match self.fields.press(key) {
            FormKey::Ignored => return false,
            FormKey::Moved => {}
            FormKey::Changed => {
                self.know(shared);
                self.changed(shared);
            }
        }
        true
    }

    /// Inserts pasted text.
    pub(super) fn paste(&mut self, shared: &mut Shared, text: &str) -> bool {
        let taken = self.fields.insert(text);
        self.changed(shared);
        taken
    }

    fn changed(&mut self, shared: &Shared) {
        self.changed_ms = Some(shared.clock_ms);
        self.plan = match self.request() {
            Ok(_) => LoopPlan::Pending,
            Err(why) => LoopPlan::Failed(why),
        };
    }

    /// Asks for a plan once the keys have rested.
    pub(super) fn settle(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let rested = self.changed_ms.is_some_and(|at| shared.clock_ms >= at + SETTLE_MS);
        if !rested {
            return Vec::new();
        }
        self.changed_ms = None;
        let Ok(request) = self.request() else { return Vec::new() };
        self.ticket = shared.next_ticket();
        vec![Effect::PlanLoop { ticket: self.ticket, request: Box::new(request) }]
    }

    /// Takes the answer to the newest question.
    pub(super) fn planned(&mut self, shared: &mut Shared, ticket: u64, answer: Result<Vec<String>, String>) {
        if ticket != self.ticket || self.changed_ms.is_some() {
            return;
        }
        self.plan = answer.map_or_else(LoopPlan::Failed, LoopPlan::Ready);
        shared.touch();
    }

    /// Starts the loop, or says why not.
    pub(super) fn start(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let starting = self.started_ms.is_some_and(|at| shared.clock_ms < at + START_MS);
        let blocked = match (&self.plan, shared.open.as_ref().and_then(|open| open.read_only.as_ref())) {
            (_, Some(holder)) => Some(crate::app::open::read_only_sentence(holder)),
            (LoopPlan::Failed(why), _) => Some(why.clone()),
            _ if starting => Some("a loop is starting already".into()),
            _ => None,
        };
        match (blocked, self.request()) {
            (Some(why), _) | (None, Err(why)) => {
                shared.warn(format!("cannot start: {why}"));
                Vec::new()
            }
            (None, Ok(request)) => {
                self.started_ms = Some(shared.clock_ms);
                shared.say("starting …");
                vec![Effect::StartLoop(Box::new(request))]
            }
        }
    }

    /// What the fields ask for.
    fn request(&self) -> Result<LoopRequest, String> {
        let form = &self.fields;
        let judge = match (form.content("judge"), form.content("by")) {
            (PEOPLE, _) => PEOPLE.to_owned(),
            (kind, "") => return Err(format!("by: name what the judge {kind} goes by")),
            (kind, by) => format!("{kind}:{by}"),
        };
        let text = |key: &str| Some(form.content(key).to_owned()).filter(|text| !text.is_empty());
        let sampler = Sampler {
            temperature: self.number("temperature", 0.0, 100.0)?,
            top_p: self.number("top_p", f64::MIN_POSITIVE, 1.0)?,
            max_new_tokens: self.count("max_new_tokens", 1, 1_000_000)?,
            seed: form.content("seed").parse().map_err(|_| "seed: expected a whole number, 0 or more".to_owned())?,
            ..Sampler::default()
        };
        Ok(LoopRequest {
            name: None,
            rounds: self.count("rounds", 1, 100)? as u32,
            init: text("start").filter(|name| name != BASE),
            judge,
            tie_band: None,
            strategy: form.content("strategy").to_owned(),
            score: text("score"),
            limit: self.optional("limit")?,
            method: form.content("method").to_owned(),
            set: quoted_words(form.content("set")).map_err(|e| format!("set: {e}"))?,
            rows: LoopRows::named(form.content("rows")).unwrap_or_default(),
            suites: form.content("suites").split_whitespace().map(str::to_owned).collect(),
            eval_judge: text("eval_judge"),
            eval_limit: self.optional("eval_limit")?,
            data: None,
            held_out: self.number("held_out", 0.001, 0.999)?,
            prompts_per_round: self.optional("prompts_per_round")?,
            per_prompt: self.count("per_prompt", 2, 64)?,
            sampler,
            all_rounds: form.field("all_rounds").is_some_and(Field::is_marked),
            key_envs: Vec::new(),
            device: "auto".into(),
        })
    }

    fn count(&self, key: &str, low: usize, high: usize) -> Result<usize, String> {
        let parsed = self.fields.content(key).parse().ok().filter(|n| (low..=high).contains(n));
        parsed.ok_or_else(|| format!("{key}: expected a whole number from {low} to {high}"))
    }

    fn optional(&self, key: &str) -> Result<Option<usize>, String> {
        if self.fields.content(key).is_empty() { Ok(None) } else { self.count(key, 1, 10_000_000).map(Some) }
    }

    fn number(&self, key: &str, low: f64, high: f64) -> Result<f64, String> {
        let parsed = self.fields.content(key).parse::<f64>().ok().filter(|x| *x >= low && *x <= high);
        let least = if low < 1e-300 && low > 0.0 { "above 0".to_owned() } else { low.to_string() };
        parsed.ok_or_else(|| format!("{key}: expected a number from {least} to {high}"))
    }
}

/// The fields with their defaults, those of the command.
fn fields() -> Vec<Field> {
    let default = Sampler::default();
    let trains = methods().iter().filter(|m| matches!(m.needs, Needs::Pairs | Needs::Ratings) && m.name != "reward");
    let mut names: Vec<&str> = trains.map(|m| m.name).collect();
    names.sort_by_key(|name| *name != "dpo");
    let mut strategies: Vec<&str> = STRATEGIES.iter().map(|s| s.name).collect();
    strategies.sort_by_key(|name| *name != "random");
    vec![
        Field::number(
            "rounds",
            "3",
            "the most rounds; it ends earlier where a round is not better than the one before",
        ),
        Field::choice("start", [BASE], "what the first round samples from and trains on"),
        Field::choice("judge", JUDGES.iter().map(|(name, _)| *name), "who judges the pairs").under("judge"),
        Field::text("by", "", ""),
        Field::choice("strategy", strategies, "how a round's pairs are chosen among its own answers")
            .under("answers and pairs"),
        Field::text("score", "", "where the strategy's scores come from: a run, logprob, length, checks:LIST")
            .beside("empty: the judge, if it gives scores"),
        Field::number("limit", "", "the most pairs of a round").beside("empty: all that the strategy has"),
        Field::number("prompts_per_round", "", "no prompt comes in two rounds").beside("empty: as many as there are"),
        Field::number("per_prompt", "4", "answers to each prompt"),
        Field::number("temperature", &default.temperature.to_string(), "how much chance there is in an answer"),
        Field::number("top_p", &default.top_p.to_string(), "the share of probability that is sampled from"),
        Field::number("max_new_tokens", "256", "the most tokens of an answer"),
        Field::number("seed", "42", "of the prompts' order, the answers and the pairs"),
        Field::choice("method", names, "the training method").under("training"),
        Field::text("set", "", "hyper-parameters as on the command line: learning_rate=1e-5 beta=0.2"),
        Field::choice(
            "rows",
            LoopRows::ALL.iter().map(|(name, ..)| *name),
            "what a round trains on: its own pairs, or those of all rounds so far",
        ),
        Field::number("held_out", &LOOP_HELD_OUT.to_string(), "the share of the prompts that no round samples")
            .under("evaluation"),
        Field::text("eval_judge", "", "who compares a round with the one before, as a judge of eval")
            .beside("empty: the judge"),
        Field::number("eval_limit", "", "the most held-out prompts of an evaluation").beside("empty: all"),
        Field::text("suites", "", "suites beside the win rate, with blanks between them"),
        Field::mark("all_rounds", false, "go on even after a round that is not better than the one before"),
    ]
}
