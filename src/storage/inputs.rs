//! A run's record of its inputs, and its own copies of the checkpoints that it needs of other runs.
//!
//! Owns `inputs.json` and the folder `inputs/` of a run. Refuses to judge what differs: it only says what is there.
//!
//! **Invariant.** A checkpoint that a run began with stays with it: the other run may go on, prune or be deleted.

use super::checkpoint::{self, Checkpoint, Found, MANIFEST, sha256};
use super::error::{Error, Result};
use super::files::{create_dir, names, read_json, replace, sync_dir, temp_in};
use super::run::RunDir;
use super::session::data_root;
use crate::protocol::{CheckpointInput, CheckpointRole, Inputs};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files of a checkpoint that only the run which wrote it needs.
const OWN: &str = "optim.safetensors";

/// The part of a checkpoint's manifest that names its files.
#[derive(Deserialize)]
struct Files {
    files: BTreeMap<String, Sum>,
}

#[derive(Deserialize)]
struct Sum {
    size: u64,
    sha256: String,
}

/// SHA-256 over names, sizes and digests of a checkpoint's files, as its manifest says them.
///
/// # Errors
/// When the manifest does not read.
pub fn digest_of(checkpoint: &Path) -> Result<String> {
    let manifest: Files = read_json(&checkpoint.join(MANIFEST), "a checkpoint's manifest")?;
    let line = |(name, sum): (&String, &Sum)| format!("{name} {} {}\n", sum.size, sum.sha256);
    Ok(sha256(manifest.files.iter().map(line).collect::<String>().as_bytes()))
}

impl RunDir {
    /// The inputs as the run's first worker recorded them; none before that.
    ///
    /// # Errors
    /// When `inputs.json` is there and does not read.
    pub fn recorded_inputs(&self) -> Result<Option<Inputs>> {
        let path = self.inputs_file();
        if path.exists() { read_json(&path, "a run's inputs").map(Some) } else { Ok(None) }
    }

    /// Records the inputs, durably.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record_inputs(&self, inputs: &Inputs) -> Result<()> {
        let path = self.inputs_file();
        let wrong = |e: serde_json::Error| Error::Json { path: path.clone(), what: "JSON", reason: e.to_string() };
        let mut bytes = serde_json::to_vec_pretty(inputs).map_err(wrong)?;
        bytes.push(b'\n');
        replace(&path, &bytes, true)
    }

    /// The checkpoint of that step, if its every byte is what its manifest says.
    #[must_use]
    pub fn checkpoint_at(&self, step: u64) -> Found {
        checkpoint::at(&self.ckpt(), step)
    }

    /// The folder of the run's own copy of a recorded checkpoint, if every byte of it is what it was; none before
    /// [`RunDir::hold`].
    #[must_use]
    pub fn held(&self, recorded: &CheckpointInput) -> Option<PathBuf> {
        let path = self.held_place(recorded.role);
        let manifest: Files = read_json(&path.join(MANIFEST), "a checkpoint's manifest").ok()?;
        let whole = |(name, sum): (&String, &Sum)| {
            name == OWN || checkpoint::sha256_of(&path.join(name)).is_ok_and(|sha256| sha256 == sum.sha256)
        };
        (digest_of(&path).ok()? == recorded.digest && manifest.files.iter().all(whole)).then_some(path)
    }

    /// Keeps a checkpoint of another run for this one, by hard links where the disk has them: no byte is written twice, and
    /// the bytes stay when the other run deletes its own names for them.
    ///
    /// # Errors
    /// When a file can be neither linked nor copied.
    pub fn hold(&self, role: CheckpointRole, from: &Checkpoint) -> Result<PathBuf> {
        let place = self.held_place(role);
        let dir = self.path().join("inputs");
        create_dir(&dir)?;
        // What a worker left that died here; the holder of the run's lock is the only one to write.
        for left in names(&dir)?.iter().filter(|name| name.starts_with(".tmp-")) {
            let left = dir.join(left);
            std::fs::remove_dir_all(&left).map_err(|e| Error::io("remove", &left, e))?;
        }
        let temp = temp_in(&dir, role.word());
        create_dir(&temp)?;
        let manifest: Files = read_json(&from.path.join(MANIFEST), "a checkpoint's manifest")?;
        let kept = manifest.files.keys().map(String::as_str).filter(|name| *name != OWN);
        for name in kept.chain([MANIFEST]) {
            let (old, new) = (from.path.join(name), temp.join(name));
            std::fs::hard_link(&old, &new)
                .or_else(|_| std::fs::copy(&old, &new).map(drop))
                .map_err(|e| Error::io("keep", &new, e))?;
        }
        sync_dir(&temp)?;
        if place.exists() {
            std::fs::remove_dir_all(&place).map_err(|e| Error::io("replace", &place, e))?;
        }
        std::fs::rename(&temp, &place).map_err(|e| Error::io("keep", &place, e))?;
        sync_dir(&dir)?;
        Ok(place)
    }

    /// The folder in which digests of models' files are kept, shared by all sessions of the data folder. It may be deleted at
    /// any time.
    #[must_use]
    pub fn fingerprints(&self) -> PathBuf {
        data_root(self.session_path()).unwrap_or(self.session_path()).join("cache/fingerprints")
    }

    fn inputs_file(&self) -> PathBuf {
        self.path().join("inputs.json")
    }

    fn held_place(&self, role: CheckpointRole) -> PathBuf {
        self.path().join("inputs").join(role.word())
    }
}
