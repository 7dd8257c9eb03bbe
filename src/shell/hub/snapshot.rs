//! Downloads the chosen files of a commit into the cache: `blobs/ETAG`, and links to them in `snapshots/COMMIT`.
//!
//! Owns resuming, lengths and checksums. What is not finished is said in the repository's file `unfinished.json`, which
//! [`crate::protocol::UnfinishedDownload`] describes, until the last file is there.

use super::super::error::{Error, Result};
use super::super::out;
use super::client::{FileFacts, HubClient, is_commit};
use super::fault::HubFault;
use super::files::{few, is_safe, size};
use super::repo::HubRepo;
use crate::protocol::UnfinishedDownload;
use crate::storage::sha256;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a download that broke off is taken up again without progress.
const MOST_TRIES: u32 = 3;
/// The pause before the first repetition; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(300);

/// What a download brought.
pub(super) struct Fetched {
    /// The snapshot's folder.
    pub(super) folder: PathBuf,
    /// How many files were downloaded now.
    pub(super) files: usize,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Downloads `names` of a commit, those first that come first. `command` gets the rest after an interruption.
///
/// # Errors
/// When a file cannot be had whole; what is there stays, and the same command goes on from there.
pub(super) fn fetch(
    client: &HubClient<'_>,
    repo: &HubRepo,
    commit: &str,
    names: &[String],
    command: &str,
) -> Result<Fetched, HubFault> {
    let cached = repo.cached(client.place);
    let folder = cached.pointer_path(commit);
    let root = repo.folder(client.place);
    let mut files = Vec::new();
    for name in names {
        if !is_safe(name) {
            return Err(Error::failed(format!(
                "{} names the file {name:?}, which would lie outside its folder: nothing of it was downloaded",
                repo.id
            ))
            .into());
        }
        if !folder.join(name).is_file() {
            files.push((name, client.facts(repo, commit, name)?));
        }
    }
    let done =
        Fetched { folder: folder.clone(), files: files.len(), bytes: files.iter().filter_map(|(_, f)| f.size).sum() };
    let io = |doing: &str, path: &Path, e| HubFault::Failed(Error::io(doing, path, e));
    let marker = root.join(UnfinishedDownload::FILE);
    if files.is_empty() {
        finish(&marker, commit, &folder)?;
        return Ok(done);
    }
    let blobs = root.join("blobs");
    for dir in [&blobs, &folder] {
        fs::create_dir_all(dir).map_err(|e| io("create", dir, e))?;
    }
    let parts: Vec<PathBuf> =
        files.iter().map(|(_, facts)| blobs.join(format!("{}.incomplete", blob_name(facts)))).collect();
    let have: u64 = parts.iter().filter_map(|part| Some(part.metadata().ok()?.len())).sum();
    check_space(&blobs, done.bytes.saturating_sub(have))?;
    let unfinished = UnfinishedDownload { commit: commit.into(), files: names.to_vec(), command: command.into() };
    let text = serde_json::to_vec_pretty(&unfinished).map_err(|e| Error::bug("write a list of files as JSON", e))?;
    fs::write(&marker, text).map_err(|e| io("write", &marker, e))?;
    if !is_commit(&repo.revision) {
        cached.create_ref(commit).map_err(|e| io("write the revision in", &root, e))?;
    }
    for (at, ((name, facts), part)) in files.iter().zip(&parts).enumerate() {
        let label = format!("{name} ({}/{})", at + 1, files.len());
        let blob = blobs.join(blob_name(facts));
        if !blob.is_file() {
            one(client, repo, commit, name, facts, part, &label, command)?;
            fs::rename(part, &blob).map_err(|e| io("create", &blob, e))?;
        }
        link(&blob, &folder.join(name), name)?;
    }
    finish(&marker, commit, &folder)?;
    Ok(done)
}

/// Takes the mark of an unfinished download away, if it is this one's and all of it is there.
fn finish(marker: &Path, commit: &str, folder: &Path) -> Result<()> {
    let Some(unfinished) = crate::foreign::read(marker, crate::foreign::CONFIG)
        .ok()
        .and_then(|text| serde_json::from_slice::<UnfinishedDownload>(&text).ok())
    else {
        return Ok(());
    };
    if unfinished.commit != commit || unfinished.files.iter().any(|name| !folder.join(name).is_file()) {
        return Ok(());
    }
    fs::remove_file(marker).map_err(|e| Error::io("remove", marker, e))
}

/// The blob's name: the ETag, or a hash of one that is no name.
fn blob_name(facts: &FileFacts) -> String {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let etag = &facts.etag;
    if etag.len() <= 128 && !etag.starts_with('.') && etag.bytes().all(good) {
        etag.clone()
    } else {
        sha256(etag.as_bytes())
    }
}

/// Links a blob into the snapshot by a relative path, as the cache may be moved.
fn link(blob: &Path, at: &Path, name: &str) -> Result<()> {
    if let Some(dir) = at.parent() {
        fs::create_dir_all(dir).map_err(|e| Error::io("create", dir, e))?;
    }
    if at.symlink_metadata().is_ok() {
        fs::remove_file(at).map_err(|e| Error::io("replace", at, e))?;
    }
    let up = "../".repeat(2 + name.matches('/').count());
    let target = format!("{up}blobs/{}", blob.file_name().unwrap_or_default().to_string_lossy());
    std::os::unix::fs::symlink(target, at).map_err(|e| Error::io("create", at, e))
}

fn check_space(dir: &Path, needed: u64) -> Result<()> {
    let Ok(stat) = rustix::fs::statvfs(dir) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed > free {
        return Err(Error::failed(format!(
            "the download needs {}, and {} has {} free: free some, or set HF_HUB_CACHE to another disk",
            size(needed),
            dir.display(),
            size(free)
        )));
    }
    Ok(())
}

/// Downloads one file into `part` and checks it.
#[expect(clippy::too_many_arguments, reason = "one file's facts, used once")]
fn one(
    client: &HubClient<'_>,
    repo: &HubRepo,
    commit: &str,
    name: &str,
    facts: &FileFacts,
    part: &Path,
    label: &str,
    command: &str,
) -> Result<(), HubFault> {
    let io = |doing: &str, e| HubFault::Failed(Error::io(doing, part, e));
    let opened = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(part);
    let file = &mut opened.map_err(|e| io("open", e))?;
    if flock(&*file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let text = format!("another process is downloading {name}: let it finish, then try again");
        return Err(Error::failed(text).into());
    }
    let bar = out::bar(facts.size.unwrap_or(0), "bytes");
    bar.set_message(label.to_owned());
    let resume = format!("`{command}` goes on from there");
    let mut tries = 0;
    loop {
        let have = file.metadata().map_err(|e| io("read", e))?.len();
        if facts.size.is_some_and(|size| have >= size) {
            break;
        }
        match pour(client, repo, commit, name, have, file, &bar) {
            Ok(Poured::Whole) => break,
            Ok(Poured::Cut(now, why)) => {
                tries = if now > have { 0 } else { tries + 1 };
                if tries >= MOST_TRIES {
                    bar.finish_and_clear();
                    let all = facts.size.map_or_else(String::new, |all| format!(" of {}", size(all)));
                    return Err(HubFault::Passing(format!(
                        "the download of {name} broke off after {}{all} ({why}): {resume}",
                        size(now)
                    )));
                }
            }
            Err(HubFault::Passing(_) | HubFault::Unreachable(_)) if tries + 1 < MOST_TRIES => tries += 1,
            Err(fault) => {
                bar.finish_and_clear();
                return Err(match fault {
                    HubFault::Unreachable(text) | HubFault::Passing(text) if have > 0 => {
                        HubFault::Passing(format!("{text}; {name} has {} so far, and {resume}", size(have)))
                    }
                    other => other,
                });
            }
        }
        if tries > 0 {
            std::thread::sleep(PAUSE * 2u32.pow(tries - 1));
        }
    }
    bar.finish_and_clear();
    file.sync_all().map_err(|e| io("save", e))?;
    check(file, name, facts, part)
}

/// How a response ended.
enum Poured {
    /// With its last byte.
    Whole,
    /// Before, at this length, for this reason.
    Cut(u64, String),
}

/// Appends what the hub sends from `have` on. Every byte is on its way to the disk at once: a download that is killed goes on
/// from there.
fn pour(
    client: &HubClient<'_>,
    repo: &HubRepo,
    commit: &str,
    name: &str,
    have: u64,
    file: &mut File,
    bar: &indicatif::ProgressBar,
) -> Result<Poured, HubFault> {
    let io = |e| HubFault::Failed(Error::Io { doing: format!("write {name}"), source: e });
    let Some(mut stream) = client.bytes(repo, commit, name, have)? else { return Ok(Poured::Whole) };
    file.set_len(stream.from).map_err(io)?;
    file.seek(SeekFrom::Start(stream.from)).map_err(io)?;
    bar.set_position(stream.from);
    let end = stream.length.map(|length| stream.from + length);
    let mut at = stream.from;
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let n = match stream.body.read(&mut buffer) {
            Ok(n) => n,
            Err(e) => return Ok(Poured::Cut(at, e.to_string())),
        };
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n]).map_err(io)?;
        at += n as u64;
        bar.set_position(at);
    }
    match end {
        Some(end) if at < end => Ok(Poured::Cut(at, "the connection ended".into())),
        _ => Ok(Poured::Whole),
    }
}

