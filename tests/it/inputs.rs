//! The inputs of runs, with real processes: changed model files, parent runs that trained on, the date.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tiebreak::domain::RunId;
use tiebreak::protocol::RunEvent;
use tiebreak::storage::{Home, RunDir, SessionDir};

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// A data folder with a copy of the tiny Llama and a session of ten pairs.
struct Fixture {
    home: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir_all(fixture.model()).unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
        for file in
            ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
        {
            fs::copy(from.join(file), fixture.model().join(file)).unwrap();
        }
        fixture.done(&["new", "s", "--model", fixture.model().to_str().unwrap()]);
        let turn = |role: &str, text: String| serde_json::json!([{"role": role, "content": text}]);
        let pair = |i| {
            let row = serde_json::json!({
                "prompt": turn("user", format!("What is {i} + {i}?")),
                "chosen": turn("assistant", format!("It is {}.", 2 * i)),
                "rejected": turn("assistant", "I do not know.".into()),
            });
            format!("{row}\n")
        };
        let file = fixture.home.path().join("pairs.jsonl");
        fs::write(&file, (0..10).map(pair).collect::<String>()).unwrap();
        fixture.done(&["import", "s", file.to_str().unwrap()]);
        fixture
    }

    fn model(&self) -> PathBuf {
        self.home.path().join("models/m")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
        command.args(args).env("TIEBREAK_HOME", self.home.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; returns its standard output.
    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{args:?}: {err}\n{out}");
        out.into_owned()
    }

    /// Runs a command that must fail; returns its error message.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?} was not refused: {said}");
        said.lines().last().unwrap_or_default().to_owned()
    }

    fn dir(&self, id: &str) -> RunDir {
        let session = SessionDir::find(&Home::resolve(Some(self.home.path())).unwrap(), "s").unwrap();
        session.run(&RunId::new(id)).unwrap()
    }

    fn events(&self, id: &str) -> Vec<RunEvent> {
        self.dir(id).tail().poll().unwrap().into_iter().filter_map(|e| e.data.ok()).collect()
    }

    fn steps(&self, id: &str) -> usize {
        self.events(id).iter().filter(|e| matches!(e, RunEvent::Stepped { .. })).count()
    }

    fn until(what: &str, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < PATIENCE, "waited a minute: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for `more` steps of a run, then stops it.
    fn step_and_stop(&self, id: &str, more: usize) {
        let before = self.steps(id);
        Self::until("steps", || self.steps(id) >= before + more);
        self.done(&["stop", &format!("s/{id}")]);
        Self::until("its end", || !self.dir(id).is_alive());
        assert!(matches!(self.events(id).last(), Some(RunEvent::Stopped { .. })), "{:?}", self.events(id).last());
    }

    /// Launches a run and stops it after a few steps.
    fn cut(&self, method: &str, name: &str, more: &[&str]) {
        self.train(method, name, more, &["--detach"]);
        self.step_and_stop(name, 3);
    }

    fn train(&self, method: &str, name: &str, more: &[&str], how: &[&str]) {
        let sets = ["eval_fraction=0", "per_device_train_batch_size=2", "learning_rate=1e-3"];
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let words: Vec<&str> = ["train", "s", method, "--name", name]
            .into_iter()
            .chain(sets)
            .chain(more.iter().chain(how).copied())
            .collect();
        self.done(&words);
    }

    /// Waits for the end of a run; returns its final state hash.
    fn finished(&self, id: &str) -> String {
        Self::until("its end", || !self.dir(id).is_alive());
        match self.events(id).last() {
            Some(RunEvent::Finished { state, .. }) => state.clone(),
            other => panic!("{id} did not finish: {other:?}"),
        }
    }

    fn findings(&self, id: &str, rule: &str) -> usize {
        self.events(id).iter().filter(|e| matches!(e, RunEvent::Found(f) if f.rule == rule)).count()
    }
}

/// A change to a file's bytes.
type Edit = fn(Vec<u8>) -> Vec<u8>;

