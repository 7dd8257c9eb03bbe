//! Whether the system killed a run's worker for lack of memory: the kernel's count of such kills, recorded while the worker lives.
//!
//! Owns `oom.json` of a run's folder, which exists as long as the run goes on or is lost. Refuses a record of another boot, whose
//! counts say nothing, and a guess where the system does not count (macOS): then the cause stays unknown.

use super::files::{read_json, replace};
use super::run::RunDir;
use crate::foreign;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Most bytes of a file of the kernel.
const MOST: u64 = 64 << 10;

/// The kernel's counts of processes killed for lack of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OomRecord {
    /// The boot in which they count.
    boot: String,
    /// The control group of the worker; its count goes first.
    group: String,
    /// Those of the control group; none where it has no count.
    of_group: Option<u64>,
    /// Those of the whole machine.
    of_machine: Option<u64>,
}

impl OomRecord {
    /// The counts now, for a process in that control group. `root` is the root of the file system.
    fn now(root: &Path, group: &str) -> Option<Self> {
        let boot = text(&root.join("proc/sys/kernel/random/boot_id"))?.trim().to_owned();
        let of_group = group_files(root, group).iter().find_map(|file| count(&text(file)?));
        let of_machine = text(&root.join("proc/vmstat")).and_then(|text| count(&text));
        (of_group.is_some() || of_machine.is_some()).then(|| Self { boot, group: group.into(), of_group, of_machine })
    }

    /// How many processes were killed since: of the control group, or of the machine where the group is gone. None while unknown.
    fn kills_since(&self, root: &Path) -> Option<u64> {
        let now = Self::now(root, &self.group).filter(|now| now.boot == self.boot)?;
        let more = |then: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(then?));
        more(self.of_group, now.of_group).or_else(|| more(self.of_machine, now.of_machine))
    }
}

/// The files with a control group's count: of cgroup v2 and v1.
fn group_files(root: &Path, group: &str) -> Vec<PathBuf> {
    // A record of a stranger names no other place.
    let parts: Vec<&str> = group.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Vec::new();
    }
    let below = parts.join("/");
    let place = |mount: &str, file: &str| root.join("sys/fs/cgroup").join(mount).join(&below).join(file);
    vec![place("", "memory.events"), place("memory", "memory.oom_control")]
}

/// This process's control group for memory, as `/proc/self/cgroup` has it: that of v1 where memory has one, else that of v2.
fn own_group(text: &str) -> &str {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let v1 = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    v1.or_else(|| lines().find(|(controllers, _)| controllers.is_empty())).map_or("", |(_, path)| path)
}

/// The number after `oom_kill`.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn text(path: &Path) -> Option<String> {
    foreign::read_text(path, MOST).ok()
}

/// Keeps a run's record up to date while its worker lives.
#[derive(Debug)]
pub struct OomWatch {
    path: PathBuf,
    written: Option<OomRecord>,
}

impl OomWatch {
    /// Records the counts now.
    #[must_use]
    pub fn begin(run: &RunDir) -> Self {
        let mut watch = Self { path: record_of(run), written: None };
        watch.refresh();
        watch
    }

    /// Records the counts again if they changed: another process was killed, and this one goes on. Without a record the cause of a
    /// loss stays unknown, so a failure is no error.
    pub fn refresh(&mut self) {
        let group = text(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let Some(now) = OomRecord::now(Path::new("/"), own_group(&group)) else { return };
        if self.written.as_ref() != Some(&now)
            && let Ok(bytes) = serde_json::to_vec(&now)
            && replace(&self.path, &bytes, false).is_ok()
        {
            self.written = Some(now);
        }
    }
}

impl Drop for OomWatch {
    /// The worker ends in an orderly way.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn record_of(run: &RunDir) -> PathBuf {
    run.path().join("oom.json")
}

impl RunDir {
    /// How many processes of its last worker's control group the system has killed for lack of memory since that worker last
    /// looked, at most two seconds before its end; of the whole machine where the group has no count. 0 where it ended in an orderly
    /// way, or nothing is known.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.oom_kills_under(Path::new("/"))
    }

