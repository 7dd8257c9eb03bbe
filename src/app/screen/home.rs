//! The home screen: sessions, live runs, models and device.

use crate::app::contract::Screen;
use crate::app::effect::Effect;
use crate::app::flow;
use crate::app::goal::{Goal, Next, Show};
use crate::app::key::Code;
use crate::app::keymap::{Section, c, k, on};
use crate::app::msg::SessionCard;
use crate::app::popup::InputPurpose;
use crate::app::shared::Shared;

/// The screen's state.
#[derive(Debug, Clone, Default)]
pub struct HomeScreen {
    /// The selected session's name; none selects the first.
    pub selected: Option<String>,
}

/// The actions of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeAction {
    /// Go to a screen of the selected session.
    Go(&'static str),
    /// Open the selected session.
    Open,
    /// Create a session.
    NewSession,
    /// Ask how to sample and start.
    Sample,
    /// Ask for a file and import it.
    Import,
    /// Select the session above.
    Up,
    /// Select the session below.
    Down,
    /// List sessions and models again.
    Refresh,
}

#[rustfmt::skip]
const KEYS: &[Section<HomeAction>] = &[Section { title: "home", rows: &[
    on(k(Code::Enter), HomeAction::Open, "open", "open the session"),
    on(c('n'), HomeAction::NewSession, "new", "create a session: name, model, prompts"),
    on(c('l'), HomeAction::Go("label"), "label", "label pairs of the session"),
    on(c('t'), HomeAction::Go("launch"), "train", "launch a training run").named("launch"),
    on(c('w'), HomeAction::Go("watch"), "watch", "watch its runs"),
    on(c('E'), HomeAction::Go("evaluate"), "", "compare two models: evaluations of the session").named("evaluate"),
    on(c('O'), HomeAction::Go("loop"), "", "rounds of sampling, judging, training, evaluation").named("loop"),
    on(c('s'), HomeAction::Sample, "", "sample answers in the background").named("sample"),
    on(c('i'), HomeAction::Import, "", "import prompts or pairs from a file").named("import"),
    on(c('r'), HomeAction::Go("replay"), "", "replay the session").named("replay"),
    on(k(Code::Down), HomeAction::Down, "", "next session").named("next session"),
    on(k(Code::Up), HomeAction::Up, "", "previous session").named("previous session"),
    on(c('j'), HomeAction::Down, "", "next session"),
    on(c('k'), HomeAction::Up, "", "previous session"),
    on(c('R'), HomeAction::Refresh, "", "refresh the sessions and models").named("refresh"),
] }];

impl Screen for HomeScreen {
    type Action = HomeAction;

    const NAME: &'static str = "home";
    const NEEDS_SESSION: bool = false;
    const KEYS: &'static [Section<HomeAction>] = KEYS;

    /// Lists the sessions; the open one stays open and selected.
    fn open(shared: &mut Shared, _show: Show) -> (Self, Vec<Effect>) {
        let selected = shared.open.as_ref().map(|open| open.name.clone());
        (Self { selected }, vec![Effect::ListSessions])
    }

    fn act(&mut self, shared: &mut Shared, action: HomeAction) -> Next {
        let name = self.current(shared).map(|card| card.name.clone());
        match action {
            HomeAction::Up => self.step(shared, false),
            HomeAction::Down => self.step(shared, true),
            HomeAction::Open => return Next::go_in(name, Goal::to("label")),
            HomeAction::Go(screen) => return Next::go_in(name, Goal::to(screen)),
            HomeAction::Sample => return Next::go_in(name, Goal::to("sample")),
            HomeAction::Import => return Next::go_in(name, Goal::with("label", Show::Import)),
            HomeAction::NewSession => {
                flow::input(shared, "a new session", "its name: letters, digits, - _ .", InputPurpose::NewName, "");
            }
            HomeAction::Refresh => return vec![Effect::ListSessions, Effect::ListModels, Effect::QueryDevice].into(),
        }
        Next::default()
    }

    fn footer_word(&self, shared: &Shared, action: HomeAction, word: &'static str) -> Option<&'static str> {
        let empty = shared.sessions.as_ref().is_none_or(Vec::is_empty);
        (!empty || action == HomeAction::NewSession).then_some(word)
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
    /// The selected session's index.
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
