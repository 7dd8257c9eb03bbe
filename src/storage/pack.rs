//! One file of a session: a gzipped tar archive, so that anybody can look into it.
//!
//! Owns packing and unpacking. The archive has one folder, the session's, and ends with a list of its files, their sizes
//! and SHA-256 digests: without the list it is torn. Refuses everything in a foreign archive that is not a regular file at
//! a place that a session has; nothing is written outside a new hidden folder, which gets its name when all is verified.

use super::error::{Error, Result};
use super::files::{Hidden, create_dir, create_new, free_bytes, names, open_file, sync_dir, temp_in, write_new};
use super::home::Home;
use super::session::{SessionDir, pretty};
use crate::domain::is_name;
use crate::foreign;
use crate::protocol::SessionMeta;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The list at the end of the archive.
const LIST: &str = "PACKED.json";
/// Space that unpacking leaves free on the disk, in bytes.
const SPARE_BYTES: u64 = 64 << 20;
/// The longest list and session header, in bytes.
const MAX_SMALL: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct List {
    /// The version of this layout.
    format: u32,
    /// Whether the checkpoints are in it.
    weights: bool,
    files: BTreeMap<String, FileDigest>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileDigest {
    size: u64,
    sha256: String,
}

/// What was packed or unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files of checkpoints that were left out.
    pub weights_left_out: usize,
    /// Links, devices and files with names that no session has; left out.
    pub foreign_left_out: usize,
}

/// What a file of a session is, by its path within the session's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A log, which may grow while it is read.
    Log,
    /// Another file that the session needs.
    Plain,
    /// A file of a checkpoint.
    Weights,
    /// Of this machine or process: locks, counts kept for the list of sessions, requests to a worker, its messages, answers
    /// that it is writing, bytes that a repair cut out.
    Local,
}

/// None for a path that no session has.
fn part(path: &str) -> Option<Part> {
    let parts: Vec<&str> = path.split('/').collect();
    if !parts.iter().all(|name| is_name(name)) {
        return None;
    }
    match parts.as_slice() {
        ["session.json"] => Some(Part::Plain),
        ["lock" | "summary.json"] | ["quarantine", _] => Some(Part::Local),
        ["events", _] => Some(Part::Log),
        ["blobs", _] => Some(Part::Plain),
        ["runs", _, "lock" | "worker.log" | "growing.json" | "oom.json" | "asked.jsonl" | "asked.lock"]
        | ["runs", _, "ctl", ..] => Some(Part::Local),
        ["runs", _, _] => Some(Part::Plain),
        ["runs", _, "metrics", _] => Some(Part::Log),
        ["runs", _, "ckpt" | "inputs", ..] => Some(Part::Weights),
        _ => None,
    }
}

/// Writes a session to one file. A log that is being written is packed up to its last whole line.
///
/// # Errors
/// When a file cannot be read, or the archive cannot be written or exists.
pub fn pack(dir: &SessionDir, to: &Path, weights: bool) -> Result<Packed> {
    let name = dir.meta()?.name;
    let mut found = Vec::new();
    let mut packed = Packed::default();
    walk(dir.path(), "", &mut found, &mut packed.foreign_left_out)?;
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if to.exists() {
        return Err(Error::Exists(to.to_owned()));
    }
    let failed = |e| Error::io("write", to, e);
    let mut temp = tempfile::Builder::new()
        .prefix(".tmp-pack-")
        .tempfile_in(parent)
        .map_err(|e| Error::io("create a file in", parent, e))?;
    let mut list = List { format: 1, weights, files: BTreeMap::new() };
    let mut archive = tar::Builder::new(GzEncoder::new(temp.as_file_mut(), Compression::default()));
    for path in found {
        let kind = match part(&path) {
            Some(Part::Local) => continue,
            Some(Part::Weights) if !weights => {
                packed.weights_left_out += 1;
                continue;
            }
            Some(kind) => kind,
            None => {
                packed.foreign_left_out += 1;
                continue;
            }
        };
        let from = dir.path().join(&path);
        let file = open_file(&from)?;
        let longest = if kind == Part::Weights { u64::MAX } else { foreign::ROWS };
        if file.metadata().map_err(|e| Error::io("read", &from, e))?.len() > longest {
            let limit = format!("it is longer than the limit of {} GiB: move it out of the session", longest >> 30);
            return Err(Error::io("pack", &from, std::io::Error::other(limit)));
        }
        let size = match kind {
            Part::Log => whole_lines(&file).map_err(|e| Error::io("read", &from, e))?,
            _ => file.metadata().map_err(|e| Error::io("read", &from, e))?.len(),
        };
        let mut reader = Hashing::new(BufReader::new(file).take(size));
        append(&mut archive, &format!("{name}/{path}"), size, &mut reader).map_err(failed)?;
        if reader.bytes != size {
            return Err(Error::io("read", &from, std::io::Error::other("it became shorter while it was read")));
        }
        packed.files += 1;
        packed.bytes += size;
        list.files.insert(path, reader.digest());
    }
    let bytes = pretty(&list, to)?;
    append(&mut archive, &format!("{name}/{LIST}"), bytes.len() as u64, &mut bytes.as_slice()).map_err(failed)?;
    archive.into_inner().and_then(GzEncoder::finish).map_err(failed)?;
    temp.as_file().sync_all().map_err(failed)?;
    temp.persist_noclobber(to).map_err(|e| Error::io("create", to, e.error))?;
    sync_dir(parent)?;
    Ok(packed)
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, size: u64, data: &mut impl Read) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    archive.append_data(&mut header, path, data)
}

