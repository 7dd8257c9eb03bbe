//! Checkpoints that are whole or absent: filled in a hidden folder, hashed, made durable, then renamed into sight.

use super::error::{Error, Result};
use super::files::{create_dir, names, read_json, replace, sync_dir, temp_in, wall_ms, write_new};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const MANIFEST: &str = "MANIFEST.json";

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Optimizer steps made when it was written.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// What a search for a usable checkpoint found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The checkpoint, verified byte for byte; none when there is no usable one.
    pub checkpoint: Option<Checkpoint>,
    /// Why newer ones were passed over, one sentence each.
    pub passed_over: Vec<String>,
}

/// `MANIFEST.json`: written last, so that a folder with a right one is whole.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    step: u64,
    written_ms: u64,
    files: BTreeMap<String, FileSum>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileSum {
    size: u64,
    sha256: String,
}

fn folder(step: u64) -> String {
    format!("step-{step:08}")
}

fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

pub(super) fn write<E: From<Error>>(
    dir: &Path,
    step: u64,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Checkpoint, E> {
    create_dir(dir)?;
    let temp = temp_in(dir, &folder(step));
    create_dir(&temp)?;
    let done = fill(&temp).and_then(|()| Ok(publish(dir, &temp, step)?));
    if done.is_err() {
        // The error that counts is the one at hand; `prune` removes what is left here.
        let _ = std::fs::remove_dir_all(&temp);
    }
    done
}

fn publish(dir: &Path, temp: &Path, step: u64) -> Result<Checkpoint> {
    let mut manifest = Manifest { step, written_ms: wall_ms(), files: BTreeMap::new() };
    for name in names(temp)? {
        let path = temp.join(&name);
        let sum = sum_of(&path)?;
        File::open(&path).and_then(|f| f.sync_all()).map_err(|e| Error::io("save", &path, e))?;
        manifest.files.insert(name, sum);
    }
    let bytes = manifest.files.values().map(|f| f.size).sum();
    let path = dir.join(folder(step));
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::io("write", &path, e.into()))?;
    write_new(&temp.join(MANIFEST), &text)?;
    sync_dir(temp)?;
    // After a resume the same step is reached again. The same bytes stay; others make room only once these are ready.
    let same = verify(&path).is_ok_and(|old| old.files == manifest.files);
    if same {
        std::fs::remove_dir_all(temp).map_err(|e| Error::io("remove", temp, e))?;
    } else {
        if path.exists() {
            let aside = temp_in(dir, "replaced");
            std::fs::rename(&path, &aside).map_err(|e| Error::io("replace", &path, e))?;
        }
        std::fs::rename(temp, &path).map_err(|e| Error::io("save", &path, e))?;
        sync_dir(dir)?;
    }
    replace(&dir.join("latest"), format!("{}\n", folder(step)).as_bytes(), true)?;
    Ok(Checkpoint { step, path, bytes })
}

fn sum_of(path: &Path) -> Result<FileSum> {
    let read = |e| Error::io("read", path, e);
    let mut file = File::open(path).map_err(read)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer).map_err(read)?;
        if n == 0 {
            return Ok(FileSum { size, sha256: hex(&hash.finalize()) });
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

/// SHA-256 of a file in hex; it is read in pieces.
pub(super) fn sha256_of(path: &Path) -> Result<String> {
    Ok(sum_of(path)?.sha256)
}

/// SHA-256 of some bytes as 64 hex digits, as manifests and data snapshots hold it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |text, b| text + &format!("{b:02x}"))
}

/// The manifest, if the sizes of all files are what it says.
fn measure(path: &Path) -> Result<Manifest> {
    let manifest: Manifest = read_json(&path.join(MANIFEST), "a checkpoint's manifest")?;
    for (name, sum) in &manifest.files {
        let wrong = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
        if name.contains('/') {
            return Err(wrong(format!("its manifest names `{name}`, which is not in its folder")));
        }
        match std::fs::metadata(path.join(name)) {
            Ok(meta) if meta.len() == sum.size => {}
            Ok(meta) => return Err(wrong(format!("{name} has {} bytes instead of {}", meta.len(), sum.size))),
            Err(_) => return Err(wrong(format!("{name} is missing"))),
        }
    }
    Ok(manifest)
}

