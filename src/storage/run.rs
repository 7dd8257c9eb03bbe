//! One run's folder: its frozen specification and data, its log, its lock, its control folder and its checkpoints.

use super::checkpoint::{self, Checkpoint, Found};
use super::control;
use super::error::{Error, Result};
use super::files::{create_dir, free_bytes, read_json};
use super::lock::{Holder, Lock, is_locked, lock_holder};
use super::log::{LogTail, LogWriter};
use super::session::data_root;
use crate::domain::RunId;
use crate::protocol::{RunCommand, RunEvent, RunSpec, Task};
use std::path::{Path, PathBuf};

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The run in that folder.
    ///
    /// # Errors
    /// When it has no `spec.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        let spec = path.join("spec.json");
        match std::fs::metadata(&spec) {
            Ok(_) => Ok(Self { path }),
            Err(e) => Err(Error::io("read", &spec, e)),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's id: its folder's name.
    #[must_use]
    pub fn id(&self) -> RunId {
        RunId(self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
    }

    /// The session's folder it belongs to.
    #[must_use]
    pub fn session_path(&self) -> &Path {
        self.path.parent().and_then(Path::parent).unwrap_or(&self.path)
    }

    /// What it was asked to do.
    ///
    /// # Errors
    /// When `spec.json` does not read.
    pub fn spec(&self) -> Result<RunSpec> {
        read_json(&self.path.join("spec.json"), "a run's specification")
    }

    /// What it was asked to do, with the models' paths as they are on this machine.
    ///
    /// # Errors
    /// When `spec.json` does not read.
    pub fn placed_spec(&self) -> Result<RunSpec> {
        let mut spec = self.spec()?;
        if let Some(root) = data_root(self.session_path()) {
            for model in spec.models_mut() {
                // Joining an absolute path leaves it as it is.
                model.path = root.join(&model.path).display().to_string();
            }
        }
        Ok(spec)
    }

    /// The data it was launched on.
    ///
    /// # Errors
    /// When `spec.json`, which names the file, does not read.
    pub fn data_path(&self) -> Result<PathBuf> {
        Ok(self.path.join(match self.spec()?.task {
            Task::Train(t) => t.data.file,
            Task::Sample(s) => s.data.file,
        }))
    }

    /// A reader at the beginning of its log.
    #[must_use]
    pub fn tail(&self) -> LogTail<RunEvent> {
        LogTail::new(&self.metrics())
    }

    /// Its log, repaired and open for appending: the worker's alone.
    ///
    /// # Errors
    /// When it cannot be opened or repaired.
    pub fn writer(&self, lock: &Lock) -> Result<LogWriter<RunEvent>> {
        LogWriter::open(&self.metrics(), &self.session_path().join("quarantine"), lock)
    }

    /// The right to be its worker; none when another process is.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(&self) -> Result<Option<Lock>> {
        Lock::take(&self.path.join("lock"))
    }

    /// Whether a worker lives behind it: somebody holds its lock.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_locked(&self.path.join("lock"))
    }

    /// Its worker (or last one), as the lock's text says.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        lock_holder(&self.path.join("lock"))
    }

    /// Puts an order into the control folder. The worker takes it between two steps.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn post(&self, command: RunCommand) -> Result<()> {
        control::post(&self.path.join("ctl"), command)
    }

    /// Takes the waiting orders out of the control folder, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn take_commands(&self) -> Result<Vec<RunCommand>> {
        control::take(&self.path.join("ctl"))
    }

    /// Takes orders given before a moment (milliseconds since 1970) out of the control folder, unread: they were meant for a
    /// worker that is gone.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn discard_commands(&self, before_ms: u64) -> Result<()> {
        control::discard(&self.path.join("ctl"), before_ms)
    }

    /// What the worker printed.
    #[must_use]
    pub fn worker_log(&self) -> PathBuf {
        self.path.join("worker.log")
    }

    /// Its whole checkpoints, oldest step first. Files are not hashed here.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>> {
        checkpoint::list(&self.ckpt())
    }

    /// The newest checkpoint whose every byte is what its manifest says, and the newer ones passed over on the way.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn latest_checkpoint(&self) -> Result<Found> {
        checkpoint::latest(&self.ckpt())
    }

    /// The checkpoint marked as the best, if its every byte is what its manifest says.
    #[must_use]
    pub fn best_checkpoint(&self) -> Found {
        checkpoint::best(&self.ckpt())
    }

    /// Writes a checkpoint: `fill` puts its files into the folder it is given; they become visible together, durably.
    ///
    /// # Errors
    /// What `fill` returns, or when the files cannot be brought to the disk. Older checkpoints are untouched then.
    pub fn write_checkpoint<E: From<Error>>(
        &self,
        step: u64,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Checkpoint, E> {
        checkpoint::write(&self.ckpt(), step, fill)
    }

    /// Marks a checkpoint as the best so far.
    ///
    /// # Errors
    /// When it is not there or the mark cannot be written.
    pub fn mark_best(&self, step: u64) -> Result<()> {
        checkpoint::mark_best(&self.ckpt(), step)
    }

    /// Deletes all but the newest `keep` checkpoints; the best and the latest stay. Leftovers of unfinished ones go too.
    ///
    /// # Errors
    /// When a folder cannot be deleted.
    pub fn prune_checkpoints(&self, keep: usize) -> Result<()> {
        checkpoint::prune(&self.ckpt(), keep)
    }

    /// A folder for derived data that the session's runs share, such as reference log-probs. It may be deleted when no run
    /// lives.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn cache(&self) -> Result<PathBuf> {
        let path = self.session_path().join("cache");
        create_dir(&path)?;
        Ok(path)
    }

    /// An error that says so when the disk below this run has less than a mebibyte left.
    #[must_use]
    pub fn no_room(&self) -> Option<Error> {
        (free_bytes(&self.path)? < 1 << 20).then(|| Error::NoSpace { path: self.path.clone() })
    }

    pub(super) fn metrics(&self) -> PathBuf {
        self.path.join("metrics")
    }

    pub(super) fn ckpt(&self) -> PathBuf {
        self.path.join("ckpt")
    }
}
