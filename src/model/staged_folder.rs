//! Model folders written atomically: in a temporary folder beside the target, then renamed.
//!
//! Owns the temporary folder. Refuses a target that is not empty.

use super::error::Error;
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder being written; removed unless finished.
pub(crate) struct StagedFolder {
    out: PathBuf,
    part: TempDir,
}

impl StagedFolder {
    /// A temporary folder beside `out`.
    ///
    /// # Errors
    /// When `out` is not empty, or a folder cannot be created beside it.
    pub(crate) fn new(out: &Path) -> Result<Self, Error> {
        // A link to a folder stays; its target is written.
        let out = std::fs::canonicalize(out).unwrap_or_else(|_| out.to_owned());
        let empty = std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_none());
        if !empty && std::fs::symlink_metadata(&out).is_ok() {
            return Err(Error::file(&out, "exists and is not an empty folder; choose another path"));
        }
        let parent = out.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|e| Error::file(parent, format!("cannot be made: {e}")))?;
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        // A unique name, and permissions by the user's umask.
        let part = tempfile::Builder::new()
            .prefix(&format!(".{name}-part-"))
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(parent)
            .map_err(|e| Error::file(&out, format!("cannot be made: {e}")))?;
        Ok(Self { out, part })
    }

    /// The path to write the file `name` to.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.part.path().join(name)
    }

    /// Writes a JSON file.
    pub(crate) fn json(&self, name: &str, value: &Value) -> Result<(), Error> {
        let path = self.file(name);
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(&path, e))?;
        std::fs::write(&path, text + "\n").map_err(|e| Error::write(&path, &e))
    }

    /// Renames the folder to its target.
    pub(crate) fn finish(self) -> Result<(), Error> {
        // The target may be an empty folder; others were refused.
        let _ = std::fs::remove_dir(&self.out);
        std::fs::rename(self.part.path(), &self.out)
            .map_err(|e| Error::file(&self.out, format!("cannot be made: {e}")))?;
        // It was renamed: there is nothing to remove.
        let _ = self.part.keep();
        Ok(())
    }
}
