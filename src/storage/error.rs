//! What can go wrong with files, each as one sentence that names the place and the remedy.

use crate::foreign::reason;
use crate::protocol::LineError;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the storage room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} {}: {}", path.display(), reason(source))]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk (or the user's quota) is full.
    #[error("no space left on the disk for {}: free some space and try again", path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// A name that cannot name a session.
    #[error(
        "`{0}` cannot name a session: use up to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    )]
    Name(String),
    /// A name in a session's files that could escape its folder.
    #[error(
        "{}: {what} is `{}`, which is not a valid name: correct the file, or do not use this session", path.display(), shown(name)
    )]
    ForeignName {
        /// The file that holds it.
        path: PathBuf,
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The path exists already.
    #[error("{} already exists: choose another name", .0.display())]
    Exists(PathBuf),
    /// No session of that name.
    #[error("there is no session `{name}` in {}{hint}", home.display())]
    NoSession {
        /// The requested name.
        name: String,
        /// Where sessions were looked for.
        home: PathBuf,
        /// `; did you mean …?`, or what to do.
        hint: String,
    },
    /// A folder without `session.json`.
    #[error("{} is not a session: it has no session.json", .0.display())]
    NotASession(PathBuf),
    /// No such run.
    #[error("session {session} has no run `{run}`{hint}")]
    NoRun {
        /// The session's name.
        session: String,
        /// The requested name.
        run: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// Data that a run's specification names is missing.
    #[error("the run's data file {} is missing: launch the run again", path.display())]
    MissingData {
        /// The data's file.
        path: PathBuf,
    },
    /// A JSON file that cannot be parsed.
    #[error("cannot read {} as {what}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A file made by a newer version.
    #[error("{} was written by a newer version of tiebreak (format {major}): update tiebreak to write to it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        major: u32,
    },
    /// A record that cannot be written as a line.
    #[error("cannot append a record to {}: {source}", path.display())]
    Record {
        /// The log file.
        path: PathBuf,
        /// Why not.
        source: LineError,
    },
    /// The largest record number is in use, so that none can follow.
    #[error("{} already holds the largest record number, so nothing can be appended: export the session and continue in a new one", .0.display())]
    NumbersExhausted(PathBuf),
    /// The data folder's path is a file.
    #[error("{} is a file and cannot be the data folder: name a folder with --home DIR or TIEBREAK_HOME", .0.display())]
    NotAFolder(PathBuf),
    /// No data folder can be found.
    #[error("this platform has no default data folder: give one with --home DIR or TIEBREAK_HOME")]
    NoHome,
    /// A checkpoint that does not match its manifest.
    #[error("checkpoint {} cannot be used: {reason}", path.display())]
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// An import file without a usable record.
    #[error("{} {reason}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do, beginning with a verb.
        reason: String,
    },
    /// A packed session that cannot be unpacked.
    #[error("{} cannot be unpacked: {reason}", path.display())]
    Packed {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A packed session whose name is in use.
    #[error("{} already exists: choose another name with `--as NAME`", path.display())]
    PackedNameTaken {
        /// The folder it would get.
        path: PathBuf,
    },
    /// An unknown format name.
    #[error("`{given}` is not a format: use {known}")]
    Format {
        /// The given name.
        given: String,
        /// The known formats.
        known: String,
    },
}

/// The beginning of a name, which may be of any length.
fn shown(name: &str) -> String {
    let start: String = name.chars().take(60).collect();
    if start.len() < name.len() { start + "…" } else { start }
}

impl Error {
    /// Wraps an operating system's error; a full disk becomes [`Error::NoSpace`].
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace { path: path.to_owned() }
        } else if source.kind() == io::ErrorKind::FileTooLarge {
            let why = "it would be larger than the limit on files of this process: raise it with `ulimit -f`";
            Self::Io { doing, path: path.to_owned(), source: io::Error::new(source.kind(), why) }
        } else {
            Self::Io { doing, path: path.to_owned(), source }
        }
    }

    /// Whether the file lies where this user can write nothing.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let kinds = [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }

    /// Whether freeing disk space fixes it.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}
