//! Watches for the ways a terminal goes away while nobody reads it.
//!
//! The event library spins at full speed once its terminal is dead and never says so; so a thread of its own asks the
//! kernel for a hang-up without reading anything, and another waits for signals. Both first tell the event loop, then wait
//! until what the user decided is on disk. Where the loop does not end the process in time, because it is stuck, they do.

use super::restore;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use std::io;
use std::time::Duration;

/// How long the event loop has to end the process, once all is saved, before it is ended for it.
const GRACE: Duration = Duration::from_millis(500);

/// Something from outside that the event loop must act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The terminal is gone or the process is told to end; exit with this code now.
    End(u8),
    /// Stop (Ctrl-Z from outside): give the terminal back, stop, and take it again afterwards.
    Suspend,
    /// The process runs again after a stop that it had no part in: take the terminal again and draw everything.
    Resumed,
}

/// Starts both watchers. `tell` must not block. `save` returns once everything is on disk, or has waited long enough.
///
/// # Errors
/// When signal handlers or threads cannot be made.
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

/// Tells the loop, waits for the disk, then for the loop, and ends the process if it is still there.
fn end(tell: &impl Fn(Alarm), save: &impl Fn(), code: u8) {
    tell(Alarm::End(code));
    save();
    std::thread::sleep(GRACE);
    // Restoring writes to the terminal and may block there (output stopped by Ctrl-S), so it gets a thread and a moment.
    let _ = std::thread::Builder::new().name("restore".into()).spawn(restore);
    std::thread::sleep(Duration::from_millis(100));
    signal_hook::low_level::exit(i32::from(code));
}

/// Blocks until the terminal on standard input is gone. False when the kernel cannot say.
fn hung_up() -> bool {
    let stdin = io::stdin();
    loop {
        // No events asked for: only hang-up, error and a bad descriptor are reported.
        let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) => return true,
            // Some kernels return at once with nothing: ask again, but not in a tight loop.
            Ok(_) => std::thread::sleep(Duration::from_millis(250)),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
