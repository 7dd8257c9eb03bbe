//! Which screen is shown; each carries its own state.

use super::home::Home;
use super::keymap::Context;
use super::label::Label;
use super::launch::Launch;
use super::replay::Replay;
use super::watch::Watch;

/// The screen and its state.
#[derive(Debug, Clone)]
pub enum Screen {
    /// Sessions, running work, models.
    Home(Home),
    /// Judging pairs.
    Label(Box<Label>),
    /// The launch form.
    Launch(Box<Launch>),
    /// A run's charts.
    Watch(Box<Watch>),
    /// A session played back.
    Replay(Box<Replay>),
}

impl Screen {
    /// Its place in the keymap.
    #[must_use]
    pub fn context(&self) -> Context {
        match self {
            Self::Home(_) => Context::Home,
            Self::Label(_) => Context::Label,
            Self::Launch(_) => Context::Launch,
            Self::Watch(_) => Context::Watch,
            Self::Replay(_) => Context::Replay,
        }
    }
}
