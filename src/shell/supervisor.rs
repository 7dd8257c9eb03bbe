//! Worker processes: starting them, checking whether they are alive, asking them questions.
//!
//! Owns the child processes. A run's worker is detached: it outlives this process. Its lock says whether it is alive,
//! never a process id. Refuses to know what a worker does with a model.

use super::error::{Error, Result};
use super::journal::Journal;
use super::run_name::RunName;
use super::system;
use super::{embedded, inputs};
use crate::domain::{RunState, RunStatus, Severity, sanitise};
use crate::protocol::{RunEvent, RunSpec, SessionRecord, apply_run};
use crate::storage::{DataFile, Home, Inbox, LoopFolder, RunDir, SessionDir, read_tail, temp_dir, write_private};
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

/// The longest time for a worker to take its lock.
const START_TIME: Duration = Duration::from_secs(10);
/// Time between two checks whether an answer is still wanted.
const POLL: Duration = Duration::from_millis(50);
/// Lines of worker.log in an error.
const LAST_LINES: usize = 3;
/// Most bytes of a worker's log in which they are looked for.
const LOG_END: u64 = 64 << 10;

/// Creates a run under a name of that origin, records its launch in the session's log and starts its worker. Without a `journal`
/// the launch is recorded here if the session's lock is free, else by the holder of the lock.
///
/// # Errors
/// When the model of a parent run was changed, a chosen name is taken, the folder cannot be created or the worker does not
/// start.
pub fn launch(
    dir: &SessionDir,
    journal: Option<&mut Journal>,
    spec: &RunSpec,
    data: &[DataFile],
    name: RunName,
) -> Result<RunDir> {
    let mut spec = dir.portable(&inputs::record_checkpoints(dir, spec.clone())?);
    // Refused before there is a run: its worker would fail on the same.
    for (_, id) in spec.parents() {
        verify(&dir.run(&id.parts().0)?, "verify-models")?;
    }
    let run = name.create(dir, &mut spec, data)?;
    match journal {
        Some(journal) => {
            journal.append(&SessionRecord::Launched(Box::new(spec)))?;
            journal.sync()?;
        }
        // Opening the journal adds the missing launch record.
        None => {
            if let Some(journal) = Journal::open(dir)? {
                journal.close()?;
            }
        }
    }
    start(&run)?;
    Ok(run)
}

