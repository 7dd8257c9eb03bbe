//! What can go wrong with files, each as one sentence that names the place and the remedy.

use crate::protocol::LineError;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the storage room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
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
    /// A name in a session's files that could lead out of its folder.
    #[error(
        "{}: {what} is `{}`, which is not a plain name: correct the file, or do not use this session", path.display(), shown(name)
    )]
    ForeignName {
        /// The file that holds it.
        path: PathBuf,
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There is something already.
    #[error("{} exists already: choose another name", .0.display())]
    Exists(PathBuf),
    /// No session of that name.
    #[error("there is no session `{name}` in {}{hint}", home.display())]
    NoSession {
        /// What was asked for.
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
        /// What was asked for.
        run: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// A run's specification names data that was not given.
    #[error("{} was not given, but the run's specification names it: launch the run again", path.display())]
    NoData {
        /// The data's file.
        path: PathBuf,
    },
    /// A JSON file that does not read.
    #[error("{} does not read as {what}: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The parser's words, with line and column.
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
    #[error("a record does not go into {}: {source}", path.display())]
    Record {
        /// The log file.
        path: PathBuf,
        /// Why not.
        source: LineError,
    },
    /// A number so large that none can follow.
    #[error("{} already holds the largest record number, so nothing can be appended: export the session and continue in a new one", .0.display())]
    Numbers(PathBuf),
    /// The data folder can be written by everybody.
    #[error("{} can be written by every user of this machine: run `chmod o-w` on it or choose another --home", .0.display())]
    Shared(PathBuf),
    /// A file stands where the data folder should be.
    #[error("{} is a file and cannot be the data folder: name a folder with --home DIR or TIEBREAK_HOME", .0.display())]
    NotAFolder(PathBuf),
    /// No data folder can be found.
    #[error("this platform names no data folder: give one with --home DIR or TIEBREAK_HOME")]
    NoHome,
    /// A checkpoint that is not what its manifest says.
    #[error("checkpoint {} cannot be used: {reason}", path.display())]
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// An import file that holds nothing of what was asked for.
    #[error("{} {reason}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What is the case and what to do, beginning with a verb.
        reason: String,
    },
    /// A word that names no format.
    #[error("`{given}` is not a format: use {known}")]
    Format {
        /// What was given.
        given: String,
        /// The formats there are.
        known: &'static str,
    },
}

/// The beginning of a name, which may be as long as its maker liked.
fn shown(name: &str) -> String {
    let start: String = name.chars().take(60).collect();
    if start.len() < name.len() { start + "…" } else { start }
}

impl Error {
    /// Wraps an operating system's error; a full disk becomes [`Error::NoSpace`].
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace { path: path.to_owned() }
        } else {
            Self::Io { doing, path: path.to_owned(), source }
        }
    }

    /// Whether freeing disk space mends it.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}
