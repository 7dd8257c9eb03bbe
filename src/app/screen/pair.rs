//! The pair screen: pairs chosen among the session's answers by a strategy, counted while the form is filled in.
//!
//! ```text
//!  ▸ strategy   ‹ stratified ›   random within strata
//!    limit      40               empty: all
//!    by    [x] tag  …
//!    quota      ‹ equal ›
//!    score      ‹ reward-1 ›
//! ─ these pairs ────────────────────────────────────────────────────────────
//!    40 of 180 pairs; left out: 12 already paired
//!    chat 14 of 80 · code 13 of 50 · math 13 of 50
//! ```
//!
//! Owns the form. Refuses to choose pairs: a job counts them on what is saved, and the same code adds them.

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::form::{Field, Form, FormKey};
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, k, on};
use crate::app::msg::Msg;
use crate::app::open::OpenSession;
use crate::app::requests::{PairPreview, PairRequest};
use crate::app::shared::Shared;
use crate::domain::{Checks, Filter, STRATEGIES, StratumKey, filter_words};

/// Milliseconds from the last key to the request for a preview.
const SETTLE_MS: u64 = 150;
/// A second enter within this many milliseconds does not add the pairs twice.
const ADD_MS: u64 = 3_000;

/// Words of the choices.
const NONE: &str = "none";
const CHECKS: &str = "checks";
const BAND: &str = "band";
const BY_NUMBER: &str = "by number";

/// What the request chooses.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum PreviewState {
    /// Not counted yet.
    #[default]
    None,
    /// Being counted.
    Pending,
    /// Counted.
    Ready(PairPreview),
    /// Nothing can be chosen; the sentence says why.
    Failed(String),
}

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct PairScreen {
    /// The form.
    pub form: Form,
    /// What it chooses.
    pub preview: PreviewState,
    ticket: u64,
    changed_ms: Option<u64>,
    added_ms: Option<u64>,
    /// Answers, pairs and sources of scores when the preview was requested.
    known: (usize, usize, Vec<String>),
}

impl PairScreen {
    /// The request of the form.
    ///
    /// # Errors
    /// When a field is invalid: its sentence.
    fn request(&self) -> Result<PairRequest, String> {
        if let Some((field, why)) = self.form.problem() {
            return Err(format!("{}: {why}", field.label));
        }
        let form = &self.form;
        let quota = match form.content("quota") {
            BY_NUMBER => {
                let words = form.content("quotas").split(';').map(str::trim).filter(|word| !word.is_empty());
                words.map(str::to_owned).collect()
            }
            word => vec![word.to_owned()],
        };
        let score = match form.content("score") {
            NONE | "" => None,
            CHECKS => Some(format!("checks:{}", form.content(CHECKS))),
            word => Some(word.to_owned()),
        };
        let against = match form.content("against") {
            BAND => form.content(BAND),
            word => word,
        };
        let filter = form.content("filter");
        Ok(PairRequest {
            strategy: form.content("strategy").to_owned(),
            by: form.marked("by:").into_iter().map(str::to_owned).collect(),
            quota,
            score,
            against: against.to_owned(),
            filter: if filter.is_empty() { None } else { Some(Filter::parse(filter).map_err(|e| e.to_string())?) },
            limit: form.content("limit").parse().ok(),
            across: form.field("across").is_some_and(Field::is_marked),
            seed: form.content("seed").parse().unwrap_or(42),
        })
    }

    /// Why no pairs can be added now, as one sentence.
    #[must_use]
    pub fn obstacle(&self, open: &OpenSession) -> Option<String> {
        if let Some(holder) = &open.read_only {
            return Some(crate::app::open::read_only_sentence(holder));
        }
        match (self.request(), &self.preview) {
            (Err(why), _) => Some(why),
            (_, PreviewState::Failed(why)) => Some(why.clone()),
            (_, PreviewState::Ready(preview)) if preview.chosen == 0 => Some(none_chosen(preview)),
            _ => None,
        }
    }