/// Starts a worker for a run that has none. Waits until it holds the run's lock or has ended.
///
/// # Errors
/// When a worker is alive already, or the new one does not start; the error has the end of its log.
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
            // It may have started and ended between two polls.
            let logged = events.poll()?;
            if logged.iter().any(|e| matches!(e.known(), Some(RunEvent::Started { .. }))) {
                return Ok(());
            }
            let end = format!("ended at once ({status}): {}", last_lines(run, from));
            return Err(Error::Worker { what: format!("run {}", run.id()), end });
        }
        if Instant::now() > until {
            reap(child);
            let end = format!("did not start within {} s: {}", START_TIME.as_secs(), last_lines(run, from));
            return Err(Error::Worker { what: format!("run {}", run.id()), end });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes the embedded model where the run expects it and it is missing, as in a session that was moved.
///
/// # Errors
/// When the specification cannot be parsed, or the files cannot be written.
pub fn restore_models(run: &RunDir) -> Result<()> {
    run.resolved_spec()?.models().iter().try_for_each(|model| embedded::restore(Path::new(&model.path)))
}

/// Starts the process of a loop in the background. Waits until it holds the loop's lock or has ended.
///
/// # Errors
/// When it is running already or does not start; the error has the end of its log.
pub fn start_loop(home: &Home, dir: &SessionDir, name: &str, key_envs: &[String]) -> Result<()> {
    let folder = LoopFolder::of(dir, name);
    if folder.is_running() {
        return Err(Error::failed(format!("{name} is running already")));
    }
    if Inbox::of(dir).waiting_from(name)?.is_empty() && dir.state()?.0.planned_loop(name).is_none() {
        return Err(Error::failed(format!("session {} has no loop {name}", dir.name())));
    }
    let log_path = folder.log()?;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let open = || options.open(&log_path).map_err(|e| Error::io("open", &log_path, e));
    let from = std::fs::metadata(&log_path).map_or(0, |m| m.len());
    let mut command = this_program()?;
    command.arg("--home").arg(home.root()).arg("loop").arg(dir.path()).args(["--resume", name, "--background"]);
    for key in key_envs {
        command.args(["--key-env", key]);
    }
    let child = command.current_dir("/").stdin(Stdio::null()).stdout(open()?).stderr(open()?).spawn();
    let mut child = child.map_err(|e| Error::Io { doing: "start a loop".into(), source: e })?;
    let until = Instant::now() + START_TIME;
    while Instant::now() < until && !folder.is_running() {
        if let Ok(Some(status)) = child.try_wait() {
            if status.success() {
                return Ok(());
            }
            let bytes = read_tail(&log_path, from, LOG_END).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let last = text.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("it said nothing");
            return Err(Error::failed(sanitise(last.strip_prefix("tiebreak: ").unwrap_or(last))));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    reap(child);
    Ok(())
}

/// Waits for a child in its own thread, so that it does not become a zombie.
fn reap(mut child: Child) {
    let _ = std::thread::Builder::new().name("reaper".into()).spawn(move || child.wait());
}

/// The last lines of a worker's log after an offset, joined into one.
fn last_lines(run: &RunDir, from: u64) -> String {
    let bytes = read_tail(&run.worker_log(), from, LOG_END).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return format!("the worker log {} is empty", run.worker_log().display());
    }
    sanitise(&lines[lines.len().saturating_sub(LAST_LINES)..].join("; "))
}

/// Whether a run's worker is alive; none while that is unknown. While the log is empty and the folder is new, the lock
/// may be free because the worker is still starting.
#[must_use]
pub fn liveness(run: &RunDir, has_records: bool) -> Option<bool> {
    if run.is_alive() {
        return Some(true);
    }
    let changed = std::fs::metadata(run.path()).and_then(|m| m.modified()).ok();
    let age = changed.and_then(|at| at.elapsed().ok());
    (has_records || age.is_none_or(|age| age >= START_TIME)).then_some(false)
}

/// Whether the process that holds a run's lock is stopped by a signal.
#[must_use]
pub fn is_suspended(run: &RunDir) -> bool {
    run.holder().is_some_and(|holder| system::is_stopped(holder.pid))
}

/// Whether the log of a run that may be lost got its reason just now: the system killed its worker for lack of memory. Its log then
/// says that the run failed, and how to do with less.
pub fn explain_loss(run: &RunDir) -> bool {
    let lost: [&OsStr; 2] = ["lost".as_ref(), run.path().as_os_str()];
    // On a read-only disk it stays lost.
    !run.is_alive() && run.oom_kills() > 0 && ask(&lost, |_: serde_json::Value| Ok(())).is_ok()
}

/// The state of a run, folded from its log, and its status.
///
/// # Errors
/// When its log cannot be read.
pub fn state_of(run: &RunDir) -> Result<(RunState, RunStatus)> {
    match folded(run)? {
        (_, RunStatus::Lost) if explain_loss(run) => folded(run),
        found => Ok(found),
    }
}

fn folded(run: &RunDir) -> Result<(RunState, RunStatus)> {
    let mut state = RunState::default();
    // The lock before the log: a worker that ends in between has logged its end and does not count as lost.
    let held = run.is_alive();
    let events = run.tail().poll()?;
    for envelope in &events {
        apply_run(&mut state, envelope);
    }
    let status = match state.status(if held { Some(true) } else { liveness(run, !events.is_empty()) }) {
        status if held && status.is_live() && is_suspended(run) => RunStatus::Suspended,
        status => status,
    };
    Ok((state, status))
}

/// Whether a running run waits for space on the disk: its worker logs a finding when it begins to wait and another when
/// it goes on.
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

/// Number of compute threads. If unset, candle counts the cores at every matrix product; on a small model that takes
/// longer than the product.
const THREADS: &str = "RAYON_NUM_THREADS";

/// glibc's thresholds: block size for a separate mapping, and free bytes at the heap's end before trimming. By default
/// glibc raises the first to the largest block freed so far, and batches of varying length fragment the heap. One arena
/// for all threads, so that a thread can reuse what another freed.
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "16777216"), ("MALLOC_TRIM_THRESHOLD_", "67108864"), ("MALLOC_ARENA_MAX", "1")];

/// The running program, even if its file was replaced or removed since: after an upgrade an open workbench keeps
/// starting workers of its own version.
///
/// # Errors
/// When the system does not know the path.
pub fn this_program() -> Result<Command> {
    let path = std::env::current_exe().map_err(|e| Error::Io { doing: "find this program".into(), source: e })?;
    // Linux keeps the file open under this name while the process lives.
    let held = Path::new("/proc/self/exe");
    if !cfg!(target_os = "linux") || !held.exists() {
        return Ok(Command::new(path));
    }
    let mut command = Command::new(held);
    // Process lists show the original path.
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

/// When to stop waiting for an answer: after a time, or once a newer question replaced it.
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
    /// Ends after `limit`, or once `superseded` returns true.
    pub fn new(limit: Duration, superseded: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { limit, superseded: Box::new(superseded) }
    }

    /// Ends after `limit`.
    #[must_use]
    pub fn of(limit: Duration) -> Self {
        Self::new(limit, || false)
    }

    /// Whether a newer question replaced this one.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        (self.superseded)()
    }
}

