//! One run's folder: its frozen specification and data, its log, its lock, its control folder and its checkpoints.

use super::asked::AskedFile;
use super::checkpoint::{self, CheckpointDir, CheckpointSearch};
use super::control;
use super::error::{Error, Result};
use super::files::{below_session, create_dir, read_json, sweep};
use super::home::data_root;
use super::lock::{Holder, Lock, is_locked, lock_holder};
use super::log::{LogTail, LogWriter};
use crate::domain::{RunId, is_name};
use crate::protocol::{RunCommand, RunEvent, RunSpec};
use std::path::{Path, PathBuf};

/// The folders in a run's own. None may be a link that leads out of its session's folder.
const FOLDERS: [&str; 3] = ["metrics", "ctl", "ckpt"];

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
        std::fs::metadata(&spec).map_err(|e| Error::io("read", &spec, e))?;
        for folder in FOLDERS {
            below_session(&path.join(folder)).map_err(|e| Error::io("open", &path, e))?;
        }
        Ok(Self { path })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's id: its folder's name.
    #[must_use]
    pub fn id(&self) -> RunId {
        RunId::new(self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
    }

    /// The session's folder it belongs to.
    #[must_use]
    pub fn session_path(&self) -> &Path {
        self.path.parent().and_then(Path::parent).unwrap_or(&self.path)
    }

    /// Its specification. The names in it are checked: none escapes the folder it is joined to.
    ///
    /// # Errors
    /// When `spec.json` cannot be read, or a name in it could escape its folder.
    pub fn spec(&self) -> Result<RunSpec> {
        let path = self.path.join("spec.json");
        let spec: RunSpec = read_json(&path, "a run's specification")?;
        match spec.unsafe_name() {
            None => Ok(spec),
            Some((what, name)) => Err(Error::ForeignName { path, what, name: name.into() }),
        }
    }

    /// Another run of the same session.
    ///
    /// # Errors
    /// When there is none, or the id is not a valid name.
    pub fn sibling(&self, id: &RunId) -> Result<Self> {
        let name = id.name();
        if !is_name(name) {
            return Err(Error::ForeignName { path: self.path.join("spec.json"), what: "a run", name: name.into() });
        }
        Self::open(&self.session_path().join("runs").join(name))
    }

    /// Its specification with the models' paths resolved on this machine.
    ///
    /// # Errors
    /// When `spec.json` cannot be read.
    pub fn resolved_spec(&self) -> Result<RunSpec> {
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
    /// When `spec.json`, which names the file, cannot be read.
    pub fn data_path(&self) -> Result<PathBuf> {
        let spec = self.spec()?;
        Ok(self.path.join(spec.data().first().map_or("data.jsonl", |data| data.file.as_str())))
    }

    /// Number of the session's last record when its data was taken, from its specification; 0 if a `.recipe` file in
    /// place of the data says that the session was shrunk since.
    #[must_use]
    pub fn launch_seq(&self, spec: &RunSpec) -> u64 {
        let has_data = |file: &str| !self.path.join(format!("{file}.recipe")).is_file();
        spec.data().into_iter().filter(|data| has_data(&data.file)).map(|data| data.session_seq).max().unwrap_or(0)
    }

    /// A reader at the beginning of its log.
    #[must_use]
    pub fn tail(&self) -> LogTail<RunEvent> {
        LogTail::new(&self.metrics())
    }

    /// Its log, repaired and open for appending; only the worker may open it.
    ///
    /// # Errors
    /// When it cannot be opened or repaired.
    pub fn writer(&self, lock: &Lock) -> Result<LogWriter<RunEvent>> {
        for dir in [self.metrics(), self.path.join("ctl")] {
            sweep(&dir);
        }
        LogWriter::open(&self.metrics(), &self.session_path().join("quarantine"), lock)
    }

    /// Takes its worker's lock; none when another process holds it.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn lock(&self) -> Result<Option<Lock>> {
        Lock::take(&self.path.join("lock"))
    }

    /// Whether its worker is alive: somebody holds its lock.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_locked(&self.path.join("lock"))
    }

    /// Its worker (or last one), as the lock's text says.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        lock_holder(&self.path.join("lock"))
    }

    /// Posts a command to the control folder. The worker takes it between two steps.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn post(&self, command: RunCommand) -> Result<()> {
        control::post(&self.path.join("ctl"), command)
    }

    /// Takes the waiting commands out of the control folder, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn take_commands(&self) -> Result<Vec<RunCommand>> {
        control::take(&self.path.join("ctl"))
    }

    /// Discards the commands posted before a time (milliseconds since 1970): they were meant for a worker that is gone.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn discard_commands(&self, before_ms: u64) -> Result<()> {
        control::discard(&self.path.join("ctl"), before_ms)
    }

    /// The worker's stdout and stderr.
    #[must_use]
    pub fn worker_log(&self) -> PathBuf {
        self.path.join("worker.log")
    }

    /// Its complete checkpoints, oldest step first. Files are not hashed here.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointDir>> {
        checkpoint::list(&self.ckpt())
    }

    /// The newest checkpoint whose every byte matches its manifest, and why newer ones were passed over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn latest_checkpoint(&self) -> Result<CheckpointSearch> {
        checkpoint::latest(&self.ckpt())
    }

    /// The checkpoint marked as the best, if every byte matches its manifest.
    #[must_use]
    pub fn best_checkpoint(&self) -> CheckpointSearch {
        checkpoint::best(&self.ckpt())
    }

    /// Writes a checkpoint: `fill` writes its files into the given folder; they become visible together, durably.
    ///
    /// # Errors
    /// What `fill` returns, or when the files cannot be saved. Then older checkpoints are untouched.
    pub fn write_checkpoint<E: From<Error>>(
        &self,
        step: u64,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<CheckpointDir, E> {
        checkpoint::write(&self.ckpt(), step, fill)
    }

    /// Marks a checkpoint as the best so far.
    ///
    /// # Errors
    /// When it does not exist or the mark cannot be written.
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

    /// A folder for derived data that the session's runs share, such as reference log-probs. It may be deleted when no
    /// run is active.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn cache(&self) -> Result<PathBuf> {
        let path = self.session_path().join("cache");
        create_dir(&path)?;
        Ok(path)
    }

    /// What its asking process keeps of servers' answers.
    #[must_use]
    pub fn asked(&self) -> AskedFile {
        AskedFile::new(&self.path)
    }

    pub(super) fn metrics(&self) -> PathBuf {
        self.path.join("metrics")
    }

    pub(super) fn ckpt(&self) -> PathBuf {
        self.path.join("ckpt")
    }
}
