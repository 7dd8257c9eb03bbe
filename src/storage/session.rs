//! One session's folder: its header, lock, log and runs.

use super::counted::{counted_end, note_cut};
use super::error::{Error, Result};
use super::files::{Hidden, below_session, create_dir, names, read_json, sweep, sync_dir, temp_in, write_new};
use super::home::{Home, data_root};
use super::lock::{Holder, Lock, lock_holder};
use super::log::{LogTail, LogWriter};
use super::run::RunDir;
use crate::domain::{RunId, Session, is_name, nearest};
use crate::protocol::{
    Damage, DamagedPlace, Integrity, MAX_SEQ, RunSpec, SessionMeta, SessionRecord, apply_record, apply_run_event,
};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Runs whose folders one thread looks at, at least.
const RUNS_A_THREAD: usize = 16;

/// A file of a run's frozen data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Its name within the run's folder, as in the specification's snapshot.
    pub name: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// The folders in a session's own. None may be a link that leads out of it.
const FOLDERS: [&str; 7] = ["events", "runs", "quarantine", "inbox", "cache", "loops", "blobs"];

/// A session's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDir {
    path: PathBuf,
}

impl SessionDir {
    /// The session of that name under the data folder, or at that path when it holds a `/` or is a session's folder.
    ///
    /// # Errors
    /// When there is none; the message suggests the nearest name.
    pub fn find(home: &Home, name: &str) -> Result<Self> {
        let trimmed = name.trim_end_matches('/');
        let here = Path::new(trimmed);
        if is_name(trimmed) {
            let path = home.sessions().join(trimmed);
            if path.join("session.json").is_file() {
                return Self::open(&path);
            }
        }
        if here.join("session.json").is_file() || trimmed.contains('/') {
            return Self::open(here);
        }
        let known = names(&home.sessions())?;
        let hint = match nearest(trimmed, known.iter().map(String::as_str)) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!("; make it with `tiebreak new {trimmed} --model MODEL`"),
        };
        Err(Error::NoSession { name: name.into(), home: home.sessions(), hint })
    }

    /// The session in that folder.
    ///
    /// # Errors
    /// When it is not a session's folder.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        if !path.join("session.json").is_file() {
            return Err(Error::NotASession(path));
        }
        for folder in FOLDERS {
            below_session(&path.join(folder)).map_err(|e| Error::io("open", &path, e))?;
        }
        Ok(Self { path })
    }

    /// Creates a session under the data folder, or at a path when `name` holds a `/`. It appears atomically.
    ///
    /// # Errors
    /// When the name is taken or invalid, or the files cannot be written.
    pub fn create(home: &Home, name: &str, meta: &SessionMeta) -> Result<Self> {
        let path = if name.contains('/') {
            std::path::absolute(name).map_err(|e| Error::io("find", Path::new(name), e))?
        } else {
            home.sessions().join(name)
        };
        let slug = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if !is_name(slug) {
            return Err(Error::Name(slug.into()));
        }
        if path.exists() {
            return Err(Error::Exists(path));
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        create_dir(parent)?;
        let hidden = Hidden(temp_in(parent, slug)?);
        let temp = &hidden.0;
        create_dir(&temp.join("events"))?;
        create_dir(&temp.join("runs"))?;
        let meta = SessionMeta { name: slug.into(), ..meta.clone() };
        write_new(&temp.join("session.json"), &pretty(&meta, &path)?)?;
        sync_dir(temp)?;
        std::fs::rename(temp, &path).map_err(|e| Error::io("create", &path, e))?;
        sync_dir(parent)?;
        Ok(Self { path })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The session's header, `session.json`.
    ///
    /// # Errors
    /// When it cannot be read, or its name for the session is invalid.
    pub fn meta(&self) -> Result<SessionMeta> {
        let path = self.path.join("session.json");
        let meta: SessionMeta = read_json(&path, "a session's header")?;
        if is_name(&meta.name) { Ok(meta) } else { Err(Error::ForeignName { path, what: "the name", name: meta.name }) }
    }

    /// Takes the lock to write the session's log; none when another process holds it.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn lock(&self) -> Result<Option<Lock>> {
        Lock::take(&self.path.join("lock"))
    }

    /// Who holds the lock, as its text says.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        lock_holder(&self.path.join("lock"))
    }

    /// The session's log, repaired and open for appending.
    ///
    /// # Errors
    /// When it cannot be opened or repaired.
    pub fn writer(&self, lock: &Lock) -> Result<LogWriter<SessionRecord>> {
        // The lock holder removes the leftovers of writers that were killed.
        for dir in [self.events(), self.path.join("runs"), self.path.clone()] {
            sweep(&dir);
        }
        LogWriter::open(&self.events(), &self.quarantine(), lock)
    }

    /// A reader at the beginning of the session's log.
    #[must_use]
    pub fn tail(&self) -> LogTail<SessionRecord> {
        LogTail::new(&self.events())
    }

    /// The highest number of a record that the list of sessions has ever counted in the session's log; 0 where it counted none. A
    /// log that was read after this and ends before it was cut between two lines, which nothing in it tells.
    #[must_use]
    pub fn counted_end(&self) -> u64 {
        counted_end(&self.path)
    }

    /// Adds to the damage of a log that it ends at record `last` although `counted` were counted.
    pub fn note_cut(integrity: &mut Integrity, last: u64, counted: u64) {
        note_cut(integrity, last, counted);
    }

    /// Folds the session's log and the logs of its sampling runs. The second value is their damage: callers that use
    /// the state must report it.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn state(&self) -> Result<(Session, Integrity)> {
        self.snapshot(None).map(|(session, integrity, _)| (session, integrity))
    }

    /// As [`SessionDir::state`], but only up to record `upto` of a log that is still being written. The third value is
    /// the number of its last record.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn snapshot(&self, upto: Option<u64>) -> Result<(Session, Integrity, u64)> {
        let mut session = Session::default();
        // Before the log: what was counted is there.
        let counted = self.counted_end();
        let mut tail = self.tail();
        let mut last = 0;
        // Of two records with one number both are kept: the second one's substitute number is far above all others.
        let included = |n: u64| upto.is_none_or(|upto| n <= upto || n > MAX_SEQ);
        for envelope in tail.finish()?.into_iter().filter(|envelope| included(envelope.n)) {
            if envelope.n <= MAX_SEQ {
                last = envelope.n.max(last);
            }
            if let Some(record) = envelope.known() {
                apply_record(&mut session, envelope.n, envelope.w, record);
            }
        }
        let mut integrity = tail.integrity();
        note_cut(&mut integrity, tail.last_seq(), counted);
        let mut last_seen = tail.last_seq().max(counted);
        for run in self.runs()? {
            let spec = match run.spec() {
                Ok(spec) => spec,
                Err(error) => {
                    integrity.note(1, unread(&run, &error));
                    continue;
                }
            };
            let launch_seq = run.launch_seq(&spec);
            if launch_seq > last_seen {
                let what = format!(
                    "run {} was launched after record {launch_seq}, but the log ends at record {last_seen}",
                    run.id()
                );
                let place = DamagedPlace { damage: Damage::Missing, file: "events".into(), line: 0, what };
                integrity.note(launch_seq - last_seen, place);
                last_seen = launch_seq;
            }
            if !spec.adds_to_session() {
                continue;
            }
            let mut tail = run.tail();
            for envelope in tail.finish()? {
                if let Some(event) = envelope.known() {
                    apply_run_event(&mut session, event);
                }
            }
            integrity.merge(&tail.integrity());
        }
        Ok((session, integrity, last))
    }

    /// Every run, in order of launch.
    ///
    /// # Errors
    /// When the folder of runs cannot be listed.
    pub fn runs(&self) -> Result<Vec<RunDir>> {
        Ok(self.runs_with_specs()?.into_iter().map(|(run, _)| run).collect())
    }

    /// As [`SessionDir::runs`], each with its specification or why that cannot be read.
    ///
    /// # Errors
    /// When the folder of runs cannot be listed.
    pub fn runs_with_specs(&self) -> Result<Vec<(RunDir, Result<RunSpec>)>> {
        let dir = self.path.join("runs");
        let folders = names(&dir)?;
        let folders: Vec<&String> = folders.iter().filter(|name| !name.starts_with('.')).collect();
        // A session of many runs has as many files to read.
        let read = |name: &&String| {
            let run = RunDir::open(&dir.join(name)).ok()?;
            let spec = run.spec();
            let created = spec.as_ref().map_or(u64::MAX, |spec| spec.created_ms);
            Some(((created, number_in(&run)), run, spec))
        };
        let mut runs: Vec<_> = folders.par_iter().with_min_len(RUNS_A_THREAD).filter_map(read).collect();
        runs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(runs.into_iter().map(|(_, run, spec)| (run, spec)).collect())
    }

    /// The run of that id.
    ///
    /// # Errors
    /// When there is none; the message suggests the nearest id.
    pub fn run(&self, id: &RunId) -> Result<RunDir> {
        let dir = self.path.join("runs");
        if is_name(id.as_str()) && dir.join(id.as_str()).join("spec.json").is_file() {
            return RunDir::open(&dir.join(id.as_str()));
        }
        let known = names(&dir)?;
        let hint = nearest(id.as_str(), known.iter().filter(|n| !n.starts_with('.')).map(String::as_str))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(Error::NoRun { session: self.name(), run: id.as_str().into(), hint })
    }

    /// The id that the next run of that kind gets: `dpo-3` after `dpo-2`.
    ///
    /// # Errors
    /// When the folder of runs cannot be listed.
    pub fn next_run_id(&self, kind: &str) -> Result<RunId> {
        let last = names(&self.path.join("runs"))?
            .iter()
            .filter_map(|name| name.strip_prefix(kind)?.strip_prefix('-')?.parse::<u64>().ok())
            .max()
            .unwrap_or(0);
        Ok(RunId::new(format!("{kind}-{}", last + 1)))
    }

    /// `spec` with the paths of models inside the data folder made relative to it.
    #[must_use]
    pub fn portable(&self, spec: &RunSpec) -> RunSpec {
        let mut spec = spec.clone();
        if let Some(root) = data_root(&self.path) {
            for model in spec.models_mut() {
                if let Ok(below) = Path::new(&model.path).strip_prefix(root) {
                    model.path = below.display().to_string();
                }
            }
        }
        spec
    }

    /// Creates a run's folder with its specification and the one data file it names, frozen.
    ///
    /// # Errors
    /// As [`SessionDir::create_run_with`].
    pub fn create_run(&self, spec: &RunSpec, data: &[u8]) -> Result<RunDir> {
        let name = spec.data().first().map(|data| data.file.clone()).unwrap_or_default();
        self.create_run_with(spec, &[DataFile { name, bytes: data.to_vec() }])
    }

    /// Creates a run's folder with its specification and every data file it names, frozen. It appears atomically.
    ///
    /// # Errors
    /// When there is a run of that id already, a file that the specification names is not among `files`, or the files cannot
    /// be written.
    pub fn create_run_with(&self, spec: &RunSpec, files: &[DataFile]) -> Result<RunDir> {
        if !is_name(spec.id.as_str()) {
            return Err(Error::Name(spec.id.as_str().into()));
        }
        let runs = self.path.join("runs");
        let path = runs.join(spec.id.as_str());
        if path.exists() {
            return Err(Error::Exists(path));
        }
        if let Some((what, name)) = spec.unsafe_name() {
            return Err(Error::ForeignName { path: path.join("spec.json"), what, name: name.into() });
        }
        if let Some(data) = spec.data().into_iter().find(|data| !files.iter().any(|file| file.name == data.file)) {
            return Err(Error::MissingData { path: path.join(&data.file) });
        }
        let hidden = Hidden(temp_in(&runs, spec.id.as_str())?);
        let temp = &hidden.0;
        for part in ["metrics", "ctl", "ckpt"] {
            create_dir(&temp.join(part))?;
        }
        if let Some(file) = files.iter().find(|file| !is_name(&file.name)) {
            return Err(Error::Name(file.name.clone()));
        }
        for file in files {
            write_new(&temp.join(&file.name), &file.bytes)?;
        }
        write_new(&temp.join("spec.json"), &pretty(spec, &path)?)?;
        sync_dir(temp)?;
        std::fs::rename(temp, &path).map_err(|e| {
            // Another process launched a run of that id meanwhile.
            if path.exists() { Error::Exists(path.clone()) } else { Error::io("create", &path, e) }
        })?;
        sync_dir(&runs)?;
        RunDir::open(&path)
    }

    pub(super) fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    fn quarantine(&self) -> PathBuf {
        self.path.join("quarantine")
    }
}

/// A run with an unreadable specification: its kind, and so what its log adds to the session, is unknown.
fn unread(run: &RunDir, error: &Error) -> DamagedPlace {
    let file = format!("runs/{}/spec.json", run.id());
    DamagedPlace { damage: Damage::File, file, line: 0, what: format!("it cannot be read ({error})") }
}

/// The number at the end of a run's id, so that `dpo-10` sorts after `dpo-9` when both were created in one millisecond.
fn number_in(run: &RunDir) -> (u64, String) {
    let id = run.id().into_string();
    (id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0), id)
}

pub(super) fn pretty<T: serde::Serialize>(value: &T, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::Json {
        path: path.to_owned(),
        what: "JSON",
        reason: e.to_string(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}
