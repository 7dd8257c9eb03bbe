//! `update`: routes every message to its handler.

use super::anywhere::{GLOBAL_KEYS, GlobalAction};
use super::bindings::EVERYWHERE;
use super::effect::Effect;
use super::flow;
use super::goal::{Goal, Next, Show};
use super::key::Key;
use super::model::Model;
use super::msg::Msg;
use super::open::OpenSession;
use super::outbox::SaveState;
use super::palette::{Palette, Pick};
use super::popup::{Confirm, Help, OnYes, Popup, PopupAnswer, Pressed};
use super::screen::ROUTES;
use super::shared::Tone;
use super::travel;
use crate::domain::RunState;

/// How long a notice stays.
const NOTICE_MS: u64 = 6_000;
/// The longest accepted paste, in bytes.
const MAX_PASTE: usize = 1 << 20;

/// Handles a message; returns the requests to the shell.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    let mut effects = handle(model, msg);
    let building = model.open.as_ref().is_some_and(OpenSession::is_building);
    if building && !effects.contains(&Effect::Continue) {
        effects.push(Effect::Continue);
    }
    effects
}

fn handle(model: &mut Model, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Tick { now_ms, clock_ms } => return tick(model, now_ms, clock_ms),
        Msg::Key(key) => {
            model.touch();
            let repeats = if model.reports_repeats && model.wants_repeats() {
                model.held.reset();
                false
            } else {
                let clock_ms = model.clock_ms;
                model.held.press(key, clock_ms)
            };
            return if repeats && is_decision(model, key) {
                ignore_repeat(model, key, true)
            } else {
                press(model, key)
            };
        }
        Msg::KeyRepeat(key) => {
            model.touch();
            return if is_decision(model, key) { ignore_repeat(model, key, false) } else { press(model, key) };
        }
        Msg::Paste(text) => {
            paste(model, &text);
            return search(model);
        }
        Msg::Continue => {
            let mut effects = search(model);
            effects.extend(sort(model));
            return effects;
        }
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
            return refresh(model);
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
                    Goal::to("label")
                }
            };
            let mut open = OpenSession::new(opened);
            open.order = model.order;
            open.rubric = model.rubric.clone();
            open.set_filter(model.filter.clone());
            model.open = Some(open);
            (model.scoring, model.scored) = (None, None);
            model.touch();
            // The other screens need the logs; until they are read, the label screen says so.
            model.goal = model.open.as_ref().map(|open| (open.name.clone(), goal));
            return travel::show(model, Goal::to("label"));
        }
        Msg::SessionLoaded => {
            if let Some(open) = &mut model.open {
                open.finish_loading();
            }
            model.touch();
            let mut effects = refresh(model);
            if let Some((_, goal)) = model.goal.take() {
                effects.extend(travel::arrive(model, goal));
            }
            return effects;
        }
        Msg::LogRead(log) => {
            let mut effects = model.open.as_mut().map(|open| open.take_log(*log)).unwrap_or_default();
            model.touch();
            effects.extend(refresh(model));
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
        Msg::RunIntegrity { run, integrity } => {
            if let Some(open) = &mut model.open {
                open.run_mut(&run).integrity = integrity;
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
                open.fold_run(&run, &records);
            }
            model.touch();
            return refresh(model);
        }
        Msg::RunReadAgain(run) => {
            if let Some(open) = &mut model.open {
                let run = open.run_mut(&run);
                (run.state, run.records) = (RunState::default(), 0);
            }
        }
        Msg::RunAlive { run, alive } => {
            if let Some(open) = &mut model.open {
                open.run_mut(&run).alive = Some(alive);
                if !alive {
                    open.growing.forget(&run);
                }
            }
            model.touch();
            return refresh(model);
        }
        Msg::RunSuspended { run, suspended } => {
            if let Some(open) = &mut model.open {
                open.run_mut(&run).suspended = suspended;
            }
            model.touch();
            return refresh(model);
        }
        Msg::LoopAlive { name, alive } => {
            if let Some(open) = &mut model.open {
                open.live_loops.insert(name, alive);
            }
            model.touch();
            return refresh(model);
        }
        Msg::RunGrowing { run, growing } => {
            if let Some(open) = &mut model.open {
                open.growing.set(run, growing);
            }
            model.touch();
            return refresh(model);
        }
        Msg::Acknowledged { ticket, seq } => {
            model.touch();
            return model.open.as_mut().map_or_else(Vec::new, |open| open.acknowledge(ticket, seq));
        }
        Msg::Writable => {
            if let Some(open) = &mut model.open {
                open.read_only = None;
                model.say("the session is free now: what you do here is saved");
            }
        }
        Msg::SaveDelayed { error, in_ms } => {
            let retry_ms = model.clock_ms + in_ms;
            if let Some(open) = &mut model.open {
                open.outbox.delay(error, retry_ms);
            }
            model.touch();
        }
        Msg::AppendFailed { ticket, error } => {
            if let Some(open) = &mut model.open {
                open.outbox.fail(ticket, error);
            }
            model.touch();
        }
        Msg::ScoreProgressed(progress) => {
            model.scoring = Some(progress);
            model.touch();
        }
        Msg::ScoreEnded(answer) => {
            model.scoring = None;
            match &answer {
                Ok(text) => model.say(text.clone()),
                Err(why) => model.warn(why.clone()),
            }
            model.scored = Some(answer);
        }
        Msg::WorkerLog { .. }
        | Msg::EstimateReady { .. }
        | Msg::AgreementReady { .. }
        | Msg::TimelineRead { .. }
        | Msg::PairsPreviewed { .. }
        | Msg::PairsAdded(_)
        | Msg::PathCompleted { .. }
        | Msg::ServerListed { .. }
        | Msg::EvalReportReady { .. }
        | Msg::SuitesFound { .. }
        | Msg::LoopPlanned { .. }
        | Msg::EvaluationPlanned { .. } => {
            return model.screen.any_mut().on_reply(&mut model.shared, msg);
        }
        Msg::MasksReady { ticket, answer } => {
            let size = model.size;
            let sheets = model.popups.iter_mut().filter_map(|popup| match popup {
                Popup::Masks(sheet) if sheet.ticket == ticket => Some(sheet),
                _ => None,
            });
            sheets.for_each(|sheet| sheet.set_answer(&answer, size));
            model.touch();
        }
        Msg::Launched { run } => {
            let sampling = model.open.as_mut().is_some_and(|open| open.run_mut(&run).is_sampling());
            if sampling {
                // The form has done its work: the pairs appear where they are labelled.
                let to_label = model.screen.any().name() == "sample";
                let effects = if to_label { travel::arrive(model, Goal::to("label")) } else { Vec::new() };
                model.say(format!("{run} is sampling in the background: pairs appear as they are ready"));
                return effects;
            }
            let evaluates = model.open.as_mut().is_some_and(|open| open.run_mut(&run).is_evaluation());
            let screen = if evaluates { "evaluate" } else { "watch" };
            return travel::arrive(model, Goal::with(screen, Show::Run(run)));
        }
        Msg::Created { name } => {
            let mut effects = travel::go(model, Some(name), Goal::to("label"));
            effects.push(Effect::ListSessions);
            return effects;
        }
        Msg::NotCreated(unmade) => {
            model.notice = None;
            flow::not_created(model, unmade);
        }
        Msg::Imported(text) | Msg::Note(text) => model.say(text),
        Msg::Failed(sentence) => {
            // A session that failed to open leaves no destination.
            if model.open.is_none() {
                model.goal = None;
                if model.screen.any().name() != "home" {
                    travel::show(model, Goal::to("home"));
                }
            }
            // What was under way is not.
            model.notice = None;
            model.popups.push(Popup::Message { title: "Error".into(), body: sentence });
            model.touch();
        }
    }
    Vec::new()
}