fn edit(path: &Path, with: impl Fn(Vec<u8>) -> Vec<u8>) {
    fs::write(path, with(fs::read(path).unwrap())).unwrap();
}

/// Flips a bit in the middle, where a check of sampled bytes would miss it.
fn flip(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() / 2 + 777;
    bytes[at] ^= 1;
    bytes
}

#[test]
fn a_changed_model_file_is_refused_by_name() {
    let fixture = Fixture::new();
    fixture.cut("dpo", "r", &["--set", "max_steps=100000"]);
    let template = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        // The rendered text is the same: only the template differs.
        text.replace(r#""chat_template": ""#, r#""chat_template": "{# changed #}"#).into_bytes()
    };
    let spaced = |bytes: Vec<u8>| [bytes, b"\n".to_vec()].concat();
    let changes: [(&str, &str, Edit); 3] = [
        ("model.safetensors", "weights", flip),
        ("tokenizer.json", "tokenizer", spaced),
        ("tokenizer_config.json", "chat template", template),
    ];
    for (file, part, change) in changes {
        let path = fixture.model().join(file);
        let whole = fs::read(&path).unwrap();
        edit(&path, change);
        assert_ne!(fs::read(&path).unwrap(), whole);
        let merged = fixture.home.path().join("merged");
        for words in [
            vec!["resume", "s/r"],
            vec!["merge", "s/r", "--to", merged.to_str().unwrap()],
            vec!["sample", "s", "--adapter", "r", "--max-new-tokens", "4"],
            vec!["train", "s", "dpo", "--init", "r", "--set", "max_steps=2"],
        ] {
            let said = fixture.refused(&words);
            let named = format!("{} ({part}) was changed since run r ", path.display());
            assert!(said.contains(&named) && said.contains("restore the old files"), "{words:?}: {said}");
        }
        assert!(!merged.exists());
        let runs = fs::read_dir(fixture.dir("r").session_path().join("runs")).unwrap();
        assert_eq!(runs.count(), 1, "what was refused left no run behind");
        fs::write(&path, whole).unwrap();
    }
    assert!(matches!(fixture.events("r").last(), Some(RunEvent::Stopped { .. })), "a refused run stays as it was");
    fixture.done(&["resume", "s/r"]);
    fixture.step_and_stop("r", 2);
}

#[test]
fn a_reward_run_with_a_changed_model_scores_nothing() {
    let fixture = Fixture::new();
    fixture.train("reward", "judge", &["--set", "max_steps=3"], &["--json"]);
    edit(&fixture.model().join("model.safetensors"), flip);
    let said = fixture.refused(&["score", "s", "--with", "judge"]);
    assert!(said.contains("model.safetensors (weights) was changed since run judge began"), "{said}");
    let more = ["--set", "max_steps=2", "--set", "reward_model=judge", "--set", "num_generations=2"];
    let words = [["train", "s", "rloo"].as_slice(), &more].concat();
    let said = fixture.refused(&words);
    assert!(said.contains("model.safetensors (weights) was changed since run judge began"), "{said}");
}

/// A run that starts from another run's checkpoint ends the same if it is interrupted while its parent trains on.
fn the_parent_trains_on(parent: &str, child: &str, with: &[&str]) {
    let fixture = Fixture::new();
    fixture.cut(parent, "base", &["--set", "max_steps=100000", "--set", "save_total_limit=1", "--set", "save_steps=0"]);
    let step = fixture.dir("base").latest_checkpoint().unwrap().checkpoint.unwrap().step;
    fixture.train(child, "whole", with, &["--json"]);
    fixture.cut(child, "cut", with);
    fixture.cut(child, "gone", with);
    fixture.done(&["resume", "s/base"]);
    fixture.step_and_stop("base", 3);
    let kept: Vec<u64> = fixture.dir("base").checkpoints().unwrap().iter().map(|c| c.step).collect();
    assert!(!kept.contains(&step), "{step} of {kept:?} was to be pruned");

    fixture.done(&["resume", "s/cut"]);
    assert_eq!(
        fixture.finished("cut"),
        fixture.finished("whole"),
        "the run resumed with another checkpoint of its parent"
    );

    fs::remove_dir_all(fixture.dir("gone").path().join("inputs")).unwrap();
    let said = fixture.refused(&["resume", "s/gone"]);
    assert!(said.contains(&format!("run gone started from step {step} of base")), "{said}");
    assert!(said.contains("save_total_limit") && said.contains("launch a new run"), "{said}");
}

