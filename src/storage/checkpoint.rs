//! Checkpoints that are complete or absent: written to a hidden folder, hashed, fsynced, then renamed into place.
//!
//! A checkpoint replaces an earlier one of its step by exchanging the two names. Where the system cannot exchange, the
//! old one is first renamed to a hidden name; after a crash in between, readers find it there and the next writer
//! restores it. Refuses to trust a name: the manifest and the bytes of the files decide.

use super::error::{Error, Result};
use super::fault::pass;
use super::files::{
    create_dir, names, open_file, read_json, read_text_file, replace, sync_dir, temp_in, wall_ms, write_new,
};
use crate::domain::is_name;
use crate::foreign;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const MANIFEST: &str = "MANIFEST.json";
/// Prefix of the hidden name of a checkpoint that another one of its step is replacing.
const REPLACED: &str = ".tmp-replaced-";

/// A complete checkpoint's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointDir {
    /// Optimizer steps made when it was written.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Total size of its files in bytes.
    pub bytes: u64,
}

/// The result of a search for a usable checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointSearch {
    /// The checkpoint, verified byte for byte; none when there is no usable one.
    pub checkpoint: Option<CheckpointDir>,
    /// Why newer ones were passed over, one sentence each.
    pub passed_over: Vec<String>,
    /// The steps of these.
    pub damaged: Vec<u64>,
}

/// `MANIFEST.json`: written last, so that a folder with a valid one is complete.
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

/// The step of a checkpoint from its hidden name.
fn replaced_step(name: &str) -> Option<u64> {
    let mut parts = name.strip_prefix(REPLACED)?.splitn(3, '-');
    step_of(&format!("{}-{}", parts.next()?, parts.next()?))
}

/// The checkpoints' paths, oldest step first, unverified. A hidden one counts if nothing has replaced it.
fn paths(dir: &Path) -> Result<BTreeMap<u64, PathBuf>> {
    let names = names(dir)?;
    let mut paths: BTreeMap<u64, PathBuf> =
        names.iter().filter_map(|name| Some((step_of(name)?, dir.join(name)))).collect();
    for name in &names {
        if let Some(step) = replaced_step(name) {
            paths.entry(step).or_insert_with(|| dir.join(name));
        }
    }
    Ok(paths)
}

/// The path of a step's checkpoint.
fn path_of(dir: &Path, step: u64) -> Result<PathBuf> {
    Ok(paths(dir)?.remove(&step).unwrap_or_else(|| dir.join(folder(step))))
}

/// Restores checkpoints that a crash left hidden and removes unfinished ones. Only the run's worker may call this.
fn recover(dir: &Path) -> Result<()> {
    for name in names(dir)?.iter().filter(|name| name.starts_with(".tmp-")) {
        let path = dir.join(name);
        if let Some(step) = replaced_step(name) {
            let visible = dir.join(folder(step));
            if !visible.exists() {
                pass("rename")
                    .and_then(|()| std::fs::rename(&path, &visible))
                    .map_err(|e| Error::io("restore", &visible, e))?;
                sync_dir(dir)?;
                continue;
            }
        }
        remove(&path)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    pass("remove")
        .and_then(|()| if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) })
        .map_err(|e| Error::io("remove", path, e))
}

pub(super) fn write<E: From<Error>>(
    dir: &Path,
    step: u64,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<CheckpointDir, E> {
    create_dir(dir)?;
    recover(dir)?;
    let temp = temp_in(dir, &folder(step))?;
    create_dir(&temp)?;
    let done = fill(&temp).and_then(|()| Ok(publish(dir, &temp, step)?));
    if done.is_err() {
        // The first error counts; the next writer removes leftovers.
        let _ = remove(&temp);
    }
    done
}

/// Renames `temp` to `path`, which may exist: at every moment one of the two is complete.
fn rename_into_place(dir: &Path, temp: &Path, path: &Path, step: u64) -> Result<()> {
    let replace = |e| Error::io("replace", path, e);
    if path.exists() {
        let exchanged = pass("exchange").and_then(|()| Ok(renameat_with(CWD, temp, CWD, path, RenameFlags::EXCHANGE)?));
        match exchanged {
            // The old one now has the hidden name.
            Ok(()) => return sync_dir(dir),
            Err(e) if cannot_exchange(&e) => {}
            Err(e) => return Err(replace(e)),
        }
        let aside = temp_in(dir, &format!("replaced-{}", folder(step)))?;
        pass("rename").and_then(|()| std::fs::rename(path, &aside)).map_err(replace)?;
    }
    pass("rename").and_then(|()| std::fs::rename(temp, path)).map_err(|e| Error::io("save", path, e))?;
    sync_dir(dir)
}

/// Whether the system or the file system does not support exchanging names.
fn cannot_exchange(e: &std::io::Error) -> bool {
    let known = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    e.raw_os_error().is_some_and(|code| known.iter().any(|errno| errno.raw_os_error() == code))
}

fn publish(dir: &Path, temp: &Path, step: u64) -> Result<CheckpointDir> {
    let mut manifest = Manifest { step, written_ms: wall_ms(), files: BTreeMap::new() };
    for name in names(temp)? {
        let path = temp.join(&name);
        let sum = hash_file(&path)?;
        pass("sync")
            .and_then(|()| foreign::open(&path))
            .and_then(|f| f.sync_all())
            .map_err(|e| Error::io("save", &path, e))?;
        manifest.files.insert(name, sum);
    }
    let bytes = manifest.files.values().map(|f| f.size).sum();
    let path = dir.join(folder(step));
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::io("write", &path, e.into()))?;
    write_new(&temp.join(MANIFEST), &text)?;
    sync_dir(temp)?;
    // A resumed run reaches the same step again. Equal bytes stay; different ones are replaced only once the new ones
    // are ready.
    let same = verify(&path).is_ok_and(|old| old.files == manifest.files);
    if same {
        remove(temp)?;
    } else {
        rename_into_place(dir, temp, &path, step)?;
    }
    replace(&dir.join("latest"), format!("{}\n", folder(step)).as_bytes(), true)?;
    Ok(CheckpointDir { step, path, bytes })
}

