//! What all screens share: the lists, the open session, the notice, the popups. Knows no screen.

use super::goal::Goal;
use super::msg::SessionCard;
use super::open::OpenSession;
use super::popup::Popup;
use crate::domain::QueueOrder;
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

/// A format that an import recognises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportFormat {
    /// Its name in the table of formats.
    pub name: String,
    /// Whether a line of plain text is a record too, not only a line of JSON.
    pub plain_text: bool,
}

/// What all screens share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Changes whenever something visible changes. The shell paints only then.
    pub version: u64,
    /// Now, milliseconds since 1970. It goes back when the clock is set.
    pub now_ms: u64,
    /// Milliseconds of a clock that never goes back: every duration is measured by it.
    pub clock_ms: u64,
    /// Columns and rows.
    pub size: (u16, u16),
    /// How to paint.
    pub theme: Theme,
    /// What lies over the screen, topmost last.
    pub popups: Vec<Popup>,
    /// The sessions; none before they were listed.
    pub sessions: Option<Vec<SessionCard>>,
    /// The models; none before they were listed.
    pub models: Option<Vec<ModelCard>>,
    /// What computes here; empty before it is known.
    pub device: String,
    /// The open session.
    pub open: Option<OpenSession>,
    /// Where to go when the session asked for is open.
    pub goal: Option<(String, Goal)>,
    /// The line at the bottom.
    pub notice: Option<Notice>,
    /// Numbers questions to the shell.
    pub last_ticket: u64,
    /// The order in which pairs are asked.
    pub order: QueueOrder,
    /// The formats that an import recognises, by name. The shell fills it in from the table of formats.
    pub import_formats: Vec<ImportFormat>,
}

impl Shared {
    /// Nothing listed, nothing open.
    #[must_use]
    pub fn new(theme: Theme, size: (u16, u16), now_ms: u64) -> Self {
        Self {
            version: 1,
            now_ms,
            clock_ms: 0,
            size,
            theme,
            popups: Vec::new(),
            sessions: None,
            models: None,
            device: String::new(),
            open: None,
            goal: None,
            notice: None,
            last_ticket: 1,
            order: QueueOrder::default(),
            import_formats: Vec::new(),
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
    pub fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }
}
