//! Real worker processes on the tiny model: killed, hung up, started twice, given invalid input; their runs end
//! unchanged.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tiebreak::domain::{PairId, PairRow, Params, Prompt, PromptBody, PromptId, RunId, Sampler, method};
use tiebreak::protocol::{
    DataSnapshot, Estimate, Inputs, ModelCard, ModelRef, RunCommand, RunEvent, RunSpec, SampleSpec, SessionMeta, Task,
    TrainSpec,
};
use tiebreak::storage::{Home, RunDir, SessionDir, sha256};

fn model() -> ModelRef {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    ModelRef { name: "tiny-llama".into(), path: path.display().to_string() }
}

fn session(dir: &Path) -> SessionDir {
    let home = Home::resolve(Some(dir)).unwrap();
    let meta = SessionMeta { format: 1, name: String::new(), model: "tiny".into(), created_ms: 1, app: "0".into() };
    SessionDir::create(&home, "s", &meta).unwrap()
}

fn snapshot(data: &str) -> DataSnapshot {
    DataSnapshot {
        file: "data.jsonl".into(),
        sha256: sha256(data.as_bytes()),
        rows: data.lines().count(),
        session_seq: 0,
    }
}

fn created(session: &SessionDir, task: Task, data: &str) -> RunDir {
    let spec = RunSpec {
        id: RunId::new("run-1"),
        task,
        device: "cpu".into(),
        created_ms: 1,
        app: "0".into(),
        inputs: Inputs::default(),
    };
    session.create_run(&spec, data.as_bytes()).unwrap()
}

/// A DPO run on ten short pairs.
pub fn training(sets: &[&str]) -> (TempDir, RunDir) {
    training_of(model(), sets)
}

/// The same of another model.
fn training_of(model: ModelRef, sets: &[&str]) -> (TempDir, RunDir) {
    let dir = tempfile::tempdir().unwrap();
    let rows = method("dpo").unwrap().rows();
    let mut params = Params::defaults(&rows);
    for set in ["learning_rate=1e-3", "per_device_train_batch_size=2", "eval_fraction=0"].iter().chain(sets) {
        params.set_pair(&rows, "dpo", set).unwrap();
    }
    let data: String = (0..10)
        .map(|i| PairRow {
            turns: None,
            pair: PairId::new(format!("i{i}")),
            prompt_id: PromptId::new(format!("p{i}")),
            prompt: PromptBody::user(format!("What is {i} + {i}?")),
            chosen: format!("It is {}.", 2 * i),
            rejected: "I do not know.".into(),
            margin: None,
            agreed: None,
            strategy: None,
            rater: None,
        })
        .map(|row| serde_json::to_string(&row).unwrap() + "\n")
        .collect();
    let task = Task::Train(TrainSpec::new("dpo", model, params, snapshot(&data)));
    let run = created(&session(dir.path()), task, &data);
    (dir, run)
}

/// A copy of the tiny model with half a million embeddings: 64 MB, of which full training holds several copies.
fn wide(dir: &Path) -> ModelRef {
    let from = model().path;
    for entry in fs::read_dir(&from).unwrap().flatten() {
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let rows = 500_000;
    let (weights, config) = (dir.join("model.safetensors"), dir.join("config.json"));
    let mut tensors = candle_core::safetensors::load(&weights, &candle_core::Device::Cpu).unwrap();
    let embedding = tensors.get_mut("model.embed_tokens.weight").unwrap();
    *embedding = embedding.pad_with_zeros(0, 0, rows - embedding.dims()[0]).unwrap();
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    let mut fields: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    fields["vocab_size"] = rows.into();
    fs::write(&config, fields.to_string()).unwrap();
    ModelRef { name: "wide".into(), path: dir.display().to_string() }
}

/// Runs a worker to its end within so many KiB of address space.
fn limited(run: &RunDir, kib: u64) -> std::process::ExitStatus {
    let own = command(run);
    let log = fs::OpenOptions::new().append(true).open(run.worker_log()).unwrap();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -v {kib}; exec \"$@\"")).arg("sh").arg(own.get_program()).args(own.get_args());
    shell.env("RAYON_NUM_THREADS", "2").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status().unwrap()
}

