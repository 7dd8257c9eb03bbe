//! The run's log as the engine's sink: durable every two seconds, and patient when the disk is full.

use super::error::Error;
use super::gpu::RunGpu;
use super::process::Signals;
use crate::domain::{Finding, Severity};
use crate::model;
use crate::protocol::{RunCommand, RunEvent};
use crate::storage::{self, LogWriter, RunDir, free_bytes};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Events wait this long at most before they are brought to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(2);
/// Bytes held back so that the log can still say that the disk is full.
const RESERVE: usize = 256 << 10;
/// How often a run that waits for space looks for orders and for space.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// How long to wait at least before the disk is tried again: a large checkpoint takes a while to fail.
const RETRY_BEFORE: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };
/// How long to wait at most before the disk is tried again, whatever it says of its free space: a quota says nothing.
const RETRY_AFTER: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(30) };

/// The writer of a run's log.
pub(crate) struct Log {
    writer: LogWriter<RunEvent>,
    signals: Signals,
    synced: Instant,
    dirty: bool,
    reserve: PathBuf,
    /// Since when the run waits for space on the disk.
    waits: Option<Instant>,
    /// Told to end: the last checkpoint waits for no space.
    pub(super) stopping: bool,
    /// Told to end while it waited.
    pub(super) stopped_on_full_disk: bool,
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
            waits: None,
            stopping: false,
            stopped_on_full_disk: false,
            step: 0,
            run: run.clone(),
            opening: false,
            interrupted: false,
            waiting: Vec::new(),
            gpu: None,
        };
        // Without a reserve the run only loses the sentence that says why it waits.
        let _ = log.fill_reserve();
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
        self.append(event)?;
        self.dirty = true;
        self.has_space()?;
        self.tick()
    }

    /// Appends an event that must be on the disk before anything else happens.
    pub(super) fn put_now(&mut self, event: &RunEvent) -> Result<(), Error> {
        self.put(event)?;
        self.sync()
    }

    /// Appends the event that says that all is done; waits while there is no room for it.
    pub(super) fn put_finished(&mut self, event: &RunEvent) -> Result<(), Error> {
        // Its room was held back for this.
        let _ = std::fs::remove_file(&self.reserve);
        while let Err(e) = self.writer.append(event) {
            self.wait_if_full(e)?;
            // Before the last word, not after it.
            self.has_space()?;
        }
        while let Err(e) = self.writer.sync() {
            if !e.is_no_space() {
                return Err(e.into());
            }
            // Nothing is said behind the last word.
            self.wait()?;
        }
        Ok(())
    }

    /// Appends; waits while there is no room.
    fn append(&mut self, event: &RunEvent) -> Result<(), Error> {
        while let Err(e) = self.writer.append(event) {
            self.wait_if_full(e)?;
        }
        Ok(())
    }

    /// Waits for space where that is what the writer lacks: its next call writes again what may not have reached the disk.
    fn wait_if_full(&mut self, error: storage::Error) -> Result<(), Error> {
        if error.is_no_space() { self.wait_for_space(&error) } else { Err(error.into()) }
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
        while let Err(e) = self.writer.sync() {
            self.wait_if_full(e)?;
        }
        self.has_space()?;
        self.synced = Instant::now();
        self.dirty = false;
        Ok(())
    }

    /// Says that the disk is full, once for as long as it is, and waits: until more of it is free than now, or for half a minute.
    /// Orders are still taken: a stop ends the run, the others wait for the loop.
    pub(super) fn wait_for_space(&mut self, cause: &dyn fmt::Display) -> Result<(), Error> {
        if self.waits.is_none() {
            self.waits = Some(Instant::now());
            let finding = RunEvent::Found(Finding {
                rule: "disk_full".into(),
                step: self.step,
                severity: Severity::Warn,
                text: format!("The disk is full and the run is paused: {cause}."),
                remedy: "Free some space on that disk; the run goes on by itself.".into(),
                pair: None,
            });
            // The space held back is for this; if it does not fit even so, the run's silence has to do.
            let _ = std::fs::remove_file(&self.reserve);
            if self.writer.append(&finding).is_ok() || self.writer.append(&finding).is_ok() {
                // A failed call is made good by the next one, in a new file.
                let _ = self.writer.sync().or_else(|_| self.writer.sync());
            }
        }
        self.wait()
    }

    /// Waits until more of the disk is free than now, or for half a minute, and takes orders meanwhile.
    fn wait(&mut self) -> Result<(), Error> {
        let path = self.run.path().to_owned();
        let free = || free_bytes(&path);
        let (began, before) = (Instant::now(), free());
        while began.elapsed() < RETRY_BEFORE || (began.elapsed() < RETRY_AFTER && free() <= before) {
            if self.stop_requested_while_waiting()? {
                self.stopped_on_full_disk = true;
                return Err(Error::StoppedOnFullDisk);
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// Something was written: where the run waited for space, it says that it goes on, and holds some back again.
    pub(super) fn has_space(&mut self) -> Result<(), Error> {
        let Some(since) = self.waits.take() else { return Ok(()) };
        // Without a reserve the run only loses the sentence that says why it waits.
        let _ = self.fill_reserve();
        self.put(&RunEvent::Found(Finding {
            rule: "disk_full".into(),
            step: self.step,
            severity: Severity::Note,
            text: format!("There is space on the disk again after {} s; the run goes on.", since.elapsed().as_secs()),
            remedy: "Nothing needs to be done.".into(),
            pair: None,
        }))
    }

    /// Whether somebody asked the run to end while it waits for space.
    fn stop_requested_while_waiting(&mut self) -> Result<bool, Error> {
        let mut stop = self.stopping || self.signals.ended();
        for command in self.run.take_commands()? {
            if command == RunCommand::Stop {
                stop = true;
                // The space held back has room for it, or else the end of the run says enough.
                let _ = self.writer.append(&RunEvent::Obeyed(command));
            } else {
                self.waiting.push(command);
            }
        }
        Ok(stop)
    }

    /// Says that the run was stopped while the disk was full, in the space held back for that.
    pub(super) fn put_stopped_on_full_disk(&mut self) -> Result<(), Error> {
        let saved = self.run.latest_checkpoint()?.checkpoint.map(|c| c.step);
        let from = saved.map_or("the beginning".to_owned(), |step| format!("its checkpoint of step {step}"));
        let _ = std::fs::remove_file(&self.reserve);
        self.writer.append(&RunEvent::Found(Finding {
            rule: "disk_full".into(),
            step: self.step,
            severity: Severity::Warn,
            text: format!("The run was stopped while the disk was full; step {} has no checkpoint.", self.step),
            remedy: format!("Free some space, then resume the run: it goes on from {from}."),
            pair: None,
        }))?;
        self.put_last(&RunEvent::Stopped { step: self.step })
    }

    /// Looks for an order to end and keeps the other ones for the loop.
    fn stop_requested_while_opening(&mut self) -> Result<bool, Error> {
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
    fn fill_reserve(&self) -> std::io::Result<()> {
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
        if self.opening && self.stop_requested_while_opening().map_err(sink)? {
            return Err(model::Error::Sink("told to end before the first step".into()));
        }
        Ok(())
    }
}
