//! The sample screen: which models write answers, how they are sampled, and how many pairs come out.
//!
//! ```text
//!  who writes answers: marked ones take turns
//!  ▸ [x] SmolLM2-135M          the session's model
//!    [ ] tiny                  1 M  llama  embedded
//!    [x] dpo-1                 adapter on SmolLM2-135M
//!    [ ] qwen@127.0.0.1:8080   server
//!    another                   a folder, a .gguf file, or http://127.0.0.1:8080/v1
//!  how
//!    per_prompt                4     2 – 8
//! ─ this run ───────────────────────────────────────────────────────────────
//!    37 prompts × 4 answers = 148: SmolLM2-135M 2, dpo-1 2 → at most 74 pairs
//! ```
//!
//! Owns the form and the questions to servers. Refuses to start a run in which a marked model would never take its turn.

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::form::{Field, Form, FormKey};
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, k, on};
use crate::app::msg::Msg;
use crate::app::open::OpenSession;
use crate::app::requests::SampleRequest;
use crate::app::serving;
use crate::app::shared::Shared;
use crate::app::words::{model_summary, short_model_name};
use crate::domain::{ParamKind, ParamRow, RunId, Sampler, counted, template_variables};
use crate::protocol::{ServerOptions, ServerRef};

/// A second enter within this many milliseconds does not launch a second run.
const LAUNCH_MS: u64 = 3_000;

/// The field for a model that is not listed.
const ANOTHER: &str = "another";

/// The numbers, with their ranges.
const NUMBERS: [ParamRow; 4] = [
    serving::row("per_prompt", ParamKind::Int(1, 64), "2", "2 – 8", "answers for each prompt; two make a pair"),
    serving::row(
        "temperature",
        ParamKind::Float(0.0, 10.0),
        "0.8",
        "0.7 – 1.2",
        "0 is greedy: always the most likely token",
    ),
    serving::row(
        "top_p",
        ParamKind::Float(0.01, 1.0),
        "0.95",
        "0.9 – 1",
        "nucleus: sample from the most likely tokens of this total probability",
    ),
    serving::row(
        "max_new_tokens",
        ParamKind::Int(1, 1_000_000),
        "256",
        "64 – 1024",
        "maximum length of an answer in tokens",
    ),
];

/// The variables of the chat template.
const VARIABLES: ParamRow = serving::row(
    "chat_template_kwargs",
    ParamKind::Variables,
    "",
    "{\"enable_thinking\": false}",
    "variables of the chat template, as JSON; a prompt's own go first",
);

/// The seed, where one is typed.
const SEED: ParamRow = serving::row("seed", ParamKind::Int(0, i64::MAX), "", "", "");

/// A question to a server that is not answered yet.
#[derive(Debug, Clone)]
struct Asking {
    ticket: u64,
    url: String,
    /// The model that was named; empty for any.
    model: String,
}

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct SampleScreen {
    /// The form.
    pub form: Form,
    /// Models by path that were typed.
    typed: Vec<String>,
    /// Models behind servers that answered, as `URL#NAME`.
    served: Vec<String>,
    asking: Option<Asking>,
    /// The ticket of the last completion.
    completing: u64,
    launched_ms: Option<u64>,
    /// The session has so many prompts; none before its log is read.
    pub prompts: Option<usize>,
    /// Why nothing can start now, whatever the form says.
    blocked: Option<String>,
}

impl SampleScreen {
    /// The address of the server that is being asked.
    #[must_use]
    pub fn asked(&self) -> Option<&str> {
        self.asking.as_ref().map(|asking| asking.url.as_str())
    }

    /// The names of the generators in the order in which they take turns.
    #[must_use]
    pub fn generators(&self) -> Vec<String> {
        let label = |prefix: &str| -> Vec<String> {
            let marked = self.form.fields.iter().filter(|f| f.key.starts_with(prefix) && f.is_marked());
            marked.map(|field| field.label.clone()).collect()
        };
        ["model:", "run:", "server:"].iter().flat_map(|prefix| label(prefix)).collect()
    }

    /// Answers for each prompt; none while the field is invalid.
    #[must_use]
    pub fn per_prompt(&self) -> Option<usize> {
        let field = self.form.field("per_prompt")?;
        field.problem.is_none().then(|| field.content().parse().ok())?
    }

