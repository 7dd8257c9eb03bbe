//! Everything the screens know.

use super::home::Home;
use super::key::Key;
use super::keymap::{Action, Context};
use super::msg::SessionCard;
use super::open::{Open, RunView};
use super::popup::Popup;
use super::screen::Screen;
use crate::domain::{QueueOrder, RunId, RunStatus};
use crate::protocol::ModelCard;

/// How to paint. Meaning never depends on it: states are in words too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// Whether the 16 colours may be used (`NO_COLOR` is not set).
    pub colour: bool,
    /// Whether frames, marks and charts must be plain ASCII.
    pub ascii: bool,
}

impl Default for Theme {
    fn default() -> Self {
        Self { colour: true, ascii: false }
    }
}

/// How a notice is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something was done.
    Info,
    /// Something could not be done.
    Warn,
}

/// One line at the bottom that goes away by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it says.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
    /// When it came, by the model's steady clock.
    pub at_ms: u64,
}

/// Where to go once a session is open.
#[derive(Debug, Clone, PartialEq)]
pub enum Goal {
    /// Stay on the list of sessions.
    Home,
    /// Judge pairs.
    Label,
    /// The launch form.
    Launch,
    /// The charts: of this run, or of the one that matters most.
    Watch(Option<RunId>),
    /// Play it back: from the start at this many times its speed, or waiting at the start for a key.
    Replay(Option<f64>),
    /// The form for sampling, over the label screen.
    Sample,
    /// The question for a file, over the label screen.
    Import,
}

impl Goal {
    /// The screen it comes to, in one word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Home => "sessions",
            Self::Label | Self::Sample | Self::Import => "label",
            Self::Launch => "launch",
            Self::Watch(_) => "watch",
            Self::Replay(_) => "replay",
        }
    }
}

/// The state of the workbench.
#[derive(Debug, Clone)]
pub struct Model {
    /// Changes whenever something visible changes. The shell paints only then.
    pub version: u64,
    /// Now, milliseconds since 1970. It goes back when the clock is set.
    pub now_ms: u64,
    /// Milliseconds of a clock that never goes back: everything that lasts is measured by it.
    pub clock_ms: u64,
    /// Columns and rows.
    pub size: (u16, u16),
    /// How to paint.
    pub theme: Theme,
    /// What is shown.
    pub screen: Screen,
    /// What lies over it, topmost last.
    pub popups: Vec<Popup>,
    /// The sessions; none before they were listed.
    pub sessions: Option<Vec<SessionCard>>,
    /// The models; none before they were listed.
    pub models: Option<Vec<ModelCard>>,
    /// What computes here; empty before it is known.
    pub device: String,
    /// The open session.
    pub open: Option<Open>,
    /// Where to go when the session asked for is open.
    pub goal: Option<(String, Goal)>,
    /// The line at the bottom.
    pub notice: Option<Notice>,
    /// Numbers questions to the shell.
    pub next_question: u64,
    /// The order in which pairs are asked.
    pub order: QueueOrder,
}

/// Whether an action does something on the label screen while there is no pair to judge.
fn matters_idle(open: &Open, action: Action) -> bool {
    match action {
        Action::Sample => !open.session.prompts().is_empty(),
        Action::GoLaunch => {
            let session = &open.session;
            !session.taught().is_empty()
                || !session.rated().is_empty()
                || session.verdicts().any(|(_, judged)| !judged.undone)
        }
        Action::Undo => open.session.undoable(&open.rater).is_some(),
        Action::GoWatch => !open.runs.is_empty(),
        _ => true,
    }
}

/// Whether a key matters on the watch screen while the run shown is at this point of its life.
fn matters_watching(status: Option<&RunStatus>, action: Action) -> bool {
    let live = status.is_some_and(RunStatus::is_live);
    match action {
        Action::PauseRun | Action::CheckpointRun | Action::StopRun => live,
        Action::ResumeRun => matches!(status, Some(RunStatus::Lost | RunStatus::Stopped | RunStatus::Failed(_))),
        Action::GoLaunch | Action::GoLabel => !live,
        _ => status.is_some() || action == Action::Help,
    }
}

impl Model {
    /// An empty workbench on the list of sessions.
    #[must_use]
    pub fn new(theme: Theme, size: (u16, u16), now_ms: u64) -> Self {
        Self {
            version: 1,
            now_ms,
            clock_ms: 0,
            size,
            theme,
            screen: Screen::Home(Home::default()),
            popups: Vec::new(),
            sessions: None,
            models: None,
            device: String::new(),
            open: None,
            goal: None,
            notice: None,
            next_question: 1,
            order: QueueOrder::default(),
        }
    }

    /// Notes that something visible changed.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    /// Says something in the line at the bottom.
    pub fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), tone: Tone::Info, at_ms: self.clock_ms });
        self.touch();
    }

    /// Says in the line at the bottom why something was not done.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), tone: Tone::Warn, at_ms: self.clock_ms });
        self.touch();
    }

    /// A number for a question to the shell.
    pub fn question(&mut self) -> u64 {
        self.next_question += 1;
        self.next_question
    }

    /// The contexts whose keys hold now, the nearest first.
    #[must_use]
    pub fn contexts(&self) -> Vec<Context> {
        match self.popups.last() {
            Some(popup) => vec![popup.context()],
            None => self.screen_contexts(),
        }
    }

    /// The contexts of the screen itself, popups aside.
    #[must_use]
    pub fn screen_contexts(&self) -> Vec<Context> {
        match &self.screen {
            Screen::Label(label) if label.card.is_none() => vec![Context::Idle, Context::Label, Context::Anywhere],
            screen => vec![screen.context(), Context::Anywhere],
        }
    }

    /// The footer's entries: of the keys that hold now, those that matter in this state.
    #[must_use]
    pub fn footer(&self) -> Vec<(String, &'static str)> {
        use super::keymap::footer;
        let contexts = self.contexts();
        if let Some(Popup::Input(input)) = self.popups.last() {
            let many = input.buffer.is_multiline();
            return footer(&contexts, |row| match row.action {
                Action::Accept => row.key.ctrl == many,
                Action::Withdraw => many,
                _ => true,
            });
        }
        if !self.popups.is_empty() {
            return footer(&contexts, |_| true);
        }
        match &self.screen {
            // Nothing to judge: what helps is to get something.
            Screen::Label(label) if label.card.is_none() => {
                let idle = [Context::Idle, Context::Anywhere];
                footer(&idle, |row| self.open.as_ref().is_some_and(|open| matters_idle(open, row.action)))
            }
            Screen::Home(_) if self.sessions.as_ref().is_none_or(Vec::is_empty) => {
                footer(&contexts, |row| matches!(row.action, Action::NewSession | Action::Help))
            }
            Screen::Watch(watch) => {
                let status = self.open.as_ref().and_then(|open| watch.shown(open)).map(RunView::status);
                let named = self.open.as_ref().is_some_and(|open| !watch.named(open).is_empty());
                footer(&contexts, |row| match row.action {
                    Action::Relabel => named,
                    action => matters_watching(status.as_ref(), action),
                })
            }
            Screen::Replay(replay) => {
                let mut entries = footer(&contexts, |_| true);
                if replay.playing {
                    entries.iter_mut().filter(|(_, word)| *word == "play").for_each(|(_, word)| *word = "pause");
                }
                entries
            }
            _ => footer(&contexts, |_| true),
        }
    }

    /// What a key asks for now.
    #[must_use]
    pub fn lookup(&self, key: Key) -> Option<super::keymap::Action> {
        super::keymap::lookup(&self.contexts(), key)
    }
}