/// The length of a log up to its last whole line.
fn whole_lines(file: &File) -> std::io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let len = file.metadata()?.len();
    let mut end = len;
    let mut block = [0; 8192];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let read = &mut block[..(end - start) as usize];
        file.read_exact_at(read, start)?;
        if let Some(at) = read.iter().rposition(|b| *b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The regular files below a folder, sorted, as paths with `/`.
fn walk(root: &Path, below: &str, out: &mut Vec<String>, foreign: &mut usize) -> Result<()> {
    let dir = root.join(below);
    for name in names(&dir)?.into_iter().filter(|name| !name.starts_with('.')) {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let full = root.join(&path);
        let meta = std::fs::symlink_metadata(&full).map_err(|e| Error::io("read", &full, e))?;
        if meta.is_dir() {
            walk(root, &path, out, foreign)?;
        } else if meta.is_file() {
            out.push(path);
        } else {
            *foreign += 1;
        }
    }
    Ok(())
}

/// Counts and digests what is read through it.
struct Hashing<R> {
    inner: R,
    bytes: u64,
    sha: Sha256,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, bytes: 0, sha: Sha256::new() }
    }

    fn digest(self) -> FileDigest {
        FileDigest { size: self.bytes, sha256: hex::encode(self.sha.finalize()) }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.sha.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// Unpacks a session into the data folder, under the name it has or under `name`.
///
/// # Errors
/// When the archive is torn, is not a packed session or holds what no session has, when the name is taken, or when the
/// files cannot be written. Nothing is left behind then.
pub fn unpack(home: &Home, from: &Path, name: Option<&str>) -> Result<(SessionDir, Packed)> {
    if let Some(name) = name.filter(|name| !is_name(name)) {
        return Err(Error::Name(name.into()));
    }
    let sessions = home.sessions();
    create_dir(&sessions)?;
    let taken = |name: &str| {
        let path = sessions.join(name);
        if path.exists() { Err(Error::PackedNameTaken { path }) } else { Ok(path) }
    };
    if let Some(name) = name {
        taken(name)?;
    }
    let temp = Hidden(temp_in(&sessions, "unpack")?);
    let packed = extract(from, &temp.0)?;
    let header = temp.0.join("session.json");
    let meta = SessionDir::open(&temp.0).map_err(|_| refused(from, "it has no session.json"))?.meta()?;
    let name = name.unwrap_or(&meta.name).to_owned();
    let path = taken(&name)?;
    std::fs::remove_file(&header).map_err(|e| Error::io("write", &header, e))?;
    write_new(&header, &pretty(&SessionMeta { name, ..meta }, &header)?)?;
    sync_dir(&temp.0)?;
    std::fs::rename(&temp.0, &path).map_err(|e| Error::io("create", &path, e))?;
    sync_dir(&sessions)?;
    Ok((SessionDir::open(&path)?, packed))
}

/// Unpacks a session into a folder of its own, to read it there.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_into(from: &Path, folder: &Path) -> Result<SessionDir> {
    extract(from, folder)?;
    let dir = SessionDir::open(folder).map_err(|_| refused(from, "it has no session.json"))?;
    dir.meta()?;
    Ok(dir)
}

fn refused(from: &Path, reason: impl Into<String>) -> Error {
    Error::Packed { path: from.to_owned(), reason: reason.into() }
}

