//! Where to go: a screen by name, and what it shows there. Knows no screen.

use super::effect::Effect;
use crate::domain::{PairId, PromptId, RunId};

/// What a screen shows when it opens.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Show {
    /// The screen's own default.
    #[default]
    Default,
    /// This run.
    Run(RunId),
    /// One of these pairs; with several, the screen asks for one.
    Pairs(Vec<PairId>),
    /// A replay that starts playing, this many times faster than real time.
    Speed(f64),
    /// All answers to this prompt.
    Prompt(PromptId),
    /// This sentence as a notice.
    Said(String),
    /// The prompt for a file to import.
    Import,
}

/// A destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// The screen's name.
    pub screen: &'static str,
    /// What it shows.
    pub show: Show,
}

impl Goal {
    /// The screen of this name, with its default.
    #[must_use]
    pub const fn to(screen: &'static str) -> Self {
        Self { screen, show: Show::Default }
    }

    /// The screen of this name, with something to show.
    #[must_use]
    pub const fn with(screen: &'static str, show: Show) -> Self {
        Self { screen, show }
    }
}

/// A request to go somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Go {
    /// The session; none for the open one.
    pub session: Option<String>,
    /// The destination.
    pub goal: Goal,
}

/// What follows from a key, a message or an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Next {
    /// Requests to the shell.
    pub effects: Vec<Effect>,
    /// Where to go next, if anywhere.
    pub go: Option<Go>,
}

impl Next {
    /// Goes to a screen of the open session.
    #[must_use]
    pub fn go(goal: Goal) -> Self {
        Self::go_in(None, goal)
    }

    /// Goes to a screen of this session; none for the open one.
    #[must_use]
    pub fn go_in(session: Option<String>, goal: Goal) -> Self {
        Self { effects: Vec::new(), go: Some(Go { session, goal }) }
    }
}

impl From<Vec<Effect>> for Next {
    fn from(effects: Vec<Effect>) -> Self {
        Self { effects, go: None }
    }
}
