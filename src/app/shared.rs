//! The state that all screens share: lists, open session, notice, popups. Knows no screen.

use super::bindings::KeyBindings;
use super::goal::Goal;
use super::msg::SessionCard;
use super::open::OpenSession;
use super::pace::HeldKey;
use super::palette::CommandLine;
use super::popup::Popup;
use super::requests::ScoreProgress;
use crate::domain::{Filter, QueueOrder, Rater, RubricPass};
use crate::protocol::ModelCard;

/// How to draw. Meaning never depends on it: every state is in words too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// Whether the 16 colours may be used: `NO_COLOR` is not set.
    pub colour: bool,
    /// Whether frames, marks and charts must be plain ASCII.
    pub ascii: bool,
    /// Whether the background is light.
    pub light: bool,
}

impl Default for Theme {
    fn default() -> Self {
        Self { colour: true, ascii: false, light: false }
    }
}

/// The tone of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something was done.
    Info,
    /// Something could not be done.
    Warn,
}

/// A line at the bottom that disappears by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its text.
    pub text: String,
    /// Its tone.
    pub tone: Tone,
    /// When it appeared, on the model's monotonic clock.
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

/// The state that all screens share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Changes whenever something visible changes. The shell draws only then.
    pub version: u64,
    /// Now, in milliseconds since 1970. It may jump when the system clock is set.
    pub now_ms: u64,
    /// Milliseconds of the monotonic clock, which measures every duration.
    pub clock_ms: u64,
    /// Columns and rows.
    pub size: (u16, u16),
    /// How to draw.
    pub theme: Theme,
    /// The popups over the screen, topmost last.
    pub popups: Vec<Popup>,
    /// The sessions; none until they are listed.
    pub sessions: Option<Vec<SessionCard>>,
    /// The models; none until they are listed.
    pub models: Option<Vec<ModelCard>>,
    /// The compute device; empty until it is known.
    pub device: String,
    /// The open session.
    pub open: Option<OpenSession>,
    /// The session being opened, and where to go once it is loaded.
    pub goal: Option<(String, Goal)>,
    /// The notice, if one shows.
    pub notice: Option<Notice>,
    /// The ticket of the last request to the shell.
    pub last_ticket: u64,
    /// The order of the queue.
    pub order: QueueOrder,
    /// The keys of every action.
    pub keys: KeyBindings,
    /// A verdict sooner than this after its pair appeared is ignored; by default none is.
    pub guard_ms: u64,
    /// The key that may be held down.
    pub held: HeldKey,
    /// Whether the terminal reports the repeats of a held key.
    pub reports_repeats: bool,
    /// The rater who works here, before and after a session is open.
    pub rater: Option<Rater>,
    /// The filter of the queue of a session that opens.
    pub filter: Option<Filter>,
    /// What its rater is asked of each pair.
    pub rubric: RubricPass,
    /// Scoring that is under way in the open session.
    pub scoring: Option<ScoreProgress>,
    /// How the last scoring ended.
    pub scored: Option<Result<String, String>>,
    /// The commands of the command line that no screen has. The shell fills it in.
    pub command_line: Vec<CommandLine>,
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
            keys: KeyBindings::default(),
            guard_ms: 0,
            held: HeldKey::default(),
            reports_repeats: false,
            rater: None,
            filter: None,
            rubric: RubricPass::default(),
            scoring: None,
            scored: None,
            command_line: Vec::new(),
            import_formats: Vec::new(),
        }
    }

    /// Notes that something visible changed.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    /// Shows a notice.
    pub fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), tone: Tone::Info, at_ms: self.clock_ms });
        self.touch();
    }

    /// Shows a notice that says why something was not done.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), tone: Tone::Warn, at_ms: self.clock_ms });
        self.touch();
    }

    /// A ticket for a request to the shell.
    pub fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }
}
