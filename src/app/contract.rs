//! What a screen is: [`Screen`], which each file in `app/screen/` implements, and [`AnyScreen`], what the routing sees of it.
//!
//! A screen owns its keys, its actions and its state. It gets what all screens share, and says as values what is to happen:
//! effects for the shell, and where to go next. It knows no other screen.

use super::effect::Effect;
use super::goal::{Next, Show};
use super::key::Key;
use super::keymap::{Section, Table};
use super::msg::Msg;
use super::popup::PopupAnswer;
use super::shared::Shared;
use std::fmt::Debug;

/// A screen and its state.
pub trait Screen: Sized {
    /// What its keys can ask for.
    type Action: Copy + PartialEq + Debug + 'static;

    /// Its name: in help, README and palette, and in every [`Goal`](super::goal::Goal) that leads to it.
    const NAME: &'static str;
    /// Whether it shows the open session. The router opens one first where there is none.
    const NEEDS_SESSION: bool = true;
    /// Its keys. The first section holds everything that works here; others hold what matters in some states.
    const KEYS: &'static [Section<Self::Action>];

    /// Opens it.
    fn open(shared: &mut Shared, show: Show) -> (Self, Vec<Effect>);

    /// Does what a key or the palette asks for.
    fn act(&mut self, shared: &mut Shared, action: Self::Action) -> Next;

    /// A chance to take a key before the key table does, for typing; none passes it on.
    fn typed(&mut self, _shared: &mut Shared, _key: Key) -> Option<Vec<Effect>> {
        None
    }

    /// The section in force: its keys come first, and the footer shows only these.
    fn section(&self, _shared: &Shared) -> usize {
        0
    }

    /// The footer's word for an action in this state; none where it does not matter now.
    fn footer_word(&self, _shared: &Shared, _action: Self::Action, word: &'static str) -> Option<&'static str> {
        Some(word)
    }

    /// Looks again at what has changed below: records were folded, the size is another.
    fn refresh(&mut self, _shared: &mut Shared) -> Vec<Effect> {
        Vec::new()
    }

    /// Time passed, from `before_ms` to now.
    fn tick(&mut self, _shared: &mut Shared, _before_ms: u64) -> Vec<Effect> {
        Vec::new()
    }

    /// A message that only this screen can know what to do with: an answer to its own question.
    fn on_reply(&mut self, _shared: &mut Shared, _msg: Msg) -> Vec<Effect> {
        Vec::new()
    }

    /// What was typed or chosen in a popup that this screen opened.
    fn on_answer(&mut self, _shared: &mut Shared, _answer: PopupAnswer) -> Next {
        Next::default()
    }
}

/// A screen of any kind, as the routing sees it.
pub trait AnyScreen {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Everything that works here.
    fn table(&self) -> Table;
    /// The footer's keys and words in this state.
    fn footer(&self, shared: &Shared) -> Vec<(Key, &'static str)>;
    /// Handles a key; none when it means nothing here.
    fn press(&mut self, shared: &mut Shared, key: Key) -> Option<Next>;
    /// Does what a row of [`AnyScreen::table`] asks for.
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

    fn table(&self) -> Table {
        S::KEYS.first().map_or_else(Table::default, Section::table)
    }

    fn footer(&self, shared: &Shared) -> Vec<(Key, &'static str)> {
        let rows = S::KEYS.get(self.section(shared)).map_or(&[][..], |section| section.rows);
        let shown = rows.iter().filter(|row| !row.footer.is_empty());
        shown.filter_map(|row| Some((row.key, self.footer_word(shared, row.action, row.footer)?))).collect()
    }

    fn press(&mut self, shared: &mut Shared, key: Key) -> Option<Next> {
        if let Some(effects) = self.typed(shared, key) {
            return Some(effects.into());
        }
        let nearest = self.section(shared);
        let mut sections = S::KEYS.get(nearest).into_iter().chain(S::KEYS.first());
        let action = sections.find_map(|section| section.lookup(key))?;
        Some(self.act(shared, action))
    }

    fn act_row(&mut self, shared: &mut Shared, row: usize) -> Next {
        let row = S::KEYS.first().and_then(|section| section.rows.get(row));
        row.map_or_else(Next::default, |row| self.act(shared, row.action))
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
