//! Why results were not finite: the file and the tensor among the weights that a run, a scorer or a judge computes with.
//!
//! Owns where to look. Refuses to look before a result was infinite or NaN: that reads every byte of the weights.

use super::inputs::weights_of;
use crate::model::{self, LanguageModel, not_finite_trained};
use crate::storage::RunDir;
use std::path::{Path, PathBuf};

/// What is not finite among a run's weights, as a sentence. None where every value is finite, or a file cannot be read.
pub(super) fn not_finite(run: &RunDir) -> Option<String> {
    let (models, checkpoints) = weights_of(run, &run.resolved_spec().ok()?);
    among(&models, &checkpoints)
}

/// As [`not_finite`], of these models and checkpoints.
fn among(models: &[PathBuf], checkpoints: &[PathBuf]) -> Option<String> {
    models
        .iter()
        .find_map(|path| of_model(path).ok().flatten())
        .or_else(|| checkpoints.iter().find_map(|path| not_finite_trained(path).ok().flatten()))
}

/// What is not finite in a model, as a sentence.
pub(super) fn of_model(path: &Path) -> Result<Option<String>, model::Error> {
    model::not_finite(&LanguageModel::open(path)?)
}

/// The error of a query that computes with these weights, with the cause where its results were not finite.
pub(super) fn explained(error: model::Error, models: &[PathBuf], checkpoints: &[PathBuf]) -> model::Error {
    if !error.is_not_finite() {
        return error;
    }
    match among(models, checkpoints) {
        Some(cause) => model::Error::NotFinite(cause),
        None => error,
    }
}
