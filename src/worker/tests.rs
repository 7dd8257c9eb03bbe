//! The life cycle of a run, with a deterministic toy instead of the engine.

use super::drive::{Saving, Work, WorkOutcome};
use super::error::Error;
use super::log::Log;
use super::prepared::{OpenWork, Prepared};
use super::process::Signals;
use super::run::live;
use crate::domain::{Metrics, Params, RunId, Severity, mix64};
use crate::model;
use crate::model::Sink;
use crate::protocol::{DataSnapshot, Inputs, ModelRef, RunCommand, RunEvent, RunSpec, SessionMeta, Task, TrainSpec};
use crate::storage::faults::{Fault, disable, inject, pass, reset};
use crate::storage::{CheckpointDir, Home, RunDir, SessionDir, sha256};
use rustix::io::Errno;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Numbers that every step changes deterministically: a correct resume ends with the same numbers.
struct ToyWork {
    numbers: Vec<u64>,
    step: u64,
    total: u64,
    /// The best step.
    best: Option<u64>,
    /// Bytes of a checkpoint beside its numbers.
    padding: usize,
    /// Called before each step.
    before: Box<dyn FnMut(u64) -> Result<(), model::Error>>,
}

impl ToyWork {
    fn open(
        total: u64,
        from: Option<&CheckpointDir>,
        before: impl FnMut(u64) -> Result<(), model::Error> + 'static,
    ) -> Self {
        let mut toy = Self {
            numbers: (0..64).map(mix64).collect(),
            step: 0,
            total,
            best: None,
            padding: 0,
            before: Box::new(before),
        };
        if let Some(checkpoint) = from {
            let bytes = std::fs::read(checkpoint.path.join("toy.bin")).unwrap();
            toy.numbers = bytes.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect();
            toy.step = checkpoint.step;
        }
        toy
    }
    fn bytes(&self) -> Vec<u8> {
        self.numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }
}

impl Work for ToyWork {
    fn step(&mut self, log: &mut Log) -> Result<WorkOutcome, model::Error> {
        if self.step == self.total {
            return Ok(WorkOutcome::Done);
        }
        (self.before)(self.step)?;
        self.step += 1;
        for n in &mut self.numbers {
            *n = mix64(*n ^ self.step);
        }
        let mut metrics = Metrics::new();
        metrics.set("loss", 1.0 / self.step as f64);
        log.emit(RunEvent::Stepped { step: self.step, epoch: 0.0, metrics })?;
        Ok(WorkOutcome::Stepped)
    }
    fn done(&self) -> u64 {
        self.step
    }
    fn save(&mut self, dir: &Path) -> Result<(), model::Error> {
        let path = dir.join("toy.bin");
        pass("tensors")
            .and_then(|()| std::fs::write(&path, self.bytes()))
            .map_err(|e| model::Error::write(&path, &e))?;
        let path = dir.join("optim.bin");
        std::fs::write(&path, vec![7; self.padding]).map_err(|e| model::Error::write(&path, &e))?;
        let path = dir.join("trainer.json");
        pass("state").and_then(|()| std::fs::write(&path, "{}\n")).map_err(|e| model::Error::write(&path, &e))
    }
    fn is_best_now(&self) -> bool {
        self.best == Some(self.step)
    }
    fn saving(&self) -> Option<Saving> {
        Some(Saving { every: 10, keep: 2 })
    }
    fn state_hash(&mut self) -> Result<String, Error> {
        Ok(sha256(&self.bytes()))
    }
}

fn new_run() -> (tempfile::TempDir, RunDir) {
    let dir = tempfile::tempdir().unwrap();
    let run = run_in(dir.path());
    (dir, run)
}

fn run_in(dir: &Path) -> RunDir {
    let home = Home::resolve(Some(dir)).unwrap();
    let meta = SessionMeta { format: 1, name: String::new(), model: "m".into(), created_ms: 1, app: "0".into() };
    let session = SessionDir::create(&home, "s", &meta).unwrap();
    let spec = RunSpec {
        id: RunId::new("dpo-1"),
        task: Task::Train(TrainSpec::new(
            "dpo",
            ModelRef { name: "m".into(), path: "m".into() },
            Params::default(),
            DataSnapshot { file: "data.jsonl".into(), sha256: sha256(b""), rows: 0, session_seq: 0 },
        )),
        device: "cpu".into(),
        created_ms: 1,
        app: "0".into(),
        inputs: Inputs::default(),
    };
    session.create_run(&spec, b"").unwrap()
}

