//! The keys that work on every screen. What they do is in `app/update.rs`.

use super::key::Key;
use super::keymap::{Section, c, on};

/// What these keys ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anywhere {
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
pub const ANYWHERE: Section<Anywhere> = Section { title: "everywhere", rows: &[
    on(c('?'), Anywhere::Help, "help", "every key that works here"),
    on(c(':'), Anywhere::Palette, "", "find any action or session by name").named("palette"),
    on(c('q'), Anywhere::Quit, "", "quit; runs go on").named("quit"),
    on(Key::ctrl('c'), Anywhere::Quit, "", "quit; runs go on"),
    on(Key::ctrl('s'), Anywhere::SaveAgain, "", "retry saving").named("save"),
    on(Key::ctrl('l'), Anywhere::Redraw, "", "redraw the screen").named("redraw"),
    on(Key::ctrl('z'), Anywhere::Suspend, "", "back to your shell; `fg` returns").named("suspend"),
] };
