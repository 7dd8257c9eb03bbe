//! What a run is given: its rows, and the folders of what other runs left. Owns the names, reads nothing.

use crate::domain::SftRow;
use crate::train::data::Rows;
use std::path::Path;

/// The rows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRows {
    /// What is trained on.
    pub rows: Rows,
    /// Texts mixed in against forgetting; may be empty.
    pub mix: Vec<SftRow>,
    /// General text on which forgetting is measured; may be empty.
    pub probe: Vec<SftRow>,
}

impl From<Rows> for RunRows {
    fn from(rows: Rows) -> Self {
        Self { rows, mix: Vec::new(), probe: Vec::new() }
    }
}

/// Where a run finds what other runs left.
#[derive(Debug, Clone, Copy)]
pub struct RunPaths<'a> {
    /// The cache of reference log-probs.
    pub cache: &'a Path,
    /// The checkpoint folder of an earlier run whose trained weights this one starts from; as they are then, they are the
    /// reference.
    pub init: Option<&'a Path>,
    /// A checkpoint folder of this very run.
    pub resume: Option<&'a Path>,
    /// The model and the checkpoint folder of the reward run that scores answers.
    pub reward: Option<(&'a Path, &'a Path)>,
    /// The date that the reward model's template prints; see [`crate::nn::LanguageModel::dated`].
    pub reward_date: Option<&'a str>,
}

impl<'a> RunPaths<'a> {
    /// A fresh run from the model as it is.
    #[must_use]
    pub fn new(cache: &'a Path) -> Self {
        Self { cache, init: None, resume: None, reward: None, reward_date: None }
    }
}
