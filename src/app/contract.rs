//! The interface of a screen: [`Screen`], which each file in `app/screen/` implements, and [`AnyScreen`], its
//! object-safe form.
//!
//! A screen owns its keys, its actions and its state. It gets the shared state and returns effects for the shell and
//! where to go next. It knows no other screen.

use super::bindings::KeyBindings;
use super::effect::Effect;
use super::goal::{Next, Show};
use super::key::Key;
use super::keymap::{Binding, Section, Table};
use super::msg::Msg;
use super::popup::PopupAnswer;
use super::shared::Shared;
use std::fmt::Debug;

/// A screen and its state.
pub trait Screen: Sized {
    /// The actions of its keys.
    type Action: Copy + PartialEq + Debug + 'static;

    /// Its name in help, README and palette, and in every [`Goal`](super::goal::Goal) that leads to it.
    const NAME: &'static str;
    /// Whether it needs an open session. The router opens one first.
    const NEEDS_SESSION: bool = true;
    /// Its keys. The first section holds every action; the others hold what matters in some states.
    const KEYS: &'static [Section<Self::Action>];

    /// Opens it.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>);

    /// Runs an action of a key or of the palette.
    fn act(&mut self, shared: &mut Shared, action: Self::Action) -> Next;

    /// Handles a key as typed text, before the key table; none passes it on.
    fn typed(&mut self, _shared: &mut Shared, _key: Key) -> Option<Vec<Effect>> {
        None
    }

    /// Inserts pasted text where text is typed; false if it is not.
    fn paste(&mut self, _shared: &mut Shared, _text: &str) -> bool {
        false
    }

    /// The active section: its keys take precedence, and the footer shows only them.
    fn section(&self, _shared: &Shared) -> usize {
        0
    }

    /// The footer's word for an action in this state; none hides it.
    fn footer_word(&self, _shared: &Shared, _action: Self::Action, word: &'static str) -> Option<&'static str> {
        Some(word)
    }

    /// Whether an action decides on what the screen shows and then shows the next: a held key must not repeat it.
    fn is_decision(_action: Self::Action) -> bool {
        false
    }

    /// Updates the screen after records were folded or the size changed.
    fn refresh(&mut self, _shared: &mut Shared) -> Vec<Effect> {
        Vec::new()
    }

    /// Handles the time that passed from `before_ms` to now.
    fn tick(&mut self, _shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        Vec::new()
    }

    /// Handles the shell's answer to a request of this screen.
    fn on_reply(&mut self, _shared: &mut Shared, _msg: Msg) -> Vec<Effect> {
        Vec::new()
    }

    /// Handles the answer of a popup that this screen opened.
    fn on_answer(&mut self, _shared: &mut Shared, _answer: PopupAnswer) -> Next {
        Next::default()
    }
}

/// A screen of any type, for the routing.
pub trait AnyScreen {
    /// Its name.
    fn name(&self) -> &'static str;
    /// The table of every action with its effective keys.
    fn table(&self, keys: &KeyBindings) -> Table;
    /// The footer's keys and words in this state.
    fn footer(&self, shared: &Shared) -> Vec<(Key, &'static str)>;
    /// Handles a key; none if it has no action here.
    fn press(&mut self, shared: &mut Shared, key: Key) -> Option<Next>;
    /// See [`Screen::paste`].
    fn paste(&mut self, shared: &mut Shared, text: &str) -> bool;
    /// Whether a key decides here; see [`Screen::is_decision`].
    fn decides(&self, shared: &Shared, key: Key) -> bool;
    /// Whether any key decides on this screen.
    fn has_decisions(&self) -> bool;
    /// Runs the action of a row of [`AnyScreen::table`].
    fn act_row(&mut self, shared: &mut Shared, row: usize) -> Next;
    /// See [`Screen::refresh`].
    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect>;
    /// See [`Screen::tick`].
    fn tick(&mut self, shared: &mut Shared, before_ms: u64) -> Vec<Effect>;
    /// See [`Screen::on_reply`].
    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect>;
    /// See [`Screen::on_answer`].
    fn on_answer(&mut self, shared: &mut Shared, answer: PopupAnswer) -> Next;
}

impl<S: Screen> AnyScreen for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn table(&self, keys: &KeyBindings) -> Table {
        S::KEYS.first().map_or_else(Table::default, |section| keys.table(S::NAME, &section.table()))
    }

    fn footer(&self, shared: &Shared) -> Vec<(Key, &'static str)> {
        let rows = bindings::<S>(&shared.keys, self.section(shared));
        let shown = rows.into_iter().filter(|row| !row.footer.is_empty());
        shown.filter_map(|row| Some((row.key, self.footer_word(shared, row.action, row.footer)?))).collect()
    }

    fn press(&mut self, shared: &mut Shared, key: Key) -> Option<Next> {
        if let Some(effects) = self.typed(shared, key) {
            return Some(effects.into());
        }
        let action = action_of(self, shared, key)?;
        Some(self.act(shared, action))
    }

    fn paste(&mut self, shared: &mut Shared, text: &str) -> bool {
        Screen::paste(self, shared, text)
    }

    fn decides(&self, shared: &Shared, key: Key) -> bool {
        action_of(self, shared, key).is_some_and(S::is_decision)
    }

    fn has_decisions(&self) -> bool {
        S::KEYS.iter().flat_map(|section| section.rows).any(|row| S::is_decision(row.action))
    }

    fn act_row(&mut self, shared: &mut Shared, row: usize) -> Next {
        let rows = bindings::<S>(&shared.keys, 0);
        rows.get(row).map_or_else(Next::default, |row| self.act(shared, row.action))
    }

    fn refresh(&mut self, shared: &mut Shared) -> Vec<Effect> {
        Screen::refresh(self, shared)
    }

    fn tick(&mut self, shared: &mut Shared, before_ms: u64) -> Vec<Effect> {
        Screen::tick(self, shared, before_ms)
    }

    fn on_reply(&mut self, shared: &mut Shared, msg: Msg) -> Vec<Effect> {
        Screen::on_reply(self, shared, msg)
    }

    fn on_answer(&mut self, shared: &mut Shared, answer: PopupAnswer) -> Next {
        Screen::on_answer(self, shared, answer)
    }
}

/// The action of a key in the screen's state.
fn action_of<S: Screen>(screen: &S, shared: &Shared, key: Key) -> Option<S::Action> {
    let active = bindings::<S>(&shared.keys, screen.section(shared));
    let mut rows = active.into_iter().chain(bindings::<S>(&shared.keys, 0));
    rows.find(|row| row.key == key).map(|row| row.action)
}

/// The rows of a section under their effective keys.
fn bindings<S: Screen>(keys: &KeyBindings, section: usize) -> Vec<Binding<S::Action>> {
    let Some(here) = S::KEYS.get(section) else { return Vec::new() };
    keys.section(S::NAME, here, S::KEYS.first().unwrap_or(here))
}