/// The manifest, if every byte of every file is what it says.
fn verify(path: &Path) -> Result<Manifest> {
    let manifest = measure(path)?;
    for (name, sum) in &manifest.files {
        if sum_of(&path.join(name))? != *sum {
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                reason: format!("the bytes of {name} are not the ones that were saved"),
            });
        }
    }
    Ok(manifest)
}

fn checkpoint(path: PathBuf, manifest: &Manifest) -> Checkpoint {
    Checkpoint { step: manifest.step, path, bytes: manifest.files.values().map(|f| f.size).sum() }
}

pub(super) fn list(dir: &Path) -> Result<Vec<Checkpoint>> {
    let mut out: Vec<Checkpoint> = names(dir)?
        .iter()
        .filter(|name| step_of(name).is_some())
        .filter_map(|name| {
            let path = dir.join(name);
            let manifest = measure(&path).ok()?;
            Some(checkpoint(path, &manifest))
        })
        .collect();
    out.sort_by_key(|c| c.step);
    Ok(out)
}

/// The newest usable checkpoint by step. The `latest` file is for people and scripts: after a crash between the two
/// renames it is one behind.
pub(super) fn latest(dir: &Path) -> Result<Found> {
    let mut steps: Vec<(u64, String)> = names(dir)?.into_iter().filter_map(|n| Some((step_of(&n)?, n))).collect();
    steps.sort();
    let mut found = Found::default();
    for (_, name) in steps.into_iter().rev() {
        let path = dir.join(name);
        match verify(&path) {
            Ok(manifest) => {
                found.checkpoint = Some(checkpoint(path, &manifest));
                break;
            }
            Err(e) => found.passed_over.push(e.to_string()),
        }
    }
    Ok(found)
}

pub(super) fn best(dir: &Path) -> Found {
    let Some(name) = pointer(dir, "best") else { return Found::default() };
    let path = dir.join(name);
    match verify(&path) {
        Ok(manifest) => Found { checkpoint: Some(checkpoint(path, &manifest)), passed_over: Vec::new() },
        Err(e) => Found { checkpoint: None, passed_over: vec![e.to_string()] },
    }
}

/// The checkpoint of that step, or why it cannot be used.
pub(super) fn at(dir: &Path, step: u64) -> Found {
    let path = dir.join(folder(step));
    match verify(&path) {
        Ok(manifest) => Found { checkpoint: Some(checkpoint(path, &manifest)), passed_over: Vec::new() },
        Err(e) => Found { checkpoint: None, passed_over: vec![e.to_string()] },
    }
}

pub(super) fn mark_best(dir: &Path, step: u64) -> Result<()> {
    let name = folder(step);
    measure(&dir.join(&name))?;
    replace(&dir.join("best"), format!("{name}\n").as_bytes(), true)
}

pub(super) fn prune(dir: &Path, keep: usize) -> Result<()> {
    let best = pointer(dir, "best");
    let latest = pointer(dir, "latest");
    let whole = list(dir)?;
    let surplus = whole.len().saturating_sub(keep.max(1));
    for old in &whole[..surplus] {
        let name = folder(old.step);
        if Some(&name) != best.as_ref() && Some(&name) != latest.as_ref() {
            std::fs::remove_dir_all(&old.path).map_err(|e| Error::io("remove", &old.path, e))?;
        }
    }
    for name in names(dir)?.iter().filter(|n| n.starts_with(".tmp-")) {
        let path = dir.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|e| Error::io("remove", &path, e))?;
    }
    Ok(())
}

/// The checkpoint folder's name that `latest` or `best` holds.
fn pointer(dir: &Path, which: &str) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(which)).ok()?;
    let name = text.trim();
    step_of(name).map(|_| name.to_owned())
}
