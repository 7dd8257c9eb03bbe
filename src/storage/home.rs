//! The data folder: how it is resolved, and the paths in it.

use super::error::{Error, Result};
use super::files::{create_dir, sweep};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The data folder. Its subfolders are created on first use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    /// Whether it is the platform's data folder, and not one that was named.
    is_default: bool,
}

impl Home {
    /// The folder given, else `TIEBREAK_HOME`, else the platform's data folder.
    ///
    /// # Errors
    /// When the platform has none, or when it is not a folder.
    pub fn resolve(given: Option<&Path>) -> Result<Self> {
        let named = given.map(Path::to_owned).or_else(|| variable("TIEBREAK_HOME"));
        let is_default = named.is_none();
        let root = named
            .or_else(|| directories::ProjectDirs::from("", "", "tiebreak").map(|d| d.data_dir().to_owned()))
            .ok_or(Error::NoHome)?;
        // Absolute, since a worker has another working directory.
        let root = std::path::absolute(&root).map_err(|e| Error::io("find", &root, e))?;
        match std::fs::metadata(&root) {
            Ok(meta) if !meta.is_dir() => Err(Error::NotAFolder(root)),
            _ => Ok(Self { root, is_default }),
        }
    }

    /// Who else may write to the folder, and so replace session files, as a sentence with the remedy; none if nobody may.
    #[must_use]
    pub fn open_to_others(&self) -> Option<String> {
        let mode = std::fs::metadata(&self.root).ok()?.mode() & 0o777;
        let (who, remedy) = match (mode & 0o020 != 0, mode & 0o002 != 0) {
            (false, false) => return None,
            (true, false) => ("its group", "g-w"),
            (false, true) => ("every user of this machine", "o-w"),
            (true, true) => ("its group and every user of this machine", "go-w"),
        };
        let root = self.root.display();
        Some(format!("{root} can be written by {who} (mode {mode:03o}): run `chmod {remedy} {root}`"))
    }

    /// The data folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of the user's settings: `TIEBREAK_CONFIG`, else `config.toml` in a data folder that was named, else in the
    /// platform's folder for settings.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        let platform = || directories::ProjectDirs::from("", "", "tiebreak").map(|dirs| dirs.config_dir().to_owned());
        variable("TIEBREAK_CONFIG").unwrap_or_else(|| {
            let folder = if self.is_default { platform() } else { None };
            folder.as_deref().unwrap_or(&self.root).join("config.toml")
        })
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

/// A path from an environment variable; none where it is unset or empty.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The data folder that contains a session's folder; none for a session elsewhere.
pub(super) fn data_root(session: &Path) -> Option<&Path> {
    let sessions = session.parent().filter(|p| p.file_name().is_some_and(|name| name == "sessions"))?;
    sessions.parent()
}
