//! Destinations: a screen by its name, and what it is to show there. Knows no screen.

use super::effect::Effect;
use crate::domain::{PairId, RunId};

/// What a screen is to show when it opens.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Show {
    /// Whatever matters most.
    #[default]
    Default,
    /// This run.
    Run(RunId),
    /// One of these pairs; with several, the screen asks which.
    Pairs(Vec<PairId>),
    /// A replay that plays at once, this many times faster than it was.
    Speed(f64),
    /// The form for sampling.
    Sample,
    /// The question for a file to import.
    Import,
}

/// Where to go.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// The screen's name.
    pub screen: &'static str,
    /// What it is to show.
    pub show: Show,
}

impl Goal {
    /// The screen of this name.
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

/// A wish to go somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Go {
    /// The session; none for the open one.
    pub session: Option<String>,
    /// Where.
    pub goal: Goal,
}

/// What happens next: what a key, a message or an answer leads to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Next {
    /// What the shell is to do.
    pub effects: Vec<Effect>,
    /// Where to go next.
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
