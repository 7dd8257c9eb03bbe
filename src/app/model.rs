//! The state of the workbench: the shared state and the active screen.

use super::anywhere::GLOBAL_KEYS;
use super::bindings::{EVERYWHERE, KeyBindings};
use super::goal::Show;
use super::key::Key;
use super::keymap::{self, Table};
use super::popup::SECTIONS;
use super::screen::{ActiveScreen, ROUTES};
use super::shared::{Shared, Theme};
use std::ops::{Deref, DerefMut};

/// The state of the workbench. It dereferences to the shared state.
#[derive(Debug, Clone)]
pub struct Model {
    /// The state that all screens share.
    pub shared: Shared,
    /// The active screen.
    pub screen: ActiveScreen,
}

impl Deref for Model {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl DerefMut for Model {
    fn deref_mut(&mut self) -> &mut Shared {
        &mut self.shared
    }
}

impl Model {
    /// An empty workbench on the list of sessions.
    #[must_use]
    pub fn new(theme: Theme, size: (u16, u16), now_ms: u64) -> Self {
        let mut shared = Shared::new(theme, size, now_ms);
        shared.keys = KeyBindings::defaults(&action_tables());
        // `begin` returns the effects that opening the first screen needs.
        let (screen, _) = (ROUTES[0].open)(&mut shared, Show::Default);
        Self { shared, screen }
    }

    /// The footer's entries: the active keys that matter in this state.
    #[must_use]
    pub fn footer(&self) -> Vec<(String, &'static str)> {
        if let Some(popup) = self.popups.last() {
            return keymap::footer(popup.footer());
        }
        let mut rows: Vec<(Key, &'static str)> = self.screen.any().footer(&self.shared);
        let global = self.keys.section(EVERYWHERE, &GLOBAL_KEYS, &GLOBAL_KEYS);
        rows.extend(global.iter().filter(|row| !row.footer.is_empty()).map(|row| (row.key, row.footer)));
        keymap::footer(rows)
    }

    /// Whether the terminal must report the repeats of a held key: where keys decide, and no text is typed.
    #[must_use]
    pub fn wants_repeats(&self) -> bool {
        self.popups.is_empty() && self.screen.any().has_decisions()
    }

    /// The key tables of the screen and of the global keys, without popups.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        let keys = &self.shared.keys;
        vec![self.screen.any().table(keys), keys.table(EVERYWHERE, &GLOBAL_KEYS.table())]
    }
}

/// The table of all keys, in the README's order.
#[must_use]
pub fn all_keys() -> Vec<Table> {
    let screens = ROUTES.iter().flat_map(|route| (route.keys)());
    std::iter::once(GLOBAL_KEYS.table()).chain(screens).chain(SECTIONS.iter().map(|section| section.table())).collect()
}

/// A table of every action for the global keys and for each screen: what `config.toml` may change.
#[must_use]
pub fn action_tables() -> Vec<Table> {
    let screens = ROUTES.iter().filter_map(|route| (route.keys)().into_iter().next());
    std::iter::once(GLOBAL_KEYS.table()).chain(screens).collect()
}
