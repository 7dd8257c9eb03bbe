//! The real binary in a real terminal with injected faults: a slow, full or failing disk, a clock set back, a log that
//! blocks its reader. Every verdict reaches the log in the end.
//!
//! `faults.c` injects them and records what a process does to a folder. `faults/README.md` says what was found, and by which
//! commands.

#![cfg(target_os = "linux")]

mod disk;
mod full_disk;
mod kills;
mod kth;
mod power;
mod trace;

use crate::pty::session;
use crate::terminal::Pty;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tiebreak::storage::{Home, SessionDir};

/// The preloaded library that injects faults into disk and clock, built once.
fn library() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("faults.so");
        // The C compiler that links Rust programs.
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).args([source, "-ldl"]).status();
        assert!(built.unwrap().success(), "the C compiler cannot build {source}");
        (dir, library)
    });
    library
}

/// How many verdicts the screen acknowledges: its count of labelled pairs while it says that all are saved.
fn acknowledged(screen: &str) -> Option<usize> {
    let header = screen.lines().next().filter(|line| line.contains("✓ saved"))?;
    let words: Vec<&str> = header.split_whitespace().collect();
    let of = words.windows(3).find(|three| three[1] == "of" && three[2].parse::<usize>().is_ok())?;
    of[0].parse().ok()
}

/// A session on the labelling screen; a file controls the injected faults.
struct Bench {
    home: tempfile::TempDir,
    pty: Pty,
}

impl Bench {
    fn open(pairs: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        session(home.path(), "tone", pairs);
        let fault = home.path().join("fault");
        let env = [("LD_PRELOAD", library().as_os_str()), ("TIEBREAK_FAULT", fault.as_os_str())];
        let pty = Pty::with(home.path(), &["label", "tone"], (110, 24), &env);
        pty.wait("pair", |t| t.contains("question number 1") && t.contains("saved"));
        Self { home, pty }
    }

    /// Sets the injected fault.
    fn fault(&self, text: &str) {
        let new = self.home.path().join("fault.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.home.path().join("fault")).unwrap();
    }

    /// Labels `count` pairs, each as soon as it appears.
    fn judge(&mut self, from: usize, count: usize) {
        for i in from..from + count {
            self.pty
                .wait("pair", |t| t.contains(&format!("question number {i}\n")) || t.contains(&format!("number {i} ")));
            loop {
                // A key within 250 ms counts as auto-repeat; a busy machine may deliver it late.
                std::thread::sleep(Duration::from_millis(300));
                self.pty.keys("1");
                self.pty.wait("answer to the key", |t| t.contains(&format!(" {i} of ")) || t.contains("not taken"));
                if self.pty.text().contains(&format!(" {i} of ")) {
                    break;
                }
            }
        }
    }

    fn dir(&self) -> SessionDir {
        SessionDir::find(&Home::resolve(Some(self.home.path())).unwrap(), "tone").unwrap()
    }

    /// The number of labelled pairs in the log, and of skipped lines.
    fn kept(&self) -> (usize, usize) {
        let (state, found) = self.dir().state().unwrap();
        (state.verdicts().filter(|(_, j)| !j.undone).count(), found.damage() as usize)
    }
}

#[test]
fn a_signal_or_a_hang_up_while_the_disk_is_slow_loses_no_verdict() {
    for end in [Some(Signal::TERM), Some(Signal::HUP), None] {
        let mut bench = Bench::open(20);
        bench.fault("sync_delay 2500\n");
        bench.judge(1, 8);
        // Undoes a verdict without a sequence number yet.
        bench.pty.keys("u");
        bench.pty.wait("undone verdict", |t| t.contains(" 7 of "));
        match end {
            Some(signal) => bench.pty.signal(signal),
            None => bench.pty.hang_up(),
        }
        let (took, _) = bench.pty.ended();
        assert!(took < Duration::from_secs(9), "{end:?}: {took:?}");
        assert_eq!(bench.kept(), (7, 0), "{end:?}: every verdict and the undo are in the log");
    }
}

#[test]
fn quitting_waits_at_most_five_seconds_for_a_blocked_disk() {
    let mut bench = Bench::open(3);
    bench.fault("sync_delay 60000\n");
    bench.judge(1, 1);
    bench.pty.signal(Signal::TERM);
    let (took, _) = bench.pty.ended();
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&took), "{took:?}");
}

#[test]
fn a_full_disk_and_a_failed_fsync_are_retried_automatically() {
    for fault in ["full 1\n", "sync_error 3\n"] {
        let mut bench = Bench::open(20);
        bench.judge(1, 2);
        bench.pty.wait("saved", |t| t.contains("✓ saved"));
        bench.fault(fault);
        bench.judge(3, 2);
        bench
            .pty
            .wait("header that names the next try", |t| t.contains("NOT SAVED, next try in") && t.contains("ctrl-s"));
        bench.judge(5, 1);
        bench.fault("");
        // No key is pressed.
        let took = bench.pty.wait("saved by itself", |t| t.contains("✓ saved") && t.contains(" 5 of "));
        assert!(took < Duration::from_secs(20), "{fault}: {took:?}");
        bench.judge(6, 1);
        bench.pty.wait("saved", |t| t.contains("✓ saved") && t.contains(" 6 of "));
        bench.pty.keys("q");
        assert_eq!(bench.pty.ended().1, 0, "{fault}");
        assert_eq!(bench.kept(), (6, 0), "{fault}: nothing is lost and nothing is there twice");
        let judged = bench.dir().tail().poll().unwrap();
        let judged = judged.iter().filter(|e| matches!(e.known(), Some(tiebreak::protocol::SessionRecord::Judged(_))));
        assert_eq!(judged.count(), 6, "{fault}: no record twice");
    }
}

#[test]
fn a_clock_set_back_blocks_no_key() {
    let mut bench = Bench::open(10);
    bench.judge(1, 1);
    bench.fault("clock -3600000\n");
    bench.judge(2, 4);
    bench.pty.wait("saved", |t| t.contains("✓ saved"));
    bench.pty.keys("q");
    bench.pty.ended();
    assert_eq!(bench.kept(), (5, 0));
}

#[test]
fn planning_that_never_ends_blocks_no_verdict() {
    let mut bench = Bench::open(10);
    bench.judge(1, 2);
    // The log of this sampling run is a pipe without a writer: folding the whole session blocks forever.
    let run = bench.dir().path().join("runs/sample-1");
    fs::create_dir_all(run.join("metrics")).unwrap();
    let pipe = run.join("metrics/000001.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let spec = crate::support::sampling("sample-1");
    fs::write(run.join("spec.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    // The launch screen asks for an estimate.
    bench.pty.keys("t");
    bench.pty.wait("launch screen", |t| t.contains("learning_rate"));
    std::thread::sleep(Duration::from_secs(2));
    bench.pty.keys("\x1b");
    bench.judge(3, 2);
    let start = Instant::now();
    bench.pty.wait("saved", |t| t.contains("✓ saved") && t.contains(" 4 of "));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    bench.pty.signal(Signal::TERM);
    bench.pty.ended();
    fs::remove_dir_all(run).unwrap();
    assert_eq!(bench.kept().0, 4);
}