#[test]
fn a_run_keeps_the_checkpoint_it_started_from() {
    the_parent_trains_on("dpo", "dpo", &["--init", "base", "--set", "max_steps=300", "--set", "save_steps=0"]);
}

#[test]
fn a_run_keeps_the_reward_model_that_scores_it() {
    let sets = ["reward_model=base", "num_generations=2", "max_steps=60", "save_steps=0", "max_completion_length=4"];
    let words: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    the_parent_trains_on("reward", "rloo", &words);
}

#[test]
fn a_run_of_an_older_version_gets_one_warning_and_is_then_checked() {
    let fixture = Fixture::new();
    fixture.cut("dpo", "r", &["--set", "max_steps=100000"]);
    // As an older version wrote it.
    let dir = fixture.dir("r");
    edit(&dir.path().join("spec.json"), |bytes| {
        let mut spec: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        spec.as_object_mut().unwrap().remove("inputs");
        serde_json::to_vec(&spec).unwrap()
    });
    let _ = fs::remove_file(dir.path().join("inputs.json"));
    for _ in 0..2 {
        fixture.done(&["resume", "s/r"]);
        fixture.step_and_stop("r", 1);
        assert_eq!(fixture.findings("r", "inputs_unrecorded"), 1);
    }
    edit(&fixture.model().join("model.safetensors"), flip);
    let said = fixture.refused(&["resume", "s/r"]);
    assert!(said.contains("model.safetensors (weights) was changed since run r began"), "{said}");
}

#[test]
fn a_resumed_run_renders_with_the_local_date_of_its_launch() {
    let fixture = Fixture::new();
    edit(&fixture.model().join("tokenizer_config.json"), |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        let now = r#""chat_template": "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}"#;
        text.replace(r#""chat_template": ""#, now).into_bytes()
    });
    let words =
        ["train", "s", "dpo", "--name", "r", "--set", "max_steps=100000", "--set", "eval_fraction=0", "--detach"];
    let launched = fixture.command(&words).env("TZ", "Pacific/Kiritimati").output().unwrap();
    assert!(launched.status.success(), "{}", String::from_utf8_lossy(&launched.stderr));
    fixture.step_and_stop("r", 2);
    std::thread::sleep(Duration::from_millis(1100));
    let resumed = fixture.command(&["resume", "s/r"]).env("TZ", "UTC").output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    fixture.step_and_stop("r", 2);

    let path = fixture.dir("r").path().join("spec.json");
    let spec: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let date = spec["inputs"]["date"].as_str().unwrap().parse::<jiff::civil::DateTime>().unwrap();
    let utc = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now());
    let ahead = utc.until(date).unwrap().total(jiff::Unit::Hour).unwrap();
    assert!((13.9..=14.0).contains(&ahead), "{date} is {ahead} hours ahead of {utc}");

    // Masks before a launch are rendered with the date of the specification.
    let place = fixture.home.path().join("plan");
    fs::create_dir(&place).unwrap();
    fs::copy(fixture.dir("r").data_path().unwrap(), place.join("data.jsonl")).unwrap();
    let mut spec = spec;
    spec["inputs"]["date"] = "2020-02-29T13:05:09".into();
    spec["task"]["train"]["model"]["path"] = fixture.model().display().to_string().into();
    fs::write(place.join("spec.json"), spec.to_string()).unwrap();
    let masks = fixture.done(&["worker", "masks", place.to_str().unwrap()]);
    assert!(masks.contains("2020-02-29 13:05:09"), "{masks}");
}
