//! What makes this process outlive its parent: its own session, deaf to hang-ups, private files, a polite end on SIGTERM.

use crate::protocol::Task;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What signals asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Signals {
    end: Arc<AtomicBool>,
    checkpoint: Arc<AtomicBool>,
}

impl Signals {
    /// Whether SIGTERM came: write a checkpoint and end.
    pub(crate) fn ended(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Whether SIGUSR1 came since the last call: write a checkpoint.
    pub(super) fn take_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn end(&self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Puts this process behind others in the claim on processors: training behind the screen at which somebody labels, sampling
/// behind training too. Threads made later inherit it.
pub(super) fn lower_priority(task: &Task) {
    let step = match task {
        Task::Train(_) => 5,
        Task::Sample(_) => 15,
    };
    // Where it is refused the run only shares more evenly.
    let _ = rustix::process::nice(step);
}

/// Leaves the parent's session and terminal and listens to signals.
pub(crate) fn detach() -> io::Result<Signals> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // A process that leads a group already (started by hand from a shell) cannot leave; it is deaf to hang-ups all the same.
    let _ = rustix::process::setsid();
    let signals = Signals::default();
    signal_hook::flag::register(SIGTERM, Arc::clone(&signals.end))?;
    signal_hook::flag::register(SIGUSR1, Arc::clone(&signals.checkpoint))?;
    // A handler that does nothing: unlike the default action it neither ends the process nor is inherited by children.
    for signal in [SIGHUP, SIGPIPE, SIGINT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(signals)
}
