//! Files and folders that are private and durable: modes, fsync, atomic replacement, unique names.

use super::error::{Error, Result};
use super::fault::pass;
use crate::foreign;
use serde::de::DeserializeOwned;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock in milliseconds since 1970, as in records and specifications.
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Free bytes for this user on the disk of that folder, which need not exist; none if the system does not report it.
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|p| rustix::fs::statvfs(p).ok()).map(|s| s.f_bavail * s.f_frsize)
}

/// A number unique within this process, for file names.
pub(super) fn ticket() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Creates a folder and its parents, private to the user. Their names are durable, but for one in a folder that the user may write
/// to and not read, which cannot be opened to fsync it.
pub(super) fn create_dir(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| Error::io("create", path, e))?;
    let refused =
        |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied);
    missing
        .into_iter()
        .try_for_each(|dir| sync_dir(folder_of(dir)).or_else(|e| if refused(&e) { Ok(()) } else { Err(e) }))
}

/// Fsyncs a folder, which makes the names in it durable.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    pass("sync").and_then(|()| File::open(path)).and_then(|f| f.sync_all()).map_err(|e| Error::io("save", path, e))
}

/// Creates a private file, open for writing. Fails if it exists.
pub(super) fn create_new(path: &Path) -> Result<File> {
    pass("create")
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))
        .map_err(|e| Error::io("create", path, e))
}

/// Writes a new private file and fsyncs it (its name is durable only after [`sync_dir`]).
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create_new(path)?;
    pass("write")
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| pass("sync"))
        .and_then(|()| file.sync_all())
        .map_err(|e| {
            // It is this call's own file: a full disk keeps no half of it.
            let _ = std::fs::remove_file(path);
            Error::io("write", path, e)
        })
}

/// A hidden path that is removed unless it was renamed: what an error leaves behind.
pub(super) struct Hidden(pub(super) PathBuf);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes a file, private whatever the umask, over an existing one.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).and_then(|mut file| file.write_all(bytes)).map_err(|e| Error::io("write", path, e))
}

/// What a result was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A regular file.
    File,
    /// A pipe, a device or a terminal.
    Stream,
}

/// Writes a result to the path that a user names. A regular file is replaced atomically, also behind a link; the link
/// stays. A pipe, a device or a dangling link is written into.
///
/// # Errors
/// When it is a folder or cannot be written.
pub fn write_result(path: &Path, bytes: &[u8]) -> Result<Target> {
    let into = |path: &Path| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o600);
        options.open(path).and_then(|mut file| file.write_all(bytes)).map_err(|e| Error::io("write to", path, e))
    };
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {
            // Resolve a link, so that the link itself stays.
            let file = std::fs::canonicalize(path).map_err(|e| Error::io("find", path, e))?;
            replace(&file, bytes, true)?;
            Ok(Target::File)
        }
        Ok(meta) if meta.is_dir() => {
            Err(Error::io("write to", path, std::io::Error::other("it is a folder; name a file in it")))
        }
        Ok(_) => into(path).map(|()| Target::Stream),
        // A dangling link creates its target.
        Err(_) if std::fs::symlink_metadata(path).is_ok() => into(path).map(|()| Target::File),
        Err(_) => replace(path, bytes, true).map(|()| Target::File),
    }
}

/// Replaces a file atomically: a reader sees the old bytes or the new ones, also after a power cut when `durable`.
pub(super) fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    put(path, bytes, durable)?;
    if durable { sync_dir(folder_of(path)) } else { Ok(()) }
}

/// [`replace`] without making the name durable. After an error an existing file is unchanged.
pub(super) fn put(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let dir = folder_of(path);
    // Deletes itself unless it is renamed.
    let mut temp = temporary(".tmp-replace-").tempfile_in(dir).map_err(|e| Error::io("create a file in", dir, e))?;
    pass("write").and_then(|()| temp.write_all(bytes)).map_err(|e| Error::io("write", path, e))?;
    if durable {
        pass("sync").and_then(|()| temp.as_file().sync_all()).map_err(|e| Error::io("save", path, e))?;
    }
    pass("rename").map_err(|e| Error::io("replace", path, e))?;
    temp.persist(path).map(drop).map_err(|e| Error::io("replace", path, e.error))
}

/// The folder of a file: a bare name has the empty path as its parent, which cannot be opened.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Prefix of temporary names; listings skip them.
const TEMPORARY: &str = ".tmp-";
/// From this age on a temporary file belongs to a dead process.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// Temporary names end in random letters: process ids repeat, especially in containers.
fn temporary(what: &str) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(what).rand_bytes(12);
    builder
}

