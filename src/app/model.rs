//! The state of the workbench: what all screens share, and the one that is shown.

use super::anywhere::GLOBAL_KEYS;
use super::goal::Show;
use super::key::Key;
use super::keymap::{self, Table};
use super::popup::SECTIONS;
use super::screen::{ActiveScreen, ROUTES};
use super::shared::{Shared, Theme};
use std::ops::{Deref, DerefMut};

/// The state of the workbench. What all screens share can be read from it directly.
#[derive(Debug, Clone)]
pub struct Model {
    /// What all screens share.
    pub shared: Shared,
    /// What is shown.
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
        // What it asks the shell for, `begin` asks.
        let (screen, _) = (ROUTES[0].open)(&mut shared, Show::Default);
        Self { shared, screen }
    }

    /// The footer's entries: of the keys that hold now, those that matter in this state.
    #[must_use]
    pub fn footer(&self) -> Vec<(String, &'static str)> {
        if let Some(popup) = self.popups.last() {
            return keymap::footer(popup.footer());
        }
        let mut rows: Vec<(Key, &'static str)> = self.screen.any().footer(&self.shared);
        rows.extend(GLOBAL_KEYS.rows.iter().filter(|row| !row.footer.is_empty()).map(|row| (row.key, row.footer)));
        keymap::footer(rows)
    }

    /// Everything that works on the screen, popups aside.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        vec![self.screen.any().table(), GLOBAL_KEYS.table()]
    }
}

/// The table of all keys, in the README's order.
#[must_use]
pub fn all_keys() -> Vec<Table> {
    let screens = ROUTES.iter().flat_map(|route| (route.keys)());
    std::iter::once(GLOBAL_KEYS.table()).chain(screens).chain(SECTIONS.iter().map(|section| section.table())).collect()
}
