//! Workers seen from outside: launching, finding out whether they live, telling them something, asking them a question.
//!
//! Owns the child processes. A run's worker is started once and then left to itself: it outlives this process. Whether it
//! lives is asked of its lock, never of a process id. Refuses to know what a worker does with a model.

use super::error::{Error, Result};
use super::journal::Journal;
use super::system;
use super::{embedded, inputs};
use crate::domain::{RunState, RunStatus, Severity, sanitise};
use crate::protocol::{RunEvent, RunSpec, SessionRecord, apply_run};
use crate::storage::{DataFile, Home, RunDir, SessionDir, temp_dir, write_private};
use serde::de::DeserializeOwned;
use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long a worker has to take its lock.
const START_TIME: Duration = Duration::from_secs(10);
/// Time between two looks whether an answer is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of a worker's log that go into an error.
const LAST_WORDS: usize = 3;

/// Creates a run, notes its launch in the session's log, and starts its worker. With no `journal` the launch is noted if
/// nobody holds the session's lock, else by its holder.
///
/// # Errors
/// When the model of a run it starts from was changed, the folder cannot be made or the worker does not come up.
pub fn launch(dir: &SessionDir, journal: Option<&mut Journal>, spec: &RunSpec, data: &[DataFile]) -> Result<RunDir> {
    let spec = &dir.portable(&inputs::fix(dir, spec.clone())?);
    // Refused before there is a run: its worker would fail on the same.
    for (_, id) in spec.parents() {
        verify(&dir.run(&id.parts().0)?, "verify-models")?;
    }
    let run = dir.create_run_with(spec, data)?;
    match journal {
        Some(journal) => {
            journal.append(&SessionRecord::Launched(Box::new(spec.clone())))?;
            journal.sync()?;
        }
        // Opening takes the missing launch in.
        None => {
            if let Some(journal) = Journal::open(dir)? {
                journal.close()?;
            }
        }
    }
    start(&run)?;
    Ok(run)
}

