//! The score screen: a trained run scores the session's answers, or a run or a judge model judges its pairs.
//!
//! ```text
//!  ▸ with       ‹ reward-1 ›     reward · finished
//!    [x] vote                    judge every pair too, as the rater model:reward-1
//!    tie_band                    0.1 standard deviations
//! ─ this scoring ───────────────────────────────────────────────────────────
//!    120 of 240 answers have no score by reward-1 · 60 pairs to judge
//! ```
//!
//! Owns the form. Refuses to run in the terminal's process: a worker scores, and its records arrive as everyone's do. Scoring
//! goes on while other screens are open.

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::form::{Field, Form, FormKey};
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::{Code, Key};
use crate::app::keymap::{Section, k, on};
use crate::app::msg::Msg;
use crate::app::open::{OpenSession, RunView};
use crate::app::requests::ScoreRequest;
use crate::app::serving;
use crate::app::shared::Shared;
use crate::app::words::short_model_name;
use crate::domain::{Rater, RunId, TIE_GAP, TIE_PROBABILITY, counted, model_name};
use crate::protocol::{ServerOptions, ServerRef, Task};

/// The choice of a judge model.
const JUDGE: &str = "a judge model";
/// The choice of a judge that is not listed.
const ANOTHER: &str = "another";
/// The field of its path or address.
const PATH: &str = "path";
/// A second enter within this many milliseconds does not start twice.
const START_MS: u64 = 3_000;

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct ScoreScreen {
    /// The form.
    pub form: Form,
    /// What there is to do, in one line.
    pub to_do: String,
    completing: u64,
    started_ms: Option<u64>,
}

impl ScoreScreen {
    /// What scores, in the words of the command line; none where nothing is chosen.
    fn with(&self) -> Option<String> {
        let judge = match (self.form.content("with"), self.form.content("judge")) {
            ("", _) => return None,
            (JUDGE, ANOTHER) => self.form.content(PATH),
            (JUDGE, name) => name,
            (run, _) => return Some(run.to_owned()),
        };
        (!judge.is_empty()).then(|| format!("judge:{judge}"))
    }

    /// The rater that votes.
    #[must_use]
    pub fn rater(&self) -> Option<Rater> {
        let with = self.with()?;
        let name = match with.strip_prefix("judge:") {
            Some(word) if ServerRef::is_address(word) => {
                format!("judge:{}", ServerRef::parse(word, &ServerOptions::default()).ok()?.name())
            }
            Some(word) => format!("judge:{}", model_name(word.trim_end_matches('/'))),
            None => with,
        };
        Some(Rater::model(&name))
    }

    /// Why nothing can start, as one sentence.
    #[must_use]
    pub fn obstacle(&self, shared: &Shared) -> Option<String> {
        let open = shared.open.as_ref()?;
        if let Some(holder) = &open.read_only {
            return Some(crate::app::open::read_only_sentence(holder));
        }
        if shared.scoring.is_some() {
            return Some("scoring is under way: wait for its end, or stop it (ctrl-x)".into());
        }
        if let Some((field, why)) = self.form.problem() {
            return Some(format!("{}: {why}", field.label));
        }
        if self.form.content("with").is_empty() {
            return Some("nothing can score yet: train a reward or dpo run, or choose a judge model".into());
        }
        None
    }

    fn request(&self, shared: &Shared) -> Result<ScoreRequest, String> {
        if let Some(why) = self.obstacle(shared) {
            return Err(why);
        }
        Ok(ScoreRequest {
            with: self.with().ok_or("name the judge")?,
            vote: self.votes(),
            tie_band: self.form.content("tie_band").parse().ok(),
            servers: serving::options(&self.form),
        })
    }

    fn is_judge(&self) -> bool {
        self.form.content("with") == JUDGE
    }

    /// A judge only judges; a run also where it is marked.
    fn votes(&self) -> bool {
        self.is_judge() || self.form.field("vote").is_some_and(Field::is_marked)
    }

