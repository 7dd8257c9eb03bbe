//! Answers of servers that a run's asking process keeps until they are in the run's log: `asked.jsonl`, and the lock of that process.
//!
//! Owns both files. A line is there as a whole or not at all: what follows the last line's end was cut by a crash. Refuses to know
//! what a line says.

use super::error::{Error, Result};
use super::files::{open_file_with, read_file};
use super::lock::{Lock, is_locked};
use crate::foreign::{ROWS, tail_of};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The kept answers of one run.
#[derive(Debug, Clone)]
pub struct AskedFile {
    lines: PathBuf,
    lock: PathBuf,
}

impl AskedFile {
    pub(super) fn new(run: &Path) -> Self {
        Self { lines: run.join("asked.jsonl"), lock: run.join("asked.lock") }
    }

    /// Whether a process asks for answers, or waits for those under way.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        is_locked(&self.lock)
    }

    /// The lines so far.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn lines(&self) -> Result<Vec<String>> {
        if !self.lines.exists() {
            return Ok(Vec::new());
        }
        let text = String::from_utf8_lossy(&read_file(&self.lines, ROWS)?).into_owned();
        Ok(text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect())
    }

    /// Opens the file for adding lines; none where another process does so.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn writer(&self) -> Result<Option<AskedWriter>> {
        let Some(lock) = Lock::take(&self.lock)? else { return Ok(None) };
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let file = open_file_with(&mut options, &self.lines)?;
        let mut writer = AskedWriter { file, path: self.lines.clone(), _lock: lock };
        // What a crash cut off would begin the next line.
        if tail_of(&self.lines, 0, 1)
            .map_err(|e| Error::io("read", &self.lines, e))?
            .last()
            .is_some_and(|last| *last != b'\n')
        {
            writer.add("")?;
        }
        Ok(Some(writer))
    }

    /// Removes the lines: all of them are in the run's log.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.lines) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &self.lines, e)),
            _ => Ok(()),
        }
    }
}

/// Adds lines while it holds the lock.
#[derive(Debug)]
pub struct AskedWriter {
    file: File,
    path: PathBuf,
    _lock: Lock,
}

impl AskedWriter {
    /// Adds a line; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, line: &str) -> Result<()> {
        let written = self.file.write_all(format!("{line}\n").as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|e| Error::io("write", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_kept_and_one_process_adds_them() {
        let dir = tempfile::tempdir().unwrap();
        let asked = AskedFile::new(dir.path());
        assert_eq!(asked.lines().unwrap(), [""; 0]);
        assert!(!asked.is_under_way());
        let mut writer = asked.writer().unwrap().unwrap();
        writer.add("one").unwrap();
        assert!(asked.is_under_way() && asked.writer().unwrap().is_none());
        drop(writer);
        let mut torn = OpenOptions::new().append(true).open(&asked.lines).unwrap();
        torn.write_all(b"tw").unwrap();
        assert_eq!(asked.lines().unwrap(), ["one"], "a line without an end was cut");
        asked.writer().unwrap().unwrap().add("three").unwrap();
        assert_eq!(asked.lines().unwrap(), ["one", "tw", "three"]);
        asked.remove().unwrap();
        asked.remove().unwrap();
        assert_eq!(asked.lines().unwrap(), [""; 0]);
    }
}