    /// Shows the fields that matter, and says what is wrong with them.
    fn check(&mut self) {
        let form = &mut self.form;
        let strategy = STRATEGIES.iter().find(|s| s.name == form.content("strategy"));
        let needs = strategy.is_some_and(|s| s.scores);
        let by_score = form.field("by:score_gap").is_some_and(Field::is_marked);
        let stratified = matches!(strategy.map(|s| s.name), Some("stratified" | "mix"));
        if let (Some(field), Some(strategy)) = (form.field_mut("strategy"), strategy) {
            strategy.help.clone_into(&mut field.about);
        }
        for (name, _) in StratumKey::ALL {
            form.show(&format!("by:{name}"), stratified);
        }
        form.show("quota", stratified);
        let by_number = stratified && form.content("quota") == BY_NUMBER;
        form.show("quotas", by_number);
        let hard = strategy.is_some_and(|s| s.name == "hard_negatives");
        form.show("against", hard);
        let band = hard && form.content("against") == BAND;
        form.show(BAND, band);
        let checks = form.content("score") == CHECKS;
        form.show(CHECKS, checks);
        let score = form.content("score");
        let problem = (score == NONE && (needs || by_score)).then(|| {
            let what = strategy.filter(|s| s.scores).map_or("score_gap", |s| s.name);
            format!("{what} compares scores: choose where they come from with ← →, or score the answers first (ctrl-t)")
        });
        form.set_problem("score", problem);
        let none_marked =
            stratified && form.marked("by:").is_empty() && strategy.is_some_and(|s| s.name == "stratified");
        let first = format!("by:{}", StratumKey::ALL[0].0);
        form.set_problem(
            &first,
            none_marked.then(|| "mark one key or more with space: strata are made of them".into()),
        );
        let problem = by_number && form.content("quotas").is_empty();
        form.set_problem(
            "quotas",
            problem.then(|| "type STRATUM=N for each, with ; between; equal shows the names below".into()),
        );
        let problem = checks.then(|| Checks::parse(form.content(CHECKS)).err().map(|e| e.to_string())).flatten();
        form.set_problem(CHECKS, problem);
        let valid = !band || crate::domain::Against::parse(form.content(BAND)).is_some();
        form.set_problem(BAND, (!valid).then(|| "type two score gaps such as 0.5..2".into()));
        let whole = |text: &str| text.is_empty() || text.parse::<u32>().is_ok();
        for key in ["limit", "seed"] {
            let wrong = !whole(form.content(key));
            form.set_problem(key, wrong.then(|| "expected a whole number".into()));
        }
        let filter = form.content("filter");
        let problem = if filter.is_empty() { None } else { Filter::parse(filter).err().map(|e| e.to_string()) };
        form.set_problem("filter", problem);
    }

    fn changed(&mut self, shared: &mut Shared) {
        self.check();
        self.changed_ms = Some(shared.clock_ms);
        shared.touch();
    }

    /// Requests a preview if the form changed since the last one and is valid.
    fn ask(&mut self, shared: &mut Shared) -> Vec<Effect> {
        if self.changed_ms.is_none() || !shared.open.as_ref().is_some_and(|open| open.loaded) {
            return Vec::new();
        }
        self.changed_ms = None;
        shared.touch();
        let Ok(request) = self.request() else {
            self.preview = PreviewState::None;
            return Vec::new();
        };
        self.preview = PreviewState::Pending;
        self.ticket = shared.next_ticket();
        vec![Effect::PreviewPairs { ticket: self.ticket, request }]
    }

    fn add(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = &shared.open else { return Vec::new() };
        let adding = self.added_ms.is_some_and(|at| shared.clock_ms < at + ADD_MS);
        match self.obstacle(open).map_or_else(|| self.request(), Err) {
            Err(why) => shared.warn(format!("cannot choose: {why}")),
            Ok(_) if !open.loaded => shared.warn("the session is still being read"),
            Ok(_) if adding => shared.warn("the pairs are being added already"),
            Ok(request) => {
                self.added_ms = Some(shared.clock_ms);
                shared.say("choosing pairs …");
                return vec![Effect::Pair(request)];
            }
        }
        Vec::new()
    }
}

/// Why a request chooses nothing.
fn none_chosen(preview: &PairPreview) -> String {
    let left = if preview.left_out.is_empty() { String::new() } else { format!(" ({})", preview.left_out) };
    if preview.of > 0 {
        return format!("none of {} possible pairs is chosen by this{left}", preview.of);
    }
    format!("there is no pair to choose{left}: sample more answers, or mark across to pair answers of different runs")
}