fn hash_file(path: &Path) -> Result<FileSum> {
    let read = |e| Error::io("read", path, e);
    let mut file = open_file(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer).map_err(read)?;
        if n == 0 {
            return Ok(FileSum { size, sha256: hex::encode(hash.finalize()) });
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

/// SHA-256 of a file in hex, read in chunks.
pub(super) fn sha256_of(path: &Path) -> Result<String> {
    Ok(hash_file(path)?.sha256)
}

/// SHA-256 of some bytes as 64 hex digits, as manifests and data snapshots store it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The manifest, if the sizes of all files match it.
fn check_sizes(path: &Path) -> Result<Manifest> {
    let manifest: Manifest = read_json(&path.join(MANIFEST), "a checkpoint's manifest")?;
    for (name, sum) in &manifest.files {
        let invalid = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
        if !is_name(name) {
            return Err(invalid(format!("its manifest names `{name}`, which is not in its folder")));
        }
        match std::fs::metadata(path.join(name)) {
            Ok(meta) if meta.len() == sum.size => {}
            Ok(meta) => return Err(invalid(format!("{name} has {} bytes instead of {}", meta.len(), sum.size))),
            Err(_) => return Err(invalid(format!("{name} is missing"))),
        }
    }
    Ok(manifest)
}

/// The manifest, if every byte of every file matches it.
fn verify(path: &Path) -> Result<Manifest> {
    let manifest = check_sizes(path)?;
    for (name, sum) in &manifest.files {
        if hash_file(&path.join(name))? != *sum {
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                reason: format!("{name} does not match its checksum"),
            });
        }
    }
    Ok(manifest)
}

fn checkpoint(path: PathBuf, manifest: &Manifest) -> CheckpointDir {
    CheckpointDir { step: manifest.step, path, bytes: manifest.files.values().map(|f| f.size).sum() }
}

pub(super) fn list(dir: &Path) -> Result<Vec<CheckpointDir>> {
    let complete = |path: PathBuf| check_sizes(&path).ok().map(|manifest| checkpoint(path, &manifest));
    Ok(paths(dir)?.into_values().filter_map(complete).collect())
}

/// The newest usable checkpoint by step. The `latest` file is for people and scripts: after a crash between the two
/// renames it is one behind.
pub(super) fn latest(dir: &Path) -> Result<CheckpointSearch> {
    let mut found = CheckpointSearch::default();
    for (step, path) in paths(dir)?.into_iter().rev() {
        match verify(&path) {
            Ok(manifest) => {
                found.checkpoint = Some(checkpoint(path, &manifest));
                break;
            }
            Err(e) => {
                found.passed_over.push(e.to_string());
                found.damaged.push(step);
            }
        }
    }
    Ok(found)
}

pub(super) fn best(dir: &Path) -> CheckpointSearch {
    let Some(step) = pointer(dir, "best") else { return CheckpointSearch::default() };
    let checked = path_of(dir, step).and_then(|path| Ok((verify(&path)?, path)));
    match checked {
        Ok((manifest, path)) => {
            CheckpointSearch { checkpoint: Some(checkpoint(path, &manifest)), ..CheckpointSearch::default() }
        }
        Err(e) => {
            CheckpointSearch { passed_over: vec![e.to_string()], damaged: vec![step], ..CheckpointSearch::default() }
        }
    }
}

/// The checkpoint of that step, or why it cannot be used.
pub(super) fn at(dir: &Path, step: u64) -> CheckpointSearch {
    let path = path_of(dir, step).unwrap_or_else(|_| dir.join(folder(step)));
    match verify(&path) {
        Ok(manifest) => {
            CheckpointSearch { checkpoint: Some(checkpoint(path, &manifest)), ..CheckpointSearch::default() }
        }
        Err(e) => {
            CheckpointSearch { passed_over: vec![e.to_string()], damaged: vec![step], ..CheckpointSearch::default() }
        }
    }
}

pub(super) fn mark_best(dir: &Path, step: u64) -> Result<()> {
    check_sizes(&path_of(dir, step)?)?;
    replace(&dir.join("best"), format!("{}\n", folder(step)).as_bytes(), true)
}

pub(super) fn prune(dir: &Path, keep: usize) -> Result<()> {
    recover(dir)?;
    let protected = [pointer(dir, "best"), pointer(dir, "latest")];
    let complete = list(dir)?;
    let surplus = complete.len().saturating_sub(keep.max(1));
    for old in complete[..surplus].iter().filter(|old| !protected.contains(&Some(old.step))) {
        // Hidden by one rename, so that no reader finds half of it.
        let hidden = temp_in(dir, &format!("old-{}", folder(old.step)))?;
        let renamed = pass("rename").and_then(|()| std::fs::rename(&old.path, &hidden));
        remove(if renamed.is_ok() { &hidden } else { &old.path })?;
    }
    Ok(())
}

/// The step of the checkpoint that `latest` or `best` names.
fn pointer(dir: &Path, which: &str) -> Option<u64> {
    let text = read_text_file(&dir.join(which), foreign::CONFIG).ok()?;
    step_of(text.trim())
}

#[cfg(test)]
mod tests;
