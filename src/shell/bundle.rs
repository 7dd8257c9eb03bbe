//! The bundled sessions: made by real use, committed in `sessions/`, opened by `tiebreak demo`.
//!
//! Owns unpacking a copy for the demo. Refuses to open the committed files themselves. Refuses to delete a copy that
//! the user worked in: it becomes a session of the data folder.

use super::error::{Error, Result};
use crate::protocol::{SessionRecord, decode};
use crate::storage::{Home, SessionDir};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Path within `sessions/` and content of every file, sorted.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// The names of the bundled sessions.
#[must_use]
pub fn names() -> Vec<&'static str> {
    names_in(FILES)
}

fn names_in(files: &[(&'static str, &[u8])]) -> Vec<&'static str> {
    let mut names: Vec<&str> = files.iter().filter_map(|(path, _)| path.split('/').next()).collect();
    names.dedup();
    names
}

/// A new demo, and the last one if the user worked in it.
#[derive(Debug, PartialEq)]
pub struct Fresh<T> {
    /// The new demo.
    pub demo: T,
    /// The last demo.
    pub kept: Option<SessionDir>,
}

/// The contents of a demo that nobody has worked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untouched {
    /// The number of its last record.
    pub records: u64,
    /// The number of its runs.
    pub runs: usize,
}

impl Untouched {
    /// The contents of a copy of these files.
    fn copy_of(files: &[(&str, &[u8])], name: &str) -> Self {
        let own = |part: &str| {
            let folder = format!("{name}/{part}/");
            files.iter().filter_map(move |(path, bytes)| Some((path.strip_prefix(&folder)?.to_owned(), *bytes)))
        };
        let lines = own("events").flat_map(|(_, bytes)| bytes.split(|b| *b == b'\n'));
        let records = lines.filter_map(|line| Some(decode::<SessionRecord>(line).ok()?.n)).max().unwrap_or(0);
        let runs = own("runs").filter(|(path, _)| path.ends_with("/spec.json")).count();
        Self { records, runs }
    }

    /// Whether the user labelled, wrote, imported or launched something.
    fn differs(self, dir: &SessionDir) -> Result<bool> {
        use SessionRecord::{Hashed, Launched, Repaired, StateHashed};
        let mut tail = dir.tail();
        let records = tail.poll()?;
        let mut later = records.iter().filter(|envelope| envelope.n > self.records);
        // Records that the program writes by itself do not count; an unreadable line does.
        let worked = later
            .any(|e| !matches!(e.known(), Some(Hashed { .. } | StateHashed { .. } | Launched(_) | Repaired { .. })));
        Ok(worked || tail.damage_count() > 0 || dir.runs()?.len() > self.runs)
    }
}

/// Unpacks a new copy into the data folder's cache. A copy that is open elsewhere is left alone; the new one gets
/// another name.
///
/// # Errors
/// When the files cannot be written.
pub fn unpack(home: &Home, name: &str) -> Result<Fresh<SessionDir>> {
    unpack_from(FILES, home, name)
}

/// Finds a free folder for a new demo. Deletes the last copy if nobody worked in it, else turns it into a session. A
/// copy that is open elsewhere or has an active run stays.
///
/// # Errors
/// When the old copy cannot be read, moved or deleted.
pub fn fresh(home: &Home, name: &str, untouched: Untouched) -> Result<Fresh<PathBuf>> {
    let base = home.cache().join("demo");
    let mut target = base.join(name);
    let mut number = 1;
    let mut kept = None;
    while let Ok(old) = SessionDir::open(&target) {
        // Held until the old copy is gone, so that no process can write to it meanwhile.
        let lock = old.lock()?;
        let differs = untouched.differs(&old)?;
        let idle = lock.is_some() && (!differs || old.runs()?.iter().all(|run| !run.is_alive()));
        if idle && differs {
            kept = Some(keep(home, name, &target)?);
            break;
        }
        if idle {
            fs::remove_dir_all(&target).map_err(|e| Error::io("delete", &target, e))?;
            break;
        }
        // It is open or has an active run: leave it alone.
        kept = differs.then_some(old).or(kept);
        number += 1;
        target = base.join(format!("{name}-{number}"));
    }
    Ok(Fresh { demo: target, kept })
}

/// Moves a demo to the sessions, as `demo-NAME` or the next free name.
fn keep(home: &Home, name: &str, old: &Path) -> Result<SessionDir> {
    home.create()?;
    let names = std::iter::once(format!("demo-{name}")).chain((2..).map(|n| format!("demo-{name}-{n}")));
    let place = names.map(|name| home.sessions().join(name)).find(|place| !place.exists());
    let place = place.unwrap_or_else(|| home.sessions().join(name));
    fs::rename(old, &place).map_err(|e| Error::io("move the last demo to", &place, e))?;
    Ok(SessionDir::open(&place)?)
}

fn unpack_from(files: &[(&str, &[u8])], home: &Home, name: &str) -> Result<Fresh<SessionDir>> {
    let Fresh { demo, kept } = fresh(home, name, Untouched::copy_of(files, name))?;
    for (path, bytes) in files {
        if let Some(rest) = path.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')) {
            write(&demo.join(rest), bytes)?;
        }
    }
    Ok(Fresh { demo: SessionDir::open(&demo)?, kept })
}

/// Writes a private file and creates its parent folders.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::io("create", dir, e))?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::super::journal::Journal;
    use super::*;
    use crate::domain::Rater;

    const META: &[u8] = br#"{"format":1,"name":"a","model":"m","created_ms":1,"app":"t"}"#;
    const TWO: &[(&str, &[u8])] =
        &[("a/events/000001.jsonl", b""), ("a/session.json", META), ("ab/session.json", META)];

    #[test]
    fn every_demo_is_a_new_copy_and_leaves_an_open_one_alone() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(root.path())).unwrap();
        assert_eq!(names_in(TWO), ["a", "ab"]);
        let unpack = || unpack_from(TWO, &home, "a").unwrap().demo;
        let first = unpack();
        fs::write(first.path().join("trace"), "x").unwrap();
        let again = unpack();
        assert_eq!(first.path(), again.path());
        assert!(!again.path().join("trace").exists());
        let lock = again.lock().unwrap();
        let beside = unpack();
        assert_ne!(beside.path(), again.path());
        drop(lock);
    }

    #[test]
    fn labels_of_the_last_demo_become_a_session_and_an_untouched_demo_does_not() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(root.path())).unwrap();
        let name = names()[0];
        let opened = |dir: &SessionDir| Journal::require(dir).unwrap();
        let first = unpack(&home, name).unwrap();
        // Opened and closed only: the program writes a hash.
        opened(&first.demo).close().unwrap();
        let second = unpack(&home, name).unwrap();
        assert_eq!(second.kept, None, "nobody worked in it");
        for expected in [format!("demo-{name}"), format!("demo-{name}-2")] {
            let demo = unpack(&home, name).unwrap().demo;
            let pair = demo.state().unwrap().0.pairs()[0].id.clone();
            let mut journal = opened(&demo);
            let note = SessionRecord::Noted { pair, rater: Rater::new("ada"), text: "mine".into() };
            journal.append(&note).unwrap();
            journal.close().unwrap();
            let kept = unpack(&home, name).unwrap().kept.unwrap();
            assert_eq!(kept.path(), home.sessions().join(&expected));
            let records = kept.tail().poll().unwrap();
            assert!(records.iter().any(|e| e.known() == Some(&note)));
        }
    }

    #[test]
    fn every_bundled_session_opens() {
        let root = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(root.path())).unwrap();
        for name in names() {
            unpack(&home, name).unwrap().demo.state().unwrap();
        }
    }
}
