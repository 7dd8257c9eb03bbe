//! The whole loop with real processes and a tiny model, once by commands and once by keys: prompts, sampling, verdicts,
//! import, training, stop and resume, merge, export, report, replay. Both produce the same kinds of records.

use crate::terminal::Pty;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tiebreak::domain::{Choice, CompletionId, Rater, RunId, Seen, Side, Strength, Verdict, hash64};
use tiebreak::protocol::{RunEvent, SessionRecord};
use tiebreak::storage::{Home, RunDir, SessionDir};

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(3);

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama")
}

fn tiebreak(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tiebreak")).args(args).env("TIEBREAK_HOME", home).output().unwrap()
}

/// Runs a command that must succeed; returns its standard output.
fn done(home: &Path, args: &[&str]) -> String {
    let output = tiebreak(home, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{args:?}: {err}\n{out}");
    out.into_owned()
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn json(home: &Path, args: &[&str]) -> serde_json::Value {
    lines(&done(home, args)).pop().unwrap()
}

fn prompts(home: &Path) -> PathBuf {
    let file = home.join("prompts.txt");
    let text: Vec<String> = (1..=8).map(|i| format!("Name {i} things near a river.")).collect();
    fs::write(&file, text.join("\n")).unwrap();
    file
}

fn session(home: &Path, name: &str) -> SessionDir {
    SessionDir::find(&Home::resolve(Some(home)).unwrap(), name).unwrap()
}

fn run(home: &Path, name: &str, id: &str) -> RunDir {
    session(home, name).run(&RunId::new(id)).unwrap()
}

fn status(home: &Path, name: &str, id: &str) -> serde_json::Value {
    lines(&done(home, &["runs", name, "--json"])).into_iter().find(|run| run["run"] == id).unwrap()
}

/// Waits until the run's status is `word`.
fn until(home: &Path, name: &str, id: &str, word: &str) -> serde_json::Value {
    let start = Instant::now();
    loop {
        let run = status(home, name, id);
        if run["status"] == word {
            return run;
        }
        assert!(start.elapsed() < PATIENCE, "{id} is not {word}: {run}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the run's log holds an event.
fn until_event(run: &RunDir, what: &str, is: impl Fn(&RunEvent) -> bool) {
    let start = Instant::now();
    while !run.tail().poll().unwrap().iter().any(|e| e.known().is_some_and(&is)) {
        assert!(start.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills a run's worker, like a crash.
fn kill_worker(run: &RunDir) {
    let pid = run.tail().poll().unwrap().iter().rev().find_map(|e| match e.known() {
        Some(RunEvent::Started { pid, .. }) => Some(*pid),
        _ => None,
    });
    let pid = rustix::process::Pid::from_raw(pid.unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The kinds of records and events in the logs of a session and its runs.
fn kinds(dir: &SessionDir) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    let mut take = |prefix: &str, files: PathBuf| {
        for file in fs::read_dir(files).unwrap() {
            for line in lines(&fs::read_to_string(file.unwrap().path()).unwrap()) {
                kinds.insert(format!("{prefix} {}", line["k"].as_str().unwrap_or_default()));
            }
        }
    };
    take("session", dir.path().join("events"));
    for run in dir.runs().unwrap() {
        take(run.spec().unwrap().kind(), run.path().join("metrics"));
    }
    kinds
}

const SHORT: &[&str] =
    &["--set", "per_device_train_batch_size=2", "--set", "max_length=96", "--set", "eval_fraction=0"];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["train", "tone"].iter().chain(more).chain(SHORT).copied().collect()
}

/// Labels the open pairs like the workbench, with every kind of verdict and an undo.
fn judge(home: &Path) -> usize {
    let dir = session(home, "tone");
    let (state, _) = dir.state().unwrap();
    let lock = dir.lock().unwrap().unwrap();
    let mut writer = dir.writer(&lock).unwrap();
    let rater = Rater::new("ada");
    let queue = state.queue(&rater);
    for (i, id) in queue.iter().enumerate() {
        let (a, b) = state.sides(state.pair(id).unwrap()).unwrap();
        let choice = match i % 6 {
            4 => Choice::Tie,
            5 => Choice::BothBad,
            n if n % 2 == 0 => Choice::Prefer(Side::A, Strength::Better),
            _ => Choice::Prefer(Side::B, Strength::Much),
        };
        let winner = match choice {
            Choice::Prefer(Side::A, _) => Some(&a.text),
            Choice::Prefer(Side::B, _) => Some(&b.text),
            _ => None,
        };
        let verdict = Verdict {
            pair: id.clone(),
            choice,
            left: Side::A,
            rater: rater.clone(),
            ms: 900,
            seen: Seen::Full,
            winner_hash: winner.map(|text| hash64(text.as_bytes()).into()),
            asked: tiebreak::domain::Asked::default(),
            showing: tiebreak::domain::Showing::default(),
        };
        let of = writer.append(&SessionRecord::Judged(verdict.clone().into())).unwrap();
        if i == 0 {
            writer.append(&SessionRecord::Undone { of }).unwrap();
            writer.append(&SessionRecord::Judged(verdict.into())).unwrap();
        }
    }
    writer.sync().unwrap();
    queue.len()
}

#[test]
fn the_loop_with_commands_only() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    let (model, file) = (model(), prompts(home));
    done(home, &["new", "tone", "--model", model.to_str().unwrap(), "--prompts", file.to_str().unwrap()]);
    let answers = done(home, &["sample", "tone", "--max-new-tokens", "12", "--json"]);
    assert!(lines(&answers).len() > 8, "{answers}");
    let second = json(home, &["sample", "tone", "--max-new-tokens", "12", "--detach", "--json"]);
    assert_eq!(second["run"], "sample-2");
    assert_eq!(until(home, "tone", "sample-2", "finished")["step"], 16);
    let judged = judge(home);
    assert!(judged >= 12, "{judged}");

    let pairs = home.join("pairs.jsonl");
    let row = |i| format!("{{\"prompt\":\"What is {i} + {i}?\",\"chosen\":\"It is {}.\",\"rejected\":\"No.\"}}", 2 * i);
    let rows: Vec<String> = (0..8).map(row).collect();
    fs::write(&pairs, rows.join("\n")).unwrap();
    assert_eq!(json(home, &["import", "tone", pairs.to_str().unwrap(), "--json"])["pairs"], 8);

    let steps = lines(&done(home, &train(&["dpo", "--set", "max_steps=4", "--json"])));
    assert_eq!(steps.len(), 4);
    let loss = steps[0]["metrics"]["loss"].as_f64().unwrap();
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-6, "the first step's loss is {loss}");
    done(home, &train(&["orpo", "--set", "max_steps=3", "--init", "dpo-1"]));

    // Commands to an active run.
    done(home, &train(&["dpo", "--set", "max_steps=100000", "--detach", "--name", "long"]));
    let long = run(home, "tone", "long");
    until_event(&long, "a step", |e| matches!(e, RunEvent::Stepped { .. }));
    done(home, &["pause", "tone/long"]);
    until(home, "tone", "long", "paused");
    done(home, &["checkpoint", "tone/long"]);
    until_event(&long, "a checkpoint", |e| matches!(e, RunEvent::Checkpointed { .. }));
    done(home, &["resume", "tone/long"]);
    until(home, "tone", "long", "running");
    kill_worker(&long);
    let lost = until(home, "tone", "long", "lost");
    assert_eq!(lost["attempt"], 1);
    assert!(
        String::from_utf8_lossy(&tiebreak(home, &["pause", "tone/long"]).stderr).contains("tiebreak resume tone/long")
    );
    done(home, &["resume", "tone/long"]);
    // The new worker takes the lock before it logs its start.
    while until(home, "tone", "long", "running")["attempt"] != 2 {}
    done(home, &["stop", "tone/long"]);
    until(home, "tone", "long", "stopped");

    merge_export_report(home);
    let runs: Vec<String> = lines(&done(home, &["runs", "tone", "--json"]))
        .iter()
        .map(|run| format!("{} {}", run["run"].as_str().unwrap(), run["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        runs,
        ["sample-1 finished", "sample-2 finished", "dpo-1 finished", "orpo-1 finished", "long stopped"],
        "in order of launch"
    );
    let checked = json(home, &["replay", "tone", "--check", "--json"]);
    assert_eq!((&checked["ok"], &checked["runs"]), (&true.into(), &5.into()), "{checked}");
    assert_eq!(checked["verdicts"], judged + 1 + 8, "{checked}");

    let other = tempfile::tempdir().unwrap();
    with_keys(other.path());
    let (commands, keys) = (kinds(&session(home, "tone")), kinds(&session(other.path(), "tone")));
    for kind in [
        "session judged",
        "session undone",
        "session launched",
        "session state_hashed",
        "sample completed",
        "dpo stepped",
    ] {
        assert!(commands.contains(kind), "{kind} is not in {commands:?}");
    }
    // Importing pairs, which the run by keys skips, adds completions and pairs to the session's own log.
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
        a.difference(b).filter(|k| k.starts_with("session") || k.starts_with("sample")).cloned().collect()
    };
    assert_eq!(only(&keys, &commands), [""; 0]);
    assert_eq!(only(&commands, &keys), ["session completed", "session paired"]);
}

fn merge_export_report(home: &Path) {
    let path = |name: &str| home.join(name).display().to_string();
    done(home, &["merge", "tone/dpo-1", "--to", &path("hf")]);
    done(home, &["merge", "tone/dpo-1", "--to", &path("peft"), "--format", "peft"]);
    for file in ["hf/config.json", "hf/tokenizer.json", "hf/model.safetensors", "peft/adapter_config.json"] {
        assert!(home.join(file).is_file(), "{file}");
    }
    for (folder, library) in [("hf", "transformers"), ("peft", "peft")] {
        let card = fs::read_to_string(home.join(folder).join("README.md")).unwrap();
        let (head, body) = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).unwrap();
        assert!(head.contains(&format!("library_name: {library}\n")) && head.contains("- \"dpo\""), "{head}");
        // A model that no file says the origin of has neither name nor licence on the hub.
        assert!(!head.contains("base_model") && !head.contains("license"), "{head}");
        for part in ["not recorded", "## Training data", "## Labels", "## Hyper-parameters", "tiebreak train tone dpo"]
        {
            assert!(body.contains(part), "{part} is not in {body}");
        }
        assert!(!body.contains(&home.display().to_string()), "a path of this machine is in {body}");
    }
    // The merged folder is a model that a session can use.
    done(home, &["new", "merged", "--model", &path("hf")]);
    let exported = json(home, &["export", "tone", "--to", &path("out.jsonl"), "--json"]);
    let rows = lines(&fs::read_to_string(home.join("out.jsonl")).unwrap());
    assert_eq!(exported["rows"], rows.len());
    assert!(rows.iter().all(|row| row["chosen"] != row["rejected"]));
    for (ending, holds) in [("svg", "<svg"), ("html", "<html"), ("md", "# "), ("csv", "step,epoch,loss"), ("json", "{")]
    {
        for target in ["tone", "tone/dpo-1"] {
            let file = path(&format!("report.{ending}"));
            done(home, &["report", target, "--to", &file]);
            assert!(fs::read_to_string(&file).unwrap().contains(holds), "{target} as {ending}");
        }
    }
}

/// The same loop in a terminal of 80x24.
fn with_keys(home: &Path) {
    let file = prompts(home);
    let mut pty = Pty::open(home, &[]);
    pty.wait("empty home", |t| t.contains("No sessions yet"));
    pty.keys("n");
    pty.wait("question for a name", |t| t.contains("a new session"));
    pty.keys("tone\r");
    pty.wait("list of models", |t| t.contains("which model"));
    pty.keys("another give folder\r");
    pty.wait("question for a folder", |t| t.contains("the model's folder"));
    pty.keys(&format!("{}\r", model().display()));
    pty.wait("question for prompts", |t| t.contains("a file of prompts"));
    pty.keys("\r");
    pty.wait("label screen", |t| t.contains("tone › label") && t.contains("✓ saved"));
    pty.keys("i");
    pty.wait("question for a file", |t| t.contains("import a file") && t.contains("formats, found from the content"));
    pty.keys(&format!("{}\r", file.display()));
    pty.wait("import", |t| t.contains("8 new prompts") && t.contains("8 prompts, and no answers"));
    pty.keys("s");
    pty.wait("form", |t| t.contains("max_new_tokens"));
    // Three fields down, delete 256.
    pty.keys("\t\t\t\x7f\x7f\x7f12\r");
    pty.wait("first pair", |t| t.contains("prompt p1") && t.contains(" of "));
    until(home, "tone", "sample-1", "finished");
    let pairs = session(home, "tone").state().unwrap().0.pairs().len();
    assert!(pairs >= 6, "{pairs}");
    pty.wait("all pairs", |t| t.contains(&format!("0 of {pairs}")));
    for (i, key) in ["1", "2", "0", "b", "1"].iter().enumerate() {
        judge_with(&mut pty, key);
        pty.wait("saved verdict", |t| t.contains(&format!("{} of {pairs}", i + 1)) && t.contains("✓ saved"));
    }
    judge_with(&mut pty, " ");
    pty.keys("uu");
    pty.wait("undo", |t| t.contains(&format!("4 of {pairs}")) && t.contains("✓ saved"));
    judge_with(&mut pty, "2");
    pty.wait("verdict again", |t| t.contains(&format!("5 of {pairs}")) && t.contains("✓ saved"));

    pty.keys("t");
    pty.wait("form", |t| t.contains("this run") && t.contains("3 pairs"));
    for (field, value) in [("max_steps", "4"), ("per_device_train_batch_size", "2")] {
        focus(&mut pty, field);
        pty.keys(value);
    }
    pty.wait("the worker's estimate", |t| t.contains("4 steps · ") && t.contains(" memory"));
    pty.keys("\r");
    pty.wait("end of the run", |t| t.contains("run dpo-1") && t.contains("FINISHED") && t.contains("4/4"));
    pty.keys("\x1b");
    pty.wait("label screen", |t| t.contains("tone › label"));
    pty.keys("r");
    pty.wait("replay", |t| t.contains("replay"));
    pty.keys("\x1b[F");
    pty.settle(Duration::from_millis(600));
    pty.keys("\x1b");
    pty.wait("label screen", |t| t.contains("tone › label"));
    pty.keys("q");
    assert_eq!(pty.ended().1, 0);
    let checked = json(home, &["replay", "tone", "--check", "--json"]);
    assert_eq!(
        (&checked["ok"], &checked["runs"], &checked["steps"]),
        (&true.into(), &2.into(), &12.into()),
        "{checked}"
    );
    let (state, _) = session(home, "tone").state().unwrap();
    let counted =
        |choice: fn(&Choice) -> bool| state.verdicts().filter(|(_, j)| !j.undone && choice(&j.verdict.choice)).count();
    assert_eq!(counted(|c| matches!(c, Choice::Prefer(..))), 3);
    assert_eq!((counted(|c| *c == Choice::Tie), counted(|c| *c == Choice::BothBad)), (1, 1));
}

/// Presses a verdict's key at a human pace.
fn judge_with(pty: &mut Pty, key: &str) {
    std::thread::sleep(Duration::from_millis(tiebreak::app::pace::READ_MS + 150));
    pty.keys(key);
}

/// Goes to a field of the launch form.
fn focus(pty: &mut Pty, field: &str) {
    let at = |t: &str| t.lines().find(|l| l.contains('▸')).map(str::to_owned).unwrap_or_default();
    for _ in 0..40 {
        let now = at(&pty.text());
        if now.contains(field) {
            return;
        }
        pty.keys("\t");
        pty.wait("next field", |t| at(t) != now && !at(t).is_empty());
    }
    panic!("no field {field}:\n{}", pty.text());
}

/// A run continues when its workbench closes, and a new workbench shows it live. A run with a killed worker is lost
/// within a second, and `R` resumes it. A run launched by a command appears in the workbench that holds the session.
#[test]
fn a_run_seen_by_several_workbenches() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path();
    done(home, &["new", "tone", "--model", model().to_str().unwrap()]);
    let pairs = home.join("pairs.jsonl");
    fs::write(&pairs, "{\"prompt\":\"What?\",\"chosen\":\"This and that.\",\"rejected\":\"No.\"}\n").unwrap();
    done(home, &["import", "tone", pairs.to_str().unwrap()]);
    let mut first = Pty::open(home, &["watch", "tone"]);
    first.wait("empty watch screen", |t| t.contains("no run yet"));
    // Launches while a workbench holds the session's lock.
    done(home, &train(&["dpo", "--set", "max_steps=100000", "--set", "save_steps=5", "--detach"]));
    first.wait("run launched elsewhere", |t| t.contains("run dpo-1") && t.contains("LIVE"));
    first.keys("q");
    assert_eq!(first.ended().1, 0);
    let run = run(home, "tone", "dpo-1");
    assert!(run.is_alive());
    let launched = session(home, "tone").tail().poll().unwrap();
    assert!(launched.iter().any(|e| matches!(e.known(), Some(SessionRecord::Launched(_)))), "adopted by the workbench");

    let mut second = Pty::open(home, &["watch", "tone/dpo-1"]);
    second.wait("live run", |t| t.contains("LIVE"));
    until_event(&run, "a checkpoint", |e| matches!(e, RunEvent::Checkpointed { .. }));
    kill_worker(&run);
    let took = second.wait("lost run", |t| t.contains("LOST"));
    // Should take a second; allows three on a busy machine.
    assert!(took < Duration::from_secs(3), "{took:?}");
    second.keys("R");
    second.wait("run taken up", |t| t.contains("LIVE"));
    second.keys("p");
    second.wait("paused run", |t| t.contains("PAUSED"));
    second.keys("p");
    second.wait("running again", |t| t.contains("LIVE"));
    second.keys("S");
    second.wait("question", |t| t.contains("yes"));
    second.keys("y");
    second.wait("stopped run", |t| t.contains("STOPPED"));
    second.keys("q");
    assert_eq!(second.ended().1, 0);
    let checked = json(home, &["replay", "tone", "--check", "--json"]);
    assert_eq!(checked["ok"], true, "{checked}");
    assert_eq!(status(home, "tone", "dpo-1")["attempt"], 2);
}

#[test]
fn a_reward_run_scores_every_answer_once() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let model = model();
    done(home, &["new", "tone", "--model", model.to_str().unwrap()]);
    let file = home.join("pairs.jsonl");
    let pair =
        |i: usize| format!(r#"{{"prompt": "Name {i} birds.", "chosen": "A wren, {i} times.", "rejected": "No."}}"#);
    let write = |n: std::ops::Range<usize>| fs::write(&file, n.map(pair).collect::<Vec<_>>().join("\n")).unwrap();
    write(0..4);
    done(home, &["import", "tone", file.to_str().unwrap()]);
    done(home, &train(&["reward", "--set", "max_steps=2"]));
    done(home, &train(&["dpo", "--set", "max_steps=1"]));

    let implicit = lines(&done(home, &["score", "tone", "--with", "dpo-1", "--json"]));
    assert_eq!(implicit.len(), 8, "a DPO run scores by its implicit reward");

    let scored = lines(&done(home, &["score", "tone", "--with", "reward-1", "--json"]));
    assert_eq!(scored.len(), 8, "four pairs, two answers each");
    let (state, _) = session(home, "tone").state().unwrap();
    for line in &scored {
        let kept = state.score_of(&CompletionId::new(line["completion"].as_str().unwrap())).unwrap();
        assert_eq!((kept.run.as_str(), line["score"].as_f64()), ("reward-1", Some(kept.value)));
    }
    assert!(state.pairs().iter().all(|pair| state.score_gap(pair).is_some()));
    // The next call scores only new answers.
    write(4..5);
    done(home, &["import", "tone", file.to_str().unwrap()]);
    let text = done(home, &["score", "tone", "--with", "reward-1"]);
    assert!(text.contains("2 answers scored by reward-1, 8 already scored"), "{text}");
    done(home, &["replay", "tone", "--check"]);
}
