//! Navigation between screens; opens the session first if needed.

use super::bindings::EVERYWHERE;
use super::effect::Effect;
use super::goal::{Goal, Next};
use super::model::Model;
use super::outbox::SaveState;
use super::screen::route;
use crate::domain::counted;

/// The first effects of a workbench that starts on the home screen, or on a screen of a session.
pub fn begin(model: &mut Model, session: Option<(String, Goal)>) -> Vec<Effect> {
    let mut effects = vec![Effect::ListSessions, Effect::QueryDevice, Effect::ListModels];
    if let Some((name, goal)) = session {
        effects.insert(0, Effect::OpenSession { name: name.clone() });
        model.goal = Some((name, goal));
    }
    model.touch();
    effects
}

/// Returns the effects of `next`, and goes where it leads.
pub fn follow(model: &mut Model, next: Next) -> Vec<Effect> {
    let Next { mut effects, go: to } = next;
    if let Some(to) = to {
        effects.extend(go(model, to.session, to.goal));
    }
    effects
}

/// Goes to a screen of a session; opens the session first if needed.
pub fn go(model: &mut Model, session: Option<String>, goal: Goal) -> Vec<Effect> {
    if route(goal.screen).is_some_and(|route| !route.needs_session) {
        return arrive(model, goal);
    }
    let open = model.open.as_ref().map(|open| open.name.clone());
    match (session, open) {
        (Some(name), Some(open)) if name == open => arrive(model, goal),
        (None, Some(_)) => arrive(model, goal),
        (Some(_), Some(_)) if unsaved(model).is_some() => {
            let retry = model.keys.key(EVERYWHERE, "save");
            let text = format!("unsaved verdicts: wait for ✓ saved ({retry} retries), then open the other session");
            model.warn(text);
            Vec::new()
        }
        (Some(name), _) => {
            model.open = None;
            model.say(format!("opening {name} …"));
            model.goal = Some((name.clone(), goal));
            vec![Effect::OpenSession { name }]
        }
        (None, None) => {
            let key = model.keys.key("home", "new");
            model.warn(format!("no session is selected: {key} creates one"));
            Vec::new()
        }
    }
}

/// Clears the notice and shows a screen of the open session.
pub fn arrive(model: &mut Model, goal: Goal) -> Vec<Effect> {
    model.notice = None;
    show(model, goal)
}

/// Shows a screen of the open session.
pub fn show(model: &mut Model, goal: Goal) -> Vec<Effect> {
    let Some(route) = route(goal.screen) else {
        model.warn(format!("no screen is called {}", goal.screen));
        return Vec::new();
    };
    let (screen, effects) = (route.open)(&mut model.shared, goal.show);
    model.screen = screen;
    model.touch();
    effects
}

/// What is not saved, as one sentence; none if everything is.
pub fn unsaved(model: &Model) -> Option<String> {
    match model.open.as_ref()?.saved() {
        SaveState::Saved => None,
        SaveState::Saving(n) => Some(format!("{n} records are not on disk yet.")),
        SaveState::Delayed { records, error, .. } => {
            Some(format!("{} not saved: {error}.", counted(records, "record")))
        }
        SaveState::Failed(error) => Some(format!("Some verdicts are not saved: {error}.")),
    }
}
