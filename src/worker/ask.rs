//! `worker ask DIR`: the process that sends a sampling run's requests to its servers and outlives the worker.
//!
//! Owns how it is started and where it keeps answers. A worker that is killed leaves it: it waits for the answers under way, writes
//! them to `asked.jsonl` and ends; the next worker takes them from there. Refuses to write anything else of the run.

use super::error::Error;
use super::out::note;
use super::process::leave;
use crate::generate::server::{AskProcess, ask_all};
use crate::model;
use crate::storage::{self, RunDir};
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the process says before it takes requests.
const READY: &str = "ready";

/// How a run has a process that asks; none in this program's unit tests, which are another program.
pub(super) fn process(run: &RunDir) -> Option<AskProcess> {
    if cfg!(test) {
        return None;
    }
    let (asked, dir) = (run.asked(), run.path().to_owned());
    let lines = move || {
        if asked.is_under_way() {
            return Ok(None);
        }
        asked.lines().map(Some).map_err(|e| model::Error::Invalid(e.to_string()))
    };
    let start = move || {
        // The running program itself, even where its file has been replaced since.
        let own = Path::new("/proc/self/exe");
        let exe = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
        let mut command = Command::new(exe);
        command.args(["worker", "ask"]).arg(&dir).stdin(Stdio::piped()).stdout(Stdio::piped());
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
    };
    Some(AskProcess { kept: Box::new(lines), start: Box::new(start) })
}

/// Asks as standard input says, until it ends and every answer under way has come.
pub(super) fn ask(dir: &Path) -> Result<(), Error> {
    let run = RunDir::open(dir)?;
    leave().map_err(|e| storage::Error::io("listen to signals for", run.path(), e))?;
    let servers = run.resolved_spec()?.servers().into_iter().cloned().collect::<Vec<_>>();
    let Some(mut kept) = run.asked().writer()? else {
        return Err(Error::Failed(format!("another process asks the servers of run {}", run.id())));
    };
    writeln!(stdout(), "{READY}").map_err(|e| storage::Error::io("write to the worker of", run.path(), e))?;
    let keep = |line: &str| {
        if let Err(e) = kept.add(line) {
            note(&format!("an answer is kept by the worker alone: {e}"));
        }
    };
    Ok(ask_all(&servers, stdin().lock(), stdout(), keep)?)
}
