//! A disk that is full at any one change: what a command began is gone again, and what it finished is whole.

use super::{library, trace};
use crate::cli::{json, text, with_pairs};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Linux's number of "no space left on device".
const FULL: i32 = 28;

/// Every file and folder below one.
fn below(dir: &Path) -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        out.insert(entry.path());
        if entry.file_type().unwrap().is_dir() {
            out.extend(below(&entry.path()));
        }
    }
    out
}

/// Each file with its size.
fn sizes(paths: &BTreeSet<PathBuf>) -> Vec<(PathBuf, u64)> {
    let files = paths.iter().filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::metadata(path).unwrap().len())).collect()
}

/// Runs a command whose K-th change below `root` finds the disk full. Whether that change came.
fn full_at(k: usize, home: &Path, root: &Path, args: &[&str]) -> (bool, Output) {
    let beside = tempfile::tempdir().unwrap();
    let (control, recorded) = (beside.path().join("fault"), beside.path().join("trace"));
    fs::write(&control, format!("fail {k} {FULL}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(args).env("TIEBREAK_HOME", home).env("LD_PRELOAD", library()).env("TIEBREAK_FAULT", &control);
    command.env("TIEBREAK_FAULT_ROOT", root).env("TIEBREAK_FAULT_TRACE", &recorded);
    let output = command.output().unwrap();
    (trace::struck(&trace::read(&recorded, root)), output)
}

#[test]
fn a_result_on_a_full_disk_is_whole_or_not_there() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    json(home, &["models", "--json"]);
    let set = ["--set", "max_steps=2", "--set", "eval_fraction=0"];
    let trained = Command::new(env!("CARGO_BIN_EXE_tiebreak"))
        .args(["train", "tone", "dpo"])
        .args(set)
        .env("TIEBREAK_HOME", home)
        .output()
        .unwrap();
    assert!(trained.status.success(), "{}", text(&trained.stderr));
    let out = home.join("out");
    fs::create_dir(&out).unwrap();
    let to = |name: &str| out.join(name).display().to_string();
    let mut commands: Vec<Vec<String>> = vec![
        vec!["export".into(), "tone".into(), "--to".into(), to("rows.jsonl")],
        vec!["pack".into(), "tone".into(), "--to".into(), to("tone.tbz")],
        vec!["merge".into(), "tone/dpo-1".into(), "--to".into(), to("merged")],
        vec!["merge".into(), "tone/dpo-1".into(), "--format".into(), "peft".into(), "--to".into(), to("adapter")],
        vec!["merge".into(), "tone/dpo-1".into(), "--format".into(), "gguf".into(), "--to".into(), to("merged.gguf")],
    ];
    for kind in ["md", "html", "svg", "csv", "json"] {
        commands.push(vec!["report".into(), "tone/dpo-1".into(), "--to".into(), to(&format!("run.{kind}"))]);
    }
    for command in commands {
        let args: Vec<&str> = command.iter().map(String::as_str).collect();
        let (_, output) = full_at(usize::MAX >> 8, home, &out, &args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        let whole = sizes(&below(&out));
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(&out).unwrap();
        let (mut struck, mut failed) = (0, 0);
        for k in 1.. {
            let (came, output) = full_at(k, home, &out, &args);
            let said = text(&output.stderr);
            let left = below(&out);
            if output.status.success() {
                assert!(!left.is_empty(), "{args:?}, change {k}: nothing was written: {said}");
                let broken = left.iter().filter(|path| path.is_file() && fs::metadata(path).unwrap().len() == 0);
                assert_eq!(broken.collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "{args:?}, change {k}");
                let hidden = left.iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('.'));
                assert_eq!(hidden.collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "{args:?}, change {k}");
            } else {
                failed += 1;
                // The last change makes the name durable: then the result is there, and whole.
                assert!(left.is_empty() || sizes(&left) == whole, "{args:?}, change {k} left {left:?}: {said}");
                let last = said.trim_end().lines().next_back().unwrap_or_default();
                assert!(last.contains("pace"), "{args:?}, change {k}: the cause is not named: {said}");
            }
            fs::remove_dir_all(&out).unwrap();
            fs::create_dir(&out).unwrap();
            if !came {
                break;
            }
            struck += 1;
        }
        assert!(struck >= 2 && failed >= 1, "{args:?}: {struck} changes, {failed} failed");
    }
}

#[test]
fn a_full_disk_leaves_no_temporary_file_in_the_data_folder() {
    let pairs = tempfile::tempdir().unwrap();
    let rows = pairs.path().join("more.jsonl");
    fs::write(&rows, "{\"prompt\":\"q3\",\"chosen\":\"good\",\"rejected\":\"bad\"}\n").unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    let model = model.to_str().unwrap();
    let commands: [&[&str]; 3] = [
        &["new", "other", "--model", model],
        &["import", "tone", rows.to_str().unwrap()],
        &["unpack", "tone.tbz", "--as", "copy"],
    ];
    for args in commands {
        let mut struck = 0;
        for k in 1.. {
            let home = tempfile::tempdir().unwrap();
            let home = home.path();
            with_pairs(home);
            let packed = pairs.path().join("tone.tbz").display().to_string();
            if !Path::new(&packed).exists() {
                json(home, &["pack", "tone", "--to", &packed, "--json"]);
            }
            let args: Vec<&str> =
                args.iter().map(|arg| if *arg == "tone.tbz" { packed.as_str() } else { arg }).collect();
            let (came, output) = full_at(k, home, home, &args);
            let left = below(home);
            let temporary = left.iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".tmp-"));
            let said = text(&output.stderr);
            assert_eq!(temporary.collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "{args:?}, change {k}: {said}");
            if !came {
                assert!(output.status.success(), "{args:?}: {said}");
                break;
            }
            struck += 1;
        }
        assert!(struck >= 2, "{args:?}: {struck}");
    }
}