/// Starts a worker for a run that has none, and waits until it has the run's lock or has ended.
///
/// # Errors
/// When one is alive already, or the worker does not come up: with its last words.
pub fn start(run: &RunDir) -> Result<()> {
    if run.is_alive() {
        return Err(Error::failed(format!("run {} is active already: watch it with `tiebreak watch`", run.id())));
    }
    restore_models(run)?;
    let log_path = run.worker_log();
    let from = std::fs::metadata(&log_path).map_or(0, |m| m.len());
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(|e| Error::io("open", &log_path, e))?;
    let err = log.try_clone().map_err(|e| Error::io("open", &log_path, e))?;
    let mut events = run.tail();
    events.poll()?;
    let mut child = worker([OsStr::new("run"), run.path().as_os_str()])?
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(err)
        .spawn()
        .map_err(|e| Error::Io { doing: "start a worker".into(), source: e })?;
    let until = Instant::now() + START_TIME;
    loop {
        if run.is_alive() || events.poll()?.iter().any(|e| matches!(e.known(), Some(RunEvent::Started { .. }))) {
            reap(child);
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            // It may have been quick: started, failed or finished between two looks.
            let said = events.poll()?;
            if said.iter().any(|e| matches!(e.known(), Some(RunEvent::Started { .. }))) {
                return Ok(());
            }
            let end = format!("ended at once ({status}): {}", last_words(run, from));
            return Err(Error::Worker { what: format!("run {}", run.id()), end });
        }
        if Instant::now() > until {
            reap(child);
            let end = format!("did not start within {} s: {}", START_TIME.as_secs(), last_words(run, from));
            return Err(Error::Worker { what: format!("run {}", run.id()), end });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Puts the model that the binary carries back where the run expects it and nothing is, as in a session that was moved.
///
/// # Errors
/// When the specification does not read, or the files cannot be written.
pub fn restore_models(run: &RunDir) -> Result<()> {
    run.placed_spec()?.models().iter().try_for_each(|model| embedded::restore(Path::new(&model.path)))
}

/// Waits for a child in a thread of its own, so that it does not stay behind as a zombie while this process goes on.
fn reap(mut child: Child) {
    let _ = std::thread::Builder::new().name("reaper".into()).spawn(move || child.wait());
}

/// The last lines of a worker's log after an offset, as one line.
fn last_words(run: &RunDir, from: u64) -> String {
    let bytes = std::fs::read(run.worker_log()).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(from as usize..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return format!("the worker log {} is empty", run.worker_log().display());
    }
    sanitise(&lines[lines.len().saturating_sub(LAST_WORDS)..].join("; "))
}

/// Whether a run's worker is alive; none while that cannot be said. A free lock means nothing as long as the log is empty and
/// the folder is young: its worker is then still coming up.
#[must_use]
pub fn liveness(run: &RunDir, began: bool) -> Option<bool> {
    if run.is_alive() {
        return Some(true);
    }
    let changed = std::fs::metadata(run.path()).and_then(|m| m.modified()).ok();
    let age = changed.and_then(|at| at.elapsed().ok());
    (began || age.is_none_or(|age| age >= START_TIME)).then_some(false)
}

/// The run as its log tells it, and where it is in its life.
///
/// # Errors
/// When its log cannot be read.
pub fn look(run: &RunDir) -> Result<(RunState, RunStatus)> {
    let mut state = RunState::default();
    // The lock first: a worker that ends in between has then written its end, and is not called lost.
    let held = run.is_alive();
    let events = run.tail().poll()?;
    for envelope in &events {
        apply_run(&mut state, envelope);
    }
    let status = state.status(if held { Some(true) } else { liveness(run, !events.is_empty()) });
    Ok((state, status))
}

/// Whether a running run waits for space on the disk: its worker logs a finding when it begins to wait and another when it
/// goes on.
///
/// # Errors
/// When its log cannot be read.
pub fn waits_for_space(run: &RunDir) -> Result<bool> {
    let events = run.tail().poll()?;
    let waits = events.iter().rev().find_map(|envelope| match envelope.known()? {
        RunEvent::Found(finding) if finding.rule == "disk_full" => Some(finding.severity == Severity::Warn),
        RunEvent::Started { .. } => Some(false),
        _ => None,
    });
    Ok(waits == Some(true))
}

/// How many threads compute. Where it is not set, candle counts the machine's cores anew at every matrix product, which on
/// a small model takes longer than the product.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Bytes from which glibc gives a block pages of its own, and bytes at the end of its heap from which it gives them back. Left
/// alone it raises the first to the largest block freed so far, and batches of changing lengths leave ever more holes; and one
/// heap for all threads, since what one thread frees another can use then.
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "16777216"), ("MALLOC_TRIM_THRESHOLD_", "67108864"), ("MALLOC_ARENA_MAX", "1")];

/// The program that runs, also where its file was replaced or removed since: an upgrade must not part an open workbench
/// from its workers, nor give it those of another version.
///
/// # Errors
/// When the system does not say where it is.
pub fn this_program() -> Result<Command> {
    let path = std::env::current_exe().map_err(|e| Error::Io { doing: "find this program".into(), source: e })?;
    // Linux holds the file open under this name for as long as the process lives.
    let held = Path::new("/proc/self/exe");
    if !cfg!(target_os = "linux") || !held.exists() {
        return Ok(Command::new(path));
    }
    let mut command = Command::new(held);
    // Lists of processes show the name it was started by.
    command.arg0(path);
    Ok(command)
}

/// This program as a worker.
fn worker<'a>(args: impl IntoIterator<Item = &'a OsStr>) -> Result<Command> {
    let mut command = this_program()?;
    command.arg("worker").args(args);
    if std::env::var_os(THREADS).is_none() {
        command.env(THREADS, system::cores().to_string());
    }
    for (name, value) in ALLOCATOR {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    Ok(command)
}

/// How long an answer is waited for.
pub struct Deadline {
    limit: Duration,
    superseded: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Deadline {
    /// For so long, or until `superseded` says that nobody waits any more.
    pub fn new(limit: Duration, superseded: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { limit, superseded: Box::new(superseded) }
    }

    /// For so long.
    #[must_use]
    pub fn of(limit: Duration) -> Self {
        Self::new(limit, || false)
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        (self.superseded)()
    }
}

/// Asks a short-lived worker a question; every line of its answer is one `T`, given to `each` as it comes.
///
/// # Errors
/// When it cannot be started, says something else, or fails: with its last words.
pub fn ask<T: DeserializeOwned>(args: &[&OsStr], each: impl FnMut(T) -> Result<()>) -> Result<()> {
    ask_within(None, args, each)
}

/// As [`ask`]; the worker is ended once the deadline is.
///
/// # Errors
/// As [`ask`], or when the time is over or a newer question took its place.
pub fn ask_within<T: DeserializeOwned>(
    deadline: Option<&Deadline>,
    args: &[&OsStr],
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let what = format!("`{}`", args.first().map(|a| a.to_string_lossy()).unwrap_or_default());
    let mut child = worker(args.iter().copied())?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::Io { doing: "start a worker".into(), source: e })?;
    // Standard error is read beside, so that a talkative worker cannot block on it.
    let stderr = child.stderr.take();
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut failed = None;
    if let Some(stdout) = child.stdout.take() {
        let lines = lines_of(stdout)?;
        let until = deadline.map(|deadline| Instant::now() + deadline.limit);
        while let Some(line) = next_line(&lines, deadline.zip(until), &what).transpose() {
            let told = line.and_then(|line| {
                if line.trim().is_empty() {
                    return Ok(());
                }
                serde_json::from_str(&line)
                    .map_err(|e| Error::Worker { what: what.clone(), end: format!("said something unexpected: {e}") })
                    .and_then(&mut each)
            });
            if let Err(e) = told {
                failed = Some(e);
                let _ = child.kill();
                break;
            }
        }
    }
    let status = child.wait().map_err(|e| Error::Io { doing: "wait for a worker".into(), source: e })?;
    let said = errors.join().unwrap_or_default();
    if let Some(e) = failed {
        return Err(e);
    }
    if status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    match lines.last() {
        // A worker's last line is a whole sentence about what is wrong.
        Some(last) => Err(Error::failed(sanitise(last.strip_prefix("tiebreak: ").unwrap_or(last)))),
        None => Err(Error::Worker { what, end: format!("ended with {status}") }),
    }
}

/// Reads a worker's answer in a thread of its own, so that waiting for it can have a limit.
fn lines_of(stdout: ChildStdout) -> Result<Receiver<String>> {
    let (sender, lines) = sync_channel(64);
    std::thread::Builder::new()
        .name("answer".into())
        .spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })
        .map_err(|source| Error::Io { doing: "start a thread".into(), source })?;
    Ok(lines)
}