fn run_toy(
    run: &RunDir,
    signals: &Signals,
    total: u64,
    before: impl FnMut(u64) -> Result<(), model::Error> + Clone + 'static,
) -> Result<(), Error> {
    live(run, signals, &move |_, _| {
        let before = before.clone();
        let open: OpenWork = Box::new(move |_, from, _| Ok(Box::new(ToyWork::open(total, from, before))));
        Prepared { device: "toy".into(), open }
    })
}

/// As [`run_toy`], with checkpoints of this size.
fn run_padded(
    run: &RunDir,
    signals: &Signals,
    total: u64,
    padding: usize,
    before: impl FnMut(u64) -> Result<(), model::Error> + Clone + 'static,
) -> Result<(), Error> {
    live(run, signals, &move |_, _| {
        let before = before.clone();
        let open: OpenWork =
            Box::new(move |_, from, _| Ok(Box::new(ToyWork { padding, ..ToyWork::open(total, from, before) })));
        Prepared { device: "toy".into(), open }
    })
}

fn events(run: &RunDir) -> Vec<RunEvent> {
    run.tail().poll().unwrap().into_iter().map(|e| e.data.unwrap()).collect()
}

fn hash_of(run: &RunDir) -> String {
    match events(run).last() {
        Some(RunEvent::Finished { state, .. }) => state.clone(),
        other => panic!("not finished: {other:?}"),
    }
}

