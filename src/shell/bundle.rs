//! The sessions that the binary carries: made by real use, committed in `sessions/`, opened by `tiebreak demo`.
//!
//! Owns unpacking a copy. Refuses to open the committed files themselves: whatever is done in the demo is done to the copy.

use super::error::{Error, Result};
use crate::storage::{Home, SessionDir};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Path within `sessions/` and content of every file, sorted.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// The names of the bundled sessions.
#[must_use]
pub fn names() -> Vec<&'static str> {
    names_in(FILES)
}

fn names_in(files: &[(&'static str, &[u8])]) -> Vec<&'static str> {
    let mut names: Vec<&str> = files.iter().filter_map(|(path, _)| path.split('/').next()).collect();
    names.dedup();
    names
}

/// Unpacks a fresh copy under the data folder's cache and gives it back. A copy that is open elsewhere stays as it is, and
/// another one is made beside it.
///
/// # Errors
/// When the files cannot be written.
pub fn unpack(home: &Home, name: &str) -> Result<SessionDir> {
    unpack_from(FILES, home, name)
}

/// Where a fresh demo of that name can be made: its last copy is taken away, unless it is open elsewhere.
///
/// # Errors
/// When the old copy cannot be looked at or deleted.
pub fn fresh(home: &Home, name: &str) -> Result<PathBuf> {
    let base = home.cache().join("demo");
    let mut target = base.join(name);
    let mut number = 1;
    while let Ok(open) = SessionDir::open(&target) {
        // Held only while the old copy is taken away: nobody can begin to write to it meanwhile.
        let lock = open.lock()?;
        if lock.is_some() {
            fs::remove_dir_all(&target).map_err(|e| Error::io("delete", &target, e))?;
            break;
        }
        number += 1;
        target = base.join(format!("{name}-{number}"));
    }
    Ok(target)
}

fn unpack_from(files: &[(&str, &[u8])], home: &Home, name: &str) -> Result<SessionDir> {
    let target = fresh(home, name)?;
    for (path, bytes) in files {
        if let Some(rest) = path.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')) {
            write(&target.join(rest), bytes)?;
        }
    }
    Ok(SessionDir::open(&target)?)
}

/// Writes a private file and the folders it lies in.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::io("create", dir, e))?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &[u8] = br#"{"format":1,"name":"a","model":"m","created_ms":1,"app":"t"}"#;
    const TWO: &[(&str, &[u8])] =
        &[("a/events/000001.jsonl", b""), ("a/session.json", META), ("ab/session.json", META)];

    #[test]
    fn every_demo_begins_afresh_and_leaves_an_open_one_alone() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(root.path())).unwrap();
        assert_eq!(names_in(TWO), ["a", "ab"]);
        let first = unpack_from(TWO, &home, "a").unwrap();
        fs::write(first.path().join("trace"), "x").unwrap();
        let again = unpack_from(TWO, &home, "a").unwrap();
        assert_eq!(first.path(), again.path());
        assert!(!again.path().join("trace").exists());
        let lock = again.lock().unwrap();
        let beside = unpack_from(TWO, &home, "a").unwrap();
        assert_ne!(beside.path(), again.path());
        drop(lock);
    }

    #[test]
    fn every_bundled_session_opens() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(root.path())).unwrap();
        for name in names() {
            unpack(&home, name).unwrap().state().unwrap();
        }
    }
}
