//! The model that the binary carries: `tiny`, about a million parameters, so that everything runs at once and offline.
//!
//! Owns laying its folder down below the data folder, where workers and other programs read it as any other. Refuses to be
//! anything but what this binary carries: a folder of its name that differs is replaced as a whole.

use super::bundle::write;
use super::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The name it is asked for by, and its folder's.
pub const NAME: &str = "tiny";

/// Name and content of its files; none in a build without `assets/tiny/`.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Where the model lies below `folder`, after putting it there if it was not; none when this binary carries none.
///
/// # Errors
/// When it cannot be written.
pub fn lay_down(folder: &Path) -> Result<Option<PathBuf>> {
    if FILES.is_empty() { Ok(None) } else { lay_down_from(FILES, folder).map(Some) }
}

fn lay_down_from(files: &[(&str, &[u8])], folder: &Path) -> Result<PathBuf> {
    let place = folder.join(NAME);
    if holds(&place, files) {
        return Ok(place);
    }
    // Hidden names, which no search for models looks at; the folder appears whole or not at all.
    let temp = |what: &str| folder.join(format!(".{NAME}-{what}-{}", std::process::id()));
    let (new, old) = (temp("new"), temp("old"));
    let done = files.iter().try_for_each(|(name, bytes)| write(&new.join(name), bytes)).and_then(|()| {
        // A run that is going keeps the files it has opened.
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

    #[test]
    fn it_is_laid_down_once_repaired_and_leaves_no_traces() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("models");
        let place = lay_down_from(MODEL, &folder).unwrap();
        assert_eq!(place, folder.join("tiny"));
        let written = fs::metadata(place.join("model.safetensors")).unwrap().modified().unwrap();
        lay_down_from(MODEL, &folder).unwrap();
        assert_eq!(fs::metadata(place.join("model.safetensors")).unwrap().modified().unwrap(), written);
        fs::write(place.join("model.safetensors"), "nothing").unwrap();
        fs::remove_file(place.join("config.json")).unwrap();
        lay_down_from(MODEL, &folder).unwrap();
        assert!(holds(&place, MODEL));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("file");
        fs::write(&folder, "in the way").unwrap();
        assert!(lay_down_from(MODEL, &folder).unwrap_err().to_string().contains("tiny"));
    }
}
