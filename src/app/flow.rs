//! Going from screen to screen: opening a session, making one, sampling, importing, leaving.

use super::effect::Effect;
use super::form::{Form, FormFor};
use super::home::Home;
use super::launch;
use super::model::{Goal, Model};
use super::outbox::Saved;
use super::palette::{Entry, Palette, Pick};
use super::popup::{Ask, Confirm, Input, Popup, Then};
use super::screen::Screen;
use super::{EditBuffer, replay, watch};
use crate::domain::counted;
use crate::protocol::ModelCard;

/// The first effects of a workbench that opens on the list of sessions, or on a session and a screen of it.
pub fn begin(model: &mut Model, session: Option<(String, Goal)>) -> Vec<Effect> {
    let mut effects = vec![Effect::ListSessions, Effect::AskDevice, Effect::ListModels];
    if let Some((name, goal)) = session {
        effects.insert(0, Effect::OpenSession { name: name.clone() });
        model.goal = Some((name, goal));
    }
    model.touch();
    effects
}

/// Goes to a screen of a session, opening the session first where needed.
pub fn go(model: &mut Model, session: Option<String>, goal: Goal) -> Vec<Effect> {
    let open = model.open.as_ref().map(|open| open.name.clone());
    match (session, open) {
        (Some(name), Some(open)) if name == open => arrive(model, goal),
        (None, Some(_)) => arrive(model, goal),
        (Some(_), Some(_)) if unsaved(model).is_some() => {
            model.warn("this session has verdicts that are not saved yet: wait for ✓ saved (ctrl-s tries now), then open the other one");
            Vec::new()
        }
        (Some(name), _) => {
            model.open = None;
            model.say(format!("opening {name} …"));
            model.goal = Some((name.clone(), goal));
            vec![Effect::OpenSession { name }]
        }
        (None, None) => {
            model.warn("no session is selected: n makes one");
            Vec::new()
        }
    }
}

/// Shows a screen of the open session.
pub fn arrive(model: &mut Model, goal: Goal) -> Vec<Effect> {
    model.notice = None;
    let shows_session = matches!(model.screen, Screen::Label(_) | Screen::Launch(_) | Screen::Watch(_));
    match goal {
        Goal::Home => return home(model),
        Goal::Label => label(model),
        Goal::Launch => return launch::show(model),
        Goal::Watch(run) => return watch::show(model, run),
        Goal::Replay(speed) => return replay::show(model, speed),
        Goal::Sample => {
            if !shows_session {
                label(model);
            }
            ask_sample(model);
        }
        Goal::Import => {
            if !shows_session {
                label(model);
            }
            if writable(model) {
                input(
                    model,
                    "import a file",
                    "prompts: one a line, or JSONL · pairs, texts, ratings: JSONL",
                    Ask::Import,
                    "",
                );
            }
        }
    }
    Vec::new()
}

/// Shows the label screen at the next pair.
pub fn label(model: &mut Model) {
    model.screen = Screen::Label(Box::default());
    super::label::refresh(model);
}

/// Shows the list of sessions; the open one stays open and selected.
pub fn home(model: &mut Model) -> Vec<Effect> {
    let name = model.open.as_ref().map(|open| open.name.clone());
    model.screen = Screen::Home(Home { selected: name });
    vec![Effect::ListSessions]
}

/// Leaves the program, asking only when something is not saved.
pub fn quit(model: &mut Model) -> Vec<Effect> {
    match unsaved(model) {
        None => vec![Effect::Quit],
        Some(why) => {
            model.popups.push(Popup::Confirm(Confirm { question: format!("{why} Leave anyway?"), then: Then::Quit }));
            Vec::new()
        }
    }
}

/// What is not saved, as one sentence.
fn unsaved(model: &Model) -> Option<String> {
    match model.open.as_ref()?.saved() {
        Saved::All => None,
        Saved::Saving(n) => Some(format!("{n} records are still on their way to the disk.")),
        Saved::Delayed { records, error, .. } => Some(format!("{} not saved: {error}.", counted(records, "record"))),
        Saved::Failed(error) => Some(format!("Some verdicts are not saved: {error}.")),
    }
}

/// Whether the open session can be written; says why not.
pub fn writable(model: &mut Model) -> bool {
    match model.open.as_ref().map(|open| open.read_only.clone()) {
        Some(None) => true,
        Some(Some(holder)) => {
            model.warn(format!("read-only: {holder} holds this session; close it there to write here"));
            false
        }
        None => {
            model.warn("no session is open");
            false
        }
    }
}

/// Asks for a line.
pub fn input(model: &mut Model, title: &str, hint: &str, ask: Ask, text: &str) {
    model.popups.push(Popup::Input(Input {
        title: title.into(),
        hint: hint.into(),
        buffer: EditBuffer::line(text),
        ask,
        error: None,
    }));
}