/// Asks a short-lived worker a question. Every line of its answer is one `T`, passed to `each` as it arrives.
///
/// # Errors
/// When it cannot be started, its answer does not parse, or it fails; the error is its last line.
pub fn ask<T: DeserializeOwned>(args: &[&OsStr], each: impl FnMut(T) -> Result<()>) -> Result<()> {
    ask_within(None, args, each)
}

/// As [`ask`]; kills the worker at the deadline.
///
/// # Errors
/// As [`ask`], or when the deadline has passed or a newer question took its place.
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
    // Standard error is drained in parallel, so that the worker cannot block on a full pipe.
    let stderr = child.stderr.take();
    let errors = std::thread::Builder::new().name("errors".into()).spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let errors = errors.map_err(|source| {
        let _ = child.kill();
        Error::Io { doing: "start a thread".into(), source }
    })?;
    let mut failed = None;
    if let Some(stdout) = child.stdout.take() {
        let lines = lines_of(stdout)?;
        let until = deadline.map(|deadline| Instant::now() + deadline.limit);
        while let Some(line) = next_line(&lines, deadline.zip(until), &what).transpose() {
            let parsed = line.and_then(|line| {
                if line.trim().is_empty() {
                    return Ok(());
                }
                serde_json::from_str(&line)
                    .map_err(|e| Error::Worker { what: what.clone(), end: format!("gave an unexpected answer: {e}") })
                    .and_then(&mut each)
            });
            if let Err(e) = parsed {
                failed = Some(e);
                let _ = child.kill();
                break;
            }
        }
    }
    let status = child.wait().map_err(|e| Error::Io { doing: "wait for a worker".into(), source: e })?;
    let stderr = errors.join().unwrap_or_default();
    if let Some(e) = failed {
        return Err(e);
    }
    if status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    match lines.last() {
        // A worker's last line is a whole sentence about what is wrong.
        Some(last) => Err(Error::failed(sanitise(last.strip_prefix("tiebreak: ").unwrap_or(last)))),
        None => Err(Error::Worker { what, end: format!("ended with {status}") }),
    }
}

/// Reads a worker's answer in its own thread, so that waiting for it can time out.
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

/// The next line of an answer; none at the end.
fn next_line(lines: &Receiver<String>, deadline: Option<(&Deadline, Instant)>, what: &str) -> Result<Option<String>> {
    let Some((deadline, until)) = deadline else { return Ok(lines.recv().ok()) };
    loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => return Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if deadline.is_superseded() => return Err(Error::Superseded),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                let end = format!("gave no answer within {} s and was killed", deadline.limit.as_secs_f64());
                return Err(Error::Worker { what: what.into(), end });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Asks a worker about a run that is not launched. Its specification and data are in a private folder meanwhile.
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
    let text =
        serde_json::to_vec(spec).map_err(|e| Error::failed(format!("the run cannot be serialised as JSON: {e}")))?;
    let files = data.iter().map(|file| (file.name.as_str(), file.bytes.as_slice()));
    for (name, bytes) in files.chain([("spec.json", text.as_slice())]) {
        write_private(&dir.path().join(name), bytes)?;
    }
    let mut answer = None;
    ask_within(deadline, &[verb.as_ref(), dir.path().as_os_str()], |line: T| {
        answer = Some(line);
        Ok(())
    })?;
    answer.ok_or_else(|| Error::failed("the worker gave no answer: try again"))
}

/// Starts a worker for a run that ended early: lost, stopped or failed.
///
/// # Errors
/// When the run is finished or active, an input was changed, or the worker does not start.
pub fn resume(run: &RunDir) -> Result<()> {
    let id = run.id();
    if state_of(run)?.1 == RunStatus::Finished {
        return Err(Error::failed(format!("run {id} is finished: launch a new one with `--init {id}` to train on")));
    }
    // A run that cannot resume keeps its status; the caller gets the reason.
    verify(run, "verify")?;
    // Commands from before the end are not for the new worker.
    run.take_commands()?;
    start(run)
}

/// Asks a worker whether a run's recorded inputs are unchanged. A run of an older version has none recorded.
fn verify(run: &RunDir, verb: &str) -> Result<()> {
    if run.recorded_inputs()?.is_none() {
        return Ok(());
    }
    restore_models(run)?;
    ask(&[verb.as_ref(), run.path().as_os_str()], |_: serde_json::Value| Ok(()))
}
