//! A run's inputs: its rows, and the folders of other runs' results. Owns the types; refuses to read files.

use crate::domain::SftRow;
use crate::protocol::Rendering;
use crate::train::data::Rows;
use std::path::Path;

/// The rows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRows {
    /// Training and evaluation rows.
    pub rows: Rows,
    /// SFT rows mixed in against forgetting; may be empty.
    pub mix: Vec<SftRow>,
    /// General texts of the forgetting probe; may be empty.
    pub probe: Vec<SftRow>,
}

impl From<Rows> for RunRows {
    fn from(rows: Rows) -> Self {
        Self { rows, mix: Vec::new(), probe: Vec::new() }
    }
}

/// The folders that a run reads.
#[derive(Debug, Clone, Copy)]
pub struct RunPaths<'a> {
    /// The cache of reference log-probs.
    pub cache: &'a Path,
    /// Checkpoint of an earlier run to start from; its weights are also the reference.
    pub init: Option<&'a Path>,
    /// Checkpoint of this run to resume from.
    pub resume: Option<&'a Path>,
    /// Model and checkpoint of the reward run that scores answers.
    pub reward: Option<(&'a Path, &'a Path)>,
    /// What the reward model's template renders besides conversations.
    pub reward_rendering: Option<&'a Rendering>,
}

impl<'a> RunPaths<'a> {
    /// A new run from the base model.
    #[must_use]
    pub fn new(cache: &'a Path) -> Self {
        Self { cache, init: None, resume: None, reward: None, reward_rendering: None }
    }
}
