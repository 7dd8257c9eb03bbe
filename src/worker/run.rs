//! `worker run DIR`: takes a run up, from its beginning or from its last checkpoint, and lives through it.

use super::drive::{Ending, Work, drive};
use super::error::Error;
use super::gpu::RunGpu;
use super::log::Log;
use super::process::{Signals, detach, give_way, say};
use crate::domain::{Finding, Severity};
use crate::protocol::{Envelope, RunEvent, RunSpec};
use crate::storage::{self, Checkpoint, RunDir};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// What an earlier worker left behind.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Workers so far.
    pub(crate) attempts: u32,
    /// The planned end was reached.
    pub(crate) finished: bool,
    /// The last step logged, for runs that go on from their log.
    pub(crate) steps: u64,
}

impl Past {
    pub(crate) fn of(run: &RunDir) -> Result<Self, storage::Error> {
        let mut past = Self::default();
        let events = run.tail().poll()?;
        for event in events.into_iter().filter_map(|Envelope { data, .. }| data.ok()) {
            match event {
                RunEvent::Started { attempt, .. } => {
                    past.attempts = past.attempts.max(attempt);
                    past.finished = false;
                }
                RunEvent::Finished { .. } => past.finished = true,
                RunEvent::Stepped { step, .. } => past.steps = step,
                _ => {}
            }
        }
        Ok(past)
    }
}

/// Opens a run's work; the checkpoint is the one to go on from.
pub(crate) type OpenWork<'a> =
    Box<dyn FnOnce(&Past, Option<&Checkpoint>, &mut Log) -> Result<Box<dyn Work>, Error> + 'a>;

/// A run's work before it is opened.
pub(super) struct Prepared<'a> {
    /// What computes: `CPU · 2 threads`.
    pub(crate) device: String,
    /// Loads and tokenises, telling the log how far it is.
    pub(crate) open: OpenWork<'a>,
}

/// How a run's work is prepared.
pub(super) type Prepare = dyn for<'a> Fn(&'a RunDir, &'a RunSpec) -> Prepared<'a>;

/// Runs the worker process on a run's folder.
///
/// # Errors
/// When the run cannot be opened or fails; its log says so too, where it can be written.
pub(crate) fn run(dir: &Path, prepare: &Prepare) -> Result<(), Error> {
    let run = RunDir::open(dir)?;
    let signals = detach().map_err(|e| storage::Error::io("listen to signals for", run.path(), e))?;
    give_way(&run.placed_spec()?.task);
    live(&run, &signals, prepare)
}

/// Takes the run's lock and log, does the work, logs the end.
pub(crate) fn live(run: &RunDir, signals: &Signals, prepare: &Prepare) -> Result<(), Error> {
    let began_ms = storage::wall_ms();
    let spec = run.placed_spec()?;
    let Some(lock) = run.lock()? else {
        say(&format!("run {} has a worker already", run.id()));
        return Ok(());
    };
    let past = Past::of(run)?;
    if past.finished {
        say(&format!("run {} is finished", run.id()));
        return Ok(());
    }
    if past.attempts > 0 {
        // Orders given to a worker that died are not this one's.
        run.discard_commands(began_ms)?;
    }
    let mut log = Log::new(run.writer(&lock)?, run, signals.clone());
    // A step's work may fail in ways no error type foresees; the log must say so whatever it was.
    let lived = catch_unwind(AssertUnwindSafe(|| take_up(run, &spec, &past, &mut log, signals, prepare)));
    let failed = match lived {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(e)) => e.to_string(),
        Err(panic) => panicked(panic.as_ref(), log.step),
    };
    let step = log.step;
    log.put_last(&RunEvent::Failed { step, error: failed.clone() })?;
    Err(Error::Failed(failed))
}

fn take_up(
    run: &RunDir,
    spec: &RunSpec,
    past: &Past,
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
            text: format!("A newer checkpoint was passed over: {why}."),
            remedy: match from_step {
                Some(step) => format!("The run goes on from step {step}; nothing needs to be done."),
                None => "The run begins again; nothing needs to be done.".into(),
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

/// A panic as a sentence.
fn panicked(panic: &(dyn Any + Send), step: u64) -> String {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    format!("tiebreak has a bug that showed after step {step} ({what}): worker.log names the place, please report it")
}
