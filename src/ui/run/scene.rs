//! The input to drawing a run.

use crate::app::curves::CurveView;
use crate::domain::{RunState, RunStatus};
use ratatui::text::Line;

/// A run and its view.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// Its folded log.
    pub run: &'a RunState,
    /// Its lifecycle status.
    pub status: RunStatus,
    /// Whether it samples candidates.
    pub sampling: bool,
    /// The view of its curves.
    pub view: &'a CurveView,
    /// Its settings, as name and value.
    pub facts: Vec<(&'static str, String)>,
    /// The session's runs as a line, if it has several.
    pub runs: Option<Line<'a>>,
    /// Whether this is a replay, in which nothing can be resumed.
    pub replay: bool,
    /// Whether only ASCII may be drawn.
    pub ascii: bool,
}
