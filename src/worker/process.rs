//! Process setup: own session, SIGHUP ignored, private files, checkpoint on SIGTERM. Owns signals and priority.

use crate::protocol::Task;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flags set by signals.
#[derive(Debug, Clone, Default)]
pub(super) struct Signals {
    end: Arc<AtomicBool>,
    checkpoint: Arc<AtomicBool>,
}

impl Signals {
    /// Whether SIGTERM arrived: write a checkpoint and stop.
    pub(crate) fn ended(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Whether SIGUSR1 arrived since the last call: write a checkpoint.
    pub(super) fn take_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn end(&self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Lowers the CPU priority: training below the UI, sampling below training. Later threads inherit it.
pub(super) fn lower_priority(task: &Task) {
    let step = match task {
        Task::Train(_) => 5,
        Task::Sample(_) | Task::Eval(_) => 15,
    };
    // If refused, the run competes at normal priority.
    let _ = rustix::process::nice(step);
}

/// Leaves the parent's session and terminal and installs signal handlers.
pub(crate) fn detach() -> io::Result<Signals> {
    let signals = Signals::default();
    signal_hook::flag::register(SIGTERM, Arc::clone(&signals.end))?;
    signal_hook::flag::register(SIGUSR1, Arc::clone(&signals.checkpoint))?;
    leave()?;
    Ok(signals)
}

/// Leaves the parent's session and terminal.
pub(super) fn leave() -> io::Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // A process-group leader (started by hand from a shell) cannot leave; it ignores SIGHUP anyway.
    let _ = rustix::process::setsid();
    // A no-op handler: it keeps the process alive and, unlike SIG_IGN, is not inherited by children.
    for signal in [SIGHUP, SIGPIPE, SIGINT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}
