//! The list of sessions, what is running, and what this machine has.

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::goal::{Goal, Outcome, Show};
use crate::app::key::Code;
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::SessionCard;
use crate::app::popup::Ask;
use crate::app::shared::Shared;

/// What the screen knows: the selected session by name; none is the first.
#[derive(Debug, Clone, Default)]
pub struct HomeScreen {
    /// Its name.
    pub selected: Option<String>,
}

/// What its keys ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Go to a screen of the selected session.
    Go(&'static str),
    /// Open the selected session.
    Open,
    /// Make a session.
    NewSession,
    /// Ask how to sample and start.
    Sample,
    /// Ask for a file and import it.
    Import,
    /// The session above.
    Up,
    /// The session below.
    Down,
    /// Look for sessions and models again.
    Refresh,
}

#[rustfmt::skip]
const KEYS: &[Section<Action>] = &[Section { title: "home", rows: &[
    on(k(Code::Enter), Action::Open, "open", "open the session"),
    on(c('n'), Action::NewSession, "new", "make a session: name, model, prompts"),
    on(c('l'), Action::Go("label"), "label", "label pairs of the session"),
    on(c('t'), Action::Go("launch"), "train", "launch a training run").named("launch"),
    on(c('w'), Action::Go("watch"), "watch", "watch its runs"),
    on(c('s'), Action::Sample, "", "sample answers in the background").named("sample"),
    on(c('i'), Action::Import, "", "import prompts or pairs from a file").named("import"),
    on(c('r'), Action::Go("replay"), "", "replay the session").named("replay"),
    on(k(Code::Down), Action::Down, "", "next session").named("next session"),
    on(k(Code::Up), Action::Up, "", "previous session").named("previous session"),
    on(c('j'), Action::Down, "", "next session"),
    on(c('k'), Action::Up, "", "previous session"),
    on(c('R'), Action::Refresh, "", "look for sessions and models again").named("refresh"),
] }];

impl Screen for HomeScreen {
    type Action = Action;

    const NAME: &'static str = "home";
    const NEEDS_SESSION: bool = false;
    const KEYS: &'static [Section<Action>] = KEYS;

    /// Shows the list of sessions; the open one stays open and selected.
    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let selected = shared.open.as_ref().map(|open| open.name.clone());
        (Self { selected }, vec![Effect::ListSessions])
    }

    fn act(&mut self, shared: &mut Shared, action: Action) -> Outcome {
        let name = self.current(shared).map(|card| card.name.clone());
        match action {
            Action::Up => self.step(shared, false),
            Action::Down => self.step(shared, true),
            Action::Open => return Outcome::go_in(name, Goal::to("label")),
            Action::Go(screen) => return Outcome::go_in(name, Goal::to(screen)),
            Action::Sample => return Outcome::go_in(name, Goal::with("label", Show::Sample)),
            Action::Import => return Outcome::go_in(name, Goal::with("label", Show::Import)),
            Action::NewSession => {
                flow::input(shared, "a new session", "its name: letters, digits, - _ .", Ask::NewName, "");
            }
            Action::Refresh => return vec![Effect::ListSessions, Effect::ListModels, Effect::AskDevice].into(),
        }
        Outcome::default()
    }

    fn foot(&self, shared: &Shared, action: Action, word: &'static str) -> Option<&'static str> {
        let empty = shared.sessions.as_ref().is_none_or(Vec::is_empty);
        (!empty || action == Action::NewSession).then_some(word)
    }

    /// "3 min ago" changes once a minute.
    fn tick(&mut self, shared: &mut Shared, before_ms: u64) -> Vec<Effect> {
        if before_ms / 60_000 != shared.now_ms / 60_000 {
            shared.touch();
        }
        Vec::new()
    }
}

impl HomeScreen {
    /// The selected session's place in the list.
    #[must_use]
    pub fn selected(&self, shared: &Shared) -> Option<usize> {
        let sessions = shared.sessions.as_ref().filter(|s| !s.is_empty())?;
        let named = self.selected.as_ref().and_then(|name| sessions.iter().position(|card| card.name == *name));
        Some(named.unwrap_or(0))
    }

    /// The selected session.
    #[must_use]
    pub fn current<'a>(&self, shared: &'a Shared) -> Option<&'a SessionCard> {
        shared.sessions.as_ref()?.get(self.selected(shared)?)
    }

    fn step(&mut self, shared: &Shared, down: bool) {
        let Some(at) = self.selected(shared) else { return };
        let Some(sessions) = &shared.sessions else { return };
        let to = if down { (at + 1).min(sessions.len() - 1) } else { at.saturating_sub(1) };
        self.selected = Some(sessions[to].name.clone());
    }
}