/// Lets the screen update itself after a change of the shared state.
fn refresh(model: &mut Model) -> Vec<Effect> {
    model.screen.any_mut().refresh(&mut model.shared)
}

fn tick(model: &mut Model, now_ms: u64, clock_ms: u64) -> Vec<Effect> {
    let (before, clock_before) = (model.now_ms, model.clock_ms);
    model.now_ms = now_ms;
    model.clock_ms = clock_ms;
    if let Some(open) = &mut model.open {
        open.set_now(now_ms);
    }
    if model.notice.as_ref().is_some_and(|notice| clock_ms >= notice.at_ms + NOTICE_MS) {
        model.notice = None;
        model.touch();
    }
    // The header counts down to the next retry.
    let again = model.open.as_ref().and_then(|open| open.outbox.retry_ms());
    let left = |clock: u64| again.map(|at| at.saturating_sub(clock).div_ceil(1000));
    if left(clock_before) != left(clock_ms) {
        model.touch();
    }
    let mut effects = model.screen.any_mut().tick(&mut model.shared, before);
    // Pairs that arrived since the search ended.
    let open = model.open.as_ref();
    if model.popups.last().is_some_and(|popup| matches!(popup, Popup::Find(f) if open.is_some_and(|o| f.is_behind(o))))
    {
        effects.extend(search(model));
    }
    effects
}

