//! The one-writer rule: `flock` on a file whose text tells people who holds it. The kernel releases it whenever the
//! process dies, so a lock is never stale and no process id has to be trusted.

use super::error::{Error, Result};
use super::files::{open_file, open_file_with, read_head, wall_ms};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a lock file that are read.
const LONGEST_HOLDER: u64 = 4096;

/// Who holds a lock, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// The terminal it runs on; empty when it has none.
    pub tty: String,
    /// Wall clock when it took the lock, milliseconds since 1970.
    pub since_ms: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if !self.tty.is_empty() {
            write!(f, " on {}", self.tty)?;
        }
        Ok(())
    }
}

/// A held lock, released when this value and every log writer opened under it are dropped.
#[derive(Debug, Clone)]
pub struct Lock {
    file: Arc<File>,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock; none when another process (or another value in this one) holds it.
    ///
    /// # Errors
    /// When the file cannot be created, opened or locked.
    pub fn take(path: &Path) -> Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = open_file_with(&mut options, path)?;
        // A liveness probe holds a shared lock for some microseconds: do not mistake it for an owner.
        for attempt in 0..10 {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let holder = Holder { pid: std::process::id(), tty: tty(), since_ms: wall_ms() };
                    // The text is for people only: a full disk must not prevent taking the lock.
                    let _ = file
                        .set_len(0)
                        .and_then(|()| file.write_all(serde_json::to_string(&holder).unwrap_or_default().as_bytes()));
                    return Ok(Some(Self { file: Arc::new(file), path: path.to_owned() }));
                }
                Err(e) if e == Errno::WOULDBLOCK || e == Errno::INTR => {
                    if attempt < 9 {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
                Err(e) => return Err(Error::io("lock", path, e.into())),
            }
        }
        Ok(None)
    }

    /// The file locked.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Releases the lock explicitly, before the value goes out of scope.
    pub fn release(self) {
        drop(self.file);
    }
}

/// Whether somebody holds the lock. Takes no longer than opening a file.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    let Ok(file) = open_file(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Who holds (or last held) the lock, as its text says.
#[must_use]
pub fn lock_holder(path: &Path) -> Option<Holder> {
    serde_json::from_slice(&read_head(path, LONGEST_HOLDER).ok()?).ok()
}

fn tty() -> String {
    rustix::termios::ttyname(rustix::stdio::stdin(), Vec::new())
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}