/// Compares a complete download with what the hub said of it; a wrong one is deleted.
fn check(file: &mut File, name: &str, facts: &FileFacts, part: &Path) -> Result<(), HubFault> {
    let io = |e| HubFault::Failed(Error::io("read", part, e));
    let wrong = |what: String| {
        // What cannot be deleted is found wrong again.
        let _ = fs::remove_file(part);
        HubFault::Failed(Error::failed(format!("{name} has {what}: it was deleted, try again")))
    };
    let length = file.metadata().map_err(io)?.len();
    if let Some(size) = facts.size.filter(|size| *size != length) {
        return Err(wrong(format!("a length of {length} bytes instead of {size}")));
    }
    if let Some(expected) = facts.sha256() {
        file.rewind().map_err(io)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(io)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        let actual = hex::encode(hash.finalize());
        if !actual.eq_ignore_ascii_case(expected) {
            return Err(wrong(format!("the SHA-256 {actual} instead of {expected}")));
        }
    }
    Ok(())
}

/// Files of `names` that a snapshot lacks.
pub(super) fn lacking(folder: &Path, names: &[String]) -> Vec<String> {
    names.iter().filter(|name| !folder.join(name).is_file()).cloned().collect()
}

/// The sentence about a snapshot that lacks files.
pub(super) fn lacks(repo: &HubRepo, missing: &[String]) -> String {
    let kind = if repo.is_data() { "dataset" } else { "model" };
    format!("the {kind} {} is not complete in the cache: {} missing", repo.id, few(missing))
}
