//! Sets the terminal up and restores it on every exit.
//!
//! Owns raw mode, the alternate screen, bracketed paste, focus reports and the cursor, and the one function that
//! restores them: on drop, on a panic in any thread, on a signal, on a dead terminal. Refuses to start without a
//! terminal or on a dumb one. The terminal is asked about synchronised output and about the kitty keyboard protocol, but
//! startup does not wait for the answers.

mod frame;
mod watchdog;

pub use frame::{FrameBackend, Output, Tty, at_most, size};
pub use watchdog::{Alarm, watch};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether the terminal is set up, so that exactly one of drop, panic hook and signal restores it.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Held while the terminal is restored.
static RESTORING: Mutex<()> = Mutex::new(());

/// Whether keyboard enhancement flags are pushed: every exit must pop them.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// The kitty keyboard protocol: disambiguated keys (1) with event types (2) and shifted characters (4), text keys too (8).
/// Only with the last does a text key report its repeats.
/// <https://sw.kovidgoyal.net/kitty/keyboard-protocol/>
const REPORT: &[u8] = b"\x1b[>15u";
/// The reverse.
const REPORT_NO_MORE: &[u8] = b"\x1b[<u";

/// Alternate screen, cleared, cursor hidden, bracketed paste, focus reports.
const ENTER: &str = "\x1b[?1049h\x1b[2J\x1b[?25l\x1b[?2004h\x1b[?1004h";
/// The reverse. Also resets attributes, and ends synchronised output in case a frame was cut short.
const LEAVE: &str = "\x1b[?2026l\x1b[0m\x1b[?1004l\x1b[?2004l\x1b[?25h\x1b[?1049l";
/// Queries mode 2026 and the flags of the keyboard protocol, then the device attributes, which every terminal answers:
/// what is not answered before these is not supported.
const PROBE: &str = "\x1b[?2026$p\x1b[?u\x1b[c";
/// How long to wait for answers to the probe.
const PROBE_TIME: Duration = Duration::from_millis(100);

/// Why the workbench cannot use this terminal.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// Standard input or output is not a terminal.
    #[error(
        "the workbench needs a terminal on standard input and output; in scripts use the commands instead (`tiebreak --help` lists them)"
    )]
    NotATerminal,
    /// `TERM=dumb`.
    #[error(
        "the terminal says it cannot move its cursor (TERM=dumb); set TERM to what it really is, e.g. TERM=xterm-256color"
    )]
    Dumb,
    /// The terminal refused raw mode or could not be written to.
    #[error("the terminal could not be prepared: {0}; run `reset` and try again")]
    Io(#[from] io::Error),
}

/// The terminal, set up. Restores it on drop.
#[derive(Debug)]
pub struct TerminalGuard(());

impl TerminalGuard {
    /// Sets the terminal up. With `probe` it asks what the terminal supports; [`read_probe`] reads the answer.
    ///
    /// # Errors
    /// When there is no terminal, it is dumb, or setting it up fails.
    pub fn take(probe: bool) -> Result<Self, TerminalError> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(TerminalError::NotATerminal);
        }
        if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return Err(TerminalError::Dumb);
        }
        let guard = Self(());
        guard.enter(probe)?;
        Ok(guard)
    }

    /// Sets the terminal up again, after [`restore`] or when another program changed it.
    ///
    /// # Errors
    /// When setting it up fails.
    pub fn enter(&self, probe: bool) -> io::Result<()> {
        ARMED.store(true, Ordering::SeqCst);
        crossterm::terminal::enable_raw_mode()?;
        let mut text = ENTER.to_owned();
        if probe {
            text.push_str(PROBE);
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal if it is set up, and returns whether it was. Safe to call from any thread at any time. Ignores
/// errors: a terminal that cannot be restored is gone.
pub fn restore() -> bool {
    // Of two at once the second waits: the process must not end before the first has written.
    let _one = RESTORING.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = ARMED.swap(false, Ordering::SeqCst);
    if taken {
        // Before anything is written: output that is stopped (XOFF) blocks the writes below, and no limit may leave the
        // terminal raw.
        let _ = crossterm::terminal::disable_raw_mode();
        let _ = rustix::termios::tcflow(rustix::stdio::stdout(), rustix::termios::Action::OOn);
        // The alternate screen has keyboard flags of its own: pop them before leaving it.
        if REPORTING.swap(false, Ordering::SeqCst) {
            let _ = rustix::io::write(rustix::stdio::stdout(), REPORT_NO_MORE);
        }
        // Directly to the descriptor: the thread that panicked may hold the lock of the buffered writer.
        let _ = rustix::io::write(rustix::stdio::stdout(), LEAVE.as_bytes());
    }
    taken
}

/// The bytes that make the terminal report the repeats of a held key, or no more; none if it already does so. They must be
/// written.
#[must_use]
pub fn report_repeats(on: bool) -> Option<&'static [u8]> {
    let changed = REPORTING.swap(on, Ordering::SeqCst) != on;
    changed.then_some(if on { REPORT } else { REPORT_NO_MORE })
}

/// The result of [`read_probe`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// The terminal supports synchronised output: `CSI ? 2026 h` … `CSI ? 2026 l`.
    pub synchronised: bool,
    /// The terminal speaks the kitty keyboard protocol, which reports the repeats of a held key.
    pub repeats: bool,
    /// Bytes typed meanwhile.
    pub typed: Vec<u8>,
}

