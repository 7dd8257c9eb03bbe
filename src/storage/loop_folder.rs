//! The folder of a loop's process: its lock, its control folder and its log of messages.
//!
//! Owns nothing of the loop: what it is and how far it is stands in the session. The folder may be deleted when the process has
//! ended.

use super::control;
use super::error::Result;
use super::files::{create_dir, names};
use super::lock::{Holder, Lock, is_locked, lock_holder};
use super::session::SessionDir;
use crate::protocol::RunCommand;
use std::path::PathBuf;

/// The folder of a loop's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopFolder {
    path: PathBuf,
}

impl LoopFolder {
    /// The folder of the loop of that name.
    #[must_use]
    pub fn of(dir: &SessionDir, name: &str) -> Self {
        Self { path: dir.path().join("loops").join(name) }
    }

    /// The names of the loops that have a folder.
    ///
    /// # Errors
    /// When the folder of loops cannot be listed.
    pub fn all(dir: &SessionDir) -> Result<Vec<String>> {
        let path = dir.path().join("loops");
        if !path.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = names(&path)?;
        found.retain(|name| !name.starts_with('.'));
        found.sort();
        Ok(found)
    }

    /// Takes the lock of the loop's process; none when another process holds it.
    ///
    /// # Errors
    /// When the folder or the lock file cannot be created.
    pub fn lock(&self) -> Result<Option<Lock>> {
        create_dir(&self.path)?;
        Lock::take(&self.path.join("lock"))
    }

    /// Whether its process is alive.
    #[must_use]
    pub fn is_running(&self) -> bool {
        is_locked(&self.path.join("lock"))
    }

    /// Its process, or the last one.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        lock_holder(&self.path.join("lock"))
    }

    /// Posts a command to its process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn post(&self, command: RunCommand) -> Result<()> {
        control::post(&self.path.join("ctl"), command)
    }

    /// Takes the waiting commands, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn take_commands(&self) -> Result<Vec<RunCommand>> {
        let path = self.path.join("ctl");
        if path.is_dir() { control::take(&path) } else { Ok(Vec::new()) }
    }

    /// What its process says, where it runs in the background. Creates the folder.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn log(&self) -> Result<PathBuf> {
        create_dir(&self.path)?;
        Ok(self.path.join("loop.log"))
    }
}
