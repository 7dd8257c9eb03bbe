//! The keys that work on every screen; `app/update.rs` runs their actions.

use super::key::Key;
use super::keymap::{Section, c, on};

/// The actions of these keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobalAction {
    /// Open the help.
    Help,
    /// Open the command palette.
    Palette,
    /// Quit.
    Quit,
    /// Retry saving.
    RetrySave,
    /// Redraw the screen.
    Redraw,
    /// Suspend the process, as ctrl-z does in a shell.
    Suspend,
}

/// The global keys.
#[rustfmt::skip]
pub const GLOBAL_KEYS: Section<GlobalAction> = Section { title: "everywhere", rows: &[
    on(c('?'), GlobalAction::Help, "help", "every key that works here"),
    on(c(':'), GlobalAction::Palette, "", "find any action or session by name").named("palette"),
    on(c('q'), GlobalAction::Quit, "", "quit; runs continue").named("quit"),
    on(Key::ctrl('c'), GlobalAction::Quit, "", "quit; runs continue"),
    on(Key::ctrl('s'), GlobalAction::RetrySave, "", "retry saving").named("save"),
    on(Key::ctrl('l'), GlobalAction::Redraw, "", "redraw the screen").named("redraw"),
    on(Key::ctrl('z'), GlobalAction::Suspend, "", "back to your shell; `fg` returns").named("suspend"),
] };