    /// What the run will do, in one line; empty while it cannot be said.
    #[must_use]
    pub fn summary(&self) -> String {
        let (Some(prompts), Some(each), names) = (self.prompts, self.per_prompt(), self.generators()) else {
            return String::new();
        };
        if names.is_empty() {
            return String::new();
        }
        let turns = |i: usize| (0..each).filter(|k| k % names.len() == i).count();
        let who: Vec<String> = match names.as_slice() {
            [one] => vec![one.clone()],
            _ => names.iter().enumerate().map(|(i, name)| format!("{name} {}", turns(i))).collect(),
        };
        let pairs = prompts * (each / 2);
        let pairs = if pairs == 0 {
            "no pairs: two answers make one".to_owned()
        } else {
            format!("at most {}, fewer where answers are equal", counted(pairs, "pair"))
        };
        format!(
            "{} × {} = {}: {} → {pairs}",
            counted(prompts, "prompt"),
            counted(each, "answer"),
            prompts * each,
            who.join(", ")
        )
    }

    /// Why the run cannot start, as one sentence.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        if let Some(why) = &self.blocked {
            return Some(why.clone());
        }
        if let Some(asking) = &self.asking {
            return Some(format!("waiting for the answer of {}", asking.url));
        }
        if let Some((field, why)) = self.form.problem() {
            return Some(format!("{}: {why}", field.label));
        }
        let names = self.generators();
        let each = self.per_prompt().unwrap_or(0);
        match names.len() {
            0 => Some("no model is marked: mark one with space".into()),
            n if n > each => Some(format!(
                "{n} models take turns, but a prompt gets {}: set per_prompt to {n} or more",
                counted(each, "answer")
            )),
            _ => None,
        }
    }

    /// The request of the form.
    ///
    /// # Errors
    /// When it cannot start: one sentence.
    fn request(&self) -> Result<SampleRequest, String> {
        if let Some(why) = self.obstacle() {
            return Err(why);
        }
        let form = &self.form;
        let number = |key: &str| form.content(key).parse::<f64>().map_err(|e| format!("{key}: {e}"));
        let local = form.marked("model:").into_iter().map(str::to_owned);
        let models = local.chain(form.marked("server:").into_iter().map(str::to_owned)).collect();
        let seed = form.content("seed");
        Ok(SampleRequest {
            models,
            adapters: form.marked("run:").into_iter().map(RunId::new).collect(),
            servers: serving::options(form),
            per_prompt: self.per_prompt().unwrap_or(2),
            sampler: Sampler {
                temperature: number("temperature")?,
                top_p: number("top_p")?,
                max_new_tokens: form.content("max_new_tokens").parse().map_err(|e| format!("max_new_tokens: {e}"))?,
                seed: seed.parse().unwrap_or(Sampler::default().seed),
                ..Sampler::default()
            },
            count_seed: seed.is_empty(),
            variables: template_variables(form.content(VARIABLES.key))?,
        })
    }

    /// Reads what the session and this machine have.
    fn update(&mut self, shared: &Shared) {
        let Some(open) = &shared.open else { return };
        self.prompts = open.loaded.then(|| open.session.prompts().len());
        self.blocked = blocked(shared, open);
        let mut fields = self.models(shared, open);
        fields.extend(adapters(open));
        fields.extend(self.served.iter().map(|word| {
            let name = ServerRef::parse(word, &ServerOptions::default()).map_or_else(|_| word.clone(), |s| s.name());
            Field::mark(&format!("server:{word}"), true, word).named(name).beside("server, answers")
        }));
        let fields: Vec<Field> = fields
            .into_iter()
            .enumerate()
            .map(|(i, field)| if i == 0 { field.under("who writes answers: marked ones take turns") } else { field })
            .collect();
        for prefix in ["run:", "server:"] {
            let part = fields.iter().filter(|field| field.key.starts_with(prefix)).cloned().collect();
            self.form.replace(prefix, ANOTHER, part);
        }
        let models: Vec<Field> = fields.into_iter().filter(|field| field.key.starts_with("model:")).collect();
        let after = self.form.fields.iter().find(|f| f.key.starts_with("run:") || f.key.starts_with("server:"));
        let before = after.map_or(ANOTHER.to_owned(), |field| field.key.clone());
        self.form.replace("model:", &before, models);
        self.check();
    }

    /// The session's model, those of this machine and those typed.
    fn models(&self, shared: &Shared, open: &OpenSession) -> Vec<Field> {
        let own = open.meta.model.as_str();
        let mut out = vec![
            Field::mark(&format!("model:{own}"), true, own).named(short_model_name(own)).beside("the session's model"),
        ];
        for card in shared.models.iter().flatten().filter(|card| card.problem.is_none()) {
            if card.name != own && card.path != own {
                let field = Field::mark(&format!("model:{}", card.name), false, &card.path);
                out.push(field.named(short_model_name(&card.name)).beside(model_summary(card)));
            }
        }
        for path in &self.typed {
            if !out.iter().any(|field| field.key.strip_prefix("model:") == Some(path)) {
                let field = Field::mark(&format!("model:{path}"), true, path);
                out.push(field.named(short_model_name(path)).beside("by path"));
            }
        }
        out
    }

    fn check(&mut self) {
        for row in NUMBERS.iter().chain([&VARIABLES]) {
            serving::check(&mut self.form, row);
        }
        let seed = self.form.content("seed");
        let problem = if seed.is_empty() { None } else { SEED.parse(seed).err().map(|e| e.to_string()) };
        self.form.set_problem("seed", problem);
        let server = !self.form.marked("server:").is_empty() || ServerRef::is_address(self.form.content(ANOTHER));
        serving::update(&mut self.form, server);
    }

    /// Adds what was typed: a model's name or path, or asks a server.
    fn add(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let word = self.form.content(ANOTHER).to_owned();
        shared.touch();
        if !ServerRef::is_address(&word) {
            let path = if word.len() > 1 { word.trim_end_matches('/') } else { &word };
            self.typed.push(path.to_owned());
            self.form.set_text(ANOTHER, "");
            self.update(shared);
            let key = format!("model:{path}");
            if let Some(field) = self.form.field_mut(&key) {
                field.value = crate::app::form::FieldValue::Mark(true);
            }
            return Vec::new();
        }
        let servers = serving::options(&self.form);
        match ServerRef::parse(&word, &servers) {
            Err(why) => {
                self.form.set_problem(ANOTHER, Some(why));
                Vec::new()
            }
            Ok(server) => {
                let ticket = shared.next_ticket();
                self.asking = Some(Asking { ticket, url: server.url.clone(), model: server.model });
                self.form.set_problem(ANOTHER, None);
                vec![Effect::ListServer { ticket, url: server.url, servers }]
            }
        }
    }

    /// Takes a server's list of models.
    fn list(&mut self, shared: &mut Shared, asked: &Asking, answer: Result<Vec<String>, String>) {
        let names = match answer {
            Ok(names) => names,
            Err(why) => return self.form.set_problem(ANOTHER, Some(why)),
        };
        let tagged = format!("{}:latest", asked.model);
        let named = names.iter().find(|n| **n == asked.model || **n == tagged).cloned();
        if named.is_none() && !asked.model.is_empty() {
            let why = format!("server {} has no model `{}`, but {}", asked.url, asked.model, names.join(", "));
            return self.form.set_problem(ANOTHER, Some(why));
        }
        let wanted = named.map_or_else(|| names.clone(), |name| vec![name]);
        let words: Vec<String> = wanted.iter().map(|name| format!("{}#{name}", asked.url)).collect();
        let new: Vec<String> = words.iter().filter(|word| !self.served.contains(word)).cloned().collect();
        self.served.extend(new.clone());
        self.form.set_text(ANOTHER, "");
        self.update(shared);
        // Of several models the user marks some.
        for word in new.iter().filter(|_| words.len() > 1) {
            if let Some(field) = self.form.field_mut(&format!("server:{word}")) {
                field.value = crate::app::form::FieldValue::Mark(false);
            }
        }
        if let Some(first) = words.first() {
            self.form.focus_on(&format!("server:{first}"));
        }
        self.check();
        if words.len() > 1 {
            shared.say(format!("{} has {}: mark with space", asked.url, counted(words.len(), "model")));
        }
    }

    fn start(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let starting = self.launched_ms.is_some_and(|at| shared.clock_ms < at + LAUNCH_MS);
        match self.request() {
            Err(why) => {
                shared.warn(format!("cannot start: {why}"));
                Vec::new()
            }
            Ok(_) if starting => {
                shared.warn("the run is starting already");
                Vec::new()
            }
            Ok(request) => {
                self.launched_ms = Some(shared.clock_ms);
                shared.say("starting sampling …");
                vec![Effect::Sample(request)]
            }
        }
    }
}

