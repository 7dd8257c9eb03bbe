//! `update`: every message finds its handler here.

use super::effect::Effect;
use super::key::{Code, Key};
use super::keymap::{Action, Context};
use super::model::{Goal, Model, Tone};
use super::msg::Msg;
use super::open::Open;
use super::outbox::Saved;
use super::palette::Palette;
use super::popup::{Ask, Confirm, Help, Popup, Then};
use super::screen::Screen;
use super::{flow, home, label, launch, replay, watch};

/// How long a notice stays.
const NOTICE_MS: u64 = 6_000;
/// The longest paste that is taken, in bytes.
const MAX_PASTE: usize = 1 << 20;

/// Takes a message in and says what the shell is to do about it.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Tick { now_ms, clock_ms } => return tick(model, now_ms, clock_ms),
        Msg::Key(key) => {
            model.touch();
            return press(model, key);
        }
        Msg::Paste(text) => paste(model, &text),
        Msg::Resize(w, h) => {
            model.size = (w, h);
            for popup in &mut model.popups {
                if let Popup::Masks(sheet) = popup {
                    sheet.lay_out((w, h));
                }
            }
            model.touch();
            return refresh(model);
        }
        Msg::SessionsListed(sessions) => {
            model.sessions = Some(sessions);
            model.touch();
        }
        Msg::ModelsListed(models) => {
            model.models = Some(models);
            model.touch();
        }
        Msg::DeviceKnown(device) => {
            model.device = device;
            model.touch();
        }
        Msg::SessionOpened(opened) => {
            let goal = match model.goal.take() {
                Some((name, goal)) if name == opened.name => goal,
                other => {
                    model.goal = other;
                    Goal::Label
                }
            };
            let mut open = Open::new(opened);
            open.order = model.order;
            model.open = Some(open);
            model.touch();
            // The forms need what is in the logs; until they have come, the label screen says that it is reading.
            model.goal = model.open.as_ref().map(|open| (open.name.clone(), goal));
            flow::label(model);
        }
        Msg::SessionLoaded => {
            if let Some(open) = &mut model.open {
                open.loaded = true;
            }
            model.touch();
            let mut effects = refresh(model);
            if let Some((_, goal)) = model.goal.take() {
                effects.extend(flow::arrive(model, goal));
            }
            return effects;
        }
        Msg::Records(records) => {
            if let Some(open) = &mut model.open {
                open.fold(records);
            }
            model.touch();
            return refresh(model);
        }
        Msg::Integrity(found) => {
            if let Some(open) = &mut model.open {
                open.integrity = found;
            }
            model.touch();
        }
        Msg::RunFound(spec) => {
            if let Some(open) = &mut model.open {
                let id = spec.id.clone();
                open.run_mut(&id).spec = Some(*spec);
            }
            model.touch();
            return refresh(model);
        }
        Msg::RunRecords { run, records } => {
            if let Some(open) = &mut model.open {
                open.fold_run(&run, records);
            }
            model.touch();
            return refresh(model);
        }
        Msg::RunAlive { run, alive } => {
            if let Some(open) = &mut model.open {
                open.run_mut(&run).alive = Some(alive);
            }
            model.touch();
            return refresh(model);
        }
        Msg::WorkerLog { run, lines } => {
            watch::worker_log(model, &run, lines);
            model.touch();
        }
        Msg::Acknowledged { ticket, seq } => {
            let now = model.now_ms;
            model.touch();
            return model.open.as_mut().map_or_else(Vec::new, |open| open.acknowledge(ticket, seq, now));
        }
        Msg::SaveDelayed { error, in_ms } => {
            let again_ms = model.clock_ms + in_ms;
            if let Some(open) = &mut model.open {
                open.outbox.delay(error, again_ms);
            }
            model.touch();
        }
        Msg::AppendFailed { ticket, error } => {
            if let Some(open) = &mut model.open {
                open.outbox.fail(ticket, error);
            }
            model.touch();
        }
        Msg::EstimateReady { ticket, answer } => {
            return launch::estimate_ready(model, ticket, answer);
        }
        Msg::MasksReady { ticket, answer } => {
            let size = model.size;
            let sheets = model.popups.iter_mut().filter_map(|popup| match popup {
                Popup::Masks(sheet) if sheet.ticket == ticket => Some(sheet),
                _ => None,
            });
            sheets.for_each(|sheet| sheet.fill(&answer, size));
            model.touch();
        }
        Msg::Launched { run } => {
            let sampling = model.open.as_mut().is_some_and(|open| open.run_mut(&run).is_sampling());
            if sampling {
                model.say(format!("{run} is at work in the background: pairs appear as they are finished"));
            } else {
                return flow::arrive(model, Goal::Watch(Some(run)));
            }
        }
        Msg::Created { name } => {
            let mut effects = flow::go(model, Some(name), Goal::Label);
            effects.push(Effect::ListSessions);
            return effects;
        }
        Msg::Imported(text) | Msg::Note(text) => model.say(text),
        Msg::Failed(sentence) => {
            // A session that did not open leaves nothing to wait for.
            if model.open.is_none() {
                model.goal = None;
                if !matches!(model.screen, Screen::Home(_)) {
                    flow::home(model);
                }
            }
            model.popups.push(Popup::Message { title: "this did not work".into(), body: sentence });
            model.touch();
        }
    }
    Vec::new()
}

