//! What a checkpoint's `trainer.json` holds, and what others read of a checkpoint: a method's notes, and the weights that a new
//! run starts from.
//!
//! Owns the file's fields and the hash of trained tensors. Refuses to go on from a checkpoint: `checkpoint.rs` does.

use super::best::Best;
use super::options::tune_of;
use crate::domain::{Memory, Params};
use crate::model::error::Error;
use crate::model::language_model::Reading;
use crate::model::trained::Trained;
use crate::model::tune::Tune;
use crate::nn::policy::Policy;
use candle_core::DType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Where the run is.
pub(super) const STATE: &str = "trainer.json";

/// `trainer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Version of this file.
    pub(super) format: u32,
    /// Steps made.
    pub(super) step: u64,
    /// Whole passes over the data.
    pub(super) epoch: u64,
    /// Steps made in this pass.
    pub(super) cursor: u64,
    /// Updates the optimizer counts.
    pub(super) updates: u64,
    /// Seed of order, adapters and dropout.
    pub(super) seed: u64,
    /// Tokens trained on.
    pub(super) tokens: u64,
    /// Updates with a learning rate above 0, as far as they are counted.
    pub(super) moves: u64,
    /// The best evaluation so far.
    #[serde(default)]
    pub(super) best: Best,
    /// Hash over method, model, hyper-parameters and data.
    pub(super) run: String,
    /// Hash of the trained tensors.
    pub(super) weights: String,
    /// What the method adds: a reward model's calibration.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(super) notes: serde_json::Value,
    /// How a reward model's answers became tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reading: Option<Reading>,
    /// Where a method that learns from its own answers is: its round of answers and what its recipe carries on.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(super) online: serde_json::Value,
    /// What the health rules remember, so that a run taken up again says nothing twice.
    #[serde(default)]
    pub(super) health: Memory,
}

/// What a run's method noted in its checkpoint folder `dir`, null for nothing, and how a reward model's answers became
/// tokens.
///
/// # Errors
/// When the folder holds no checkpoint's state.
pub(crate) fn notes(dir: &Path) -> Result<(serde_json::Value, Option<Reading>), Error> {
    let state = read_state(dir)?;
    Ok((state.notes, state.reading))
}

/// The state in the checkpoint folder `dir`.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn read_state(dir: &Path) -> Result<State, Error> {
    let path = dir.join(STATE);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::file(&path, format!("cannot be read: {e}")))?;
    serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("is not a checkpoint's state: {e}")))
}

/// Puts an earlier run's trained tensors into the policy.
///
/// # Errors
/// When the checkpoint cannot be read, or was trained in another way: with another scale the same adapter is another model.
pub(super) fn start_from(policy: &Policy, params: &Params, dir: &Path) -> Result<(), Error> {
    let trained = Trained::read(dir)?;
    let alike = match (&trained.tune, &tune_of(params)) {
        (Tune::Lora(a), Tune::Lora(b)) => {
            a.scale() == b.scale() && a.r == b.r && a.dora == b.dora && a.targets == b.targets
        }
        (a, b) => a == b,
    };
    if !alike {
        return Err(Error::file(
            dir,
            "was trained with other tune, lora_r, lora_alpha, use_rslora, use_dora or lora_target_modules; take the same for a run that starts from it",
        ));
    }
    trained.put_on(policy.trainables())
}

/// SHA-256 over names and f32 values of the trainables in their order.
pub(super) fn weights_hash(policy: &Policy) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for (name, var) in policy.trainables() {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        let values = var.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        hash.update((values.len() as u64).to_le_bytes());
        for chunk in values.chunks(4096) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|x| x.to_le_bytes()).collect();
            hash.update(&bytes);
        }
    }
    Ok(hex::encode(hash.finalize()))
}
