//! What a checkpoint holds, and going on from one exactly.
//!
//! Owns three files in the folder it is given: `model.safetensors` (the trained tensors by name), `optim.safetensors` (AdamW's
//! moments) and `trainer.json` (where the run is). Making the folder appear whole and durably is the caller's. Refuses a
//! checkpoint of another run.

use super::options::tune_of;
use super::saved::{STATE, State, read_state, weights_hash};
use super::state::Trainer;
use crate::domain::Fold64;
use crate::model::error::Error;
use crate::model::trained::{TRAINED_FILE, Trained};
use std::path::Path;

const OPTIM: &str = "optim.safetensors";

impl Trainer {
    /// Writes all that is needed to go on from here into the folder `dir`, which exists.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        Trained::write(dir, &tune_of(&self.spec.params), self.policy.trainables())?;
        self.optimizer.save(self.policy.trainables(), &dir.join(OPTIM))?;
        let per_epoch = self.batches.per_epoch();
        let state = State {
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
            notes: self.way.notes(),
            reading: self.reading.clone(),
            online: self.way.state(),
            health: self.health.memory().clone(),
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

    /// Goes on from a checkpoint that [`Trainer::save`] wrote in this very run.
    pub(super) fn restore(&mut self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(STATE);
        let state = read_state(dir)?;
        if state.run != self.run_hash() {
            return Err(Error::file(
                &path,
                "was made with another method, model, data or other hyper-parameters; start a new run instead",
            ));
        }
        Trained::read(dir)?.put_on(self.policy.trainables())?;
        if self.state_hash()? != state.weights {
            return Err(Error::file(
                &dir.join(TRAINED_FILE),
                "does not hold the tensors that trainer.json says it does",
            ));
        }
        self.optimizer.restore(self.policy.trainables(), &dir.join(OPTIM), state.updates)?;
        self.step = state.step;
        self.tokens = state.tokens;
        self.check.moves = state.moves;
        self.best = state.best;
        self.way.recall(&state.notes);
        self.way.restore(&state.online)?;
        self.health.restore(state.health);
        self.introduced = state.step > 0;
        Ok(())
    }

    /// Hash over everything that decides what a step does.
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