/// Looks at the next pairs for a queue that is being built.
fn sort(model: &mut Model) -> Vec<Effect> {
    let Some(open) = &mut model.open else { return Vec::new() };
    let (waits, there) = (open.progress().is_some(), open.go_on());
    if waits || there {
        model.touch();
    }
    if there { refresh(model) } else { Vec::new() }
}

/// Searches one slice for the topmost popup, if it is a search.
fn search(model: &mut Model) -> Vec<Effect> {
    let shared = &mut model.shared;
    let (Some(open), Some(Popup::Find(find))) = (&shared.open, shared.popups.last_mut()) else { return Vec::new() };
    let more = find.advance(open);
    shared.touch();
    if more { vec![Effect::Continue] } else { Vec::new() }
}

fn paste(model: &mut Model, text: &str) {
    let end = text.len().min(MAX_PASTE);
    let text = &text[..text.floor_char_boundary(end)];
    // Pasted text is never handled as keys: a paste into the label screen would label pairs.
    let taken = match model.popups.last_mut() {
        Some(popup) => popup.paste(text),
        None => model.screen.any_mut().paste(&mut model.shared, text),
    };
    if taken {
        model.touch();
    } else {
        model.warn("paste works only where text is typed");
    }
}

/// Whether a key decides on what the screen shows.
fn is_decision(model: &Model, key: Key) -> bool {
    model.popups.is_empty() && model.screen.any().decides(&model.shared, key)
}

/// A held key does not judge pair after pair. A pattern is only known once the first repeat was taken for a press.
fn ignore_repeat(model: &mut Model, key: Key, guessed: bool) -> Vec<Effect> {
    let mut text = format!("{key} is held down: its repeats are ignored until a pause or another key");
    if guessed {
        let undo = model.keys.key("label", "undo");
        text.push_str(&format!("; {undo} undoes the last verdict"));
    }
    model.warn(text);
    Vec::new()
}

fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    if model.notice.as_ref().is_some_and(|notice| notice.tone == Tone::Info) {
        model.notice = None;
    }
    // These two help whatever lies on the screen: no popup has them.
    let global = model.keys.section(EVERYWHERE, &GLOBAL_KEYS, &GLOBAL_KEYS);
    let over_popups = |action: GlobalAction| matches!(action, GlobalAction::Redraw | GlobalAction::Suspend);
    if !model.popups.is_empty()
        && let Some(row) = global.iter().find(|row| row.key == key && key.ctrl && over_popups(row.action))
    {
        return anywhere(model, row.action);
    }
    if let Some(popup) = model.popups.pop() {
        return match popup.press(key, model.size) {
            Pressed::Stay(popup) => {
                model.popups.push(popup);
                search(model)
            }
            Pressed::Ignored(popup) => {
                let keys: Vec<String> = popup.footer().iter().map(|(key, word)| format!("{key} {word}")).collect();
                model.say(format!("{key} does nothing here: {}", keys.join(", ")));
                model.popups.push(popup);
                Vec::new()
            }
            Pressed::Find(find) => {
                if let Some(found) = model.open.as_ref().and_then(|open| find.chosen(open)) {
                    on_answer(model, PopupAnswer::Found(found))
                } else {
                    model.popups.push(Popup::Find(find));
                    Vec::new()
                }
            }
            Pressed::Closed => Vec::new(),
            Pressed::Discard(input) => {
                model.popups.push(Popup::Input(input));
                let question = "Discard what you typed?".into();
                model.popups.push(Popup::Confirm(Confirm { question, on_yes: OnYes::Discard }));
                Vec::new()
            }
            Pressed::Answered(answer) => on_answer(model, answer),
        };
    }
    if let Some(next) = model.screen.any_mut().press(&mut model.shared, key) {
        return travel::follow(model, next);
    }
    let global = model.keys.section(EVERYWHERE, &GLOBAL_KEYS, &GLOBAL_KEYS);
    if let Some(row) = global.iter().find(|row| row.key == key) {
        return anywhere(model, row.action);
    }
    let help = model.keys.key(EVERYWHERE, "help");
    model.say(format!("{key} does nothing here; {help} shows the keys"));
    Vec::new()
}

