//! Session folders on a real disk: privacy, one writer, crashes, full disks, checkpoints, lists.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use tiebreak::domain::{
    Adjudication, Choice, Metrics, PairId, Params, Prompt, PromptBody, PromptId, Rater, RunId, Seen, Side, Strength,
    Verdict,
};
use tiebreak::protocol::{
    DataSnapshot, Inputs, ModelRef, RunCommand, RunEvent, RunSpec, SessionMeta, SessionRecord, Task, TrainSpec,
};
use tiebreak::storage::{self, Error, Home, Lock, LogTail, LogWriter, RunDir, SessionDir, list_sessions, sha256};

fn meta() -> SessionMeta {
    SessionMeta { format: 1, name: String::new(), model: "smollm2".into(), created_ms: 1, app: "0".into() }
}

fn home() -> (TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(&dir.path().join("data"))).unwrap();
    (dir, home)
}

fn judged(pair: usize, choice: Choice) -> SessionRecord {
    SessionRecord::Judged(
        Verdict {
            pair: PairId::new(format!("i{pair}")),
            rater: Rater::new("ann"),
            choice,
            left: Side::A,
            seen: Seen::Full,
            ms: 900,
            winner_hash: None,
            asked: tiebreak::domain::Asked::default(),
            showing: tiebreak::domain::Showing::default(),
        }
        .into(),
    )
}

fn spec(id: &RunId, data: &[u8]) -> RunSpec {
    RunSpec {
        id: id.clone(),
        task: Task::Train(TrainSpec::new(
            "dpo",
            ModelRef { name: "m".into(), path: "m".into() },
            Params::default(),
            DataSnapshot { file: "data.jsonl".into(), sha256: sha256(data), rows: 1, session_seq: 0 },
        )),
        device: "cpu".into(),
        created_ms: 1,
        app: "0".into(),
        inputs: Inputs::default(),
    }
}

fn new_run(home: &Home) -> RunDir {
    let session = SessionDir::create(home, "s", &meta()).unwrap();
    session.create_run(&spec(&RunId::new("dpo-1"), b"{}\n"), b"{}\n").unwrap()
}

#[test]
fn sessions_are_found_by_name_and_by_path_and_errors_say_what_to_do() {
    let (_dir, home) = home();
    assert!(list_sessions(&home).unwrap().is_empty());
    let made = SessionDir::create(&home, "french-cooking", &meta()).unwrap();
    assert_eq!(SessionDir::find(&home, "french-cooking").unwrap(), made);
    assert_eq!(SessionDir::find(&home, made.path().to_str().unwrap()).unwrap(), made);
    assert_eq!(made.meta().unwrap().name, "french-cooking");
    let said = |e: Error| e.to_string();
    assert!(said(SessionDir::find(&home, "french-coking").unwrap_err()).contains("did you mean `french-cooking`?"));
    assert!(said(SessionDir::create(&home, "french-cooking", &meta()).unwrap_err()).contains("already exists"));
    assert!(said(SessionDir::create(&home, "..", &meta()).unwrap_err()).contains("cannot name a session"));
    assert!(said(SessionDir::create(&home, "a b", &meta()).unwrap_err()).contains("cannot name a session"));
    assert!(said(SessionDir::open(home.root()).unwrap_err()).contains("no session.json"));
    let by_path = home.root().join("elsewhere/mine");
    SessionDir::create(&home, by_path.to_str().unwrap(), &meta()).unwrap();
    assert_eq!(SessionDir::find(&home, by_path.to_str().unwrap()).unwrap().name(), "mine");
}

#[test]
fn everything_is_private_to_the_user() {
    fn check(path: &Path) {
        let mode = fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                check(&entry.unwrap().path());
            }
        }
    }
    let (_dir, home) = home();
    let run = new_run(&home);
    let session = SessionDir::find(&home, "s").unwrap();
    let lock = session.lock().unwrap().unwrap();
    fs::create_dir_all(session.path().join("events")).unwrap();
    fs::write(session.path().join("events/000001.jsonl"), "torn").unwrap();
    fs::set_permissions(session.path().join("events/000001.jsonl"), fs::Permissions::from_mode(0o600)).unwrap();
    session.writer(&lock).unwrap().append(&judged(1, Choice::Tie)).unwrap();
    run.post(RunCommand::Pause).unwrap();
    list_sessions(&home).unwrap();
    check(home.root());
    assert_eq!(fs::read_dir(session.path().join("quarantine")).unwrap().count(), 1);
}