/// A worker that the system refuses memory says so with the remedy, whatever it wanted that for: a thread, a model's file, a step.
#[test]
fn a_run_without_memory_ends_with_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let wide = wide(folder.path());
    let mut refused = std::collections::BTreeSet::new();
    // From the program with hardly more than its own code until the run fits, in steps smaller than the model's file.
    for limit in (240_000_u64..).step_by(50_000) {
        let (_dir, run) = training_of(wide.clone(), &["tune=full", "max_steps=1"]);
        let out = limited(&run, limit);
        let worker_log = fs::read_to_string(run.worker_log()).unwrap_or_default();
        if out.success() {
            break;
        }
        let events = events(&run);
        let found = events.iter().find_map(|event| match event {
            RunEvent::Found(finding) if finding.rule == "memory_full" => Some(finding),
            _ => None,
        });
        let found = found.unwrap_or_else(|| panic!("{limit} KiB: {events:#?} {worker_log}"));
        assert!(
            found.text.contains("MiB more") && found.remedy.contains("per_device_train_batch_size"),
            "{limit} KiB: {found:?}"
        );
        let Some(RunEvent::Failed { error, .. }) = events.last() else { panic!("{limit} KiB: {:?}", events.last()) };
        assert!(error.contains("Out of memory"), "{limit} KiB: {error}");
        assert!(!run.is_alive());
        refused.insert(match found.text.split_once("MiB more") {
            Some((_, what)) if what.contains("the thread of") => "thread",
            Some((_, what)) if what.contains("model.safetensors") => "file",
            _ => "allocation",
        });
    }
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), ["allocation", "file", "thread"]);
}

fn sampling(prompts: usize) -> (TempDir, RunDir) {
    let dir = tempfile::tempdir().unwrap();
    let data: String = (0..prompts)
        .map(|i| Prompt {
            id: PromptId::new(format!("p{i}")),
            body: PromptBody::user(format!("Name {i} things.")),
            source: "typed".into(),
            tags: [].into(),
        })
        .map(|prompt| serde_json::to_string(&prompt).unwrap() + "\n")
        .collect();
    let sampler = Sampler { max_new_tokens: 24, ..Sampler::default() };
    let task = Task::Sample(SampleSpec {
        models: vec![model()],
        servers: Vec::new(),
        adapter: None,
        adapters: Vec::new(),
        per_prompt: 3,
        sampler,
        data: snapshot(&data),
        unpaired: false,
    });
    let run = created(&session(dir.path()), task, &data);
    (dir, run)
}