/// Writes the archive's files below `to` and verifies them against its list.
fn extract(from: &Path, to: &Path) -> Result<Packed> {
    let file = foreign::open(from).map_err(|e| Error::io("read", from, e))?;
    let mut magic = [0; 2];
    let gzipped = (&file).read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    if !gzipped {
        return Err(refused(from, "it is not a packed session"));
    }
    std::io::Seek::rewind(&mut &file).map_err(|e| Error::io("read", from, e))?;
    let mut room = free_bytes(to).map_or(u64::MAX, |free| free.saturating_sub(SPARE_BYTES));
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    let torn = |_| refused(from, TORN);
    let mut found: BTreeMap<String, FileDigest> = BTreeMap::new();
    let mut list: Option<List> = None;
    let mut packed = Packed::default();
    let mut folder: Option<String> = None;
    for entry in archive.entries().map_err(torn)? {
        let entry = entry.map_err(torn)?;
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| refused(from, "a name in it is not text"))?;
        let shown: String = path.chars().take(80).flat_map(char::escape_default).collect();
        let kind = entry.header().entry_type();
        if !kind.is_file() {
            return Err(refused(from, format!("`{shown}` in it is not a regular file")));
        }
        if list.is_some() {
            return Err(refused(from, format!("`{shown}` follows its list of files")));
        }
        let (top, inner) = path.split_once('/').unwrap_or(("", &path));
        let same = folder.get_or_insert_with(|| top.to_owned()) == top;
        let known = inner == LIST || part(inner).is_some_and(|part| part != Part::Local);
        if !is_name(top) || !same || !known {
            return Err(refused(from, format!("`{shown}` in it is not a path of a session")));
        }
        let size = entry.size();
        if size > room {
            return Err(Error::NoSpace { path: to.to_owned() });
        }
        if inner == LIST {
            if size > MAX_SMALL {
                return Err(refused(from, "its list of files is too long"));
            }
            let mut text = Vec::new();
            entry.take(MAX_SMALL).read_to_end(&mut text).map_err(torn)?;
            list = Some(
                serde_json::from_slice(&text)
                    .map_err(|e| refused(from, format!("its list of files is invalid: {e}")))?,
            );
            continue;
        }
        room -= size;
        let path = to.join(inner);
        if let Some(parent) = path.parent() {
            create_dir(parent)?;
        }
        // A second entry of one path fails here.
        if found.contains_key(inner) {
            return Err(refused(from, format!("it holds `{shown}` twice")));
        }
        let mut out = create_new(&path)?;
        let mut reader = Hashing::new(entry);
        copy(&mut reader, &mut out).map_err(|failure| match failure {
            Copy::Read => refused(from, TORN),
            Copy::Write(e) => Error::io("write", &path, e),
        })?;
        if reader.bytes != size {
            return Err(refused(from, TORN));
        }
        out.sync_all().map_err(|e| Error::io("write", &path, e))?;
        packed.files += 1;
        packed.bytes += size;
        found.insert(inner.to_owned(), reader.digest());
    }
    let list = list.ok_or_else(|| refused(from, TORN))?;
    if list.format != 1 {
        return Err(Error::Newer { path: from.to_owned(), major: list.format });
    }
    if let Some(name) = list.files.keys().find(|name| !found.contains_key(*name)) {
        return Err(refused(from, format!("`{}` is missing from it", name.escape_default())));
    }
    if let Some((name, _)) = found.iter().find(|(name, digest)| list.files.get(*name) != Some(digest)) {
        return Err(refused(from, format!("the bytes of `{name}` differ from its list of files: copy it again")));
    }
    for part in ["events", "runs"] {
        create_dir(&to.join(part))?;
    }
    // The names of the files become durable before the session gets its own.
    let folders: BTreeSet<PathBuf> = found.keys().filter_map(|name| Some(to.join(name).parent()?.to_owned())).collect();
    folders.iter().try_for_each(|folder| sync_dir(folder))?;
    Ok(packed)
}

const TORN: &str = "it is torn: copy it again";

enum Copy {
    Read,
    Write(std::io::Error),
}

fn copy(from: &mut impl Read, to: &mut File) -> std::result::Result<(), Copy> {
    let mut block = vec![0; 1 << 16];
    loop {
        let n = from.read(&mut block).map_err(|_| Copy::Read)?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&block[..n]).map_err(Copy::Write)?;
    }
}