#[test]
fn of_two_writers_the_second_learns_who_the_first_is() {
    let (_dir, home) = home();
    let session = SessionDir::create(&home, "s", &meta()).unwrap();
    let first = session.lock().unwrap().unwrap();
    assert!(session.lock().unwrap().is_none());
    assert_eq!(session.holder().unwrap().pid, std::process::id());
    assert!(session.holder().unwrap().to_string().starts_with("process "));
    first.release();
    assert!(session.lock().unwrap().is_some());
}

/// The child of the next test: appends, brings to the disk, says so, until it is killed.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os("TIEBREAK_TEST_LOG").map(PathBuf::from) else { return };
    let lock = Lock::take(&dir.join("lock")).unwrap().unwrap();
    let mut writer = LogWriter::<SessionRecord>::open(&dir.join("events"), &dir.join("quarantine"), &lock).unwrap();
    loop {
        let n = writer.append(&note(writer.last_seq() + 1)).unwrap();
        writer.sync().unwrap();
        println!("saved {n}");
    }
}

/// Long enough to cross the pages at which a killed write is cut.
fn note(n: u64) -> SessionRecord {
    SessionRecord::Noted { pair: PairId::new(format!("i{n}")), rater: Rater::new("ann"), text: "x".repeat(9000) }
}

#[test]
fn kill_9_while_appending_loses_no_saved_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut saved = 0;
    for round in 0..40 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage::child_that_appends_until_it_is_killed", "--nocapture"])
            .env("TIEBREAK_TEST_LOG", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |line: &str| {
            if let Some(n) = line.split("saved ").nth(1) {
                saved = n.parse().unwrap();
            }
        };
        let mut wanted = 1 + round % 7;
        while wanted > 0 {
            let line = lines.next().unwrap().unwrap();
            wanted -= usize::from(line.contains("saved "));
            take(&line);
        }
        std::thread::sleep(std::time::Duration::from_micros(round as u64 * 137));
        child.kill().unwrap();
        // What it said before it died counts too.
        lines.map_while(Result::ok).for_each(|line| take(&line));
        child.wait().unwrap();
        let mut tail = LogTail::<SessionRecord>::new(&dir.path().join("events"));
        let last = tail.poll().unwrap().last().unwrap().n;
        assert!(last >= saved, "round {round}: saved {saved}, on the disk {last}");
        assert_eq!(tail.damage_count(), 0);
    }
    // Every record between is there, with what it said.
    let lock = Lock::take(&dir.path().join("lock")).unwrap().unwrap();
    LogWriter::<SessionRecord>::open(&dir.path().join("events"), &dir.path().join("quarantine"), &lock).unwrap();
    let mut tail = LogTail::<SessionRecord>::new(&dir.path().join("events"));
    for (i, envelope) in tail.poll().unwrap().into_iter().enumerate() {
        assert_eq!(envelope.n, i as u64 + 1);
        let record = envelope.data.unwrap();
        assert!(record == note(envelope.n) || matches!(record, SessionRecord::Repaired { .. }));
    }
}

#[test]
#[ignore = "mounts a small disk, which takes root: .ci/run runs it"]
fn a_full_disk_is_named_and_takes_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"]).arg(&disk).output();
    assert!(mounted.is_ok_and(|o| o.status.success()), "mounting a small disk takes root");
    let tried = std::panic::catch_unwind(|| fill(&disk));
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    tried.unwrap();
}

fn fill(disk: &Path) {
    let lock = Lock::take(&disk.join("lock")).unwrap().unwrap();
    let events = disk.join("events");
    let mut writer = LogWriter::<SessionRecord>::open(&events, &disk.join("quarantine"), &lock).unwrap();
    let mut kept = 0;
    let error = loop {
        match writer.append(&note(kept + 1)) {
            Ok(n) => kept = n,
            Err(e) => break e,
        }
    };
    assert!(error.is_no_space() && error.to_string().contains("000001.jsonl"), "{error}");
    assert!(error.to_string().starts_with("no space left on the disk for "), "{error}");
    assert!(kept > 2);
    // A smaller record still fits, a checkpoint does not, and what is there is whole.
    assert_eq!(writer.append(&judged(1, Choice::Tie)).unwrap(), kept + 1);
    writer.sync().unwrap();
    let mut tail = LogTail::<SessionRecord>::new(&events);
    assert_eq!(tail.poll().unwrap().len() as u64, kept + 1);
    assert_eq!(tail.damage_count(), 0);
}