pub fn command(run: &RunDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    let log = fs::OpenOptions::new().create(true).append(true).open(run.worker_log()).unwrap();
    command.args(["worker", "run"]).arg(run.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}

fn spawn(run: &RunDir) -> Child {
    command(run).spawn().unwrap()
}

/// Runs to the end; panics with worker.log on failure.
fn finish(run: &RunDir) {
    let status = command(run).status().unwrap();
    assert!(status.success(), "{status}: {}", fs::read_to_string(run.worker_log()).unwrap_or_default());
}

pub fn events(run: &RunDir) -> Vec<RunEvent> {
    run.tail().poll().unwrap().into_iter().filter_map(|e| e.data.ok()).collect()
}

pub fn final_state(run: &RunDir) -> String {
    match events(run).last() {
        Some(RunEvent::Finished { state, .. }) => state.clone(),
        other => panic!("not finished: {other:?}"),
    }
}

fn final_weights(run: &RunDir) -> Vec<u8> {
    let found = run.latest_checkpoint().unwrap();
    fs::read(found.checkpoint.unwrap().path.join("model.safetensors")).unwrap()
}

fn steps(run: &RunDir) -> usize {
    events(run).iter().filter(|e| matches!(e, RunEvent::Stepped { .. })).count()
}

fn starts(run: &RunDir) -> usize {
    events(run).iter().filter(|e| matches!(e, RunEvent::Started { .. })).count()
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < Duration::from_mins(1), "waited a minute: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills 20 workers, each after a few more steps, then lets the last one finish.
fn kill_and_resume(run: &RunDir) {
    for kill in 0..20u64 {
        // One tail that keeps its offset: a poll costs the same late in the run as early.
        let mut tail = run.tail();
        tail.poll().unwrap();
        let mut child = spawn(run);
        let more = 1 + (kill * 7 % 5) as usize;
        let mut seen = 0;
        wait("steps", || {
            seen += tail.poll().unwrap().iter().filter(|e| matches!(e.data, Ok(RunEvent::Stepped { .. }))).count();
            seen >= more || !matches!(child.try_wait(), Ok(None))
        });
        // Somewhere in the next step or checkpoint.
        std::thread::sleep(Duration::from_micros(kill * 1931 % 17_000));
        assert!(child.try_wait().unwrap().is_none(), "kill {kill} came after the end: make the run longer");
        child.kill().unwrap();
        let killed = Instant::now();
        child.wait().unwrap();
        wait("the lock is free", || !run.is_alive());
        assert!(killed.elapsed() < Duration::from_secs(1), "a dead worker is seen within a second");
    }
    finish(run);
    assert_eq!(starts(run), 21);
}

#[test]
fn training_killed_20_times_ends_with_the_same_weights_byte_for_byte() {
    let sets = ["max_steps=240", "save_steps=2", "lora_dropout=0.1", "lr_scheduler_type=cosine"];
    let (_dir, whole) = training(&sets);
    finish(&whole);
    let (_dir2, run) = training(&sets);
    kill_and_resume(&run);
    assert_eq!(final_state(&run), final_state(&whole));
    assert!(final_weights(&run) == final_weights(&whole), "the weights differ");
    assert!(run.checkpoints().unwrap().len() <= 2);
    let hidden = fs::read_dir(run.path().join("ckpt")).unwrap();
    assert_eq!(hidden.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count(), 0);
}

#[test]
fn sampling_killed_20_times_ends_with_the_same_texts() {
    let (_dir, whole) = sampling(500);
    finish(&whole);
    let (_dir2, run) = sampling(500);
    kill_and_resume(&run);
    assert_eq!(final_state(&run), final_state(&whole));
}

#[test]
fn a_worker_outlives_its_parent_and_ignores_hang_ups() {
    let (_dir, run) = training(&["max_steps=400", "save_steps=0"]);
    let line = format!(
        "'{}' worker run '{}' </dev/null >/dev/null 2>&1 & exec sleep 60",
        env!("CARGO_BIN_EXE_tiebreak"),
        run.path().display()
    );
    let mut shell = Command::new("sh").args(["-c", &line]).stdout(Stdio::piped()).spawn().unwrap();
    wait("the first steps", || steps(&run) > 2);
    let pid = Pid::from_raw(run.holder().unwrap().pid as i32).unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
    for signal in [Signal::HUP, Signal::INT, Signal::PIPE] {
        kill_process(pid, signal).unwrap();
    }
    let before = steps(&run);
    wait("further steps", || steps(&run) > before + 3);
    assert!(run.is_alive());
    kill_process(pid, Signal::TERM).unwrap();
    wait("its end", || !run.is_alive());
    let Some(RunEvent::Stopped { step }) = events(&run).last().cloned() else { panic!("{:?}", events(&run).last()) };
    assert_eq!(run.latest_checkpoint().unwrap().checkpoint.unwrap().step, step);
}

#[test]
fn of_two_workers_one_takes_the_lock_and_the_other_exits() {
    let (_dir, run) = training(&["max_steps=60"]);
    let mut workers: Vec<Child> = (0..4).map(|_| spawn(&run)).collect();
    for worker in &mut workers {
        assert!(worker.wait().unwrap().success());
    }
    assert_eq!((starts(&run), steps(&run)), (1, 60));
    assert!(matches!(events(&run).last(), Some(RunEvent::Finished { step: 60, .. })));
}

#[test]
fn a_paused_worker_waits_and_a_stopped_one_can_be_resumed() {
    let (_dir, whole) = training(&["max_steps=60"]);
    finish(&whole);
    let (_dir2, run) = training(&["max_steps=60"]);
    run.post(RunCommand::Pause).unwrap();
    let mut child = spawn(&run);
    wait("the pause", || events(&run).contains(&RunEvent::Obeyed(RunCommand::Pause)));
    let before = steps(&run);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(steps(&run), before);
    run.post(RunCommand::Resume).unwrap();
    wait("steps", || steps(&run) > before + 2);
    run.post(RunCommand::Stop).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(matches!(events(&run).last(), Some(RunEvent::Stopped { .. })));
    finish(&run);
    assert!(final_weights(&run) == final_weights(&whole), "the weights differ");
}

#[test]
fn invalid_arguments_and_changed_data_get_one_sentence() {
    let tiebreak = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_tiebreak")).arg("worker").args(args).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(tiebreak(&["dance"]).0, Some(2));
    let (code, said) = tiebreak(&["run", "/nowhere"]);
    assert!(code == Some(1) && said.lines().count() == 1 && said.contains("/nowhere/spec.json"), "{said}");
    let (_dir, run) = training(&["max_steps=2"]);
    fs::write(run.data_path().unwrap(), "{}\n").unwrap();
    let (code, said) = tiebreak(&["run", run.path().to_str().unwrap()]);
    assert!(code == Some(1) && said.lines().count() == 1, "{said}");
    let Some(RunEvent::Failed { step: 0, error }) = events(&run).last().cloned() else { panic!("{:?}", events(&run)) };
    assert!(error.contains("data.jsonl was changed since the run was launched"), "{error}");
    assert!(said.contains(&error));
}

fn asked(args: &[&str]) -> Vec<String> {
    let out = Command::new(env!("CARGO_BIN_EXE_tiebreak")).arg("worker").args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn questions_are_answered_in_lines_of_json() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let cards: Vec<ModelCard> =
        asked(&["models", fixtures.to_str().unwrap()]).iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let tiny = cards.iter().find(|c| c.path.ends_with("tests/fixtures/tiny-llama")).unwrap();
    assert_eq!((tiny.family.as_str(), &tiny.problem), ("llama", &None));

    let (dir, run) = training(&["max_steps=3"]);
    let at = run.path().to_str().unwrap();
    let lines = asked(&["estimate", at]);
    let estimate: Estimate = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((lines.len(), estimate.steps, estimate.train_rows), (1, 3, 10));

    let out = dir.path().join("merged");
    let id = run.path().file_name().unwrap().to_str().unwrap();
    let early = Command::new(env!("CARGO_BIN_EXE_tiebreak"))
        .args(["worker", "merge", at, id])
        .arg(&out)
        .args(["hf", "result"])
        .output();
    let said = String::from_utf8_lossy(&early.unwrap().stderr).into_owned();
    assert!(said.contains("has no usable checkpoint"), "{said}");
    finish(&run);
    for (format, file) in [("hf", "model.safetensors"), ("peft", "adapter_model.safetensors")] {
        let out = dir.path().join(format);
        let lines = asked(&["merge", at, id, out.to_str().unwrap(), format, "result"]);
        assert!(lines.iter().all(|l| serde_json::from_str::<RunEvent>(l).is_ok()), "{lines:?}");
        assert!(out.join(file).is_file());
    }
}
