//! The list of sessions, what is running, and what this machine has.

use super::effect::Effect;
use super::flow;
use super::keymap::Action;
use super::model::{Goal, Model};
use super::msg::SessionCard;
use super::popup::Ask;
use super::screen::Screen;

/// What the screen knows: the selected session by name; none is the first.
#[derive(Debug, Clone, Default)]
pub struct Home {
    /// Its name.
    pub selected: Option<String>,
}

/// The selected session's place in the list.
#[must_use]
pub fn selected(model: &Model) -> Option<usize> {
    let sessions = model.sessions.as_ref().filter(|s| !s.is_empty())?;
    let Screen::Home(home) = &model.screen else { return None };
    let named = home.selected.as_ref().and_then(|name| sessions.iter().position(|card| card.name == *name));
    Some(named.unwrap_or(0))
}

/// The selected session.
#[must_use]
pub fn current(model: &Model) -> Option<&SessionCard> {
    model.sessions.as_ref()?.get(selected(model)?)
}

/// Does what a key asks for.
pub fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let name = current(model).map(|card| card.name.clone());
    match action {
        Action::Up => step(model, false),
        Action::Down => step(model, true),
        Action::Open | Action::GoLabel => return flow::go(model, name, Goal::Label),
        Action::GoLaunch => return flow::go(model, name, Goal::Launch),
        Action::GoWatch => return flow::go(model, name, Goal::Watch(None)),
        Action::GoReplay => return flow::go(model, name, Goal::Replay(None)),
        Action::Sample => return flow::go(model, name, Goal::Sample),
        Action::Import => return flow::go(model, name, Goal::Import),
        Action::NewSession => {
            flow::input(model, "a new session", "its name: letters, digits, - _ .", Ask::NewName, "");
        }
        Action::Refresh => return vec![Effect::ListSessions, Effect::ListModels, Effect::AskDevice],
        _ => {}
    }
    Vec::new()
}

fn step(model: &mut Model, down: bool) {
    let Some(at) = selected(model) else { return };
    let Some(sessions) = &model.sessions else { return };
    let to = if down { (at + 1).min(sessions.len() - 1) } else { at.saturating_sub(1) };
    let name = sessions[to].name.clone();
    if let Screen::Home(home) = &mut model.screen {
        home.selected = Some(name);
    }
}