fn ask_sample(model: &mut Model) {
    if !writable(model) {
        return;
    }
    let Some(open) = &model.open else { return };
    let prompts = open.session.prompts().len();
    if prompts == 0 {
        model.warn("no prompts to sample for: i imports a file of prompts");
        return;
    }
    if open.runs.iter().any(|run| run.is_sampling() && run.status().is_live()) {
        model.warn("the sampler is already at work here: w shows it");
        return;
    }
    let about = format!("{} · {}", counted(prompts, "prompt"), open.meta.model);
    model.popups.push(Popup::Form(Form::sample(about)));
}

/// Takes a form.
pub fn submit(model: &mut Model, form: Form) -> Vec<Effect> {
    let mut form = form;
    if !form.check() {
        form.selected = form.fields.iter().position(|f| f.error.is_some()).unwrap_or(0);
        model.popups.push(Popup::Form(form));
        return Vec::new();
    }
    match form.what {
        FormFor::Sample => match form.sample_ask() {
            Some(ask) => {
                model.say("starting the sampler …");
                vec![Effect::Sample(ask)]
            }
            None => Vec::new(),
        },
    }
}

/// Takes what was typed.
pub fn typed(model: &mut Model, input: Input) -> Vec<Effect> {
    let text = input.buffer.text().trim().to_owned();
    let again = |model: &mut Model, input: Input, error: String| {
        model.popups.push(Popup::Input(Input { error: Some(error), ..input }));
        Vec::new()
    };
    match input.ask.clone() {
        Ask::NewName => {
            if let Some(problem) = name_problem(model, &text) {
                return again(model, input, problem);
            }
            choose_model(model, text);
            Vec::new()
        }
        Ask::NewModel { .. } | Ask::Import if text.is_empty() => {
            again(model, input, "type a path, or esc to leave it".into())
        }
        Ask::NewModel { name } => {
            ask_prompts(model, name, text);
            Vec::new()
        }
        Ask::NewPrompts { name, model: of } => {
            model.say(format!("making {name} …"));
            vec![Effect::CreateSession { name, model: of, prompts: (!text.is_empty()).then_some(text) }]
        }
        Ask::Import => {
            model.say(format!("importing {text} …"));
            vec![Effect::Import { path: text }]
        }
        Ask::Note { pair } => super::label::take_note(model, pair, text),
        Ask::Correct { pair, completion } => {
            super::label::take_correction(model, pair, completion, input.buffer.text().to_owned())
        }
    }
}

/// Why a session cannot be called that.
fn name_problem(model: &Model, name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("type a name".into());
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Some(format!("`{c}` cannot be in a name: letters, digits, - _ . can"));
    }
    if name.starts_with('.') {
        return Some("a name cannot begin with a dot".into());
    }
    let taken = model.sessions.iter().flatten().any(|card| card.name == name);
    taken.then(|| format!("there is already a session {name}"))
}

fn choose_model(model: &mut Model, name: String) {
    let mut entries: Vec<Entry> = model
        .models
        .iter()
        .flatten()
        .filter(|card| card.problem.is_none())
        .map(|card| Entry {
            title: card.name.clone(),
            detail: model_line(card),
            pick: Pick::Model { name: name.clone(), model: Some(card.name.clone()) },
        })
        .collect();
    entries.push(Entry {
        title: "another: type a folder or a .gguf file".into(),
        detail: String::new(),
        pick: Pick::Model { name, model: None },
    });
    model.popups.push(Popup::Palette(Palette::new("which model", entries)));
}

/// What to know about a model in a few words.
#[must_use]
pub fn model_line(card: &ModelCard) -> String {
    let size = match card.parameters {
        0 => String::new(),
        n if n >= 1_000_000_000 => format!("{:.1} B  ", n as f64 / 1e9),
        n => format!("{:.0} M  ", n as f64 / 1e6),
    };
    format!("{size}{}  {}", card.family, card.format)
}

/// Asks for the file of prompts of a new session.
pub fn ask_prompts(model: &mut Model, name: String, of: String) {
    input(
        model,
        "a file of prompts",
        "one a line, or JSONL; leave it empty to import later",
        Ask::NewPrompts { name, model: of },
        "",
    );
}

/// Takes an entry of a list.
pub fn pick(model: &mut Model, pick: Pick) -> Vec<Effect> {
    match pick {
        Pick::Act(action) => super::act::act(model, action),
        Pick::Session(name) => go(model, Some(name), Goal::Label),
        Pick::Model { name, model: Some(of) } => {
            ask_prompts(model, name, of);
            Vec::new()
        }
        Pick::Model { name, model: None } => {
            input(
                model,
                "the model's folder",
                "a Hugging Face folder, a .gguf file, or a name",
                Ask::NewModel { name },
                "",
            );
            Vec::new()
        }
        Pick::Pair(pair) => {
            super::label::show_pair(model, &pair);
            Vec::new()
        }
    }
}