/// Lets the screen look at what has changed below it.
fn refresh(model: &mut Model) -> Vec<Effect> {
    match model.screen {
        Screen::Home(_) => Vec::new(),
        Screen::Label(_) => {
            label::refresh(model);
            Vec::new()
        }
        Screen::Launch(_) => launch::refresh(model),
        Screen::Watch(_) => watch::refresh(model),
        Screen::Replay(_) => replay::refresh(model),
    }
}

fn tick(model: &mut Model, now_ms: u64, clock_ms: u64) -> Vec<Effect> {
    let (before, clock_before) = (model.now_ms, model.clock_ms);
    model.now_ms = now_ms;
    model.clock_ms = clock_ms;
    if model.notice.as_ref().is_some_and(|notice| clock_ms >= notice.at_ms + NOTICE_MS) {
        model.notice = None;
        model.touch();
    }
    // The header counts the seconds to the next try.
    let again = model.open.as_ref().and_then(|open| open.outbox.again_ms());
    let left = |clock: u64| again.map(|at| at.saturating_sub(clock).div_ceil(1000));
    if left(clock_before) != left(clock_ms) {
        model.touch();
    }
    match model.screen {
        // "3 min ago" changes once a minute.
        Screen::Home(_) => {
            if before / 60_000 != now_ms / 60_000 {
                model.touch();
            }
            Vec::new()
        }
        Screen::Label(_) => Vec::new(),
        Screen::Launch(_) => launch::tick(model),
        Screen::Watch(_) => watch::tick(model),
        Screen::Replay(_) => replay::tick(model),
    }
}

fn paste(model: &mut Model, text: &str) {
    let end = text.len().min(MAX_PASTE);
    let text = &text[..text.floor_char_boundary(end)];
    match model.popups.last_mut() {
        Some(Popup::Input(input)) => input.buffer.insert(text),
        Some(Popup::Palette(palette)) => palette.query.insert(text),
        Some(Popup::Form(form)) => {
            if let Some(field) = form.fields.get_mut(form.selected) {
                field.buffer.insert(text);
            }
        }
        // Pasted text is never taken for keys: a paste into the label screen would judge pairs.
        _ => return model.warn("pasted text is taken only where something is typed"),
    }
    model.touch();
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    if model.notice.as_ref().is_some_and(|notice| notice.tone == Tone::Info) {
        model.notice = None;
    }
    if let Some(popup) = model.popups.pop() {
        return press_popup(model, popup, key);
    }
    let taken = match model.screen {
        Screen::Launch(_) => launch::press(model, key),
        Screen::Watch(_) => watch::press(model, key),
        Screen::Replay(_) => replay::press(model, key),
        Screen::Home(_) | Screen::Label(_) => None,
    };
    if let Some(effects) = taken {
        return effects;
    }
    match model.lookup(key) {
        Some(action) => act(model, action),
        None => Vec::new(),
    }
}

/// Whether leaving is the screen's own affair: where curves are looked at, it first takes back a closer look.
fn looks_closer(model: &Model, action: Action) -> bool {
    action == Action::Back && matches!(model.screen, Screen::Watch(_) | Screen::Replay(_))
}

/// Does what an action asks for on this screen.
pub fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::Help => {
            let contexts = vec![model.screen.context(), Context::Anywhere];
            model.popups.push(Popup::Help(Help { contexts, scroll: 0 }));
        }
        Action::Palette => {
            let names: Vec<String> = model.sessions.iter().flatten().map(|card| card.name.clone()).collect();
            let palette = Palette::commands(&[model.screen.context(), Context::Anywhere], names.into_iter());
            model.popups.push(Popup::Palette(palette));
        }
        Action::Quit => return flow::quit(model),
        Action::Redraw => return vec![Effect::Redraw],
        Action::Suspend => return vec![Effect::Suspend],
        Action::SaveAgain => match &mut model.open {
            Some(open) if open.saved() == Saved::All => model.say("everything is saved"),
            Some(open) => {
                let mut effects = open.outbox.retry();
                effects.push(Effect::SaveNow);
                return effects;
            }
            None => model.say("no session is open"),
        },
        Action::Back
        | Action::GoLabel
        | Action::GoLaunch
        | Action::GoWatch
        | Action::GoReplay
        | Action::Sample
        | Action::Import
            if !matches!(model.screen, Screen::Home(_)) && !looks_closer(model, action) =>
        {
            return travel(model, action);
        }
        _ => {
            return match model.screen {
                Screen::Home(_) => home::act(model, action),
                Screen::Label(_) => label::act(model, action),
                Screen::Launch(_) => launch::act(model, action),
                Screen::Watch(_) => watch::act(model, action),
                Screen::Replay(_) => replay::act(model, action),
            };
        }
    }
    Vec::new()
}