/// Reads the answers to the probe of [`TerminalGuard::take`]. Must be the first reader of standard input. Times out
/// after 100 ms; the event parser ignores late answers.
#[must_use]
pub fn read_probe() -> Probed {
    let stdin = io::stdin();
    let until = Instant::now() + PROBE_TIME;
    let mut bytes = Vec::new();
    while !has_sentinel(&bytes) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let time = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, Some(&time)) {
            Ok(0) => break,
            Ok(_) if fds[0].revents().contains(PollFlags::IN) => {
                let mut chunk = [0u8; 256];
                match rustix::io::read(stdin.as_fd(), &mut chunk) {
                    Ok(n) if n > 0 => bytes.extend_from_slice(&chunk[..n]),
                    _ => break,
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => break,
        }
    }
    parse_probe(&bytes)
}

/// Whether the device attributes (`CSI ? … c`) have arrived.
fn has_sentinel(bytes: &[u8]) -> bool {
    replies(bytes).0.iter().any(|reply| reply.ends_with('c'))
}

fn parse_probe(bytes: &[u8]) -> Probed {
    let (replies, typed) = replies(bytes);
    // 1: set, 2: reset; 0, 3 and 4 mean unknown or fixed.
    let synchronised = replies.iter().any(|r| r == "2026;1$y" || r == "2026;2$y");
    let repeats = replies.iter().any(|r| r.strip_suffix('u').is_some_and(|flags| flags.parse::<u8>().is_ok()));
    Probed { synchronised, repeats, typed }
}

/// Splits input into the bodies of `CSI ? … final` replies and the rest.
fn replies(bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
    let (mut found, mut rest) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        if let Some(body) = bytes[at..].strip_prefix(b"\x1b[?")
            && let Some(end) = body.iter().position(|b| (0x40..=0x7e).contains(b))
        {
            found.push(String::from_utf8_lossy(&body[..=end]).into_owned());
            at += 3 + end + 1;
        } else {
            rest.push(bytes[at]);
            at += 1;
        }
    }
    (found, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_finds_mode_2026_and_keeps_typed_bytes() {
        let probed = parse_probe(b"q\x1b[?2026;2$yw\x1b[?62;22c");
        assert_eq!(probed, Probed { synchronised: true, repeats: false, typed: b"qw".to_vec() });
        assert!(!parse_probe(b"\x1b[?2026;0$y\x1b[?62c").synchronised);
        assert!(!parse_probe(b"\x1b[?62c").synchronised);
        assert!(parse_probe(b"\x1b[?0u\x1b[?62c").repeats && !parse_probe(b"\x1b[?62cu").repeats);
    }

    #[test]
    fn the_sentinel_ends_the_wait() {
        assert!(has_sentinel(b"\x1b[?1;2c"));
        assert!(!has_sentinel(b"\x1b[?2026;2$y"));
        assert!(!has_sentinel(b"\x1b[?1;2"));
    }
}