fn checkpoint(run: &RunDir, step: u64, text: &str) -> storage::CheckpointDir {
    run.write_checkpoint(step, |dir| {
        fs::write(dir.join("model.safetensors"), text).map_err(|e| Error::io("write", dir, e))?;
        fs::write(dir.join("trainer.json"), "{}").map_err(|e| Error::io("write", dir, e))
    })
    .unwrap()
}

#[test]
fn checkpoints_are_whole_or_not_there() {
    let (_dir, home) = home();
    let run = new_run(&home);
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint, None);
    for step in [10, 20, 30] {
        checkpoint(&run, step, &format!("weights {step}"));
    }
    let ckpt = run.path().join("ckpt");
    assert_eq!(fs::read_to_string(ckpt.join("latest")).unwrap(), "step-00000030\n");
    let failed: Result<_, Error> = run.write_checkpoint(40, |dir| {
        fs::write(dir.join("half"), "x").unwrap();
        Err(Error::NoSpace { path: dir.to_owned() })
    });
    assert!(failed.is_err());
    // A crash in the middle leaves a hidden folder; a folder without a manifest is no checkpoint.
    fs::create_dir(ckpt.join(".tmp-step-00000050-1-1")).unwrap();
    fs::create_dir(ckpt.join("step-00000060")).unwrap();
    let found = run.latest_checkpoint().unwrap();
    assert_eq!(found.checkpoint.unwrap().step, 30);
    assert_eq!(found.passed_over.len(), 1);
    // Damage: another size, then another bit.
    fs::write(ckpt.join("step-00000030/model.safetensors"), "short").unwrap();
    assert_eq!(run.checkpoints().unwrap().iter().map(|c| c.step).collect::<Vec<_>>(), [10, 20]);
    fs::write(ckpt.join("step-00000020/model.safetensors"), "weights 21").unwrap();
    let found = run.latest_checkpoint().unwrap();
    assert_eq!(found.checkpoint.unwrap().step, 10);
    assert_eq!(found.passed_over.len(), 3);
    assert!(found.passed_over[1].contains("has 5 bytes instead of 10"), "{:?}", found.passed_over);
    assert!(found.passed_over[2].contains("does not match its checksum"), "{:?}", found.passed_over);
    // The same step again replaces the damaged one.
    checkpoint(&run, 30, "weights 30");
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, 30);
    run.mark_best(10).unwrap();
    assert!(run.mark_best(99).is_err());
    checkpoint(&run, 40, "weights 40");
    run.prune_checkpoints(1).unwrap();
    assert_eq!(run.checkpoints().unwrap().iter().map(|c| c.step).collect::<Vec<_>>(), [10, 40]);
    assert_eq!(run.best_checkpoint().checkpoint.unwrap().step, 10);
    let hidden =
        fs::read_dir(&ckpt).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}

#[test]
fn orders_are_taken_once_in_the_order_they_were_given() {
    let (_dir, home) = home();
    let run = new_run(&home);
    let given = [RunCommand::Pause, RunCommand::Checkpoint, RunCommand::Resume, RunCommand::Stop];
    for command in given {
        run.post(command).unwrap();
    }
    fs::write(run.path().join("ctl/999-nonsense.json"), "\"dance\"").unwrap();
    assert_eq!(run.take_commands().unwrap(), given);
    assert!(run.take_commands().unwrap().is_empty());
    assert!(run.path().join("ctl/999-nonsense.refused").exists());
}

#[test]
fn runs_are_numbered_by_kind_and_frozen_with_their_data() {
    let (_dir, home) = home();
    let session = SessionDir::create(&home, "s", &meta()).unwrap();
    assert_eq!(session.next_run_id("dpo").unwrap().as_str(), "dpo-1");
    for _ in 0..11 {
        let id = session.next_run_id("dpo").unwrap();
        session.create_run(&spec(&id, b"row\n"), b"row\n").unwrap();
    }
    assert_eq!(session.next_run_id("dpo").unwrap().as_str(), "dpo-12");
    assert_eq!(session.next_run_id("sample").unwrap().as_str(), "sample-1");
    let ids: Vec<String> = session.runs().unwrap().iter().map(|r| r.id().into_string()).collect();
    assert_eq!((ids[0].as_str(), ids[10].as_str()), ("dpo-1", "dpo-11"));
    let run = session.run(&RunId::new("dpo-3")).unwrap();
    assert_eq!(fs::read(run.data_path().unwrap()).unwrap(), b"row\n");
    assert!(!run.is_alive());
    assert!(session.create_run(&spec(&RunId::new("dpo-3"), b""), b"").is_err());
    assert!(session.run(&RunId::new("dop-3")).unwrap_err().to_string().contains("did you mean `dpo-3`?"));
}

