//! The model that the binary carries: `tiny`, about a million parameters, so that everything runs at once and offline.
//!
//! Owns laying its folder down below the data folder, where workers and other programs read it as any other. The folder is
//! named by a digest of what is in it: another version of the binary adds its own folder, and runs on the old one keep theirs.

use super::bundle::write;
use super::error::{Error, Result};
use crate::storage::sha256;
use std::fs;
use std::path::{Path, PathBuf};

/// The name it is asked for by.
pub const NAME: &str = "tiny";

/// Hex digits of the digest that the folder's name carries.
const DIGITS: usize = 12;

/// Name and content of its files; none in a build without `assets/tiny/`.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Where the model lies below `folder`, after putting it there if it was not; none when this binary carries none.
///
/// # Errors
/// When it cannot be written.
pub fn lay_down(folder: &Path) -> Result<Option<PathBuf>> {
    if FILES.is_empty() { Ok(None) } else { lay_down_from(FILES, &folder.join(folder_name(FILES))).map(Some) }
}

/// Puts the model at `place` if nothing is there and it is this binary's: its folder's name, or the one that older versions
/// gave it. Anything else is left alone.
///
/// # Errors
/// When it cannot be written.
pub fn restore(place: &Path) -> Result<()> {
    let named = |name: &str| place.file_name().is_some_and(|own| own == name);
    if FILES.is_empty() || place.exists() || !(named(NAME) || named(&folder_name(FILES))) {
        return Ok(());
    }
    lay_down_from(FILES, place).map(drop)
}

/// Whether the folder `place` is this binary's model under the name that older versions gave it.
pub fn is_copy(place: &Path) -> bool {
    !FILES.is_empty() && holds(place, FILES)
}

/// The folder's name: the model's, and a digest of its files.
fn folder_name(files: &[(&str, &[u8])]) -> String {
    let line = |(name, bytes): &(&str, &[u8])| format!("{name} {} {}\n", bytes.len(), sha256(bytes));
    let digest = sha256(files.iter().map(line).collect::<String>().as_bytes());
    format!("{NAME}-{}", &digest[..DIGITS])
}

fn lay_down_from(files: &[(&str, &[u8])], place: &Path) -> Result<PathBuf> {
    let place = place.to_owned();
    if holds(&place, files) {
        return Ok(place);
    }
    let folder = place.parent().unwrap_or(Path::new("/"));
    // Hidden names, which no search for models looks at; the folder appears whole or not at all.
    let temp = |what: &str| folder.join(format!(".{NAME}-{what}-{}", std::process::id()));
    let (new, old) = (temp("new"), temp("old"));
    let done = files.iter().try_for_each(|(name, bytes)| write(&new.join(name), bytes)).and_then(|()| {
        // Only a folder that is not what its name says: a run that is going keeps the files it has opened.
        if place.exists() {
            fs::rename(&place, &old).map_err(|e| Error::io("replace", &place, e))?;
        }
        fs::rename(&new, &place).map_err(|e| Error::io("create", &place, e))
    });
    for rest in [&new, &old] {
        let _ = fs::remove_dir_all(rest);
    }
    // Another process may have been faster with the same files.
    if done.is_err() && holds(&place, files) { Ok(place) } else { done.map(|()| place) }
}

/// Whether every file is there with the very bytes.
fn holds(place: &Path, files: &[(&str, &[u8])]) -> bool {
    files.iter().all(|(name, bytes)| {
        let path = place.join(name);
        fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64) && fs::read(&path).is_ok_and(|b| b == *bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &[(&str, &[u8])] = &[("config.json", b"{}"), ("model.safetensors", b"numbers")];

    const OTHER: &[(&str, &[u8])] = &[("config.json", b"{}"), ("model.safetensors", b"NUMBERS")];

    fn lay(files: &[(&str, &[u8])], folder: &Path) -> PathBuf {
        lay_down_from(files, &folder.join(folder_name(files))).unwrap()
    }

    #[test]
    fn it_is_laid_down_once_repaired_and_leaves_no_traces() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("models");
        let place = lay(MODEL, &folder);
        let written = fs::metadata(place.join("model.safetensors")).unwrap().modified().unwrap();
        lay(MODEL, &folder);
        assert_eq!(fs::metadata(place.join("model.safetensors")).unwrap().modified().unwrap(), written);
        fs::write(place.join("model.safetensors"), "nothing").unwrap();
        fs::remove_file(place.join("config.json")).unwrap();
        lay(MODEL, &folder);
        assert!(holds(&place, MODEL));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn another_binary_adds_its_folder_and_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let old = lay(MODEL, dir.path());
        let new = lay(OTHER, dir.path());
        assert_ne!(old, new);
        assert!(holds(&old, MODEL) && holds(&new, OTHER));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_missing_folder_comes_back_and_another_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in [NAME.to_owned(), folder_name(FILES)] {
            let place = dir.path().join(name);
            restore(&place).unwrap();
            assert_eq!(is_copy(&place), !FILES.is_empty());
            if place.exists() {
                fs::write(place.join("config.json"), "mine").unwrap();
                restore(&place).unwrap();
                assert_eq!(fs::read(place.join("config.json")).unwrap(), b"mine");
            }
        }
        restore(&dir.path().join("gone")).unwrap();
        assert!(!dir.path().join("gone").exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("file");
        fs::write(&folder, "in the way").unwrap();
        assert!(lay_down_from(MODEL, &folder.join(NAME)).unwrap_err().to_string().contains("tiny"));
    }
}
