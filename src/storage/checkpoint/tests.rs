//! Checkpoints under crashes and on a full disk, at every operation on their files.

use super::super::fault::plan::{Fault, disable, inject, pass, reset};
use super::*;
use rustix::io::Errno;

/// Writes a checkpoint of two files whose bytes identify the write.
fn save(dir: &Path, step: u64, write_id: u8) -> Result<CheckpointDir> {
    write(dir, step, |temp| {
        for name in ["model.safetensors", "trainer.json"] {
            let path = temp.join(name);
            pass("write")
                .and_then(|()| std::fs::write(&path, [write_id; 300]))
                .map_err(|e| Error::io("write", &path, e))?;
        }
        Ok(())
    })
}

/// As a run does it: write the checkpoint, mark it, prune the old ones.
fn save_and_prune(dir: &Path, step: u64, write_id: u8) -> Result<()> {
    save(dir, step, write_id)?;
    mark_best(dir, step)?;
    prune(dir, 1)
}

/// Steps 10 and 20, the latter the latest and the best.
fn earlier() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), 10, 1).unwrap();
    save(dir.path(), 20, 2).unwrap();
    mark_best(dir.path(), 20).unwrap();
    dir
}

/// The byte of a usable checkpoint, all from one write.
fn write_id(found: &CheckpointSearch) -> u8 {
    let path = &found.checkpoint.as_ref().unwrap_or_else(|| panic!("{:?}", found.passed_over)).path;
    let [a, b] = ["model.safetensors", "trainer.json"].map(|name| std::fs::read(path.join(name)).unwrap());
    assert!(a == b && a.len() == 300);
    a[0]
}

fn hidden(dir: &Path) -> Vec<String> {
    names(dir).unwrap().into_iter().filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_crash_at_any_operation_leaves_a_usable_checkpoint_as_latest_and_as_best() {
    for (step, exchange) in [(30, true), (20, true), (20, false)] {
        let mut crashes = 0;
        loop {
            let dir = earlier();
            let dir = dir.path();
            reset();
            if !exchange {
                disable("exchange", Errno::INVAL.raw_os_error());
            }
            inject(crashes, Fault::Crash);
            let done = save_and_prune(dir, step, 3);
            let passed = reset();
            let at = format!("step {step}, exchange {exchange}, stopped at {crashes} of {passed:?}");
            let latest = latest(dir).unwrap();
            assert!([2, 3].contains(&write_id(&latest)), "{at}");
            assert_eq!(latest.passed_over, Vec::<String>::new(), "{at}");
            assert!([2, 3].contains(&write_id(&best(dir))), "{at}");
            assert!(pointer(dir, "latest").is_some(), "{at}");
            // The next worker continues and cleans up.
            save_and_prune(dir, step, 4).unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!((write_id(&best(dir)), list(dir).unwrap().len()), (4, 1), "{at}");
            prune(dir, 1).unwrap();
            assert_eq!(hidden(dir), Vec::<String>::new(), "{at}");
            crashes += 1;
            if done.is_ok() {
                break;
            }
        }
        assert!(crashes > 12, "{crashes}");
    }
}

#[test]
fn a_full_disk_at_any_operation_is_reported_and_costs_no_checkpoint() {
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        for at in 0.. {
            let dir = earlier();
            let dir = dir.path();
            reset();
            inject(at, Fault::Once(errno.raw_os_error()));
            let done = save(dir, 20, 3).and_then(|_| mark_best(dir, 20));
            let passed = reset();
            if done.is_ok() && at >= passed.len() {
                break;
            }
            if let Err(e) = done {
                assert!(e.is_no_space(), "{e} at {at} of {passed:?}");
            }
            assert!([2, 3].contains(&write_id(&best(dir))));
            // There is space again.
            save(dir, 20, 3).unwrap();
            assert_eq!(write_id(&latest(dir).unwrap()), 3);
        }
    }
}

#[test]
fn leftovers_of_an_unfinished_checkpoint_get_into_no_other() {
    let dir = earlier();
    // As a crash leaves it where every worker has the same process id, as in containers.
    for ticket in 0..2000 {
        let left = dir.path().join(format!(".tmp-{}-{}-{ticket}", folder(30), std::process::id()));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("leftover.bin"), b"half").unwrap();
    }
    let written = save(dir.path(), 30, 3).unwrap();
    assert!(!written.path.join("leftover.bin").exists());
    assert_eq!(hidden(dir.path()), Vec::<String>::new());
}
