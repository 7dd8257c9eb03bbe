//! `worker run DIR`: starts a run or resumes it from its last checkpoint, and runs it to its end. Refuses a second worker.

use super::drive::{Ending, drive};
use super::error::Error;
use super::finite;
use super::gpu::RunGpu;
use super::log::Log;
use super::memory;
use super::out::{note, panicked};
use super::prepared::{PastAttempts, Prepare};
use super::process::{Signals, detach, lower_priority};
use super::task::prepare;
use crate::domain::{Finding, Severity};
use crate::model;
use crate::nn::start_threads;
use crate::protocol::{RunEvent, RunSpec};
use crate::storage::{self, RunDir};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs the worker process on a run's folder.
///
/// # Errors
/// When the run cannot be opened or fails; the log says so too, if writable.
pub(crate) fn run(dir: &Path) -> Result<(), Error> {
    let run = RunDir::open(dir)?;
    let signals = detach().map_err(|e| storage::Error::io("listen to signals for", run.path(), e))?;
    lower_priority(&run.resolved_spec()?.task);
    memory::watch(run.path());
    live(&run, &signals, &prepare)
}

/// Takes the run's lock and log, does the work, logs the end.
pub(crate) fn live(run: &RunDir, signals: &Signals, prepare: &Prepare) -> Result<(), Error> {
    let began_ms = storage::wall_ms();
    let spec = run.resolved_spec()?;
    let Some(lock) = run.lock()? else {
        note(&format!("run {} is active already", run.id()));
        return Ok(());
    };
    let past = PastAttempts::of(run)?;
    if past.finished {
        note(&format!("run {} is finished", run.id()));
        return Ok(());
    }
    if past.attempts > 0 {
        // Commands for a dead worker are dropped.
        run.discard_commands(began_ms)?;
    }
    let mut log = Log::new(run.writer(&lock)?, run, signals.clone());
    log.search = finite::not_finite;
    // Panics must reach the log too.
    let lived = catch_unwind(AssertUnwindSafe(|| {
        start_threads()?;
        resume(run, &spec, &past, &mut log, signals, prepare)
    }));
    let failed = match lived {
        Ok(Ok(ending)) => {
            if ending == Ending::Finished
                && let Err(e) = run.asked().remove()
            {
                note(&e.to_string());
            }
            return Ok(());
        }
        Ok(Err(_)) if log.stopped_on_full_disk => return log.put_stopped_on_full_disk(),
        Ok(Err(Error::Engine(model::Error::Memory { what, bytes }))) => {
            memory::found(&mut log, &spec.task, &what, bytes)?
        }
        Ok(Err(Error::Engine(e))) if e.is_not_finite() => match log.not_finite() {
            Some(cause) => cause,
            None => e.to_string(),
        },
        Ok(Err(e)) => e.to_string(),
        Err(panic) => panicked(
            panic.as_ref(),
            &format!("after step {}", log.step),
            "worker.log has the location, please report it",
        ),
    };
    let step = log.step;
    log.put_last(&RunEvent::Failed { step, error: failed.clone() })?;
    Err(Error::Failed(failed))
}

fn resume(
    run: &RunDir,
    spec: &RunSpec,
    past: &PastAttempts,
    log: &mut Log,
    signals: &Signals,
    prepare: &Prepare,
) -> Result<Ending, Error> {
    let found = run.latest_checkpoint()?;
    let from_step = found.checkpoint.as_ref().map(|c| c.step);
    log.step = from_step.unwrap_or(0);
    let prepared = prepare(run, spec);
    log.gpu = RunGpu::of(&prepared.device);
    let device = match log.gpu.as_ref().and_then(RunGpu::name) {
        Some(name) => format!("{} · {name}", prepared.device),
        None => prepared.device,
    };
    log.put_now(&RunEvent::Started { attempt: past.attempts + 1, pid: std::process::id(), device, from_step })?;
    for why in found.passed_over {
        log.put(&RunEvent::Found(Finding {
            rule: "checkpoint_damaged".into(),
            step: from_step.unwrap_or(0),
            severity: Severity::Warn,
            text: format!("A damaged newer checkpoint was skipped: {why}."),
            remedy: match from_step {
                Some(step) => format!("The run continues from step {step}; no action is needed."),
                None => "The run starts again from step 0; no action is needed.".into(),
            },
            pair: None,
        }))?;
    }
    log.opening = true;
    let opened = (prepared.open)(past, found.checkpoint.as_ref(), log);
    log.opening = false;
    if log.interrupted {
        log.put_last(&RunEvent::Stopped { step: log.step })?;
        return Ok(Ending::Stopped);
    }
    let mut work = opened?;
    drive(work.as_mut(), run, log, signals, from_step)
}