/// A unique name in `dir`, hidden from listings.
pub(super) fn temp_in(dir: &Path, what: &str) -> Result<PathBuf> {
    let prefix = format!("{TEMPORARY}{what}-");
    let free = |path: &Path| if path.exists() { Err(ErrorKind::AlreadyExists.into()) } else { Ok(()) };
    let named = temporary(&prefix).make_in(dir, free).map_err(|e| Error::io("create a file in", dir, e))?;
    named.into_temp_path().keep().map_err(|e| Error::io("create a file in", dir, e.error))
}

/// A private temporary folder in `dir`, removed when dropped. `dir` is made private, too.
///
/// # Errors
/// When it cannot be created.
pub fn temp_dir(dir: &Path, what: &str) -> Result<tempfile::TempDir> {
    create_dir(dir)?;
    // An earlier version created it with the umask's mode.
    let _ = std::fs::set_permissions(dir, Permissions::from_mode(0o700));
    sweep(dir);
    let prefix = format!("{TEMPORARY}{what}-");
    let mut builder = temporary(&prefix);
    builder.permissions(Permissions::from_mode(0o700));
    builder.tempdir_in(dir).map_err(|e| Error::io("create a folder in", dir, e))
}

/// Removes temporary files and folders that killed processes left in `dir`. Failures are left for the next sweep.
pub(super) fn sweep(dir: &Path) {
    for name in names(dir).unwrap_or_default().iter().filter(|name| name.starts_with(TEMPORARY)) {
        let path = dir.join(name);
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        // An mtime in the future has no usable age.
        let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age >= ABANDONED_AFTER) {
            let _ = if meta.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }
}

/// Opens a file of a session for reading: a regular file, and no link in its path leads out of the session's folder.
///
/// # Errors
/// When it is none, or cannot be opened.
pub fn open_file(path: &Path) -> Result<File> {
    below_session(path).and_then(|()| foreign::open(path)).map_err(|e| Error::io("read", path, e))
}

/// As [`open_file`], with other options.
pub(super) fn open_file_with(options: &mut OpenOptions, path: &Path) -> Result<File> {
    below_session(path).and_then(|()| foreign::open_with(options, path)).map_err(|e| Error::io("open", path, e))
}

/// The bytes of a file of a session, opened as [`open_file`] does.
///
/// # Errors
/// When it cannot be opened or read, or has more than `most` bytes.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>> {
    below_session(path).and_then(|()| foreign::read(path, most)).map_err(|e| Error::io("read", path, e))
}

/// As [`read_file`], as text.
///
/// # Errors
/// As [`read_file`], or when it is not UTF-8.
pub fn read_text_file(path: &Path, most: u64) -> Result<String> {
    below_session(path).and_then(|()| foreign::read_text(path, most)).map_err(|e| Error::io("read", path, e))
}

/// The last bytes of a file of a session, from an offset on and `most` at most; opened as [`open_file`] does.
///
/// # Errors
/// When it cannot be opened or read.
pub fn read_tail(path: &Path, from: u64, most: u64) -> Result<Vec<u8>> {
    below_session(path).and_then(|()| foreign::tail_of(path, from, most)).map_err(|e| Error::io("read", path, e))
}

/// The first bytes of a file of a session, `most` at most; opened as [`open_file`] does.
///
/// # Errors
/// When it cannot be opened or read.
pub(super) fn read_head(path: &Path, most: u64) -> Result<Vec<u8>> {
    below_session(path).and_then(|()| foreign::beginning(path, most)).map_err(|e| Error::io("read", path, e))
}

/// How many folders a session's deepest file lies below its folder: `runs/ID/ckpt/STEP/FILE`.
const DEEPEST: usize = 5;

/// Whether a file stays in its session's folder; a file of no session is not looked at.
pub(super) fn below_session(path: &Path) -> std::io::Result<()> {
    let is_session = |folder: &&Path| std::fs::symlink_metadata(folder.join("session.json")).is_ok();
    match path.ancestors().skip(1).take(DEEPEST).find(is_session) {
        Some(session) => foreign::stays_below(session, path),
        None => Ok(()),
    }
}

/// Reads a JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T> {
    let bytes = read_file(path, foreign::CONFIG)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Json { path: path.to_owned(), what, reason: e.to_string() })
}

/// The names in a folder, sorted; none without a folder. Names that are not UTF-8 are not ours and skipped.
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
