//! The run's log as the engine's sink: durable every two seconds, and patient when the disk is full.

use super::error::Error;
use super::gpu::RunGpu;
use super::process::Signals;
use crate::domain::{Finding, Severity};
use crate::model;
use crate::protocol::{RunCommand, RunEvent};
use crate::storage::{self, LogWriter, RunDir};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Events wait this long at most before they are brought to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(2);
/// Bytes held back so that the log can still say that the disk is full.
const RESERVE: usize = 256 << 10;
/// How long to wait before the disk is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(3);

/// The writer of a run's log.
pub(crate) struct Log {
    writer: LogWriter<RunEvent>,
    signals: Signals,
    synced: Instant,
    dirty: bool,
    reserve: PathBuf,
    /// Steps made, as the log says.
    pub(crate) step: u64,
    run: RunDir,
    /// Whether the work is being opened: loading and reference log-probs take long, and the loop that takes orders has not
    /// begun.
    pub(super) opening: bool,
    /// Told to end while opening.
    pub(crate) interrupted: bool,
    /// Orders taken while opening that are not about ending.
    pub(crate) waiting: Vec<RunCommand>,
    /// The GPU that the run computes on, whose figures every step carries.
    pub(crate) gpu: Option<RunGpu>,
}

impl Log {
    pub(crate) fn new(writer: LogWriter<RunEvent>, run: &RunDir, signals: Signals) -> Self {
        let log = Self {
            writer,
            signals,
            synced: Instant::now(),
            dirty: false,
            reserve: run.path().join("reserve"),
            step: 0,
            run: run.clone(),
            opening: false,
            interrupted: false,
            waiting: Vec::new(),
            gpu: None,
        };
        // Without a reserve the run only loses the sentence that says why it waits.
        let _ = log.hold_back();
        log
    }

    /// Appends an event; waits while there is no room for it.
    pub(crate) fn put(&mut self, event: &RunEvent) -> Result<(), Error> {
        let mut watched = None;
        if let RunEvent::Stepped { step, epoch, metrics } = event {
            self.step = *step;
            if let Some(gpu) = &self.gpu {
                let mut metrics = metrics.clone();
                gpu.report(&mut metrics);
                watched = Some(RunEvent::Stepped { step: *step, epoch: *epoch, metrics });
            }
        }
        let event = watched.as_ref().unwrap_or(event);
        loop {
            match self.writer.append(event) {
                Ok(_) => break,
                Err(e) if e.is_no_space() => self.wait_for_space(&e)?,
                Err(e) => return Err(e.into()),
            }
        }
        self.dirty = true;
        self.tick()
    }

    /// Appends an event that must be on the disk before anything else happens.
    pub(super) fn put_now(&mut self, event: &RunEvent) -> Result<(), Error> {
        self.put(event)?;
        self.sync()
    }

    /// Appends the event that ends the run, without waiting: on a full disk the run is found lost instead.
    pub(super) fn put_last(&mut self, event: &RunEvent) -> Result<(), Error> {
        // Its room was held back for this.
        let _ = std::fs::remove_file(&self.reserve);
        self.writer.append(event)?;
        self.writer.sync()?;
        Ok(())
    }

    /// Brings what was appended to the disk when it has waited long enough.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        if self.dirty && self.synced.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Brings everything appended to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.writer.sync()?;
        self.synced = Instant::now();
        self.dirty = false;
        Ok(())
    }

    /// Says that the disk is full and waits until a little room has come back.
    pub(super) fn wait_for_space(&mut self, cause: &storage::Error) -> Result<(), Error> {
        let finding = RunEvent::Found(Finding {
            rule: "disk_full".into(),
            step: self.step,
            severity: Severity::Warn,
            text: format!("The run waits: {cause}."),
            remedy: "Free some space on that disk; the run goes on by itself.".into(),
            pair: None,
        });
        if std::fs::remove_file(&self.reserve).is_ok() {
            // If not even this fits, the run's silence has to do.
            let _ = self.writer.append(&finding).and_then(|_| self.writer.sync());
        }
        loop {
            let until = Instant::now() + RETRY_EVERY;
            while Instant::now() < until {
                if self.signals.ended() {
                    return Err(Error::Starved);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            if self.hold_back().is_ok() {
                return Ok(());
            }
        }
    }

    /// Looks for an order to end and keeps the other ones for the loop.
    fn told_to_end(&mut self) -> Result<bool, Error> {
        self.interrupted |= self.signals.ended();
        for command in self.run.take_commands()? {
            if command == RunCommand::Stop {
                self.put_now(&RunEvent::Obeyed(command))?;
                self.interrupted = true;
            } else {
                self.waiting.push(command);
            }
        }
        Ok(self.interrupted)
    }

    /// Fills the reserve with real bytes.
    fn hold_back(&self) -> std::io::Result<()> {
        let written = std::fs::write(&self.reserve, vec![0x20; RESERVE]);
        if written.is_err() {
            let _ = std::fs::remove_file(&self.reserve);
        }
        written
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.reserve);
    }
}

impl model::Sink for Log {
    fn emit(&mut self, event: RunEvent) -> Result<(), model::Error> {
        let sink = |e: Error| model::Error::Sink(e.to_string());
        self.put(&event).map_err(sink)?;
        if self.opening && self.told_to_end().map_err(sink)? {
            return Err(model::Error::Sink("told to end before the first step".into()));
        }
        Ok(())
    }
}
