//! Reading a pipe whose writer may never come.
//!
//! Owns the wait: for a writer up to a limit, and for what a writer has still to say as long as it takes. Refuses a named pipe that
//! nobody opens for writing.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two looks for a writer.
const LOOK: Duration = Duration::from_millis(100);

/// An open pipe.
pub(super) struct Pipe {
    file: File,
    /// Until when a writer has to be there; none once one was seen.
    until: Option<Instant>,
    limit: Duration,
}

impl Pipe {
    /// Opens a pipe without waiting for its writer, who has to come within `limit` from now.
    pub(super) fn open(path: &Path, limit: Duration) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Self { file, until: Some(Instant::now() + limit), limit })
    }
}

impl Read for Pipe {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut watched = [PollFd::new(&self.file, PollFlags::IN)];
            let wait = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as _ };
            match poll(&mut watched, Some(&wait)) {
                Err(rustix::io::Errno::INTR) => continue,
                done => done?,
            };
            // A writer was there and has gone.
            let closed = watched[0].revents().contains(PollFlags::HUP);
            match self.file.read(to) {
                // Without a writer a read ends at once; with one that is silent it would block.
                Ok(0) if !closed && self.until.is_some() => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.until = None,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                done => {
                    self.until = None;
                    return done;
                }
            }
            if self.until.is_some_and(|until| Instant::now() > until) {
                return Err(io::Error::other(format!(
                    "nobody has opened this pipe for writing within {} s: start the program that writes to it first, or name a file",
                    self.limit.as_secs_f64()
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::io::Write;
    use std::path::PathBuf;

    fn made(dir: &Path) -> PathBuf {
        let path = dir.join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        path
    }

    fn all(pipe: Pipe) -> io::Result<String> {
        io::read_to_string(pipe)
    }

    #[test]
    fn a_pipe_without_a_writer_is_refused_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let error = all(Pipe::open(&made(dir.path()), Duration::from_millis(300)).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("nobody has opened this pipe for writing within 0.3 s: start"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[test]
    fn a_writer_may_be_late_silent_and_slow() {
        let dir = tempfile::tempdir().unwrap();
        let path = made(dir.path());
        let pipe = Pipe::open(&path, Duration::from_millis(900)).unwrap();
        let writer = std::thread::spawn(move || {
            let pause = |ms| std::thread::sleep(Duration::from_millis(ms));
            pause(300);
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            // Longer than the wait for a writer.
            pause(1500);
            file.write_all(b"one ").unwrap();
            pause(300);
            file.write_all(b"two").unwrap();
        });
        assert_eq!(all(pipe).unwrap(), "one two");
        writer.join().unwrap();
    }

    #[test]
    fn a_writer_that_says_nothing_leaves_an_empty_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = made(dir.path());
        let pipe = Pipe::open(&path, Duration::from_mins(1)).unwrap();
        drop(OpenOptions::new().write(true).open(path).unwrap());
        let began = Instant::now();
        assert_eq!(all(pipe).unwrap(), "");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
