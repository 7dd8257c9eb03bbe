//! The loop around a run's work: orders between steps, checkpoints, the end.

use super::error::Error;
use super::log::Log;
use super::process::Signals;
use crate::domain::{Finding, Severity};
use crate::model;
use crate::protocol::{RunCommand, RunEvent};
use crate::storage::RunDir;
use std::path::Path;
use std::time::Duration;

/// How often a paused run looks for orders.
const PAUSE_POLL: Duration = Duration::from_millis(50);

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkOutcome {
    /// Some work; there may be more.
    Stepped,
    /// Nothing: all is done.
    Done,
}

/// Work that goes step by step: a recipe's training or a sampling run.
pub(crate) trait Work {
    /// Does the next step, telling the log of it.
    fn step(&mut self, log: &mut Log) -> Result<WorkOutcome, model::Error>;
    /// Steps made.
    fn done(&self) -> u64;
    /// Whether it stands at the best step so far, which is to be kept.
    fn is_best_now(&self) -> bool {
        false
    }
    /// Writes all that is needed to go on from here into a folder.
    fn save(&mut self, dir: &Path) -> Result<(), model::Error>;
    /// When to save and how much to keep; none when the log alone is enough to go on from.
    fn saving(&self) -> Option<Saving>;
    /// The hash of what the run made.
    fn state_hash(&mut self) -> Result<String, Error>;
}

/// When to write checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saving {
    /// Every so many steps; 0: only at the end.
    pub(crate) every: u64,
    /// Checkpoints kept.
    pub(crate) keep: usize,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// All steps made.
    Finished,
    /// Told to end.
    Stopped,
}

/// Works until all is done or somebody says stop. `saved` is the step of the checkpoint that the work was opened from. The
/// end is logged here; an error is logged by the caller, which knows how to name it.
pub(super) fn drive(
    work: &mut dyn Work,
    run: &RunDir,
    log: &mut Log,
    signals: &Signals,
    mut saved: Option<u64>,
) -> Result<Ending, Error> {
    // The process may have ended between the checkpoint and its mark.
    if saved.is_some() && work.is_best_now() {
        mark_best(work, run, log)?;
    }
    loop {
        if obey(work, run, log, signals, &mut saved)? == Ending::Stopped {
            checkpoint(work, run, log, &mut saved)?;
            log.put_last(&RunEvent::Stopped { step: work.done() })?;
            return Ok(Ending::Stopped);
        }
        if work.step(log)? == WorkOutcome::Done {
            break;
        }
        log.tick()?;
        if work.saving().is_some_and(|s| s.every > 0 && work.done().is_multiple_of(s.every)) {
            checkpoint(work, run, log, &mut saved)?;
        }
        if work.is_best_now() {
            checkpoint(work, run, log, &mut saved)?;
            mark_best(work, run, log)?;
        }
    }
    checkpoint(work, run, log, &mut saved)?;
    let state = work.state_hash()?;
    log.put_finished(&RunEvent::Finished { step: work.done(), state })?;
    Ok(Ending::Finished)
}

/// Takes the waiting orders, and more of them for as long as the run is paused.
fn obey(
    work: &mut dyn Work,
    run: &RunDir,
    log: &mut Log,
    signals: &Signals,
    saved: &mut Option<u64>,
) -> Result<Ending, Error> {
    let mut paused = false;
    loop {
        if signals.ended() {
            return Ok(Ending::Stopped);
        }
        let mut save = signals.take_checkpoint();
        let mut stop = false;
        let mut orders = std::mem::take(&mut log.waiting);
        orders.extend(run.take_commands()?);
        for command in orders {
            log.put_now(&RunEvent::Obeyed(command))?;
            match command {
                RunCommand::Pause => paused = true,
                RunCommand::Resume => paused = false,
                RunCommand::Checkpoint => save = true,
                RunCommand::Stop => stop = true,
            }
        }
        if stop {
            log.stopping = true;
            return Ok(Ending::Stopped);
        }
        if save {
            checkpoint(work, run, log, saved)?;
        }
        if !paused {
            return Ok(Ending::Finished);
        }
        log.sync()?;
        std::thread::sleep(PAUSE_POLL);
    }
}

/// Points `ckpt/best` at this step's checkpoint, which is there.
fn mark_best(work: &dyn Work, run: &RunDir, log: &mut Log) -> Result<(), Error> {
    loop {
        match run.mark_best(work.done()) {
            Err(e) if e.is_no_space() => log.wait_for_space(&e)?,
            marked => {
                marked?;
                return log.has_space();
            }
        }
    }
}

/// Writes a checkpoint unless this step has one, says so, then lets go of old ones.
fn checkpoint(work: &mut dyn Work, run: &RunDir, log: &mut Log, saved: &mut Option<u64>) -> Result<(), Error> {
    // Metrics up to here are on the disk before the checkpoint that would make a resume skip them.
    log.sync()?;
    let Some(saving) = work.saving() else { return Ok(()) };
    let step = work.done();
    if *saved == Some(step) {
        return Ok(());
    }
    let written = loop {
        match run.write_checkpoint(step, |dir| work.save(dir).map_err(Error::from)) {
            Ok(written) => break written,
            // Whichever of its files met a full disk: what was written of it is gone, the one before it is untouched.
            Err(e) if e.is_no_space() => log.wait_for_space(&e)?,
            Err(e) => return Err(e),
        }
    };
    log.has_space()?;
    *saved = Some(step);
    log.put_now(&RunEvent::Checkpointed { step, bytes: written.bytes })?;
    if let Err(e) = run.prune_checkpoints(saving.keep) {
        log.put(&RunEvent::Found(Finding {
            rule: "prune".into(),
            step,
            severity: Severity::Note,
            text: format!("An old checkpoint stays: {e}."),
            remedy: "Delete it by hand if it takes space you need.".into(),
            pair: None,
        }))?;
    }
    Ok(())
}
