//! Follows the run of a step to its end, with a progress bar, while commands to the loop are heard.
//!
//! An interrupt ends the following, never the run; a stop goes on to the run.

use super::super::error::{Error, Result};
use super::super::{out, supervisor};
use crate::domain::{RunState, RunStatus, Severity};
use crate::protocol::{RunCommand, apply_run};
use crate::storage::{LoopFolder, RunDir};
use signal_hook::consts::SIGINT;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Time between two polls of a run's log.
const POLL: Duration = Duration::from_millis(60);

/// What may end a loop's process early.
#[derive(Debug, Clone)]
pub(super) struct LoopControl {
    folder: LoopFolder,
    interrupted: Arc<AtomicBool>,
    stopped: bool,
}

impl LoopControl {
    /// Listens from now on; older commands were for a process that is gone.
    pub(super) fn new(folder: LoopFolder) -> Result<Self> {
        folder.take_commands()?;
        let interrupted = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))
            .map_err(|e| Error::Io { doing: "watch for interruptions".into(), source: e })?;
        Ok(Self { folder, interrupted, stopped: false })
    }

    /// Whether a stop was asked for.
    pub(super) fn is_stopped(&mut self) -> Result<bool> {
        self.stopped |= self.folder.take_commands()?.contains(&RunCommand::Stop);
        Ok(self.stopped)
    }

    /// Whether an interrupt arrived.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Refuses to go on once it was stopped or interrupted.
    pub(super) fn check(&mut self) -> Result<()> {
        if self.is_interrupted() || self.is_stopped()? { Err(Error::Superseded) } else { Ok(()) }
    }
}

/// Follows a run until it ends. Returns how it ended; none where an interrupt came first.
pub(super) fn follow(run: &RunDir, name: &str, control: &mut LoopControl) -> Result<Option<RunStatus>> {
    let bar = out::bar(0, "steps");
    bar.set_message(name.to_owned());
    let (mut state, mut tail, mut told, mut said) = (RunState::default(), run.tail(), false, 0);
    let mut explained = false;
    let status = loop {
        // The lock before the log: a worker that ends in between has logged its end and does not count as lost.
        let alive = run.is_alive();
        let batch = tail.poll()?;
        for envelope in &batch {
            apply_run(&mut state, envelope);
        }
        for finding in state.findings.iter().skip(said).filter(|f| f.severity != Severity::Note) {
            bar.suspend(|| out::note(&format!("{name}, step {}: {}", finding.step, finding.sentence())));
        }
        said = state.findings.len();
        if let Some(plan) = &state.plan {
            bar.set_length(plan.total_steps);
        }
        bar.set_position(state.step);
        let status = state.status(Some(alive));
        // A resumed run's log ends with its earlier end until its worker logs the start.
        let ended = !alive && (!status.is_live() || (status == RunStatus::Starting && batch.is_empty()));
        if ended && !explained && matches!(status, RunStatus::Lost | RunStatus::Starting) {
            explained = true;
            if supervisor::explain_loss(run) {
                continue;
            }
        }
        if ended {
            break Some(if status == RunStatus::Starting { RunStatus::Lost } else { status });
        }
        if control.is_interrupted() {
            break None;
        }
        if !told && control.is_stopped()? {
            told = true;
            run.post(RunCommand::Stop)?;
        }
        if batch.is_empty() {
            std::thread::sleep(POLL);
        }
    };
    bar.finish_and_clear();
    Ok(status)
}