/// Handles a popup's answer: shared dialogs here, the screen's own dialogs in the screen.
fn on_answer(model: &mut Model, answer: PopupAnswer) -> Vec<Effect> {
    let shared = &mut model.shared;
    let next = match answer {
        PopupAnswer::Yes(OnYes::Quit) => vec![Effect::Quit].into(),
        PopupAnswer::Yes(OnYes::Effects(effects)) => effects.into(),
        PopupAnswer::Yes(OnYes::Discard) => {
            shared.popups.pop();
            Next::default()
        }
        PopupAnswer::Picked(Pick::Screen(row)) => model.screen.any_mut().act_row(shared, row),
        PopupAnswer::Picked(Pick::Global(row)) => {
            let rows = model.keys.section(EVERYWHERE, &GLOBAL_KEYS, &GLOBAL_KEYS);
            return rows.get(row).map_or_else(Vec::new, |row| anywhere(model, row.action));
        }
        PopupAnswer::Picked(Pick::CommandLine(at)) => {
            flow::say_command(shared, at);
            Next::default()
        }
        PopupAnswer::Picked(Pick::Go(screen)) => Next::go(Goal::to(screen)),
        PopupAnswer::Picked(Pick::Session(name)) => Next::go_in(Some(name), Goal::to("label")),
        PopupAnswer::Picked(Pick::Model { name, model: of }) => {
            flow::pick_model(shared, name, of);
            Next::default()
        }
        PopupAnswer::Picked(pick @ (Pick::Pair(_) | Pick::Rubric(_) | Pick::NewCriterion)) => {
            model.screen.any_mut().on_answer(shared, PopupAnswer::Picked(pick))
        }
        PopupAnswer::Typed(input) if input.purpose.is_from_screen() => {
            model.screen.any_mut().on_answer(shared, PopupAnswer::Typed(input))
        }
        answer @ PopupAnswer::Found(_) => model.screen.any_mut().on_answer(shared, answer),
        PopupAnswer::Withdrawn(input) => model.screen.any_mut().on_answer(shared, PopupAnswer::Withdrawn(input)),
        PopupAnswer::Typed(input) => flow::typed(shared, input).into(),
    };
    travel::follow(model, next)
}

/// Runs a global action.
fn anywhere(model: &mut Model, action: GlobalAction) -> Vec<Effect> {
    match action {
        GlobalAction::Help => {
            let tables = model.tables();
            model.popups.push(Popup::Help(Help { tables, scroll: 0 }));
        }
        GlobalAction::Palette => {
            let names: Vec<String> = model.sessions.iter().flatten().map(|card| card.name.clone()).collect();
            let mut everywhere = model.keys.table(EVERYWHERE, &GLOBAL_KEYS.table());
            everywhere.rows.retain(|row| row.name != "palette");
            let screens =
                ROUTES.iter().filter(|route| model.open.is_some() || !route.needs_session).map(|route| route.name);
            let here = model.screen.any().table(&model.shared.keys);
            let palette = Palette::commands(&here, &everywhere, screens, names.into_iter(), &model.command_line);
            model.popups.push(Popup::Palette(palette));
        }
        GlobalAction::Quit => return quit(model),
        GlobalAction::Redraw => return vec![Effect::Redraw],
        GlobalAction::Suspend => return vec![Effect::Suspend],
        GlobalAction::RetrySave => match &mut model.open {
            Some(open) if open.saved() == SaveState::Saved => model.say("everything is saved"),
            Some(open) => {
                let mut effects = open.outbox.retry();
                effects.push(Effect::SaveNow);
                return effects;
            }
            None => model.say("no session is open"),
        },
    }
    Vec::new()
}

/// Quits; asks first if records are not saved.
fn quit(model: &mut Model) -> Vec<Effect> {
    match travel::unsaved(model) {
        None => vec![Effect::Quit],
        Some(why) => {
            model
                .popups
                .push(Popup::Confirm(Confirm { question: format!("{why} Leave anyway?"), on_yes: OnYes::Quit }));
            Vec::new()
        }
    }
}
