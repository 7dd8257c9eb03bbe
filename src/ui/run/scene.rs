//! What is drawn of a run, and how it is looked at.

use crate::app::curves::CurveView;
use crate::domain::{RunState, RunStatus};
use ratatui::text::Line;

/// A run as it is looked at.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// Its folded log.
    pub run: &'a RunState,
    /// Where it is in its life.
    pub status: RunStatus,
    /// Whether it samples candidates.
    pub sampling: bool,
    /// How it is looked at.
    pub view: &'a CurveView,
    /// What it is about: name and value.
    pub facts: Vec<(&'static str, String)>,
    /// The session's runs as a line, when it has several.
    pub runs: Option<Line<'a>>,
    /// Replay: nothing can be resumed.
    pub replay: bool,
    /// Whether only ASCII may be drawn.
    pub ascii: bool,
}
