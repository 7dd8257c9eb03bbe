//! A run's record of its inputs, and its own copies of other runs' checkpoints.
//!
//! Owns `inputs.json` and the folder `inputs/` of a run. Refuses to judge differences: it only reports what is on disk.
//!
//! **Invariant.** A run keeps the checkpoint it began with, even if the other run continues, prunes or is deleted.

use super::checkpoint::{self, CheckpointDir, CheckpointSearch, MANIFEST, sha256};
use super::error::{Error, Result};
use super::files::{create_dir, names, read_json, replace, sync_dir, temp_in};
use super::home::data_root;
use super::run::RunDir;
use super::session::SessionDir;
use crate::domain::RunId;
use crate::protocol::{CheckpointInput, CheckpointRole, Inputs};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file of a checkpoint that only the run that wrote it needs.
const OPTIMIZER_STATE: &str = "optim.safetensors";

/// The part of a checkpoint's manifest that names its files.
#[derive(Deserialize)]
struct Files {
    files: BTreeMap<String, FileSum>,
}

#[derive(Deserialize)]
struct FileSum {
    size: u64,
    sha256: String,
}

/// SHA-256 over names, sizes and digests of a checkpoint's files, as its manifest lists them.
///
/// # Errors
/// When the manifest cannot be read.
pub fn digest_of(checkpoint: &Path) -> Result<String> {
    let manifest: Files = read_json(&checkpoint.join(MANIFEST), "a checkpoint's manifest")?;
    let line = |(name, sum): (&String, &FileSum)| format!("{name} {} {}\n", sum.size, sum.sha256);
    Ok(sha256(manifest.files.iter().map(line).collect::<String>().as_bytes()))
}

fn fingerprints_beside(session: &Path) -> PathBuf {
    data_root(session).unwrap_or(session).join("cache/fingerprints")
}

impl SessionDir {
    /// See [`RunDir::fingerprints`].
    #[must_use]
    pub fn fingerprints(&self) -> PathBuf {
        fingerprints_beside(self.path())
    }
}

impl RunDir {
    /// The inputs as the run's first worker recorded them; none before that.
    ///
    /// # Errors
    /// When `inputs.json` exists but cannot be read.
    pub fn recorded_inputs(&self) -> Result<Option<Inputs>> {
        let path = self.inputs_file();
        if path.exists() { read_json(&path, "a run's inputs").map(Some) } else { Ok(None) }
    }

    /// Writes the inputs durably.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record_inputs(&self, inputs: &Inputs) -> Result<()> {
        let path = self.inputs_file();
        let invalid = |e: serde_json::Error| Error::Json { path: path.clone(), what: "JSON", reason: e.to_string() };
        let mut bytes = serde_json::to_vec_pretty(inputs).map_err(invalid)?;
        bytes.push(b'\n');
        replace(&path, &bytes, true)
    }

    /// The checkpoint of that step, if every byte matches its manifest.
    #[must_use]
    pub fn checkpoint_at(&self, step: u64) -> CheckpointSearch {
        checkpoint::at(&self.ckpt(), step)
    }

    /// The folder of the run's own copy of a recorded checkpoint, if every byte of it is unchanged; none before
    /// [`RunDir::hold_checkpoint`].
    #[must_use]
    pub fn held_checkpoint(&self, recorded: &CheckpointInput) -> Option<PathBuf> {
        let path = self.held_path(&recorded.role.slot(&recorded.run));
        let manifest: Files = read_json(&path.join(MANIFEST), "a checkpoint's manifest").ok()?;
        let unchanged = |(name, sum): (&String, &FileSum)| {
            name == OPTIMIZER_STATE || checkpoint::sha256_of(&path.join(name)).is_ok_and(|sha256| sha256 == sum.sha256)
        };
        (digest_of(&path).ok()? == recorded.digest && manifest.files.iter().all(unchanged)).then_some(path)
    }

    /// Keeps the checkpoint of run `id` for this run, by hard links where the disk supports them: no byte is written
    /// twice, and the bytes stay when the other run deletes its own links.
    ///
    /// # Errors
    /// When a file can be neither linked nor copied.
    pub fn hold_checkpoint(&self, role: CheckpointRole, id: &RunId, from: &CheckpointDir) -> Result<PathBuf> {
        let kept = self.held_path(&role.slot(id));
        let dir = self.path().join("inputs");
        create_dir(&dir)?;
        // Leftovers of a worker that died here; only the holder of the run's lock writes.
        for left in names(&dir)?.iter().filter(|name| name.starts_with(".tmp-")) {
            let left = dir.join(left);
            std::fs::remove_dir_all(&left).map_err(|e| Error::io("remove", &left, e))?;
        }
        let temp = temp_in(&dir, role.word())?;
        create_dir(&temp)?;
        let manifest: Files = read_json(&from.path.join(MANIFEST), "a checkpoint's manifest")?;
        let names = manifest.files.keys().map(String::as_str).filter(|name| *name != OPTIMIZER_STATE);
        for name in names.chain([MANIFEST]) {
            let (old, new) = (from.path.join(name), temp.join(name));
            std::fs::hard_link(&old, &new)
                .or_else(|_| std::fs::copy(&old, &new).map(drop))
                .map_err(|e| Error::io("copy", &new, e))?;
        }
        sync_dir(&temp)?;
        if kept.exists() {
            std::fs::remove_dir_all(&kept).map_err(|e| Error::io("replace", &kept, e))?;
        }
        std::fs::rename(&temp, &kept).map_err(|e| Error::io("create", &kept, e))?;
        sync_dir(&dir)?;
        Ok(kept)
    }

    /// The cache folder for digests of model files, shared by all sessions of the data folder. It may be deleted at any
    /// time.
    #[must_use]
    pub fn fingerprints(&self) -> PathBuf {
        fingerprints_beside(self.session_path())
    }

    fn inputs_file(&self) -> PathBuf {
        self.path().join("inputs.json")
    }

    fn held_path(&self, slot: &str) -> PathBuf {
        self.path().join("inputs").join(slot)
    }
}
