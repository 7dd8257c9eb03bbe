//! Output files and private files: links, pipes and standard output as targets, modes under every umask, leftovers of
//! killed processes, a program file replaced while it runs.

use crate::cli::{json, text, tiebreak, with_pairs};
use crate::pty::session;
use crate::terminal::{BINARY, Pty};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use tiebreak::storage::{Home, SessionDir};

/// The number of lines.
fn rows(text: &str) -> usize {
    text.lines().filter(|line| line.contains("\"chosen\"")).count()
}

#[test]
fn results_replace_only_regular_files_and_are_written_into_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    with_pairs(home);
    for command in ["export", "report"] {
        let place = |name: &str| home.join(format!("{command}-{name}.md"));
        let write = |to: &Path| {
            let output = tiebreak(home, &[command, "tone", "--to", to.to_str().unwrap()]);
            assert!(output.status.success(), "{command} {}: {}", to.display(), text(&output.stderr));
            output
        };
        write(&place("plain"));
        let expected = fs::read_to_string(place("plain")).unwrap();
        assert!(expected.len() > 40, "{expected}");
        // The target of a link is replaced or created; the link stays.
        for there in [true, false] {
            let (link, file) = (place(&format!("link-{there}")), place(&format!("file-{there}")));
            if there {
                fs::write(&file, "old and much longer than what comes now\n".repeat(2000)).unwrap();
            }
            symlink(&file, &link).unwrap();
            write(&link);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{command}: the link is gone");
            assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        }
        // A pipe is written into.
        let pipe = place("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let from = pipe.clone();
        let reader = std::thread::spawn(move || fs::read_to_string(from).unwrap());
        let output = write(&pipe);
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{command}: the pipe is gone");
        assert_eq!(reader.join().unwrap(), expected);
        assert!(output.stdout.is_empty(), "the line about it is on standard error");
        // A folder is refused.
        fs::create_dir(place("folder")).unwrap();
        let output = tiebreak(home, &[command, "tone", "--to", place("folder").to_str().unwrap()]);
        assert!(text(&output.stderr).contains("it is a folder"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_dash_is_standard_output_without_other_text() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    with_pairs(home);
    let plain = home.join("plain.jsonl");
    tiebreak(home, &["export", "tone", "--to", plain.to_str().unwrap()]);
    let expected = fs::read_to_string(&plain).unwrap();
    assert_eq!(rows(&expected), 2);
    for args in [&["--to", "-"][..], &["--to", "/dev/stdout"], &["--to", "-", "--json"]] {
        let output = tiebreak(home, &[&["export", "tone"], args].concat());
        assert_eq!(text(&output.stdout), expected, "{args:?}");
        assert!(text(&output.stderr).contains('2'), "{args:?}");
    }
    let report = tiebreak(home, &["report", "tone", "--to", "-"]);
    assert!(text(&report.stdout).contains("tone") && report.status.success(), "{}", text(&report.stdout));
    // A redirected file is not replaced: its earlier content stays.
    let kept = home.join("kept.txt");
    let script = "exec >>\"$1\"; echo before; \"$0\" export tone --to /dev/stdout 2>/dev/null; echo after";
    let run = Command::new("sh").args(["-c", script, BINARY]).arg(&kept).env("TIEBREAK_HOME", home).status().unwrap();
    assert!(run.success());
    assert_eq!(fs::read_to_string(&kept).unwrap(), format!("before\n{expected}after\n"));
}

/// Every file and folder below `root` with its mode.
fn modes(root: &Path, out: &mut Vec<(String, u32)>) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        out.push((entry.path().display().to_string(), meta.permissions().mode() & 0o777));
        if meta.is_dir() {
            modes(&entry.path(), out);
        }
    }
}

#[test]
fn files_with_texts_are_private_and_usable_with_any_umask() {
    for umask in ["000", "022", "0777"] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(dir.path().join("pairs.jsonl"), "{\"prompt\":\"q\",\"chosen\":\"good\",\"rejected\":\"bad\"}\n")
            .unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        let script = format!(
            "set -e; umask {umask}; \"$0\" new tone --model {}; \"$0\" import tone {}; \"$0\" export tone --to {home}/out.jsonl; \
             \"$0\" report tone --to {home}/out.md; \
             \"$0\" train tone dpo --set max_steps=1 --set eval_fraction=0 --set per_device_train_batch_size=1",
            model.display(),
            dir.path().join("pairs.jsonl").display(),
            home = home.display(),
        );
        let run = Command::new("sh").args(["-c", &script, BINARY]).env("TIEBREAK_HOME", &home).output().unwrap();
        assert!(run.status.success(), "umask {umask}: {}", text(&run.stderr));
        let mut all = Vec::new();
        modes(&home, &mut all);
        assert!(all.iter().any(|(path, _)| path.ends_with("/cache")), "{all:?}");
        assert!(all.iter().any(|(path, _)| path.contains("/ckpt/step-")), "{all:?}");
        let open: Vec<_> = all.iter().filter(|(_, mode)| mode & 0o077 != 0 || mode & 0o600 != 0o600).collect();
        assert!(open.is_empty(), "umask {umask}: {open:?}");
    }
}

