//! Model folders that are whole or absent: written beside their place and renamed.
//!
//! Owns the folder in the making. Refuses to write into a folder that holds something.

use super::error::Error;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder in the making; what is unfinished is removed.
pub(crate) struct Place {
    out: PathBuf,
    part: PathBuf,
    done: bool,
}

impl Place {
    /// A folder beside `out`.
    ///
    /// # Errors
    /// When `out` holds something, or nothing can be made beside it.
    pub(crate) fn new(out: &Path) -> Result<Self, Error> {
        let holds = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
        if holds || out.is_file() {
            return Err(Error::file(out, "exists and is not an empty folder; name another place"));
        }
        let mut name = out.file_name().map_or_else(|| "merged".into(), std::ffi::OsStr::to_os_string);
        name.push(format!(".part-{}", std::process::id()));
        let part = out.with_file_name(name);
        std::fs::create_dir_all(&part).map_err(|e| Error::file(&part, format!("cannot be made: {e}")))?;
        Ok(Self { out: out.into(), part, done: false })
    }

    /// Where the file `name` is to be written.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.part.join(name)
    }

    /// Writes a JSON file.
    pub(crate) fn json(&self, name: &str, value: &Value) -> Result<(), Error> {
        let path = self.file(name);
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::file(&path, e))?;
        std::fs::write(&path, text + "\n").map_err(|e| Error::write(&path, &e))
    }

    /// Gives the folder its name.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        // An empty folder may stand in the way; a full one was refused.
        let _ = std::fs::remove_dir(&self.out);
        std::fs::rename(&self.part, &self.out).map_err(|e| Error::file(&self.out, format!("cannot be made: {e}")))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_dir_all(&self.part);
        }
    }
}
