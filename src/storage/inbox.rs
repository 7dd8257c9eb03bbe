//! A session's inbox: records for its log from a process that does not hold its lock.
//!
//! Owns the files. A batch is one file, which appears atomically and in the order of its name; whoever holds the lock appends
//! those of its records that the log does not have, and only then removes the file. A crash at any moment leaves a batch that is
//! taken once more, and nothing twice. Refuses to append: the holder of the lock does.

use super::error::{Error, Result};
use super::files::{create_dir, names, read_file, sync_dir, temp_in, ticket, wall_ms, write_new};
use super::session::SessionDir;
use crate::foreign::DOCUMENT;
use crate::protocol::SessionRecord;
use std::path::{Path, PathBuf};

/// The extension of a batch that could not be read.
const REFUSED: &str = "refused";

/// The inbox of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    path: PathBuf,
}

impl Inbox {
    /// The inbox of that session.
    #[must_use]
    pub fn of(dir: &SessionDir) -> Self {
        Self { path: dir.path().join("inbox") }
    }

    /// Puts a batch in, durably. `from` names its writer. Returns its file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, from: &str, records: &[SessionRecord]) -> Result<PathBuf> {
        create_dir(&self.path)?;
        let mut bytes = Vec::new();
        for record in records {
            serde_json::to_writer(&mut bytes, record).map_err(|e| Error::io("write", &self.path, e.into()))?;
            bytes.push(b'\n');
        }
        let temp = temp_in(&self.path, from)?;
        write_new(&temp, &bytes)?;
        let path = self.path.join(format!("{:015}-{:06}-{}-{from}.jsonl", wall_ms(), ticket(), std::process::id()));
        std::fs::rename(&temp, &path).map_err(|e| Error::io("write", &path, e))?;
        sync_dir(&self.path)?;
        Ok(path)
    }

    /// The batches that wait, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn waiting(&self) -> Result<Vec<PathBuf>> {
        if !self.path.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = names(&self.path)?;
        found.retain(|name| !name.starts_with('.') && Path::new(name).extension().is_some_and(|e| e == "jsonl"));
        found.sort();
        Ok(found.into_iter().map(|name| self.path.join(name)).collect())
    }

    /// The batches of one writer that wait.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn waiting_from(&self, from: &str) -> Result<Vec<PathBuf>> {
        let end = format!("-{from}.jsonl");
        let mut found = self.waiting()?;
        found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&end)));
        Ok(found)
    }

    /// The records of a batch. One that is no list of records is set aside, under another extension, and none.
    ///
    /// # Errors
    /// When it cannot be read or set aside.
    pub fn read(&self, batch: &Path) -> Result<Option<Vec<SessionRecord>>> {
        let bytes = read_file(batch, DOCUMENT)?;
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let parsed: std::result::Result<Vec<SessionRecord>, _> = lines.map(serde_json::from_slice).collect();
        if let Ok(records) = parsed {
            return Ok(Some(records));
        }
        std::fs::rename(batch, Self::refused(batch)).map_err(|e| Error::io("set aside", batch, e))?;
        Ok(None)
    }

    /// Where a batch lies that was set aside.
    #[must_use]
    pub fn refused(batch: &Path) -> PathBuf {
        batch.with_extension(REFUSED)
    }

    /// Removes a batch whose records are in the log.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, batch: &Path) -> Result<()> {
        std::fs::remove_file(batch).map_err(|e| Error::io("remove", batch, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CompletionId, Num, RunId};

    fn scored(n: u32) -> SessionRecord {
        SessionRecord::Scored {
            completion: CompletionId::new(format!("c{n}")),
            run: RunId::new("r"),
            score: Num(f64::from(n)),
        }
    }

    #[test]
    fn batches_come_back_in_order_and_a_damaged_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("session.json"), "{}").unwrap();
        let inbox = Inbox::of(&SessionDir::open(folder.path()).unwrap());
        assert!(inbox.waiting().unwrap().is_empty());
        let first = inbox.put("loop-1", &[scored(1), scored(2)]).unwrap();
        let second = inbox.put("loop-2", &[scored(3)]).unwrap();
        assert_eq!(inbox.waiting().unwrap(), [first.clone(), second.clone()]);
        assert_eq!(inbox.waiting_from("loop-2").unwrap(), std::slice::from_ref(&second));
        assert_eq!(inbox.read(&first).unwrap(), Some(vec![scored(1), scored(2)]));
        std::fs::write(&second, "{\"k\":\"scored\"").unwrap();
        assert_eq!(inbox.read(&second).unwrap(), None);
        assert!(Inbox::refused(&second).is_file());
        inbox.remove(&first).unwrap();
        assert!(inbox.waiting().unwrap().is_empty());
    }
}