#[test]
fn a_data_folder_that_others_may_write_to_is_named_and_opens() {
    let dir = tempfile::tempdir().unwrap();
    with_pairs(dir.path());
    let said = |mode| {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let output = tiebreak(dir.path(), &["runs", "tone"]);
        assert!(output.status.success());
        text(&output.stderr)
    };
    assert_eq!(said(0o750), said(0o700));
    for (mode, who, remedy) in [
        (0o770, "its group", "g-w"),
        (0o702, "every user of this machine", "o-w"),
        (0o777, "its group and every user of this machine", "go-w"),
    ] {
        let root = dir.path().display();
        let sentence = format!("{root} can be written by {who} (mode {mode:03o}): run `chmod {remedy} {root}`");
        assert_eq!(said(mode).lines().filter(|line| **line == sentence).count(), 1, "{}", said(mode));
        assert_eq!(crate::cli::json(dir.path(), &["doctor", "--json"])["data_folder_problem"], sentence.as_str());
        let pty = Pty::sized(dir.path(), &["label", "tone"], 200, 24);
        pty.wait("warning at opening", |text| text.contains(&format!("can be written by {who} (mode {mode:03o})")));
    }
}

#[test]
fn leftovers_of_killed_processes_are_removed_but_not_those_of_living_ones() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    with_pairs(home);
    let session = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "tone").unwrap();
    let old = SystemTime::now() - Duration::from_hours(2);
    let places = [session.path().join("events"), session.path().join("runs"), session.path().to_owned()];
    let mut gone = Vec::new();
    for place in &places {
        // Also names of earlier versions, with the process id of a container's first process.
        let (file, folder) = (place.join(".tmp-replace-1-0"), place.join(".tmp-dpo-1-1-0"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("spec.json"), "{}").unwrap();
        fs::write(&file, "{}").unwrap();
        for path in [&file, &folder] {
            fs::File::open(path).unwrap().set_modified(old).unwrap();
        }
        fs::write(place.join(".tmp-live"), "").unwrap();
        gone.extend([file, folder]);
    }
    let more = home.join("more.txt");
    fs::write(&more, "another question\n").unwrap();
    json(home, &["import", "tone", more.to_str().unwrap(), "--json"]);
    let left: Vec<_> = gone.iter().filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(places.iter().all(|place| place.join(".tmp-live").exists()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_worker_starts_after_the_program_file_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    session(&home, "tone", 3);
    let program = dir.path().join("tiebreak");
    fs::copy(BINARY, &program).unwrap();
    let mut pty = Pty::copy(&program, &home, &["label", "tone"], (100, 30), &[]);
    pty.wait("pair", |t| t.contains("question number 1") && t.contains("saved"));
    std::thread::sleep(Duration::from_millis(400));
    pty.keys("1");
    pty.wait("verdict", |t| t.contains("1 of 3"));
    // Like a package manager: rename another file over it.
    let new = dir.path().join("new");
    fs::write(&new, "#!/bin/sh\necho the wrong version >&2\nexit 7\n").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, &program).unwrap();
    // The form asks a worker for the models. A worker of this version finds that the session's model is missing.
    pty.keys("t");
    pty.wait("worker's answer", |t| t.contains("there is no model `none`"));
}

#[test]
fn labels_of_the_last_demo_are_kept_and_the_demo_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let mut pty = Pty::sized(dir.path(), &["demo"], 110, 30);
    pty.wait("pair", |t| t.contains("1 2 better") && t.contains("prompt p1") && t.contains("0 of"));
    std::thread::sleep(Duration::from_millis(400));
    pty.keys("1");
    pty.wait("saved verdict", |t| t.contains(" 1 of ") && t.contains("✓ saved"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
    let home = Home::resolve(Some(dir.path())).unwrap();
    let live = SessionDir::open(&home.cache().join("demo/live")).unwrap();
    // Wait for the end of the demo's sampling run.
    let until = std::time::Instant::now() + crate::terminal::PATIENCE;
    while live.runs().unwrap().iter().any(tiebreak::storage::RunDir::is_alive) {
        assert!(std::time::Instant::now() < until, "the sampler does not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut again = Pty::sized(dir.path(), &["demo"], 110, 30);
    again.wait("fresh demo", |t| t.contains(" 0 of ") || t.contains("reading"));
    let said = String::from_utf8_lossy(&again.screen.lock().unwrap().bytes).into_owned();
    assert!(said.contains("kept: open it with `tiebreak label demo-live`"), "{said}");
    let kept = SessionDir::find(&home, "demo-live").unwrap();
    assert_eq!(kept.state().unwrap().0.verdicts().count(), 1);
    again.keys("q");
    again.ended();
}
