//! A worker that was killed: for lack of memory where the kernel says so, else without a word.

use crate::cli::{text, tiebreak, with_pairs};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tiebreak::domain::RunStatus;
use tiebreak::protocol::RunEvent;
use tiebreak::storage::{Home, RunDir, SessionDir};

/// A control group of its own, whose memory this test limits.
struct Group {
    path: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl Group {
    /// None where this user or this machine has none to give.
    fn new() -> Option<Self> {
        let name = format!("tiebreak-test-{}", std::process::id());
        let roots = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ];
        roots.into_iter().find_map(|(root, limit, usage)| {
            let path = Path::new(root).join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self { path, limit, usage };
            group.path.join(limit).exists().then_some(group)
        })
    }

    /// Takes a process in.
    fn take(&self, pid: u32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Leaves little room above what is in use, and fills it by another process; the kernel kills the largest one.
    fn fill(&self) -> Child {
        let used: u64 = fs::read_to_string(self.path.join(self.usage)).unwrap().trim().parse().unwrap();
        fs::write(self.path.join(self.limit), (used + (8 << 20)).to_string()).unwrap();
        let line = "echo $$ > \"$0\"; head -c 200000000 /dev/zero | tail -c 200000000";
        let procs = self.path.join("cgroup.procs");
        Command::new("sh").args(["-c", line]).arg(procs).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Waits until `done` gives something.
fn soon<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const TRAIN: [&str; 7] = ["train", "tone", "dpo", "--set", "max_steps=1000000", "--set", "eval_fraction=0"];

/// The run of [`TRAIN`], once it has made steps.
fn stepping(home: &Path) -> RunDir {
    let dir = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "tone").unwrap();
    soon("a step", || {
        let run = dir.runs().ok()?.pop()?;
        let stepped = crate::worker::events(&run).iter().any(|event| matches!(event, RunEvent::Stepped { .. }));
        stepped.then_some(run)
    })
}

#[test]
fn a_worker_killed_for_lack_of_memory_fails_with_the_remedy() {
    let Some(group) = Group::new() else {
        eprintln!("skipped: no control group for memory can be made here (that takes root and Linux)");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(TRAIN).env("TIEBREAK_HOME", home);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let run = stepping(home);
    // Only the worker, which notes the count of its group at its next look.
    group.take(run.holder().unwrap().pid);
    let name = group.path.file_name().unwrap().to_str().unwrap().to_owned();
    let record = run.path().join("oom.json");
    soon("the record", || fs::read_to_string(&record).ok().filter(|text| text.contains(&name)));
    let mut filler = group.fill();
    soon("the worker's end", || (!run.is_alive()).then_some(()));
    let out = child.wait_with_output().unwrap();
    let _ = filler.kill();
    filler.wait().unwrap();
    let said = text(&out.stderr);
    let last = said.trim_end().lines().next_back().unwrap_or_default();
    assert!(last.contains("failed at step") && last.contains("Out of memory: the system killed"), "{said}");
    assert!(last.contains("Lower per_device_train_batch_size"), "{said}");
    let events = crate::worker::events(&run);
    let [.., RunEvent::Found(finding), RunEvent::Failed { error, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(finding.rule, "memory_full");
    assert!(error.contains(&finding.text) && !run.path().join("oom.json").exists(), "{error}");
    // What is listed says the same, and the run can go on with more memory.
    let listed = text(&tiebreak(home, &["runs", "tone"]).stdout);
    assert!(listed.contains("failed") && listed.contains("Out of memory"), "{listed}");
}

#[test]
fn a_worker_that_somebody_killed_ended_without_a_word() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    let child = command.args(TRAIN).env("TIEBREAK_HOME", home).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    let run = stepping(home);
    kill_process(Pid::from_raw(run.holder().unwrap().pid as i32).unwrap(), Signal::KILL).unwrap();
    let said = text(&child.wait_with_output().unwrap().stderr);
    let known = "its worker ended without a word (killed, out of memory, or a power loss); `tiebreak resume";
    assert!(said.contains("was lost at step") && said.contains(known), "{said}");
    let events = crate::worker::events(&run);
    assert!(!events.iter().any(|event| matches!(event, RunEvent::Failed { .. })), "{events:?}");
    let listed = text(&tiebreak(home, &["runs", "tone"]).stdout);
    assert!(listed.contains(RunStatus::Lost.word()), "{listed}");
}
