//! Detects hang-ups and signals.
//!
//! crossterm busy-loops on a dead terminal and reports nothing, so one thread polls the kernel for a hang-up without
//! reading and another waits for signals. Both alert the event loop, then wait until all records are on disk. If the
//! loop is stuck and does not end the process in time, they do.

use super::restore;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use std::io;
use std::time::Duration;

/// How long the event loop has to end the process once everything is saved.
const GRACE: Duration = Duration::from_millis(500);

/// An outside event for the event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The terminal is gone or a signal ends the process; exit with this code now.
    End(u8),
    /// SIGTSTP: restore the terminal, suspend, and set it up again afterwards.
    Suspend,
    /// SIGCONT: set the terminal up again and redraw.
    Resumed,
}

/// Starts both threads. `tell` must not block. `save` returns once everything is on disk, or after its time limit.
///
/// # Errors
/// When a signal handler or a thread cannot be created.
pub fn watch(
    tell: impl Fn(Alarm) + Clone + Send + 'static,
    save: impl Fn() + Clone + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGQUIT, SIGINT, SIGTSTP, SIGCONT])?;
    let (signalled, saved) = (tell.clone(), save.clone());
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGTSTP => signalled(Alarm::Suspend),
                SIGCONT => signalled(Alarm::Resumed),
                signal => end(&signalled, &saved, 128 + signal as u8),
            }
        }
    })?;
    std::thread::Builder::new().name("tty".into()).spawn(move || {
        if hung_up() {
            end(&tell, &save, 128 + SIGHUP as u8);
        }
    })?;
    Ok(())
}

/// Alerts the loop, waits for the disk, then for the loop, then ends the process.
fn end(tell: &impl Fn(Alarm), save: &impl Fn(), code: u8) {
    tell(Alarm::End(code));
    save();
    std::thread::sleep(GRACE);
    // Restoring writes to the terminal and may block (output stopped by Ctrl-S): it gets its own thread and a short
    // time.
    let _ = std::thread::Builder::new().name("restore".into()).spawn(restore);
    std::thread::sleep(Duration::from_millis(100));
    signal_hook::low_level::exit(i32::from(code));
}

/// Blocks until the terminal on standard input is gone. False if the kernel cannot tell.
fn hung_up() -> bool {
    let stdin = io::stdin();
    loop {
        // No events requested: poll reports only hang-up, error and a bad descriptor.
        let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) => return true,
            // Some kernels return at once without an event: poll again, but do not busy-loop.
            Ok(_) => std::thread::sleep(Duration::from_millis(250)),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