#[test]
fn a_list_counts_what_counts_and_goes_on_from_where_it_was() {
    let (_dir, home) = home();
    let run = new_run(&home);
    let session = SessionDir::find(&home, "s").unwrap();
    let lock = session.lock().unwrap().unwrap();
    let mut writer = session.writer(&lock).unwrap();
    let prompt = Prompt {
        id: PromptId::new("p1"),
        body: PromptBody::user("\"k\":\"judged\""),
        source: "typed".into(),
        tags: [].into(),
    };
    writer.append(&SessionRecord::Prompted(prompt.into())).unwrap();
    let mut seqs = Vec::new();
    // Two raters in turns of three: an undo must find whose verdict it takes back.
    let hands = ["ana", "ben"].map(Rater::new);
    for i in 0..30 {
        let choice = if i % 10 == 9 { Choice::Skip } else { Choice::Prefer(Side::B, Strength::Much) };
        let SessionRecord::Judged(verdict) = judged(i, choice) else { panic!("judged makes a verdict") };
        let verdict = Verdict { rater: hands[i / 3 % 2].clone(), ..verdict.as_ref().clone() };
        seqs.push(writer.append(&SessionRecord::Judged(verdict.into())).unwrap());
    }
    let settled =
        Adjudication { pair: PairId::new("i0"), choice: Choice::Tie, rater: hands[0].clone(), criterion: None };
    seqs.push(writer.append(&SessionRecord::Adjudicated(settled)).unwrap());
    let labels = || list_sessions(&home).unwrap().remove(0).labels;
    let of = |ana: usize, ben: usize| {
        let mut both = vec![(hands[0].clone(), ana), (hands[1].clone(), ben)];
        both.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        both
    };
    let skips = |from: usize| (0..30).filter(|i| i % 10 == 9 && i / 3 % 2 == from).count();
    let (ana, ben) = (15 - skips(0), 15 - skips(1));
    assert_eq!(labels(), of(ana, ben));
    // A verdict, a skip and a decision: only the first was a label.
    for seq in [seqs[0], seqs[9], seqs[30]] {
        writer.append(&SessionRecord::Undone { of: seq }).unwrap();
    }
    assert_eq!(labels(), of(ana - 1, ben));
    writer.append(&SessionRecord::Undone { of: seqs[3] }).unwrap();
    assert_eq!(labels(), of(ana - 1, ben - 1));
    writer.append(&SessionRecord::Redone { of: seqs[0] }).unwrap();
    assert_eq!(labels(), of(ana, ben - 1));
    let cached = fs::read_to_string(session.path().join("summary.json")).unwrap();
    fs::remove_file(session.path().join("summary.json")).unwrap();
    assert_eq!(labels(), of(ana, ben - 1));
    // Counts in an older form are made again.
    fs::write(session.path().join("summary.json"), cached.replace("\"version\":2", "\"version\":1")).unwrap();
    assert_eq!(labels(), of(ana, ben - 1));

    let worker = run.lock().unwrap().unwrap();
    let mut log = run.writer(&worker).unwrap();
    for step in 1..=500 {
        let mut metrics = Metrics::new();
        metrics.set("loss", 1.0 / step as f64);
        log.append(&RunEvent::Stepped { step, epoch: 0.0, metrics }).unwrap();
    }
    let seen = list_sessions(&home).unwrap().remove(0);
    assert_eq!((seen.runs, seen.running, seen.last_run), (1, vec![run.id()], Some(run.id())));
    assert!(seen.losses.len() >= 20 && seen.losses.last() == Some(&(1.0 / 500.0)), "{:?}", seen.losses);
    assert_eq!(seen.model, "smollm2");
}

