//! The data folder: where sessions live, and which ones there are.

use super::error::{Error, Result};
use super::files::{create_dir, names, sweep};
use super::session::SessionDir;
use super::summary::SessionSummary;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The data folder. Its folders are made when something is put into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The folder given, else `TIEBREAK_HOME`, else the platform's data folder.
    ///
    /// # Errors
    /// When the platform names none, when it is no folder, or when every user of the machine may write to it.
    pub fn resolve(given: Option<&Path>) -> Result<Self> {
        let root = given
            .map(Path::to_owned)
            .or_else(|| std::env::var_os("TIEBREAK_HOME").filter(|v| !v.is_empty()).map(PathBuf::from))
            .or_else(|| directories::ProjectDirs::from("", "", "tiebreak").map(|d| d.data_dir().to_owned()))
            .ok_or(Error::NoHome)?;
        // Absolute, since a worker's working folder is another one.
        let root = std::path::absolute(&root).map_err(|e| Error::io("find", &root, e))?;
        match std::fs::metadata(&root) {
            Ok(meta) if !meta.is_dir() => Err(Error::NotAFolder(root)),
            Ok(meta) if meta.mode() & 0o002 != 0 => Err(Error::Shared(root)),
            _ => Ok(Self { root }),
        }
    }

    /// The folder's mode where the users of its group may write to it, and so put other files in its sessions' place.
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

    /// Where sessions live.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// Where derived data such as reference log-probs lives; it may be deleted at any time.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Makes the data folder and its places.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn create(&self) -> Result<()> {
        create_dir(&self.sessions())?;
        sweep(&self.sessions());
        Ok(())
    }
}

/// Every session under the data folder, the latest changed first. A folder that cannot be read is left out here and says
/// why when it is opened by name.
///
/// # Errors
/// When the folder of sessions cannot be listed.
pub fn list_sessions(home: &Home) -> Result<Vec<SessionSummary>> {
    let dir = home.sessions();
    let mut out = Vec::new();
    for name in names(&dir)? {
        if name.starts_with('.') {
            continue;
        }
        if let Ok(summary) = SessionDir::open(&dir.join(&name)).and_then(|s| s.summary()) {
            out.push(summary);
        }
    }
    out.sort_by(|a, b| b.changed_ms.cmp(&a.changed_ms).then_with(|| a.name.cmp(&b.name)));
    Ok(out)
}
