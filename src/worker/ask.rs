//! `worker ask DIR`: the process that sends a run's requests for answers to its servers and outlives the worker.
//!
//! Owns how it is started and where it keeps answers. A worker that is killed leaves it: it waits for the answers under way, writes
//! them to `asked.jsonl` and ends; the next worker takes them from there. Refuses to write anything else of the run.

use super::error::Error;
use super::log::Log;
use super::out::note;
use super::process::leave;
use crate::domain::{Finding, Severity};
use crate::generate::server::{Asking, Ends, ask_all};
use crate::protocol::{RunEvent, RunSpec};
use crate::storage::{self, RunDir};
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How often the worker looks whether an earlier process has ended.
const POLL: Duration = Duration::from_millis(50);
/// What the process says before it takes requests.
const READY: &str = "ready";

/// A run's process that asks, just started; none for a run without servers, and in this program's unit tests, which are another
/// program. An earlier worker's must have ended.
///
/// # Errors
/// When it cannot be started, or what an earlier one kept cannot be read.
pub(super) fn process(run: &RunDir, spec: &RunSpec) -> Result<Option<Arc<Asking>>, Error> {
    if cfg!(test) || spec.servers().is_empty() {
        return Ok(None);
    }
    let lines = run.asked().lines()?;
    let ends = start(run.path())
        .map_err(|e| Error::Failed(format!("cannot start the process that asks the servers: {e}; resume the run")))?;
    Ok(Some(Asking::new(&lines, ends)?))
}

fn start(dir: &Path) -> std::io::Result<Ends> {
    // The running program itself, even where its file has been replaced since.
    let own = Path::new("/proc/self/exe");
    let exe = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
    let mut command = Command::new(exe);
    command.args(["worker", "ask"]).arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let ends = child.stdin.take().zip(child.stdout.take());
    let (input, output) = ends.ok_or_else(|| std::io::Error::other("it has no pipes"))?;
    let mut output = BufReader::new(output);
    // Requests go to a process that holds its lock: one that ends before has sent none.
    let mut first = String::new();
    output.read_line(&mut first)?;
    if first.trim_end() != READY {
        return Err(std::io::Error::other("it ended at its start"));
    }
    Ok((Box::new(input) as _, Box::new(output) as _))
}

/// Waits until an earlier worker's process has its answers. Nothing is asked of the servers before: some drop the answer that they
/// write when another request comes, be it for their list of models.
///
/// # Errors
/// When the run is stopped meanwhile, or the log cannot be written.
pub(super) fn wait(run: &RunDir, log: &mut Log) -> Result<(), Error> {
    let asked = run.asked();
    if !asked.is_under_way() {
        return Ok(());
    }
    log.put_now(&RunEvent::Found(Finding {
        rule: "answers_awaited".into(),
        step: log.step,
        severity: Severity::Note,
        text: "Answers that the last worker asked for are still being written: they are waited for.".into(),
        remedy: "Nothing needs to be done; no request is sent twice.".into(),
        pair: None,
    }))?;
    while asked.is_under_way() {
        if log.stop_requested_while_opening()? {
            return Err(Error::Failed("stopped before the first step".into()));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Asks as standard input says, until it ends and every answer under way has come.
pub(super) fn ask(dir: &Path) -> Result<(), Error> {
    let run = RunDir::open(dir)?;
    leave().map_err(|e| storage::Error::io("listen to signals for", run.path(), e))?;
    let Some(mut kept) = run.asked().writer()? else {
        return Err(Error::Failed(format!("another process asks the servers of run {}", run.id())));
    };
    writeln!(stdout(), "{READY}").map_err(|e| storage::Error::io("write to the worker of", run.path(), e))?;
    let keep = |line: &str| {
        if let Err(e) = kept.add(line) {
            note(&format!("an answer is kept by the worker alone: {e}"));
        }
    };
    Ok(ask_all(stdin().lock(), stdout(), keep)?)
}
