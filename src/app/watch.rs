//! A run's charts.

use super::effect::Effect;
use super::key::Key;
use super::keymap::Action;
use super::model::Model;
use super::screen::Screen;
use crate::domain::RunId;

/// What the screen knows.
#[derive(Debug, Clone, Default)]
pub struct Watch {}

/// Shows the screen for the open session: this run, or the one that matters most.
pub fn show(model: &mut Model, _run: Option<RunId>) -> Vec<Effect> {
    model.screen = Screen::Watch(Box::default());
    Vec::new()
}

/// A chance to take a key before the keymap does, for typing; none passes it on.
pub fn press(_model: &mut Model, _key: Key) -> Option<Vec<Effect>> {
    None
}

/// Does what a key of this screen asks for.
pub fn act(_model: &mut Model, _action: Action) -> Vec<Effect> {
    Vec::new()
}

/// New records of the open session or its runs have been folded, or the size has changed.
pub fn refresh(_model: &mut Model) -> Vec<Effect> {
    Vec::new()
}

/// Time passed.
pub fn tick(_model: &mut Model) -> Vec<Effect> {
    Vec::new()
}

/// The last lines of a run's worker.log.
pub fn worker_log(_model: &mut Model, _run: &RunId, _lines: Vec<String>) {}
