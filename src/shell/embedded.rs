//! The embedded model `tiny`, about a million parameters, so that everything works offline.
//!
//! Owns unpacking it into the data folder, where workers and other programs read it like any other model. The folder's
//! name has a digest of its files: another version of the binary adds its own folder, and runs on the old model keep
//! theirs.

use super::bundle::write;
use super::error::{Error, Result};
use crate::foreign;
use crate::storage::sha256;
use std::fs;
use std::path::{Path, PathBuf};

/// The model's name on the command line.
pub const NAME: &str = "tiny";

/// Hex digits of the digest in the folder's name.
const DIGITS: usize = 12;

/// Name and content of its files; empty in a build without `assets/tiny/`.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Unpacks the model into `folder` if it is missing and returns its path. None if the binary has no embedded model.
///
/// # Errors
/// When it cannot be written.
pub fn unpack(folder: &Path) -> Result<Option<PathBuf>> {
    if FILES.is_empty() { Ok(None) } else { unpack_from(FILES, &folder.join(folder_name(FILES))).map(Some) }
}

/// Unpacks the model at `path` if nothing is there and the name is that of this binary's model, or of an older
/// version's. Otherwise does nothing.
///
/// # Errors
/// When it cannot be written.
pub fn restore(path: &Path) -> Result<()> {
    let named = |name: &str| path.file_name().is_some_and(|own| own == name);
    if FILES.is_empty() || path.exists() || !(named(NAME) || named(&folder_name(FILES))) {
        return Ok(());
    }
    unpack_from(FILES, path).map(drop)
}

/// Whether the folder `path` holds this binary's model.
pub fn is_copy(path: &Path) -> bool {
    !FILES.is_empty() && holds(path, FILES)
}

/// The folder's name: the model's, and a digest of its files.
fn folder_name(files: &[(&str, &[u8])]) -> String {
    let line = |(name, bytes): &(&str, &[u8])| format!("{name} {} {}\n", bytes.len(), sha256(bytes));
    let digest = sha256(files.iter().map(line).collect::<String>().as_bytes());
    format!("{NAME}-{}", &digest[..DIGITS])
}

fn unpack_from(files: &[(&str, &[u8])], path: &Path) -> Result<PathBuf> {
    let path = path.to_owned();
    if holds(&path, files) {
        return Ok(path);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    // A hidden name, which the search for models skips; the rename makes the folder appear complete.
    let temp = |what: &str| folder.join(format!(".{NAME}-{what}-{}", std::process::id()));
    let (new, old) = (temp("new"), temp("old"));
    let done = files.iter().try_for_each(|(name, bytes)| write(&new.join(name), bytes)).and_then(|()| {
        // A folder with other files than its name says is replaced; active runs keep their open files.
        if path.exists() {
            fs::rename(&path, &old).map_err(|e| Error::io("replace", &path, e))?;
        }
        fs::rename(&new, &path).map_err(|e| Error::io("create", &path, e))
    });
    for rest in [&new, &old] {
        let _ = fs::remove_dir_all(rest);
    }
    // Another process may have unpacked the same files first.
    if done.is_err() && holds(&path, files) { Ok(path) } else { done.map(|()| path) }
}

/// Whether every file exists with exactly these bytes.
fn holds(path: &Path, files: &[(&str, &[u8])]) -> bool {
    files.iter().all(|(name, bytes)| {
        let path = path.join(name);
        fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64)
            && foreign::read(&path, bytes.len() as u64).is_ok_and(|b| b == *bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &[(&str, &[u8])] = &[("config.json", b"{}"), ("model.safetensors", b"numbers")];

    const OTHER: &[(&str, &[u8])] = &[("config.json", b"{}"), ("model.safetensors", b"NUMBERS")];

    fn lay(files: &[(&str, &[u8])], folder: &Path) -> PathBuf {
        unpack_from(files, &folder.join(folder_name(files))).unwrap()
    }

    #[test]
    fn it_is_unpacked_once_repaired_and_leaves_no_temporary_files() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("models");
        let path = lay(MODEL, &folder);
        let written = fs::metadata(path.join("model.safetensors")).unwrap().modified().unwrap();
        lay(MODEL, &folder);
        assert_eq!(fs::metadata(path.join("model.safetensors")).unwrap().modified().unwrap(), written);
        fs::write(path.join("model.safetensors"), "nothing").unwrap();
        fs::remove_file(path.join("config.json")).unwrap();
        lay(MODEL, &folder);
        assert!(holds(&path, MODEL));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn another_binary_adds_its_folder_and_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let old = lay(MODEL, dir.path());
        let new = lay(OTHER, dir.path());
        assert_ne!(old, new);
        assert!(holds(&old, MODEL) && holds(&new, OTHER));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_missing_folder_is_restored_and_another_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in [NAME.to_owned(), folder_name(FILES)] {
            let path = dir.path().join(name);
            restore(&path).unwrap();
            assert_eq!(is_copy(&path), !FILES.is_empty());
            if path.exists() {
                fs::write(path.join("config.json"), "mine").unwrap();
                restore(&path).unwrap();
                assert_eq!(fs::read(path.join("config.json")).unwrap(), b"mine");
            }
        }
        restore(&dir.path().join("gone")).unwrap();
        assert!(!dir.path().join("gone").exists());
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("file");
        fs::write(&folder, "in the way").unwrap();
        assert!(unpack_from(MODEL, &folder.join(NAME)).unwrap_err().to_string().contains("tiny"));
    }
}
