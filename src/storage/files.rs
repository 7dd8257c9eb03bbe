//! Files and folders that are private and durable: modes, fsync, atomic replacement, clocks for names.

use super::error::{Error, Result};
use super::fault::pass;
use serde::de::DeserializeOwned;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock in milliseconds since 1970, as records and specifications hold it.
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Bytes free for this user on the disk where that folder is or will be; none where the system does not say.
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|p| rustix::fs::statvfs(p).ok()).map(|s| s.f_bavail * s.f_frsize)
}

/// A number that no other call in this process gets, for names of temporary files.
pub(super) fn ticket() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Makes a folder and its parents, private to the user.
pub(super) fn create_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| Error::io("create", path, e))
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    pass("sync").and_then(|()| File::open(path)).and_then(|f| f.sync_all()).map_err(|e| Error::io("save", path, e))
}

/// A new private file, empty and open for writing. Fails when there is one.
pub(super) fn create_new(path: &Path) -> Result<File> {
    pass("create")
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))
        .map_err(|e| Error::io("create", path, e))
}

/// Writes a new private file and makes its bytes durable (its name is not yet: see [`sync_dir`]).
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create_new(path)?;
    pass("write")
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| pass("sync"))
        .and_then(|()| file.sync_all())
        .map_err(|e| Error::io("write", path, e))
}

/// Replaces a file in one step: a reader sees the old bytes or the new ones, also after a power cut when `durable`.
pub(super) fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    // A bare file name has the empty path as its parent, which cannot be opened.
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = temp_in(dir, "replace");
    let written = (|| {
        let mut file = create_new(&temp)?;
        pass("write").and_then(|()| file.write_all(bytes)).map_err(|e| Error::io("write", path, e))?;
        if durable {
            pass("sync").and_then(|()| file.sync_all()).map_err(|e| Error::io("save", path, e))?;
        }
        pass("rename").and_then(|()| std::fs::rename(&temp, path)).map_err(|e| Error::io("replace", path, e))
    })();
    if written.is_err() {
        // The error that counts is the one above; a temporary file left behind is only untidy.
        let _ = pass("remove").and_then(|()| std::fs::remove_file(&temp));
    }
    written?;
    if durable { sync_dir(dir) } else { Ok(()) }
}

/// A name in `dir` that nobody else uses, hidden from listings.
pub(super) fn temp_in(dir: &Path, what: &str) -> PathBuf {
    dir.join(format!(".tmp-{what}-{}-{}", std::process::id(), ticket()))
}

/// Reads a JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Json { path: path.to_owned(), what, reason: e.to_string() })
}

/// The names in a folder, sorted; none when there is no folder. Names that are not UTF-8 are not ours.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("list", dir, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
