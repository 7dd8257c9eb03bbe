//! The real binary in a pseudo-terminal: keys go in, the rendered screen is read.

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tiebreak");

/// The terminal's screen, and every byte written to it.
pub struct Screen {
    pub parser: vt100::Parser,
    pub bytes: Vec<u8>,
}

/// The binary and its terminal of 80x24.
pub struct Pty {
    pub master: Option<Box<dyn MasterPty + Send>>,
    pub writer: Option<Box<dyn Write + Send>>,
    pub child: Box<dyn Child + Send + Sync>,
    pub screen: Arc<Mutex<Screen>>,
    /// Set to close the terminal at the next byte read.
    gone: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
}

impl Pty {
    /// Starts the binary in a terminal of 80x24; a thread reads its output.
    pub fn open(home: &Path, args: &[&str]) -> Self {
        Self::sized(home, args, 80, 24)
    }

    /// The same in a terminal of another size.
    pub fn sized(home: &Path, args: &[&str], cols: u16, rows: u16) -> Self {
        Self::with(home, args, (cols, rows), &[])
    }

    /// The same with additional environment variables.
    pub fn with(home: &Path, args: &[&str], size: (u16, u16), env: &[(&str, &OsStr)]) -> Self {
        Self::copy(Path::new(BINARY), home, args, size, env)
    }

    /// Another copy of the binary.
    pub fn copy(binary: &Path, home: &Path, args: &[&str], size: (u16, u16), env: &[(&str, &OsStr)]) -> Self {
        Self::watched(Self::started(binary, home, args, size, env))
    }

    /// Another program in a terminal of 80x24; a thread reads its output.
    pub fn program(command: CommandBuilder) -> Self {
        Self::watched(Self::spawned(command, (80, 24)))
    }

    fn watched((mut pty, mut reader): (Self, Box<dyn Read + Send>)) -> Self {
        let (seen, gone) = (Arc::clone(&pty.screen), Arc::clone(&pty.gone));
        pty.reading = Some(std::thread::spawn(move || {
            let mut buffer = vec![0u8; 1 << 16];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 || gone.load(Ordering::SeqCst) {
                    return;
                }
                let mut screen = seen.lock().unwrap();
                screen.parser.process(&buffer[..n]);
                screen.bytes.extend_from_slice(&buffer[..n]);
            }
        }));
        pty.writer = pty.master.as_ref().map(|m| m.take_writer().unwrap());
        pty
    }

    /// A program whose output nobody reads yet.
    pub fn unread(home: &Path, args: &[&str]) -> (Self, Box<dyn Read + Send>) {
        Self::started(Path::new(BINARY), home, args, (80, 24), &[])
    }

    fn started(
        binary: &Path,
        home: &Path,
        args: &[&str],
        size: (u16, u16),
        env: &[(&str, &OsStr)],
    ) -> (Self, Box<dyn Read + Send>) {
        let mut command = CommandBuilder::new(binary);
        command.args(args);
        command.env("TIEBREAK_HOME", home);
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env_remove("SSH_CONNECTION");
        command.env_remove("NO_COLOR");
        for (name, value) in env {
            command.env(name, value);
        }
        Self::spawned(command, size)
    }

    fn spawned(command: CommandBuilder, (cols, rows): (u16, u16)) -> (Self, Box<dyn Read + Send>) {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let screen = Arc::new(Mutex::new(Screen { parser: vt100::Parser::new(rows, cols, 0), bytes: Vec::new() }));
        let reader = pair.master.try_clone_reader().unwrap();
        let gone = Arc::default();
        (Self { master: Some(pair.master), writer: None, child, screen, gone, reading: None }, reader)
    }

    /// Types.
    pub fn keys(&mut self, text: &str) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    /// Closes the terminal under the program.
    pub fn hang_up(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
        // Opens the help: its output wakes the reader, which closes the terminal.
        self.keys("?");
        self.reading.take().unwrap().join().unwrap();
        (self.master, self.writer) = (None, None);
    }

    /// The text of the screen.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().parser.screen().contents()
    }

    /// Bytes written so far.
    pub fn written(&self) -> usize {
        self.screen.lock().unwrap().bytes.len()
    }

    /// Waits until the screen satisfies `is`; returns the time taken.
    pub fn wait(&self, what: &str, is: impl Fn(&str) -> bool) -> Duration {
        let start = Instant::now();
        loop {
            let text = self.text();
            if is(&text) {
                return start.elapsed();
            }
            assert!(start.elapsed() < PATIENCE, "no {what} on the screen:\n{text}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until nothing has been written for `quiet`.
    pub fn settle(&self, quiet: Duration) {
        let start = Instant::now();
        let mut last = (self.written(), Instant::now());
        while last.1.elapsed() < quiet {
            assert!(start.elapsed() < PATIENCE, "the screen never settles:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
            if self.written() != last.0 {
                last = (self.written(), Instant::now());
            }
        }
    }

    /// Waits for the process's end; returns the time taken and the exit code.
    pub fn ended(&mut self) -> (Duration, u32) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (start.elapsed(), status.exit_code());
            }
            assert!(start.elapsed() < PATIENCE, "the process does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.process_id().unwrap() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