/// Handles the common ways between a session's screens.
pub fn travel(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::GoLabel => flow::go(model, None, Goal::Label),
        Action::GoLaunch => flow::go(model, None, Goal::Launch),
        Action::GoWatch => flow::go(model, None, Goal::Watch(None)),
        Action::GoReplay => flow::go(model, None, Goal::Replay(None)),
        Action::Sample => flow::go(model, None, Goal::Sample),
        Action::Import => flow::go(model, None, Goal::Import),
        Action::Back => match model.screen {
            Screen::Home(_) => Vec::new(),
            Screen::Label(_) => flow::home(model),
            _ => flow::go(model, None, Goal::Label),
        },
        _ => Vec::new(),
    }
}

/// The topmost popup was taken off the stack; it goes back unless the key ended it.
fn press_popup(model: &mut Model, mut popup: Popup, key: Key) -> Vec<Effect> {
    let action = super::keymap::lookup(&[popup.context()], key);
    if action == Some(Action::Cancel) {
        // A sentence of somebody's own is not thrown away by one key.
        if matches!(&popup, Popup::Input(input) if input.is_worth_asking()) {
            model.popups.push(popup);
            let question = "Discard what you typed?".into();
            model.popups.push(Popup::Confirm(Confirm { question, then: Then::Discard }));
        }
        return Vec::new();
    }
    match &mut popup {
        Popup::Help(help) => match action {
            Some(Action::Down) => help.scroll += 1,
            Some(Action::Up) => help.scroll = help.scroll.saturating_sub(1),
            _ => {}
        },
        Popup::Masks(sheet) => {
            let page = super::masks::room(model.size).1.saturating_sub(1) as isize;
            match action {
                Some(Action::Down) => sheet.scroll_by(1, model.size),
                Some(Action::Up) => sheet.scroll_by(-1, model.size),
                Some(Action::PageDown) => sheet.scroll_by(page, model.size),
                Some(Action::PageUp) => sheet.scroll_by(-page, model.size),
                _ => {}
            }
        }
        Popup::Palette(palette) => {
            let found = palette.matches().len();
            match action {
                Some(Action::Accept) => {
                    if let Some(pick) = palette.current().map(|entry| entry.pick.clone()) {
                        return flow::pick(model, pick);
                    }
                }
                Some(Action::Up) => palette.selected = palette.selected.saturating_sub(1),
                Some(Action::Down) => palette.selected = (palette.selected + 1).min(found.saturating_sub(1)),
                _ => {
                    if palette.query.press(key) {
                        palette.selected = 0;
                    }
                }
            }
        }
        Popup::Input(input) => {
            let newline = input.buffer.is_multiline() && key.code == Code::Enter;
            if action == Some(Action::Accept) && !newline {
                return match popup {
                    Popup::Input(input) => flow::typed(model, input),
                    _ => Vec::new(),
                };
            }
            if action == Some(Action::Withdraw)
                && let Ask::Correct { pair, completion } = &input.ask
            {
                return label::withdraw(model, pair.clone(), completion.clone());
            }
            if input.buffer.press(key) {
                input.error = None;
            }
        }
        Popup::Form(form) => match action {
            Some(Action::Accept) => {
                return match popup {
                    Popup::Form(form) => flow::submit(model, form),
                    _ => Vec::new(),
                };
            }
            Some(Action::Up) => form.selected = form.selected.saturating_sub(1),
            Some(Action::Down) => form.selected = (form.selected + 1).min(form.fields.len().saturating_sub(1)),
            _ => {
                if let Some(field) = form.fields.get_mut(form.selected)
                    && field.buffer.press(key)
                {
                    field.error = field.row.parse(field.buffer.text()).err().map(|e| e.to_string());
                }
            }
        },
        Popup::Confirm(confirm) => {
            if action == Some(Action::Accept) {
                return match confirm.then.clone() {
                    Then::Quit => vec![Effect::Quit],
                    Then::Discard => {
                        model.popups.pop();
                        Vec::new()
                    }
                    Then::Effects(effects) => effects,
                };
            }
        }
        Popup::Message { .. } => {}
    }
    model.popups.push(popup);
    Vec::new()
}