    fn oom_kills_under(&self, root: &Path) -> u64 {
        let path = record_of(self);
        if !path.exists() {
            return 0;
        }
        let record: Option<OomRecord> = read_json(&path, "the counts of processes killed for lack of memory").ok();
        record.and_then(|record| record.kills_since(root)).unwrap_or(0)
    }

    /// Forgets the record, once it was used.
    pub fn forget_oom(&self) {
        let _ = std::fs::remove_file(record_of(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A file system with counts of the kernel.
    struct Kernel(tempfile::TempDir);

    impl Kernel {
        fn new() -> Self {
            let kernel = Self(tempfile::tempdir().unwrap());
            kernel.put("proc/sys/kernel/random/boot_id", "boot-1\n");
            kernel.put("proc/vmstat", "nr_free_pages 9\noom_kill 4\n");
            kernel
        }

        fn put(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn now(&self, group: &str) -> OomRecord {
            OomRecord::now(self.0.path(), group).unwrap()
        }
    }

    #[test]
    fn the_group_of_memory_is_found_in_both_versions() {
        assert_eq!(own_group("0::/user.slice/session-2.scope\n"), "/user.slice/session-2.scope");
        assert_eq!(own_group("9:name=systemd:/\n4:cpu,memory:/a b/c:d\n0::/\n"), "/a b/c:d");
        assert_eq!(own_group(""), "");
    }

    #[test]
    fn the_counts_of_the_group_decide_and_then_those_of_the_machine() {
        for (file, text) in [
            ("sys/fs/cgroup/a/memory.events", "oom 7\noom_kill 1\noom_group_kill 0\n"),
            ("sys/fs/cgroup/memory/a/memory.oom_control", "under_oom 0\noom_kill 1\n"),
        ] {
            let kernel = Kernel::new();
            kernel.put(file, text);
            let record = kernel.now("/a");
            assert_eq!(record.of_group, Some(1), "{file}");
            // Another group's process.
            kernel.put("proc/vmstat", "oom_kill 6\n");
            assert_eq!(record.kills_since(kernel.0.path()), Some(0), "{file}");
            kernel.put(file, &text.replace("oom_kill 1", "oom_kill 2"));
            assert_eq!(record.kills_since(kernel.0.path()), Some(1), "{file}");
            // A session's group goes with its last process.
            fs::remove_file(kernel.0.path().join(file)).unwrap();
            assert_eq!(record.kills_since(kernel.0.path()), Some(2), "{file}");
            kernel.put("proc/sys/kernel/random/boot_id", "boot-2\n");
            assert_eq!(record.kills_since(kernel.0.path()), None, "{file}");
        }
    }

    #[test]
    fn a_record_names_no_place_outside() {
        let kernel = Kernel::new();
        kernel.put("sys/memory.events", "oom_kill 8\n");
        assert_eq!(kernel.now("/../").of_group, None);
        assert_eq!(kernel.now("/a/../../").of_group, None);
    }

    #[test]
    fn a_run_has_a_record_while_it_goes_on_and_none_afterwards() {
        let session = tempfile::tempdir().unwrap();
        let path = session.path().join("runs/dpo-1");
        for part in ["metrics", "ctl", "ckpt"] {
            fs::create_dir_all(path.join(part)).unwrap();
        }
        fs::write(path.join("spec.json"), "{}").unwrap();
        let run = RunDir::open(&path).unwrap();
        assert_eq!(run.oom_kills(), 0);
        let watch = OomWatch::begin(&run);
        assert_eq!(run.oom_kills(), 0);
        drop(watch);
        assert!(!record_of(&run).exists());
        let kernel = Kernel::new();
        let record = OomRecord { of_machine: Some(3), ..kernel.now("") };
        for (text, kills) in [
            (serde_json::to_string(&record).unwrap(), 1),
            (serde_json::to_string(&kernel.now("")).unwrap(), 0),
            ("{\"boot\":1}".into(), 0),
            (String::new(), 0),
        ] {
            fs::write(record_of(&run), &text).unwrap();
            assert_eq!(run.oom_kills_under(kernel.0.path()), kills, "{text}");
        }
        run.forget_oom();
        assert_eq!(run.oom_kills_under(kernel.0.path()), 0);
    }
}
