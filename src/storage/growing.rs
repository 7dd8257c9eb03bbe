//! The file of the answers that a sampling run is writing: see [`Growing`] for why it is beside the log and not in it.
//!
//! Owns its replacement and its reader. Refuses to be durable: it is never synced, and a reader that finds nothing, half a
//! file or another program's file shows nothing.

use super::error::Result;
use super::files::{read_file, replace, sweep};
use super::run::RunDir;
use crate::protocol::Growing;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The name of the file in the run's folder.
const NAME: &str = "growing.json";
/// Most bytes read: more is not what the worker writes.
const MOST: u64 = 8 << 20;

/// A reader of a run's growing answers.
#[derive(Debug)]
pub struct GrowingTail {
    path: PathBuf,
    /// The file that was read last: its number, length and time in nanoseconds; none if there was none.
    version: Option<(u64, u64, i64)>,
}

impl RunDir {
    /// Replaces what the run is writing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_growing(&self, growing: &Growing) -> Result<()> {
        let bytes = serde_json::to_vec(growing).unwrap_or_default();
        replace(&self.path().join(NAME), &bytes, false)
    }

    /// Removes what the run was writing, and what is left of files that a killed worker did not finish.
    pub fn clear_growing(&self) {
        sweep(self.path());
        // What stays is not shown: the run is not alive.
        let _ = std::fs::remove_file(self.path().join(NAME));
    }

    /// A reader of what the run is writing.
    #[must_use]
    pub fn growing(&self) -> GrowingTail {
        GrowingTail { path: self.path().join(NAME), version: None }
    }
}

impl GrowingTail {
    /// What the run is writing, if that changed since the last call; empty once it writes nothing.
    pub fn poll(&mut self) -> Option<Growing> {
        let found = std::fs::metadata(&self.path).ok();
        let version = found.map(|m| (m.ino(), m.len(), m.mtime() * 1_000_000_000 + m.mtime_nsec()));
        if version == self.version {
            return None;
        }
        self.version = version;
        let bytes = read_file(&self.path, MOST).ok();
        Some(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CompletionId;
    use crate::protocol::GrowingAnswer;

    fn run() -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sample-1");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("spec.json"), "{}").unwrap();
        let run = RunDir::open(&path).unwrap();
        (dir, run)
    }

    fn growing(text: &str) -> Growing {
        let answer = GrowingAnswer {
            completion: CompletionId::new("sample-1.p1.0"),
            text: text.into(),
            tokens: 1,
            ended: false,
        };
        Growing { pairs: Vec::new(), answers: vec![answer] }
    }

    #[test]
    fn a_reader_sees_each_state_once_and_the_end() {
        let (_dir, run) = run();
        let mut tail = run.growing();
        assert_eq!(tail.poll(), None);
        for text in ["a", "ab", "\u{1b}[2J"] {
            run.write_growing(&growing(text)).unwrap();
            assert_eq!(tail.poll(), Some(growing(text)));
            assert_eq!(tail.poll(), None);
        }
        run.clear_growing();
        assert_eq!(tail.poll(), Some(Growing::default()));
        assert_eq!(tail.poll(), None);
    }

    #[test]
    fn a_torn_or_foreign_file_shows_nothing() {
        let (_dir, run) = run();
        let mut tail = run.growing();
        for bytes in ["{\"pairs\":[", "[1]", ""] {
            std::fs::write(run.path().join(NAME), bytes).unwrap();
            assert_eq!(tail.poll().unwrap_or_default(), Growing::default(), "{bytes}");
        }
    }
}