#[test]
fn a_data_folder_can_be_moved_with_its_models() {
    let home = tempfile::tempdir().unwrap();
    let here = Home::resolve(Some(home.path())).unwrap();
    let session = SessionDir::create(&here, "s", &meta()).unwrap();
    let mut asked = spec(&RunId::new("dpo-1"), b"row\n");
    let model = here.root().join("models/small").display().to_string();
    asked.models_mut()[0].path.clone_from(&model);
    let run = session.create_run(&session.portable(&asked), b"row\n").unwrap();
    assert_eq!(run.spec().unwrap().models_mut()[0].path, "models/small");
    assert_eq!(run.resolved_spec().unwrap().models_mut()[0].path, model);
    // A model elsewhere keeps its path.
    asked.models_mut()[0].path = "/elsewhere/model".into();
    asked.id = RunId::new("dpo-2");
    let run = session.create_run(&session.portable(&asked), b"row\n").unwrap();
    assert_eq!(run.resolved_spec().unwrap().models_mut()[0].path, "/elsewhere/model");
}

#[test]
fn names_in_a_strangers_session_cannot_lead_out_of_its_folder() {
    let (_dir, home) = home();
    let run = new_run(&home);
    let session = SessionDir::find(&home, "s").unwrap();
    let path = run.path().join("spec.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(home.root().join("secret.jsonl"), "secret").unwrap();
    let mut bad: Vec<String> =
        ["", ".", "..", "../../../secret.jsonl", "/etc/passwd", "a/b", ".hidden", "a\\b", "a\u{0}b"]
            .map(str::to_owned)
            .into();
    bad.extend(["x".repeat(65), "x".repeat(5000), "\u{202e}x".into()]);
    for name in &bad {
        type Edit = fn(&mut serde_json::Value, &str);
        let edits: [(&str, Edit); 6] = [
            ("the run's id", |spec, name| spec["id"] = name.into()),
            ("a data file", |spec, name| spec["task"]["train"]["data"]["file"] = name.into()),
            ("a data file", |spec, name| {
                let mut mix = spec["task"]["train"]["data"].clone();
                mix["file"] = name.into();
                spec["task"]["train"]["mix"] = mix;
            }),
            ("init", |spec, name| spec["task"]["train"]["init"] = name.into()),
            ("init", |spec, name| spec["task"]["train"]["init"] = format!("{name}@best").into()),
            ("reward", |spec, name| spec["task"]["train"]["reward"] = name.into()),
        ];
        for (what, edit) in edits {
            let mut spec: serde_json::Value = serde_json::from_str(&good).unwrap();
            edit(&mut spec, name);
            fs::write(&path, spec.to_string()).unwrap();
            let run = session.run(&RunId::new("dpo-1")).unwrap();
            let said = run.spec().map(|_| ()).unwrap_err().to_string();
            assert!(said.contains("dpo-1/spec.json") && said.contains(what) && said.len() < 400, "{name:?}: {said}");
            assert!(run.data_path().is_err() && run.resolved_spec().is_err(), "{name:?}");
            assert_eq!(session.state().unwrap().1.unread_files, 1, "{name:?}");
        }
        assert!(run.sibling(&RunId::new(name.as_str())).is_err(), "{name:?}");
        assert!(session.run(&RunId::new(name.as_str())).is_err(), "{name:?}");
    }
    let mut spec: serde_json::Value = serde_json::from_str(&good).unwrap();
    spec["task"]["train"]["model"]["path"] = "../../elsewhere".into();
    fs::write(&path, spec.to_string()).unwrap();
    assert!(run.spec().unwrap_err().to_string().contains("a model's path"));
    fs::write(&path, &good).unwrap();
    assert!(run.spec().is_ok());

    let fill = |dir: &Path| {
        fs::write(dir.join("weights"), "w").unwrap();
        Ok::<_, Error>(())
    };
    let made = run.write_checkpoint(1, fill).unwrap();
    let manifest = made.path.join("MANIFEST.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for name in ["..", ".hidden", "../../spec.json"] {
        fs::write(&manifest, text.replace("\"weights\"", &format!("\"{name}\""))).unwrap();
        assert!(run.latest_checkpoint().unwrap().checkpoint.is_none(), "{name}");
    }

    let header = session.path().join("session.json");
    let text = fs::read_to_string(&header).unwrap();
    fs::write(&header, text.replace("\"name\": \"s\"", "\"name\": \"../../s\"")).unwrap();
    let said = session.meta().unwrap_err().to_string();
    assert!(said.contains("session.json: the name is `../../s`"), "{said}");
}
