//! The life of a run, with a deterministic toy in the place of the engine.

use super::drive::{Did, Saving, Work};
use super::error::Error;
use super::log::Log;
use super::process::Signals;
use super::run::{OpenWork, Prepared, live};
use crate::domain::{Metrics, Params, RunId, mix64};
use crate::model;
use crate::model::Sink;
use crate::protocol::{DataSnapshot, ModelRef, RunCommand, RunEvent, RunSpec, SessionMeta, Task, TrainSpec};
use crate::storage::{Checkpoint, Home, RunDir, SessionDir, sha256};
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Numbers that a step changes by a rule of their own: resuming is right when they come out the same.
struct Toy {
    numbers: Vec<u64>,
    step: u64,
    total: u64,
    /// The step that turns out to be the best.
    best: Option<u64>,
    /// Called before each step.
    before: Box<dyn FnMut(u64) -> Result<(), model::Error>>,
}

impl Toy {
    fn open(
        total: u64,
        from: Option<&Checkpoint>,
        before: impl FnMut(u64) -> Result<(), model::Error> + 'static,
    ) -> Self {
        let mut toy =
            Self { numbers: (0..64).map(mix64).collect(), step: 0, total, best: None, before: Box::new(before) };
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

impl Work for Toy {
    fn step(&mut self, log: &mut Log) -> Result<Did, model::Error> {
        if self.step == self.total {
            return Ok(Did::Nothing);
        }
        (self.before)(self.step)?;
        self.step += 1;
        for n in &mut self.numbers {
            *n = mix64(*n ^ self.step);
        }
        let mut metrics = Metrics::new();
        metrics.set("loss", 1.0 / self.step as f64);
        log.emit(RunEvent::Stepped { step: self.step, epoch: 0.0, metrics })?;
        Ok(Did::Step)
    }
    fn done(&self) -> u64 {
        self.step
    }
    fn save(&mut self, dir: &Path) -> Result<(), model::Error> {
        std::fs::write(dir.join("toy.bin"), self.bytes()).map_err(|e| model::Error::file(dir, e))
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
    };
    session.create_run(&spec, b"").unwrap()
}

fn go(
    run: &RunDir,
    signals: &Signals,
    total: u64,
    before: impl FnMut(u64) -> Result<(), model::Error> + Clone + 'static,
) -> Result<(), Error> {
    live(run, signals, &move |_, _| {
        let before = before.clone();
        let open: OpenWork = Box::new(move |_, from, _| Ok(Box::new(Toy::open(total, from, before))));
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
fn a_run_goes_to_its_end_and_keeps_two_checkpoints() {
    let (_dir, run) = new_run();
    go(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
    let steps: Vec<u64> = run.checkpoints().unwrap().iter().map(|c| c.step).collect();
    assert_eq!(steps, [40, 45]);
    let seen = events(&run);
    assert!(matches!(seen[0], RunEvent::Started { attempt: 1, from_step: None, .. }));
    assert_eq!(seen.iter().filter(|e| matches!(e, RunEvent::Stepped { .. })).count(), 45);
    assert!(!run.is_alive() && !run.path().join("reserve").exists());
    // A second worker on a finished run has nothing to do.
    go(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert_eq!(events(&run).len(), seen.len());
}

#[test]
fn a_run_resumed_after_an_error_and_a_panic_ends_with_the_same_numbers() {
    let (_dir, whole) = new_run();
    go(&whole, &Signals::default(), 45, |_| Ok(())).unwrap();
    let (_dir2, run) = new_run();
    let failed = go(&run, &Signals::default(), 45, |step| match step {
        23 => Err(model::Error::Asked("the loss is not a number at step 24, pair i7: lower the learning rate".into())),
        _ => Ok(()),
    });
    assert!(failed.is_err());
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, 20, "nothing is written after a failed step");
    let Some(RunEvent::Failed { step: 23, error }) = events(&run).last().cloned() else {
        panic!("{:?}", events(&run).last())
    };
    assert!(error.contains("pair i7"));
    let panicked =
        go(&run, &Signals::default(), 45, |step| if step == 31 { panic!("index out of bounds") } else { Ok(()) });
    assert!(panicked.is_err());
    let Some(RunEvent::Failed { step: 31, error }) = events(&run).last().cloned() else {
        panic!("{:?}", events(&run).last())
    };
    assert!(error.contains("index out of bounds"), "{error}");
    go(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
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
fn the_best_step_is_a_checkpoint_of_its_own_that_stays() {
    let (_dir, run) = new_run();
    let run_to = |last: u64| {
        live(&run, &Signals::default(), &move |_, _| {
            let before = move |step| if step == last { Err(model::Error::Asked("enough".into())) } else { Ok(()) };
            let open: OpenWork =
                Box::new(move |_, from, _| Ok(Box::new(Toy { best: Some(17), ..Toy::open(45, from, before) })));
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
fn a_damaged_checkpoint_is_passed_over_and_said_so() {
    let (_dir, run) = new_run();
    let _ = go(&run, &Signals::default(), 45, |step| if step == 33 { panic!("stop here") } else { Ok(()) });
    let newest = run.latest_checkpoint().unwrap().checkpoint.unwrap();
    let file = newest.path.join("toy.bin");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    go(&run, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert!(events(&run).iter().any(|e| matches!(e, RunEvent::Started { attempt: 2, from_step: Some(20), .. })));
    assert!(events(&run).iter().any(|e| matches!(e, RunEvent::Found(f) if f.rule == "checkpoint_damaged")));
    let (_dir2, whole) = new_run();
    go(&whole, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert_eq!(hash_of(&run), hash_of(&whole));
}

#[test]
fn orders_are_obeyed_in_order_and_while_paused() {
    let (_dir, run) = new_run();
    let poster = run.clone();
    let worker = run.clone();
    let thread = std::thread::spawn(move || {
        go(&worker, &Signals::default(), 1000, move |step| {
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
fn sigterm_means_checkpoint_and_end() {
    let (_dir, run) = new_run();
    let signals = Signals::default();
    let end = signals.clone();
    go(&run, &signals, 1000, move |step| {
        if step == 12 {
            end.end();
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(events(&run).last(), Some(&RunEvent::Stopped { step: 13 }));
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, 13);
}

#[test]
fn on_a_full_disk_the_run_waits_says_so_and_goes_on() {
    let disk = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"];
    if !Command::new("mount").args(mount).arg(disk.path()).output().is_ok_and(|o| o.status.success()) {
        println!("skipped: mounting a small disk takes root");
        return;
    }
    let tried = catch_unwind(|| {
        let run = run_in(disk.path());
        let filler = disk.path().join("filler");
        let fill = filler.clone();
        let worker = run.clone();
        let thread = std::thread::spawn(move || {
            go(&worker, &Signals::default(), 45, move |step| {
                if step == 17 && !fill.exists() {
                    // Writes until nothing fits any more.
                    let _ = std::fs::write(&fill, vec![1; 4 << 20]);
                }
                Ok(())
            })
        });
        let mut tail = run.tail();
        let mut seen: Vec<RunEvent> = Vec::new();
        for _ in 0..4000 {
            seen.extend(tail.poll().unwrap().into_iter().map(|e| e.data.unwrap()));
            if seen.iter().any(|e| matches!(e, RunEvent::Found(f) if f.rule == "disk_full")) || thread.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!thread.is_finished() && run.is_alive(), "it waits: {:?}", seen.last());
        std::fs::remove_file(&filler).unwrap();
        thread.join().unwrap().unwrap();
        (hash_of(&run), tail.skipped())
    });
    assert!(Command::new("umount").arg(disk.path()).status().unwrap().success());
    let (_dir, whole) = new_run();
    go(&whole, &Signals::default(), 45, |_| Ok(())).unwrap();
    assert_eq!(tried.unwrap(), (hash_of(&whole), 0));
}