/// Why nothing can start in this session now.
fn blocked(shared: &Shared, open: &OpenSession) -> Option<String> {
    if let Some(holder) = &open.read_only {
        return Some(crate::app::open::read_only_sentence(holder));
    }
    if !open.loaded {
        return Some("the session is still being read".into());
    }
    if open.session.prompts().is_empty() {
        let (back, key) = (shared.keys.key("sample", "back"), shared.keys.key("label", "import"));
        return Some(format!("no prompts yet: {back}, then {key} imports a file of prompts"));
    }
    let live = open.runs.iter().find(|run| run.is_sampling() && run.status().is_live());
    live.map(|run| format!("{} is still sampling: wait for its end, or stop it", run.id))
}

/// The checkpoints of finished runs that write answers.
fn adapters(open: &OpenSession) -> Vec<Field> {
    let policies = open.runs.iter().filter(|run| run.has_result() && !run.is_reward());
    let field = |run: &crate::app::open::RunView, id: RunId| {
        let on = run.spec.as_ref().and_then(|spec| spec.models().first().copied());
        let on = on.map_or_else(String::new, |model| format!("adapter on {}", short_model_name(&model.name)));
        Field::mark(&format!("run:{id}"), false, "a training run's adapter on the model it was trained on")
            .named(id.as_str())
            .beside(on)
    };
    policies.flat_map(|run| run.start_points().into_iter().map(move |id| field(run, id))).collect()
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleAction {
    /// Start the run, or add the typed model.
    Accept,
    /// Focus the next field.
    Next,
    /// Focus the previous field.
    Previous,
    /// Complete the typed path; elsewhere the next field.
    Complete,
    /// Go to another screen.
    Go(&'static str),
}

#[rustfmt::skip]
const KEYS: &[Section<SampleAction>] = &[Section { title: "sample", rows: &[
    on(k(Code::Enter), SampleAction::Accept, "start", "start sampling; after a typed model or server, add it").named("start"),
    on(k(Code::Tab), SampleAction::Complete, "next", "complete a typed path; elsewhere the next field"),
    on(k(Code::Down), SampleAction::Next, "", "next field; space marks, ← → choose").named("next field"),
    on(k(Code::BackTab), SampleAction::Previous, "", "previous field").named("previous field"),
    on(k(Code::Up), SampleAction::Previous, "", "previous field"),
    on(Key::ctrl('p'), SampleAction::Go("pair"), "pairs", "choose pairs among the answers by a strategy").named("pair"),
    on(k(Code::Esc), SampleAction::Go("label"), "back", "back to labelling").named("back"),
] }];

impl Screen for SampleScreen {
    type Action = SampleAction;

    const NAME: &'static str = "sample";
    const KEYS: &'static [Section<SampleAction>] = KEYS;

    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let help =
            "a model's folder or .gguf file (tab completes), or a server: http://127.0.0.1:8080/v1 lists its models";
        let mut fields = vec![Field::text(ANOTHER, "", help).beside("path, or http://host:port/v1")];
        fields.extend(NUMBERS.iter().map(serving::number));
        fields[1].heading = Some("how");
        let help = "the same seed gives the same answers; empty: 42 for the first sampling run, 43 for the second …";
        fields.push(Field::number("seed", "", help).beside("empty: another one for each run"));
        let empty = format!("empty: none; {}", VARIABLES.usual);
        fields.push(Field::text(VARIABLES.key, "", VARIABLES.help).beside(empty));
        fields.extend(serving::fields());
        let mut screen = Self { form: Form::new(fields), ..Self::default() };
        screen.update(shared);
        // The session's model has the focus.
        let first = screen.form.fields.first().map(|field| field.key.clone()).unwrap_or_default();
        screen.form.focus_on(&first);
        (screen, Vec::new())
    }

    fn typed(&mut self, shared: &mut Shared, key: Key) -> Option<Vec<Effect>> {
        let done = self.form.press(key);
        if done == FormKey::Ignored {
            return None;
        }
        self.check();
        shared.touch();
        Some(Vec::new())
    }

    fn paste(&mut self, _shared: &mut Shared, text: &str) -> bool {
        let taken = self.form.insert(text);
        self.check();
        taken
    }

    fn footer_word(&self, _shared: &Shared, action: SampleAction, word: &'static str) -> Option<&'static str> {
        let typing = self.form.focused().is_some_and(|f| f.key == ANOTHER && !f.content().is_empty());
        Some(match action {
            SampleAction::Accept if typing => "add",
            SampleAction::Complete if typing => "complete",
            _ => word,
        })
    }

    fn act(&mut self, shared: &mut Shared, action: SampleAction) -> Next {
        let typing = self.form.focused().is_some_and(|f| f.key == ANOTHER && !f.content().is_empty());
        match action {
            SampleAction::Go(screen) => return Next::go(Goal::to(screen)),
            SampleAction::Accept if typing => return self.add(shared).into(),
            SampleAction::Accept => return self.start(shared).into(),
            SampleAction::Complete if typing && !ServerRef::is_address(self.form.content(ANOTHER)) => {
                self.completing = shared.next_ticket();
                let text = self.form.content(ANOTHER).to_owned();
                return vec![Effect::CompletePath { ticket: self.completing, text }].into();
            }
            SampleAction::Complete | SampleAction::Next => self.form.move_focus(1),
            SampleAction::Previous => self.form.move_focus(-1),
        }
        shared.touch();
        Next::default()
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        self.update(shared);
        Vec::new()
    }

    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::PathCompleted { ticket, options } if ticket == self.completing => {
                let said = serving::complete(&mut self.form, ANOTHER, &options);
                shared.say(said);
                self.check();
            }
            Msg::ServerListed { ticket, answer } => {
                if let Some(asked) = self.asking.take_if(|asking| asking.ticket == ticket) {
                    self.list(shared, &asked, answer);
                }
            }
            _ => {}
        }
        shared.touch();
        Vec::new()
    }
}
