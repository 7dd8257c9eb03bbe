//! The run's log as the engine's sink. Owns fsync every two seconds and waiting on a full disk. Refuses to drop an event.

use super::error::Error;
use super::gpu::RunGpu;
use super::growing::GrowingFile;
use super::process::Signals;
use crate::domain::{Finding, Severity};
use crate::model;
use crate::protocol::{Growing, RunCommand, RunEvent};
use crate::storage::{self, LogWriter, OomWatch, RunDir, free_bytes};
use std::cell::OnceCell;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Maximum delay of an fsync.
const SYNC_EVERY: Duration = Duration::from_secs(2);
/// Bytes reserved on disk so that the log can report a full disk.
const RESERVE: usize = 256 << 10;
/// How often a run waiting for space polls for commands and free space.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Minimum wait before a retry: a large checkpoint takes a while to fail.
const RETRY_BEFORE: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };
/// Maximum wait before a retry, whatever the free space: quotas do not show in it.
const RETRY_AFTER: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(30) };

/// The writer of a run's log.
pub(crate) struct Log {
    writer: LogWriter<RunEvent>,
    signals: Signals,
    synced: Instant,
    dirty: bool,
    reserve: PathBuf,
    /// Since when the run waits for disk space.
    waits: Option<Instant>,
    /// Stop requested: the last checkpoint does not wait for space.
    pub(super) stopping: bool,
    /// Stopped while waiting for space.
    pub(super) stopped_on_full_disk: bool,
    /// Steps done, as logged.
    pub(crate) step: u64,
    run: RunDir,
    /// Whether the work is being opened: loading and reference log-probs take long, before the main loop polls commands.
    pub(super) opening: bool,
    /// Stopped while opening.
    pub(crate) interrupted: bool,
    /// Other commands received while opening.
    pub(crate) waiting: Vec<RunCommand>,
    /// The run's GPU; its figures are added to every step.
    pub(crate) gpu: Option<RunGpu>,
    /// The answers being written.
    growing: GrowingFile,
    /// How many processes the system has killed for lack of memory.
    oom: OomWatch,
    /// Looks for what is not finite among a run's weights.
    pub(super) search: fn(&RunDir) -> Option<String>,
    /// What it found, once it has looked.
    not_finite: OnceCell<Option<String>>,
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
            growing: GrowingFile::new(run),
            oom: OomWatch::begin(run),
            search: |_| None,
            not_finite: OnceCell::new(),
        };
        // Without a reserve only the report of a full disk is lost.
        let _ = log.fill_reserve();
        log
    }

    /// Appends an event; waits while the disk is full.
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

    /// What is not finite among the run's weights, as a sentence. The first call reads all of them.
    pub(super) fn not_finite(&self) -> Option<String> {
        self.not_finite.get_or_init(|| (self.search)(&self.run)).clone()
    }

    /// Appends an event and syncs.
    pub(super) fn put_now(&mut self, event: &RunEvent) -> Result<(), Error> {
        self.put(event)?;
        self.sync()
    }

    /// Appends the final `Finished` event; waits while the disk is full.
    pub(super) fn put_finished(&mut self, event: &RunEvent) -> Result<(), Error> {
        // The reserve is for this event.
        let _ = std::fs::remove_file(&self.reserve);
        while let Err(e) = self.writer.append(event) {
            self.wait_if_full(e)?;
            // Must come before the final event.
            self.has_space()?;
        }
        while let Err(e) = self.writer.sync() {
            if !e.is_no_space() {
                return Err(e.into());
            }
            // Nothing may follow the final event.
            self.wait()?;
        }
        Ok(())
    }

    /// Appends; waits while the disk is full.
    fn append(&mut self, event: &RunEvent) -> Result<(), Error> {
        while let Err(e) = self.writer.append(event) {
            self.wait_if_full(e)?;
        }
        Ok(())
    }

    /// Waits if the error is a full disk; the writer's next call rewrites what may be lost.
    fn wait_if_full(&mut self, error: storage::Error) -> Result<(), Error> {
        if error.is_no_space() { self.wait_for_space(&error) } else { Err(error.into()) }
    }

    /// Appends the event that ends the run, without waiting: on a full disk the run shows as lost.
    pub(super) fn put_last(&mut self, event: &RunEvent) -> Result<(), Error> {
        // The reserve is for this event.
        let _ = std::fs::remove_file(&self.reserve);
        self.writer.append(event)?;
        self.writer.sync()?;
        Ok(())
    }

    /// Syncs if the last sync is long enough ago.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        if self.dirty && self.synced.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Syncs all appended events.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        while let Err(e) = self.writer.sync() {
            self.wait_if_full(e)?;
        }
        self.has_space()?;
        self.oom.refresh();
        self.synced = Instant::now();
        self.dirty = false;
        Ok(())
    }

    /// Reports the full disk once, then waits until more space is free, at most half a minute. Polls commands meanwhile: a stop
    /// ends the run, others are queued for the main loop.
    pub(super) fn wait_for_space(&mut self, cause: &dyn fmt::Display) -> Result<(), Error> {
        if self.waits.is_none() {
            self.waits = Some(Instant::now());
            let finding = RunEvent::Found(Finding {
                rule: "disk_full".into(),
                step: self.step,
                severity: Severity::Warn,
                text: format!("The disk is full and the run is paused: {cause}."),
                remedy: "Free some space on that disk; the run continues by itself.".into(),
                pair: None,
            });
            // The reserve is for this event; if it still does not fit, it is lost.
            let _ = std::fs::remove_file(&self.reserve);
            if self.writer.append(&finding).is_ok() || self.writer.append(&finding).is_ok() {
                // After a failed sync the next call writes to a new file.
                let _ = self.writer.sync().or_else(|_| self.writer.sync());
            }
        }
        self.wait()
    }

    /// Waits until more space is free, at most half a minute, and polls commands meanwhile.
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

    /// Called after a successful write: if the run waited for space, reports that it continues and refills the reserve.
    pub(super) fn has_space(&mut self) -> Result<(), Error> {
        let Some(since) = self.waits.take() else { return Ok(()) };
        // Without a reserve only the report of a full disk is lost.
        let _ = self.fill_reserve();
        self.put(&RunEvent::Found(Finding {
            rule: "disk_full".into(),
            step: self.step,
            severity: Severity::Note,
            text: format!("Disk space is available again after {} s; the run continues.", since.elapsed().as_secs()),
            remedy: "Nothing needs to be done.".into(),
            pair: None,
        }))
    }

    /// Whether a stop was requested while waiting for space.
    fn stop_requested_while_waiting(&mut self) -> Result<bool, Error> {
        let mut stop = self.stopping || self.signals.ended();
        for command in self.run.take_commands()? {
            if command == RunCommand::Stop {
                stop = true;
                // Written into the freed reserve; if it does not fit, the run's end is clear enough.
                let _ = self.writer.append(&RunEvent::Obeyed(command));
            } else {
                self.waiting.push(command);
            }
        }
        Ok(stop)
    }

    /// Logs that the run was stopped on a full disk, using the reserve.
    pub(super) fn put_stopped_on_full_disk(&mut self) -> Result<(), Error> {
        let saved = self.run.latest_checkpoint()?.checkpoint.map(|c| c.step);
        let from = saved.map_or("the beginning".to_owned(), |step| format!("its checkpoint of step {step}"));
        let _ = std::fs::remove_file(&self.reserve);
        self.writer.append(&RunEvent::Found(Finding {
            rule: "disk_full".into(),
            step: self.step,
            severity: Severity::Warn,
            text: format!("The run was stopped while the disk was full; step {} has no checkpoint.", self.step),
            remedy: format!("Free some space, then resume the run: it continues from {from}."),
            pair: None,
        }))?;
        self.put_last(&RunEvent::Stopped { step: self.step })
    }

    /// Polls for a stop; queues other commands for the main loop.
    pub(super) fn stop_requested_while_opening(&mut self) -> Result<bool, Error> {
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

    /// Allocates the reserve with real bytes.
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
    fn emit(&mut self, mut event: RunEvent) -> Result<(), model::Error> {
        if let RunEvent::Found(finding) = &mut event
            && finding.rule == "non_finite"
            && let Some(cause) = self.not_finite()
        {
            finding.text = format!("{} {cause}.", finding.text);
            // Other settings would not help.
            finding.remedy.clear();
        }
        let sink = |e: Error| model::Error::Sink(e.to_string());
        self.put(&event).map_err(sink)?;
        if self.opening && self.stop_requested_while_opening().map_err(sink)? {
            return Err(model::Error::Sink("stopped before the first step".into()));
        }
        Ok(())
    }

    fn show(&mut self, answers: &mut dyn FnMut() -> Growing) {
        self.growing.show(answers);
    }
}
