//! Checkpoints: saving a run and resuming it exactly.
//!
//! Owns three files in the given folder: `model.safetensors` (the trained tensors by name), `optim.safetensors` (AdamW's
//! moments) and `trainer.json` (the run's state). The caller makes the folder atomic and durable. Refuses a checkpoint of
//! another run.

use super::best::Best;
use super::state::Trainer;
use crate::domain::{Fold64, HealthState};
use crate::model::error::Error;
use crate::model::language_model::Reading;
use crate::model::trained::{TRAINED_FILE, Trained};
use crate::model::tune::Tune;
use crate::nn::policy::Policy;
use candle_core::DType;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

const OPTIM: &str = "optim.safetensors";
const STATE: &str = "trainer.json";

/// `trainer.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TrainerState {
    /// Version of this file.
    format: u32,
    /// Steps done.
    step: u64,
    /// Full epochs.
    epoch: u64,
    /// Steps done in this epoch.
    cursor: u64,
    /// Optimizer updates.
    updates: u64,
    /// Seed of order, adapters and dropout.
    seed: u64,
    /// Tokens trained on.
    tokens: u64,
    /// Updates with a learning rate above 0, counted up to 2.
    moves: u64,
    /// The best evaluation so far.
    #[serde(default)]
    best: Best,
    /// Hash over method, model, hyper-parameters and data.
    run: String,
    /// Hash of the trained tensors.
    weights: String,
    /// What the method adds: a reward model's calibration.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    notes: serde_json::Value,
    /// Tokenizer, template and EOS of a reward model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reading: Option<Reading>,
    /// The state of an online method: its round of answers and its recipe's state.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    online: serde_json::Value,
    /// The health rules' state, so that a resumed run repeats no finding.
    #[serde(default)]
    health: HealthState,
}

impl Trainer {
    /// Writes a checkpoint into the existing folder `dir`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        Trained::write(dir, &self.tune, self.policy.trainables())?;
        self.optimizer.save(self.policy.trainables(), &dir.join(OPTIM))?;
        let per_epoch = self.batches.per_epoch();
        let state = TrainerState {
            format: 1,
            step: self.step,
            epoch: self.step / per_epoch,
            cursor: self.step % per_epoch,
            updates: self.optimizer.count(),
            seed: self.batches.seed,
            tokens: self.tokens,
            moves: self.check.moves,
            best: self.best,
            run: self.run_hash(),
            weights: self.state_hash()?,
            notes: self.recipe.notes(),
            reading: self.reading.clone(),
            online: self.rollouts.as_ref().map_or(serde_json::Value::Null, |r| r.state(self.recipe.as_ref())),
            health: self.health.state().clone(),
        };
        let path = dir.join(STATE);
        let text = serde_json::to_string_pretty(&state).map_err(|e| Error::file(&path, e))?;
        std::fs::write(&path, text + "\n").map_err(|e| Error::write(&path, &e))
    }

    /// SHA-256 over the trained tensors, names and values, in hex: equal for equal runs on the CPU.
    ///
    /// # Errors
    /// When the tensors cannot be read back.
    pub fn state_hash(&self) -> Result<String, Error> {
        weights_hash(&self.policy)
    }

    /// Restores a checkpoint that [`Trainer::save`] wrote in this run.
    pub(super) fn restore(&mut self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(STATE);
        let state = read_state(dir)?;
        if state.run != self.run_hash() {
            return Err(Error::file(
                &path,
                "belongs to a run with another method, model, data or hyper-parameters; start a new run instead",
            ));
        }
        Trained::read(dir)?.put_on(self.policy.trainables())?;
        if self.state_hash()? != state.weights {
            return Err(Error::file(&dir.join(TRAINED_FILE), "does not match the hash of its tensors in trainer.json"));
        }
        self.optimizer.restore(self.policy.trainables(), &dir.join(OPTIM), state.updates)?;
        self.step = state.step;
        self.tokens = state.tokens;
        self.check.moves = state.moves;
        self.best = state.best;
        self.recipe.restore_notes(&state.notes);
        if let Some(rollouts) = &mut self.rollouts {
            rollouts.restore(self.recipe.as_mut(), &state.online)?;
        }
        self.health.restore(state.health);
        self.initial_samples_shown = state.step > 0;
        Ok(())
    }

    /// Hash over everything that determines a step.
    fn run_hash(&self) -> String {
        let mut hash = Fold64::default();
        hash.add(self.spec.method.as_bytes());
        hash.add(self.spec.init.as_ref().map_or("", |r| r.as_str()).as_bytes());
        for (key, value) in &self.spec.params.0 {
            hash.add(format!("{key}={value}").as_bytes());
        }
        let mixed = self.mix.iter().flat_map(|m| &m.examples);
        for example in self.train.examples.iter().chain(mixed) {
            hash.add(example.id.as_str().as_bytes());
            for row in &example.rows {
                hash.add(&row.ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
        for (name, var) in self.policy.trainables() {
            hash.add(format!("{name} {:?}", var.dims()).as_bytes());
        }
        hash.hex()
    }
}

/// The method's notes in checkpoint folder `dir` (null for none), and a reward model's tokenizer, template and EOS.
///
/// # Errors
/// When the folder contains no `trainer.json`.
pub(crate) fn result_notes(dir: &Path) -> Result<(serde_json::Value, Option<Reading>), Error> {
    let state = read_state(dir)?;
    Ok((state.notes, state.reading))
}

fn read_state(dir: &Path) -> Result<TrainerState, Error> {
    let path = dir.join(STATE);
    let text = crate::foreign::read_text(&path, crate::foreign::ROWS).map_err(|e| Error::read(&path, &e))?;
    serde_json::from_str(&text).map_err(|e| Error::file(&path, format!("is not a checkpoint's state: {e}")))
}

/// Loads an earlier run's trained tensors into the policy.
///
/// # Errors
/// When the checkpoint cannot be read or has other adapter settings: another scale is another model.
pub(super) fn load_initial_weights(policy: &Policy, tune: &Tune, dir: &Path) -> Result<(), Error> {
    let trained = Trained::read(dir)?;
    let alike = match (&trained.tune, tune) {
        (Tune::Lora(a), Tune::Lora(b)) => {
            a.scale() == b.scale() && a.r == b.r && a.dora == b.dora && a.targets == b.targets && a.modules == b.modules
        }
        (a, b) => a == b,
    };
    if !alike {
        return Err(Error::file(
            dir,
            "has a different tune, lora_r, lora_alpha, use_rslora, use_dora or lora_target_modules; a run that starts from it needs \
             the same values",
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