    fn check(&mut self, shared: &Shared) {
        let judge = self.is_judge();
        let another = judge && self.form.content("judge") == ANOTHER;
        self.form.show("judge", judge);
        self.form.show(PATH, another);
        self.form.show("vote", !judge);
        let votes = self.votes();
        self.form.show("tie_band", votes);
        let usual = if judge {
            format!("empty: {TIE_PROBABILITY} from an even probability")
        } else {
            format!("empty: {TIE_GAP} standard deviations of its scores")
        };
        if let Some(field) = self.form.field_mut("tie_band") {
            field.about = usual;
        }
        let most = if judge { 0.5 } else { f64::INFINITY };
        let tie = self.form.content("tie_band");
        let valid = tie.is_empty() || tie.parse::<f64>().is_ok_and(|x| (0.0..=most).contains(&x) && x.is_finite());
        let range = if judge { "expected a number from 0 to 0.5" } else { "expected 0 or a positive number" };
        self.form.set_problem("tie_band", (votes && !valid).then(|| range.into()));
        let path = self.form.content(PATH);
        let problem = match path {
            "" => Some("type a model's folder, a .gguf file, or http://127.0.0.1:8080/v1#NAME".to_owned()),
            word if ServerRef::is_address(word) => ServerRef::parse(word, &serving::options(&self.form)).err(),
            _ => None,
        };
        let served = another && ServerRef::is_address(path);
        self.form.set_problem(PATH, problem.filter(|_| another));
        serving::update(&mut self.form, served);
        self.to_do = shared.open.as_ref().map_or_else(String::new, |open| self.count(open));
    }

    /// What there is to do, in one line.
    fn count(&self, open: &OpenSession) -> String {
        let session = &open.session;
        let mut parts = Vec::new();
        if !self.is_judge() && !self.form.content("with").is_empty() {
            let run = self.form.content("with");
            let (all, scored) = session.scored_by(&RunId::new(run));
            parts.push(format!(
                "{} of {} without a score by {run}",
                all.saturating_sub(scored),
                counted(all, "answer")
            ));
        }
        if let Some(rater) = self.rater().filter(|_| self.votes()) {
            let pairs = session.pairs();
            let left = pairs.iter().filter(|pair| session.verdict_of(&pair.id, &rater).is_none()).count();
            parts.push(format!("{left} of {} without a verdict of {rater}", counted(pairs.len(), "pair")));
        }
        parts.join(" · ")
    }

