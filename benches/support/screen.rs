//! The program in a pseudo-terminal: from its start to what it shows, from a key to the next frame, and its memory.
//!
//! Owns the terminal of 120 columns by 40 rows. Measures nothing by itself.

use super::program::words_after;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// After so long without output a frame is over.
const QUIET: Duration = Duration::from_millis(150);
/// The longest wait for a frame.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program in a pseudo-terminal.
pub struct Running {
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    /// What it writes, with the time at which it came.
    written: Receiver<(Instant, Vec<u8>)>,
    screen: vt100::Parser,
    /// From its start until the screen showed one of the words that were waited for.
    pub opened: Duration,
    /// Its memory at that time: see [`Running::memory`].
    pub memory_then: Option<[f64; 2]>,
    /// The screen stays as long as its master does.
    _master: Box<dyn MasterPty + Send>,
}

impl Running {
    /// Starts it with these arguments and waits until its screen shows one of these words.
    pub fn start(home: &Path, args: &[&str], shown: &[&str]) -> Self {
        let size = PtySize { rows: 40, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pty = native_pty_system().openpty(size).unwrap();
        let other = words_after("--program").and_then(|words| words.into_iter().next());
        let mut command = CommandBuilder::new(other.as_deref().unwrap_or(env!("CARGO_BIN_EXE_tiebreak")));
        command.args(args);
        command.arg("--home");
        command.arg(home);
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        let mut reader = pty.master.try_clone_reader().unwrap();
        let keys = pty.master.take_writer().unwrap();
        let start = Instant::now();
        let child = pty.slave.spawn_command(command).unwrap();
        let (said, written) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 || said.send((Instant::now(), buffer[..n].to_vec())).is_err() {
                    return;
                }
            }
        });
        let screen = vt100::Parser::new(40, 120, 0);
        let (opened, memory_then) = (Duration::ZERO, None);
        let mut running = Self { child, keys, written, screen, opened, memory_then, _master: pty.master };
        running.opened = running.wait_for(shown) - start;
        running.memory_then = running.memory();
        running
    }

    /// Waits until the screen shows one of these words; returns when.
    fn wait_for(&mut self, shown: &[&str]) -> Instant {
        loop {
            let (at, bytes) = self.written.recv_timeout(PATIENCE).unwrap();
            self.screen.process(&bytes);
            let contents = self.screen.screen().contents();
            if shown.iter().any(|word| contents.contains(word)) {
                return at;
            }
        }
    }

    /// Waits until it has written nothing for a while.
    fn settle(&mut self) {
        while let Ok((_, bytes)) = self.written.recv_timeout(QUIET) {
            self.screen.process(&bytes);
        }
    }

    /// Types keys that may change nothing on the screen.
    pub fn send(&mut self, keys: &str) {
        self.settle();
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// From the key to the first bytes of the next frame.
    pub fn press(&mut self, key: &str) -> Duration {
        self.settle();
        let start = Instant::now();
        self.keys.write_all(key.as_bytes()).unwrap();
        self.keys.flush().unwrap();
        let (at, bytes) = self.written.recv_timeout(PATIENCE).unwrap();
        self.screen.process(&bytes);
        at - start
    }

    /// Its memory in MiB, now and at its peak; none where /proc does not tell.
    pub fn memory(&self) -> Option<[f64; 2]> {
        memory_of(&self.child.process_id()?.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process's memory in MiB, now and at its peak; none where /proc does not tell.
pub fn memory_of(process: &str) -> Option<[f64; 2]> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().ok()
    };
    Some([of("VmRSS")? / 1024.0, of("VmHWM")? / 1024.0])
}
