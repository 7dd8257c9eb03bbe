//! The keys that work on every screen. What they do is in `app/update.rs`.

use super::key::Key;
use super::keymap::{Section, c, on};

/// What these keys ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobalAction {
    /// Open the help.
    Help,
    /// Open the command palette.
    Palette,
    /// Leave the program.
    Quit,
    /// Try again to save what could not be saved.
    SaveAgain,
    /// Paint everything again.
    Redraw,
    /// Hand the terminal back to the shell that started us.
    Suspend,
}

/// The keys.
#[rustfmt::skip]
pub const GLOBAL_KEYS: Section<GlobalAction> = Section { title: "everywhere", rows: &[
    on(c('?'), GlobalAction::Help, "help", "every key that works here"),
    on(c(':'), GlobalAction::Palette, "", "find any action or session by name").named("palette"),
    on(c('q'), GlobalAction::Quit, "", "quit; runs go on").named("quit"),
    on(Key::ctrl('c'), GlobalAction::Quit, "", "quit; runs go on"),
    on(Key::ctrl('s'), GlobalAction::SaveAgain, "", "retry saving").named("save"),
    on(Key::ctrl('l'), GlobalAction::Redraw, "", "redraw the screen").named("redraw"),
    on(Key::ctrl('z'), GlobalAction::Suspend, "", "back to your shell; `fg` returns").named("suspend"),
] };