/// The answers, pairs and sources of scores of a session.
fn known(open: &OpenSession) -> (usize, usize, Vec<String>) {
    let session = &open.session;
    let runs = session.scoring_runs().into_iter().map(crate::domain::RunId::into_string);
    let judges = session.judges().into_iter().map(|name| format!("judge:{name}"));
    (session.scored_by(&crate::domain::RunId::new("")).0, session.pairs().len(), runs.chain(judges).collect())
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairAction {
    /// Add the pairs.
    Accept,
    /// Focus the next field.
    Next,
    /// Focus the previous field.
    Previous,
    /// Go to another screen.
    Go(&'static str),
}

#[rustfmt::skip]
const KEYS: &[Section<PairAction>] = &[Section { title: "pair", rows: &[
    on(k(Code::Enter), PairAction::Accept, "add pairs", "add the pairs that the form chooses").named("add pairs"),
    on(k(Code::Tab), PairAction::Next, "next", "next field; space marks, ← → choose").named("next field"),
    on(k(Code::Down), PairAction::Next, "", "next field"),
    on(k(Code::BackTab), PairAction::Previous, "", "previous field").named("previous field"),
    on(k(Code::Up), PairAction::Previous, "", "previous field"),
    on(Key::ctrl('t'), PairAction::Go("score"), "score", "let a trained run or a judge model score or judge").named("score"),
    on(Key::ctrl('p'), PairAction::Go("sample"), "sample", "sample more answers").named("sample"),
    on(k(Code::Esc), PairAction::Go("label"), "label", "back to labelling").named("back"),
] }];

impl Screen for PairScreen {
    type Action = PairAction;

    const NAME: &'static str = "pair";
    const KEYS: &'static [Section<PairAction>] = KEYS;

    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let strategies = STRATEGIES.iter().map(|s| s.name);
        let mut fields = vec![
            Field::choice("strategy", strategies, "how pairs are chosen; ← → go through the strategies"),
            Field::number("limit", "", "the most pairs to choose").beside("empty: all"),
            Field::choice(
                "score",
                [NONE],
                "where scores come from; length is the naive baseline that others have to beat",
            ),
            Field::text(CHECKS, "", "the checks, such as contains=please;max_words=40").named("  checks"),
            Field::choice("against", ["runner_up", "middle", BAND], "what the best answer of a prompt is paired with"),
            Field::text(BAND, "0.5..2", "the least and the greatest gap between two scores").named("  band"),
        ];
        let by = |(name, _): &(&str, StratumKey)| {
            Field::mark(&format!("by:{name}"), *name == "tag", "strata are made of the marked keys")
                .named(format!("by {name}"))
        };
        fields.extend(StratumKey::ALL.iter().map(by));
        let quotas = ["proportional", "equal", "neyman", BY_NUMBER];
        fields.push(Field::choice(
            "quota",
            quotas,
            "how many pairs of each stratum; neyman: more where raters disagree",
        ));
        fields
            .push(Field::text("quotas", "", "STRATUM=N for each, with ; between: math=10; code=5").named("  numbers"));
        fields.push(Field::mark("across", false, "pair answers of different sampling runs, models and files too"));
        let help = format!("choose only among answers that match: {}", filter_words());
        fields.push(Field::text("filter", "", &help).beside("empty: all"));
        fields.push(Field::number("seed", "42", "decides what is random"));
        let mut screen = Self { form: Form::new(fields), ..Self::default() };
        let effects = Screen::refresh(&mut screen, shared);
        (screen, effects)
    }

    fn typed(&mut self, shared: &mut Shared, key: Key) -> Option<Vec<Effect>> {
        match self.form.press(key) {
            FormKey::Ignored => return None,
            FormKey::Moved => shared.touch(),
            FormKey::Changed => self.changed(shared),
        }
        Some(Vec::new())
    }

    fn paste(&mut self, shared: &mut Shared, text: &str) -> bool {
        let taken = self.form.insert(text);
        if taken {
            self.changed(shared);
        }
        taken
    }

    fn act(&mut self, shared: &mut Shared, action: PairAction) -> Next {
        match action {
            PairAction::Go(screen) => return Next::go(Goal::to(screen)),
            PairAction::Accept => return self.add(shared).into(),
            PairAction::Next => self.form.move_focus(1),
            PairAction::Previous => self.form.move_focus(-1),
        }
        shared.touch();
        Next::default()
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        let Some(open) = shared.open.as_ref().filter(|open| open.loaded) else { return Vec::new() };
        let now = known(open);
        if now == self.known {
            return Vec::new();
        }
        let fixed = [NONE, "length", "logprob", CHECKS].map(str::to_owned);
        self.form.offer("score", fixed.into_iter().chain(now.2.iter().cloned()).collect());
        let first = self.known == Default::default();
        self.known = now;
        self.changed(shared);
        // Later changes settle first: a run that samples brings answers all the time.
        if first { self.ask(shared) } else { Vec::new() }
    }

    fn tick(&mut self, shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        let settled = self.changed_ms.is_some_and(|at| shared.clock_ms.saturating_sub(at) >= SETTLE_MS);
        if settled { self.ask(shared) } else { Vec::new() }
    }

    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        match msg {
            Msg::PairsPreviewed { ticket, answer }
                if ticket == self.ticket && self.preview == PreviewState::Pending =>
            {
                self.preview = answer.map_or_else(PreviewState::Failed, |preview| PreviewState::Ready(*preview));
            }
            Msg::PairsAdded(answer) => {
                self.added_ms = None;
                match answer {
                    Ok(text) => shared.say(format!("added {text}")),
                    Err(why) => shared.warn(format!("nothing added: {why}")),
                }
                self.changed_ms = Some(shared.clock_ms);
            }
            _ => {}
        }
        shared.touch();
        Vec::new()
    }
}
