//! Running out of memory on the CPU: the worker that cannot allocate gives its place to one that writes why the run ends; for one
//! that the system killed, a later process writes it.
//!
//! Owns all of them. The process that ran out can trust neither its heap nor its locks, so it executes itself anew: that frees all
//! it held, its lock on the run too. Refuses the memory of a device, which the trainer handles by smaller parts.

use super::error::Error;
use super::log::Log;
use super::prepared::PastAttempts;
use crate::domain::{Finding, RunState, RunStatus, Severity};
use crate::nn::on_memory_full;
use crate::protocol::{RunEvent, Task, apply_run};
use crate::storage::RunDir;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How often the lock of the process that ran out is tried, and how long in between.
const TRIES: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(20);

/// From now on, an allocation that fails ends this process with a report in the run's log.
pub(super) fn watch(run: &Path) {
    let run = run.to_owned();
    // The running program itself, even where its file has been replaced since.
    let own = Path::new("/proc/self/exe");
    let exe = if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe() };
    let Ok(exe) = exe else { return };
    on_memory_full(move |bytes| {
        // Where that fails too the process aborts, and the run shows as lost.
        let _ = Command::new(&exe).args(["worker", "full"]).arg(&run).arg(bytes.to_string()).exec();
    });
}

/// `worker full RUN_DIR BYTES`: logs that the run ended because an allocation of BYTES failed. Always an error, as the run's.
pub(super) fn report(path: &Path, bytes: &str) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let mut lock = run.lock()?;
    for _ in 0..TRIES {
        if lock.is_some() {
            break;
        }
        std::thread::sleep(BETWEEN);
        lock = run.lock()?;
    }
    let Some(lock) = lock else {
        return Err(Error::Failed(format!("run {} is active in another process, which writes its log", run.id())));
    };
    let step = PastAttempts::of(&run)?.steps;
    let (finding, error) = finding(&run.resolved_spec()?.task, step, refused(bytes.parse().unwrap_or_default(), ""));
    let mut log = run.writer(&lock)?;
    log.append(&RunEvent::Found(finding))?;
    log.append(&RunEvent::Failed { step, error: error.clone() })?;
    log.sync()?;
    run.forget_oom();
    Err(Error::Failed(error))
}

/// `worker lost RUN_DIR`: logs that the run ended because the system killed its worker for lack of memory.
///
/// # Errors
/// When the run is not lost, or nothing says that memory was the cause: its log stays as it is.
pub(super) fn lost(path: &Path) -> Result<(), Error> {
    let run = RunDir::open(path)?;
    let unknown = |why: &str| Err(Error::Failed(format!("run {} {why}", run.id())));
    let Some(lock) = run.lock()? else { return unknown("is active") };
    let mut state = RunState::default();
    run.tail().poll()?.iter().for_each(|envelope| apply_run(&mut state, envelope));
    let kills = run.oom_kills();
    if kills == 0 || state.status(Some(false)) != RunStatus::Lost {
        return unknown("did not end for lack of memory, as far as is known");
    }
    let text = format!(
        "Out of memory: the system killed {} for lack of memory, and the run's worker is gone.",
        if kills == 1 { "a process".to_owned() } else { format!("{kills} processes") }
    );
    let (finding, error) = finding(&run.resolved_spec()?.task, state.step, text);
    let mut log = run.writer(&lock)?;
    log.append(&RunEvent::Found(finding))?;
    log.append(&RunEvent::Failed { step: state.step, error })?;
    log.sync()?;
    run.forget_oom();
    Ok(())
}

/// Logs that the system refused `bytes` for `what`, by a process that can go on; returns why the run ends.
pub(super) fn found(log: &mut Log, task: &Task, what: &str, bytes: u64) -> Result<String, Error> {
    let (finding, error) = finding(task, log.step, refused(bytes, &format!(" for {what}")));
    log.put(&RunEvent::Found(finding))?;
    Ok(error)
}

fn refused(bytes: u64, what: &str) -> String {
    format!("Out of memory: the system refused {} MiB more{what}.", bytes.div_ceil(1 << 20))
}

/// The finding, and the sentence that ends the run.
fn finding(task: &Task, step: u64, text: String) -> (Finding, String) {
    let remedy = remedy(task);
    let error = format!("{text} {remedy}");
    let rule = "memory_full".into();
    (Finding { rule, step, severity: Severity::Stop, text, remedy: remedy.into(), pair: None }, error)
}

/// What takes less memory, by what the run does.
fn remedy(task: &Task) -> &'static str {
    match task {
        Task::Train(_) => {
            "Lower per_device_train_batch_size and raise gradient_accumulation_steps by the same factor, lower max_length, or train \
             a smaller model, and start again."
        }
        Task::Sample(_) => "Lower --max-new-tokens, or sample from a smaller model.",
        Task::Eval(_) => "Evaluate with fewer or shorter items (--limit), or a smaller model.",
    }
}