    fn offer(&mut self, shared: &Shared) {
        let Some(open) = &shared.open else { return };
        let scores = |run: &&RunView| {
            let beta = |task: &Task| matches!(task, Task::Train(train) if train.params.f64("beta") > 0.0);
            run.has_result() && (run.is_reward() || run.spec.as_ref().is_some_and(|spec| beta(&spec.task)))
        };
        let runs = open.runs.iter().rev().filter(scores).flat_map(RunView::start_points);
        let runs: Vec<String> = runs.map(RunId::into_string).chain([JUDGE.to_owned()]).collect();
        self.form.offer("with", runs);
        let cards = shared.models.iter().flatten().filter(|card| card.problem.is_none());
        let mut models: Vec<String> = vec![open.meta.model.clone()];
        models.extend(cards.map(|card| card.name.clone()).filter(|name| *name != open.meta.model));
        models.push(ANOTHER.into());
        self.form.offer("judge", models);
        let kind = open.runs.iter().find(|run| run.id.as_str() == RunId::new(self.form.content("with")).name());
        let about = kind.and_then(|run| run.spec.as_ref()).map_or_else(
            || "asked in both orders of the answers".to_owned(),
            |spec| match spec.kind() {
                "reward" => format!("reward · {}", short_model_name(&spec.models()[0].name)),
                method => format!("{method}, by its implicit reward"),
            },
        );
        if let Some(field) = self.form.field_mut("with") {
            field.about = about;
        }
    }
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreAction {
    /// Start scoring.
    Accept,
    /// End scoring.
    Stop,
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
const KEYS: &[Section<ScoreAction>] = &[Section { title: "score", rows: &[
    on(k(Code::Enter), ScoreAction::Accept, "start", "score the answers, or judge the pairs, that are not yet").named("start"),
    on(Key::ctrl('x'), ScoreAction::Stop, "stop", "end scoring; what was scored is kept").named("stop"),
    on(k(Code::Tab), ScoreAction::Complete, "next", "complete a typed path; elsewhere the next field"),
    on(k(Code::Down), ScoreAction::Next, "", "next field; space marks, ← → choose").named("next field"),
    on(k(Code::BackTab), ScoreAction::Previous, "", "previous field").named("previous field"),
    on(k(Code::Up), ScoreAction::Previous, "", "previous field"),
    on(Key::ctrl('p'), ScoreAction::Go("pair"), "pairs", "choose pairs by the scores").named("pair"),
    on(k(Code::Esc), ScoreAction::Go("label"), "label", "back to labelling; scoring goes on").named("back"),
] }];

impl Screen for ScoreScreen {
    type Action = ScoreAction;

    const NAME: &'static str = "score";
    const KEYS: &'static [Section<ScoreAction>] = KEYS;

    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let mut fields = vec![
            Field::choice(
                "with",
                [""; 0],
                "a reward run, a run with an implicit reward (dpo, orpo, cpo …), or a judge model",
            ),
            Field::choice("judge", [""; 0], "the model that compares the two answers of each pair"),
            Field::text(PATH, "", "a folder or .gguf file (tab completes), or http://127.0.0.1:8080/v1#NAME"),
            Field::mark("vote", false, "judge every pair that it has not judged, by the gap between the scores")
                .beside("its verdicts stand beside people's, under its own name"),
            Field::number("tie_band", "", "the largest difference of a tie"),
        ];
        fields.extend(serving::fields());
        let mut screen = Self { form: Form::new(fields), ..Self::default() };
        Screen::refresh(&mut screen, shared);
        (screen, Vec::new())
    }

    fn typed(&mut self, shared: &mut Shared, key: Key) -> Option<Vec<Effect>> {
        if self.form.press(key) == FormKey::Ignored {
            return None;
        }
        self.offer(shared);
        self.check(shared);
        shared.touch();
        Some(Vec::new())
    }

    fn paste(&mut self, shared: &mut Shared, text: &str) -> bool {
        let taken = self.form.insert(text);
        self.check(shared);
        taken
    }

    fn footer_word(&self, shared: &Shared, action: ScoreAction, word: &'static str) -> Option<&'static str> {
        let typing = self.form.focused().is_some_and(|field| field.key == PATH);
        match action {
            ScoreAction::Stop if shared.scoring.is_none() => None,
            ScoreAction::Accept if shared.scoring.is_some() => None,
            ScoreAction::Complete if typing => Some("complete"),
            _ => Some(word),
        }
    }

    fn act(&mut self, shared: &mut Shared, action: ScoreAction) -> Next {
        let path = self.form.focused().filter(|field| field.key == PATH).map(|field| field.content().to_owned());
        match (action, path) {
            (ScoreAction::Go(screen), _) => return Next::go(Goal::to(screen)),
            (ScoreAction::Stop, _) if shared.scoring.is_some() => {
                shared.say("stopping …");
                return vec![Effect::StopScoring].into();
            }
            (ScoreAction::Stop, _) => shared.say("nothing is being scored"),
            (ScoreAction::Accept, _) => {
                let starting = self.started_ms.is_some_and(|at| shared.clock_ms < at + START_MS);
                match self.request(shared) {
                    Err(why) => shared.warn(format!("cannot start: {why}")),
                    Ok(_) if starting => shared.warn("scoring is starting already"),
                    Ok(request) => {
                        self.started_ms = Some(shared.clock_ms);
                        shared.scored = None;
                        shared.say("starting …");
                        return vec![Effect::Score(request)].into();
                    }
                }
            }
            (ScoreAction::Complete, Some(text)) if !text.is_empty() && !ServerRef::is_address(&text) => {
                self.completing = shared.next_ticket();
                return vec![Effect::CompletePath { ticket: self.completing, text }].into();
            }
            (ScoreAction::Complete | ScoreAction::Next, _) => self.form.move_focus(1),
            (ScoreAction::Previous, _) => self.form.move_focus(-1),
        }
        shared.touch();
        Next::default()
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        self.offer(shared);
        self.check(shared);
        Vec::new()
    }

    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        if let Msg::PathCompleted { ticket, options } = msg
            && ticket == self.completing
        {
            let said = serving::complete(&mut self.form, PATH, &options);
            shared.say(said);
            self.check(shared);
            shared.touch();
        }
        Vec::new()
    }
}