#[test]
fn a_run_finishes_and_keeps_two_checkpoints() {
    let (_dir, run) = new_run();
    run_toy(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
    let steps: Vec<u64> = run.checkpoints().unwrap().iter().map(|c| c.step).collect();
    assert_eq!(steps, [40, 45]);
    let seen = events(&run);
    assert!(matches!(seen[0], RunEvent::Started { attempt: 1, from_step: None, .. }));
    assert_eq!(seen.iter().filter(|e| matches!(e, RunEvent::Stepped { .. })).count(), 45);
    assert!(!run.is_alive() && !run.path().join("reserve").exists());
    // A second worker on a finished run has nothing to do.
    run_toy(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert_eq!(events(&run).len(), seen.len());
}

#[test]
fn a_run_resumed_after_an_error_and_a_panic_ends_with_the_same_numbers() {
    let (_dir, whole) = new_run();
    run_toy(&whole, &Signals::default(), 45, |_| Ok(())).unwrap();
    let (_dir2, run) = new_run();
    let failed = run_toy(&run, &Signals::default(), 45, |step| match step {
        23 => {
            Err(model::Error::Invalid("the loss is not a number at step 24, pair i7: lower the learning rate".into()))
        }
        _ => Ok(()),
    });
    assert!(failed.is_err());
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, 20, "nothing is written after a failed step");
    let Some(RunEvent::Failed { step: 23, error }) = events(&run).last().cloned() else {
        panic!("{:?}", events(&run).last())
    };
    assert!(error.contains("pair i7"));
    let panicked =
        run_toy(&run, &Signals::default(), 45, |step| if step == 31 { panic!("index out of bounds") } else { Ok(()) });
    assert!(panicked.is_err());
    let Some(RunEvent::Failed { step: 31, error }) = events(&run).last().cloned() else {
        panic!("{:?}", events(&run).last())
    };
    assert!(error.contains("index out of bounds"), "{error}");
    run_toy(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert_eq!(hash_of(&run), hash_of(&whole));
    let starts: Vec<_> = events(&run)
        .into_iter()
        .filter_map(|e| match e {
            RunEvent::Started { attempt, from_step, .. } => Some((attempt, from_step)),
            _ => None,
        })
        .collect();
    assert_eq!(starts, [(1, None), (2, Some(20)), (3, Some(30))]);
}

#[test]
fn the_best_step_has_its_own_checkpoint_that_is_kept() {
    let (_dir, run) = new_run();
    let run_to = |last: u64| {
        live(&run, &Signals::default(), &move |_, _| {
            let before = move |step| if step == last { Err(model::Error::Invalid("enough".into())) } else { Ok(()) };
            let open: OpenWork =
                Box::new(move |_, from, _| Ok(Box::new(ToyWork { best: Some(17), ..ToyWork::open(45, from, before) })));
            Prepared { device: "toy".into(), open }
        })
    };
    assert!(run_to(17).is_err());
    assert_eq!(run.best_checkpoint().checkpoint.unwrap().step, 17);
    // As if the process had ended before the mark was made.
    std::fs::remove_file(run.path().join("ckpt/best")).unwrap();
    run_to(99).unwrap();
    assert_eq!(run.best_checkpoint().checkpoint.unwrap().step, 17);
    let steps: Vec<u64> = run.checkpoints().unwrap().iter().map(|c| c.step).collect();
    assert_eq!(steps, [17, 40, 45]);
}

#[test]
fn a_damaged_checkpoint_is_skipped_and_reported() {
    let (_dir, run) = new_run();
    let _ = run_toy(&run, &Signals::default(), 45, |step| if step == 33 { panic!("stop here") } else { Ok(()) });
    let newest = run.latest_checkpoint().unwrap().checkpoint.unwrap();
    let file = newest.path.join("toy.bin");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    run_toy(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert!(events(&run).iter().any(|e| matches!(e, RunEvent::Started { attempt: 2, from_step: Some(20), .. })));
    assert!(events(&run).iter().any(|e| matches!(e, RunEvent::Found(f) if f.rule == "checkpoint_damaged")));
    let (_dir2, whole) = new_run();
    run_toy(&whole, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert_eq!(hash_of(&run), hash_of(&whole));
}

#[test]
fn commands_are_executed_in_order_and_while_paused() {
    let (_dir, run) = new_run();
    let poster = run.clone();
    let worker = run.clone();
    let thread = std::thread::spawn(move || {
        run_toy(&worker, &Signals::default(), 1000, move |step| {
            if step == 7 {
                poster.post(RunCommand::Pause).unwrap();
                poster.post(RunCommand::Checkpoint).unwrap();
            }
            Ok(())
        })
    });
    let mut tail = run.tail();
    let mut seen = Vec::new();
    let mut posted = false;
    while !thread.is_finished() {
        seen.extend(tail.poll().unwrap().into_iter().map(|e| e.data.unwrap()));
        let checkpointed = seen.iter().any(|e| matches!(e, RunEvent::Checkpointed { step: 8, .. }));
        if checkpointed && !posted {
            assert!(run.is_alive());
            posted = true;
            run.post(RunCommand::Resume).unwrap();
            run.post(RunCommand::Stop).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    thread.join().unwrap().unwrap();
    seen.extend(tail.poll().unwrap().into_iter().map(|e| e.data.unwrap()));
    let obeyed: Vec<_> =
        seen.iter().filter_map(|e| if let RunEvent::Obeyed(c) = e { Some(*c) } else { None }).collect();
    assert_eq!(obeyed, [RunCommand::Pause, RunCommand::Checkpoint, RunCommand::Resume, RunCommand::Stop]);
    assert_eq!(seen.last(), Some(&RunEvent::Stopped { step: 8 }));
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, 8);
}

#[test]
fn sigterm_writes_a_checkpoint_and_stops() {
    let (_dir, run) = new_run();
    let signals = Signals::default();
    let end = signals.clone();
    run_toy(&run, &signals, 1000, move |step| {
        if step == 12 {
            end.end();
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(events(&run).last(), Some(&RunEvent::Stopped { step: 13 }));
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, 13);
}

/// The findings about a full disk, by severity.
fn full(run: &RunDir) -> Vec<Severity> {
    let of = |e| if let RunEvent::Found(f) = e { (f.rule == "disk_full").then_some(f.severity) } else { None };
    events(run).into_iter().filter_map(of).collect()
}

/// The final hash of an undisturbed run.
fn undisturbed() -> String {
    let (_dir, whole) = new_run();
    run_toy(&whole, &Signals::default(), 25, |_| Ok(())).unwrap();
    hash_of(&whole)
}

#[test]
fn a_full_disk_at_any_operation_of_a_run_pauses_it_and_changes_nothing() {
    let want = undisturbed();
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        let mut at = 0;
        loop {
            let (_dir, run) = new_run();
            reset();
            // From the last step before a checkpoint on: what comes before does not write checkpoints.
            let strike_at = move |step| {
                if step == 9 {
                    reset();
                    inject(at, Fault::Once(errno.raw_os_error()));
                }
                Ok(())
            };
            let lived = run_toy(&run, &Signals::default(), 25, strike_at);
            let passed = reset();
            if at >= passed.len() {
                break;
            }
            lived.unwrap_or_else(|e| panic!("{e}, struck at {at} of {passed:?}"));
            assert_eq!(hash_of(&run), want, "struck at {at}");
            let steps: Vec<u64> = events(&run)
                .iter()
                .filter_map(|e| if let RunEvent::Stepped { step, .. } = e { Some(*step) } else { None })
                .collect();
            assert_eq!(steps, (1..=25).collect::<Vec<u64>>(), "struck at {at} of {passed:?}");
            // Removing an old checkpoint needs no space; everything else pauses the run with a report.
            let tidying = matches!(passed[at], "remove") || passed[at..].starts_with(&["rename", "remove"]);
            // Nothing follows the final event, which is only synced again.
            let last = passed.iter().rposition(|p| *p == "append").is_some_and(|append| at == append + 1);
            let want = if last { vec![] } else { vec![Severity::Warn, Severity::Note] };
            assert!(tidying || full(&run) == want, "{at} of {passed:?}: {:?}", full(&run));
            at += 1;
        }
        assert!(at > 40, "{at} operations");
    }
}

#[test]
fn a_run_paused_by_a_full_disk_can_be_stopped() {
    for by_signal in [false, true] {
        let (_dir, run) = new_run();
        let signals = Signals::default();
        let (end, poster) = (signals.clone(), run.clone());
        run_toy(&run, &signals, 25, move |step| {
            if step == 14 {
                if by_signal {
                    end.end();
                } else {
                    poster.post(RunCommand::Stop).unwrap();
                }
                // The tensors of the checkpoint with which it would stop.
                disable("tensors", Errno::NOSPC.raw_os_error());
            }
            Ok(())
        })
        .unwrap();
        reset();
        assert_eq!(events(&run).last(), Some(&RunEvent::Stopped { step: 15 }));
        assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, 10);
        assert_eq!(full(&run).first(), Some(&Severity::Warn));
        run_toy(&run, &Signals::default(), 25, |_| Ok(())).unwrap();
        assert_eq!(hash_of(&run), undisturbed());
    }
}

#[test]
fn a_run_waiting_for_space_can_be_stopped() {
    let (_dir, run) = new_run();
    let poster = run.clone();
    let watcher = std::thread::spawn(move || {
        let mut tail = poster.tail();
        for _ in 0..2000 {
            let seen = tail.poll().unwrap();
            if seen.iter().any(|e| matches!(&e.data, Ok(RunEvent::Found(f)) if f.rule == "disk_full")) {
                return poster.post(RunCommand::Stop).unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let before = |step| {
        if step == 14 {
            disable("tensors", Errno::NOSPC.raw_os_error());
        }
        Ok(())
    };
    run_toy(&run, &Signals::default(), 25, before).unwrap();
    reset();
    watcher.join().unwrap();
    let seen = events(&run);
    assert!(seen.contains(&RunEvent::Obeyed(RunCommand::Stop)), "{seen:?}");
    assert_eq!(seen.last(), Some(&RunEvent::Stopped { step: 20 }));
    let told = full(&run);
    assert_eq!(told, [Severity::Warn, Severity::Warn], "one report that it waits, one that it stopped");
}

/// Runs `f` on a disk of 2 MiB of its own.
fn on_a_small_disk(f: impl FnOnce(&Path) + std::panic::UnwindSafe) {
    let disk = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"];
    assert!(Command::new("mount").args(mount).arg(disk.path()).status().unwrap().success());
    let tried = catch_unwind(|| f(disk.path()));
    assert!(Command::new("umount").arg(disk.path()).status().unwrap().success());
    tried.unwrap();
}

#[test]
#[ignore = "needs root: mounts a small tmpfs"]
fn on_a_full_disk_the_run_waits_reports_it_and_continues() {
    let (_dir, whole) = new_run();
    run_toy(&whole, &Signals::default(), 45, |_| Ok(())).unwrap();
    let want = hash_of(&whole);
    // What is left when the disk is filled: from nothing to more than the next checkpoint takes.
    for left in (0..=14).map(|level| (level * 48) << 10) {
        let want = want.clone();
        on_a_small_disk(move |disk| {
            let run = run_in(disk);
            let filler = disk.join("filler");
            let (fill, worker) = (filler.clone(), run.clone());
            let thread = std::thread::spawn(move || {
                run_padded(&worker, &Signals::default(), 45, 300 << 10, move |step| {
                    if step == 17 && !fill.exists() {
                        // Writes until nothing fits any more, then gives some of it back.
                        let _ = std::fs::write(&fill, vec![1; 4 << 20]);
                        let len = std::fs::metadata(&fill).unwrap().len();
                        let file = std::fs::OpenOptions::new().write(true).open(&fill).unwrap();
                        file.set_len(len.saturating_sub(left)).unwrap();
                    }
                    Ok(())
                })
            });
            let mut tail = run.tail();
            let mut seen: Vec<RunEvent> = Vec::new();
            let full =
                |seen: &[RunEvent]| seen.iter().any(|e| matches!(e, RunEvent::Found(f) if f.rule == "disk_full"));
            for _ in 0..4000 {
                seen.extend(tail.poll().unwrap().into_iter().map(|e| e.data.unwrap()));
                if full(&seen) || thread.is_finished() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            if full(&seen) && !thread.is_finished() {
                assert!(run.is_alive(), "{left}: it waits");
                std::fs::remove_file(&filler).unwrap();
            }
            thread.join().unwrap().unwrap_or_else(|e| panic!("{left} bytes left: {e}"));
            assert_eq!((hash_of(&run), tail.damage_count()), (want, 0), "{left} bytes left");
        });
    }
}
