//! The main loop of a run: commands between steps, checkpoints, the end. Owns their order; refuses the work itself.

use super::error::Error;
use super::log::Log;
use super::process::Signals;
use crate::domain::{Finding, Severity};
use crate::model;
use crate::protocol::{RunCommand, RunEvent};
use crate::storage::RunDir;
use std::path::Path;
use std::time::Duration;

/// How often a paused run polls for commands.
const PAUSE_POLL: Duration = Duration::from_millis(50);

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkOutcome {
    /// One step was done; there may be more.
    Stepped,
    /// Nothing left to do.
    Done,
}

/// Work done step by step: training or sampling.
pub(crate) trait Work {
    /// Does the next step and logs it.
    fn step(&mut self, log: &mut Log) -> Result<WorkOutcome, model::Error>;
    /// Steps done.
    fn done(&self) -> u64;
    /// Whether this is the best step so far, whose checkpoint is kept.
    fn is_best_now(&self) -> bool {
        false
    }
    /// Writes a checkpoint into a folder.
    fn save(&mut self, dir: &Path) -> Result<(), model::Error>;
    /// The checkpoint policy; none if the log suffices to resume.
    fn saving(&self) -> Option<Saving>;
    /// The hash of the run's result.
    fn state_hash(&mut self) -> Result<String, Error>;
}

/// When to write checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saving {
    /// Every this many steps; 0: only at the end.
    pub(crate) every: u64,
    /// Checkpoints kept.
    pub(crate) keep: usize,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// All steps done.
    Finished,
    /// Stopped by a command or a signal.
    Stopped,
}

/// Runs until done or stopped. `saved` is the step of the checkpoint that the work was opened from. Logs the end; the caller
/// logs errors.
pub(super) fn drive(
    work: &mut dyn Work,
    run: &RunDir,
    log: &mut Log,
    signals: &Signals,
    mut saved: Option<u64>,
) -> Result<Ending, Error> {
    // The last process may have died between the checkpoint and the `best` mark.
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

/// Executes pending commands, and polls for more while the run is paused.
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
        let mut commands = std::mem::take(&mut log.waiting);
        commands.extend(run.take_commands()?);
        for command in commands {
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

/// Points `ckpt/best` at this step's existing checkpoint.
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

/// Writes a checkpoint unless this step has one, logs it, then deletes old ones.
fn checkpoint(work: &mut dyn Work, run: &RunDir, log: &mut Log, saved: &mut Option<u64>) -> Result<(), Error> {
    // Metrics must be on disk before the checkpoint: a resume from it would skip them.
    log.sync()?;
    let Some(saving) = work.saving() else { return Ok(()) };
    let step = work.done();
    if *saved == Some(step) {
        return Ok(());
    }
    let written = loop {
        match run.write_checkpoint(step, |dir| work.save(dir).map_err(Error::from)) {
            Ok(written) => break written,
            // The partial checkpoint is removed; the previous one is intact.
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
            text: format!("An old checkpoint was not deleted: {e}."),
            remedy: "Delete it by hand to free its space.".into(),
            pair: None,
        }))?;
    }
    Ok(())
}
