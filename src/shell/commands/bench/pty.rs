//! This program in a pseudo-terminal: keys go in, frames come out.

use super::super::super::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the program has to quit.
const LEAVE: Duration = Duration::from_secs(5);

/// The program and its terminal. Ends the program on drop.
pub struct Pty {
    terminal: OwnedFd,
    child: Child,
}

impl Pty {
    /// Starts this program with `args` in a terminal of `size` columns and rows, as for a local user.
    ///
    /// # Errors
    /// When the system has no pseudo-terminal or the program does not start.
    pub fn open(args: &[&OsStr], size: (u16, u16)) -> Result<Self> {
        let failed = |doing: &str| {
            let doing = doing.to_owned();
            move |e: rustix::io::Errno| Error::Io { doing, source: e.into() }
        };
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let terminal = openpt(flags).map_err(failed("open a terminal"))?;
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).map_err(failed("open a terminal"))?;
        let name = ptsname(&terminal, Vec::new()).map_err(failed("name a terminal"))?;
        let other = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .map_err(failed("open the other end of a terminal"))?;
        let size = Winsize { ws_col: size.0, ws_row: size.1, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&other, size).map_err(failed("size a terminal"))?;
        let exe = std::env::current_exe().map_err(|e| Error::Io { doing: "find this program".into(), source: e })?;
        let end = || {
            other.try_clone().map(Stdio::from).map_err(|e| Error::Io { doing: "share a terminal".into(), source: e })
        };
        let child = Command::new(exe)
            .args(args)
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL")
            .env_remove("SSH_CONNECTION")
            .env_remove("NO_COLOR")
            .stdin(end()?)
            .stdout(end()?)
            .stderr(end()?)
            .spawn()
            .map_err(|e| Error::Io { doing: "start this program in a terminal".into(), source: e })?;
        Ok(Self { terminal, child })
    }

    /// Presses keys.
    ///
    /// # Errors
    /// When the program has closed its terminal.
    pub fn press(&self, keys: &[u8]) -> Result<()> {
        let mut rest = keys;
        while !rest.is_empty() {
            let n = rustix::io::write(&self.terminal, rest)
                .map_err(|e| Error::Io { doing: "press a key".into(), source: e.into() })?;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// Reads until no byte has arrived for `quiet`, or until `patience` is over. Returns the time of the last byte and
    /// the number of bytes; none if no byte arrived within `patience`.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn frame(&self, quiet: Duration, patience: Duration) -> Result<Option<(Instant, usize)>> {
        let until = Instant::now() + patience;
        let mut last: Option<(Instant, usize)> = None;
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let now = Instant::now();
            let wait = last.map_or(until, |(at, _)| (at + quiet).min(until)).saturating_duration_since(now);
            if wait.is_zero() && last.is_some() || now >= until {
                return Ok(last);
            }
            let time = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.terminal, PollFlags::IN)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(Error::Io { doing: "watch a terminal".into(), source: e.into() }),
            }
            match rustix::io::read(&self.terminal, &mut buffer) {
                Ok(n) if n > 0 => last = Some((Instant::now(), last.map_or(0, |(_, bytes)| bytes) + n)),
                _ => {
                    return Err(Error::failed(
                        "the screens ended while they were measured: open `tiebreak` to see why",
                    ));
                }
            }
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.press(b"\x03");
        let until = Instant::now() + LEAVE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            // Drain its output, so that it cannot block.
            let _ = self.frame(Duration::ZERO, Duration::from_millis(20));
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