/// The next line of an answer; none at its end.
fn next_line(lines: &Receiver<String>, deadline: Option<(&Deadline, Instant)>, what: &str) -> Result<Option<String>> {
    let Some((deadline, until)) = deadline else { return Ok(lines.recv().ok()) };
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => return Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if deadline.is_superseded() => return Err(Error::Superseded),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                let end = format!("gave no answer within {} s and was ended", deadline.limit.as_secs_f64());
                return Err(Error::Worker { what: what.into(), end });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Asks a worker about a run that is not launched: its specification and data lie in a private folder for as long as that
/// takes.
///
/// # Errors
/// When the folder cannot be written or the worker fails.
pub fn ask_about<T: DeserializeOwned>(
    verb: &str,
    home: &Home,
    deadline: Option<&Deadline>,
    spec: &RunSpec,
    data: &[DataFile],
) -> Result<T> {
    let dir = temp_dir(&home.cache(), verb)?;
    let text = serde_json::to_vec(spec).map_err(|e| Error::failed(format!("the run does not write as JSON: {e}")))?;
    let files = data.iter().map(|file| (file.name.as_str(), file.bytes.as_slice()));
    for (name, bytes) in files.chain([("spec.json", text.as_slice())]) {
        write_private(&dir.path().join(name), bytes)?;
    }
    let mut answer = None;
    ask_within(deadline, &[verb.as_ref(), dir.path().as_os_str()], |said: T| {
        answer = Some(said);
        Ok(())
    })?;
    answer.ok_or_else(|| Error::failed("the worker gave no answer: try again"))
}

/// Starts a worker for a run that has ended without reaching its plan: lost, stopped or failed.
///
/// # Errors
/// When it is finished or active, an input is not what it was, or the new worker does not come up.
pub fn resume(run: &RunDir) -> Result<()> {
    let id = run.id();
    if look(run)?.1 == RunStatus::Finished {
        return Err(Error::failed(format!("run {id} is finished: launch a new one with `--init {id}` to train on")));
    }
    // A run that cannot go on is not begun: it stays what it is, and whoever asked hears why.
    verify(run, "verify")?;
    // Orders from before the end are not for the new worker.
    run.take_commands()?;
    start(run)
}

/// Asks a worker whether the inputs that a run recorded are unchanged; a run of an older version recorded none.
fn verify(run: &RunDir, verb: &str) -> Result<()> {
    if run.recorded_inputs()?.is_none() {
        return Ok(());
    }
    restore_models(run)?;
    ask(&[verb.as_ref(), run.path().as_os_str()], |_: serde_json::Value| Ok(()))
}
