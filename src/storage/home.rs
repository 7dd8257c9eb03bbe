//! The data folder: how it is resolved, and the paths in it.

use super::error::{Error, Result};
use super::files::{create_dir, sweep};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The data folder. Its subfolders are created on first use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The folder given, else `TIEBREAK_HOME`, else the platform's data folder.
    ///
    /// # Errors
    /// When the platform has none, when it is not a folder, or when every user of the machine may write to it.
    pub fn resolve(given: Option<&Path>) -> Result<Self> {
        let root = given
            .map(Path::to_owned)
            .or_else(|| std::env::var_os("TIEBREAK_HOME").filter(|v| !v.is_empty()).map(PathBuf::from))
            .or_else(|| directories::ProjectDirs::from("", "", "tiebreak").map(|d| d.data_dir().to_owned()))
            .ok_or(Error::NoHome)?;
        // Absolute, since a worker has another working directory.
        let root = std::path::absolute(&root).map_err(|e| Error::io("find", &root, e))?;
        match std::fs::metadata(&root) {
            Ok(meta) if !meta.is_dir() => Err(Error::NotAFolder(root)),
            Ok(meta) if meta.mode() & 0o002 != 0 => Err(Error::WorldWritable(root)),
            _ => Ok(Self { root }),
        }
    }

    /// The folder's mode if its group may write to it, and so replace session files.
    #[must_use]
    pub fn group_may_write(&self) -> Option<u32> {
        let mode = std::fs::metadata(&self.root).ok()?.mode() & 0o777;
        (mode & 0o020 != 0).then_some(mode)
    }

    /// The data folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the sessions.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// The folder of derived data such as reference log-probs; it may be deleted at any time.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Creates the data folder and its subfolders.
    ///
    /// # Errors
    /// When they cannot be created.
    pub fn create(&self) -> Result<()> {
        create_dir(&self.sessions())?;
        sweep(&self.sessions());
        Ok(())
    }
}

/// The data folder that contains a session's folder; none for a session elsewhere.
pub(super) fn data_root(session: &Path) -> Option<&Path> {
    let sessions = session.parent().filter(|p| p.file_name().is_some_and(|name| name == "sessions"))?;
    sessions.parent()
}
