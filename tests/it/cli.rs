//! The command line as scripts see it: exit codes, one sentence for what is wrong, JSON on standard output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tiebreak::domain::{Finding, Severity};
use tiebreak::protocol::RunEvent;
use tiebreak::storage::{Home, SessionDir};

pub fn tiebreak(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tiebreak")).args(args).env("TIEBREAK_HOME", home).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The error message; asserts that it is one sentence and that the exit code is `code`.
fn refused(home: &Path, args: &[&str], code: i32) -> String {
    let output = tiebreak(home, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}");
    said
}

pub fn json(home: &Path, args: &[&str]) -> serde_json::Value {
    let output = tiebreak(home, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", text(&output.stdout)))
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama")
}

/// A session with two labelled pairs, imported from a file with one bad line.
pub fn with_pairs(home: &Path) {
    json(home, &["new", "tone", "--model", tiny().to_str().unwrap(), "--json"]);
    let file = home.join("pairs.jsonl");
    fs::write(
        &file,
        "{\"prompt\":\"q1\",\"chosen\":\"good\",\"rejected\":\"bad\"}\nnot json\n{\"prompt\":\"q2\",\"chosen\":\"fine\",\"rejected\":\"poor\"}\n",
    )
    .unwrap();
    let added = json(home, &["import", "tone", file.to_str().unwrap(), "--json"]);
    assert_eq!((&added["pairs"], &added["bad_lines"]), (&2.into(), &1.into()), "{added}");
}

#[test]
fn a_dry_run_shows_what_rows_become_and_imports_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let file = home.join("orca.csv");
    fs::write(&file, "system,question,chosen,rejected,source\nBe brief.,Why?,So.,No.,web\n").unwrap();
    let file = file.to_str().unwrap();
    let shown = tiebreak(home, &["import", "tone", file, "--dry-run"]);
    let (out, notes) = (text(&shown.stdout), text(&shown.stderr));
    assert!(out.contains("read as pairs, 1 pair; nothing was imported"), "{out}");
    for line in ["  system       Be brief.", "  user         Why?", "  chosen       So.", "  rejected     No."] {
        assert!(out.lines().any(|shown| shown == line), "{out}");
    }
    assert!(notes.contains("not used: source (1 row)"), "{notes}");
    let dry = json(home, &["import", "tone", file, "--dry-run", "--json"]);
    assert_eq!((&dry["kind"], &dry["unused"]["source"], &dry["rows"]), (&"pairs".into(), &1.into(), &1.into()));
    let added = json(home, &["import", "tone", file, "--json"]);
    assert_eq!((&added["pairs"], &added["unused"]["source"]), (&1.into(), &1.into()), "the dry run imported nothing");
}

#[test]
fn errors_are_one_sentence_with_the_right_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    assert!(refused(home, &["smaple"], 2).contains("`sample`"));
    assert!(refused(home, &["nope"], 2).contains("`tiebreak --help`"));
    assert!(refused(home, &["train", "tone", "dpp"], 2).contains("`dpo`"));
    assert!(refused(home, &["train", "tone", "nothing"], 2).contains("sft, "));
    assert!(refused(home, &["train", "tone", "dpo", "--set", "btea=1"], 2).contains("`beta`"));
    assert!(refused(home, &["train", "tone", "dpo", "--set", "beta=x"], 2).contains("number"));
    assert!(refused(home, &["runs", "tune"], 1).contains("`tone`"));
    assert!(refused(home, &["pause", "tone"], 2).contains("SESSION/RUN"));
    assert!(refused(home, &["pause", "tone/dpo-1"], 1).contains("dpo-1"));
    assert!(refused(home, &["import", "tone", "/nowhere/file"], 1).contains("/nowhere/file"));
    assert!(refused(home, &["export", "tone", "--to", "/tmp/x", "--format", "hv"], 2).contains("trl"));
    assert!(refused(home, &["new", "tone", "--model", tiny().to_str().unwrap()], 1).contains("exists"));
    assert!(refused(home, &["models", "get", "gpt"], 2).contains("smollm2"));
    assert!(refused(home, &["label", "tone"], 2).contains("terminal"));
}

#[test]
fn every_method_refuses_contradictory_options_before_there_is_a_run() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let own: &[(&str, &str, &str)] = &[
        ("dpo", "loss_type=hinge", "label_smoothing=0.1"),
        ("cpo", "loss_type=ipo", "soft_labels=true"),
        ("kto", "loss_type=kto", "per_device_train_batch_size=1"),
        ("ppo", "kl_target=0", "kl_horizon=5"),
        ("grpo", "beta=0", "use_bias_correction_kl=false"),
        ("rloo", "reward_checks=", "checks_weight=2"),
    ];
    let shared = tiebreak::domain::methods().iter().map(|m| (m.name, "tune=full", "lora_r=8"));
    for (method, one, other) in shared.chain(own.iter().copied()) {
        let said = refused(home, &["train", "tone", method, "--set", one, "--set", other], 2);
        let key = other.split('=').next().unwrap();
        assert!(said.contains(key), "{method} {one} {other}: {said}");
    }
    assert_eq!(text(&tiebreak(home, &["runs", "tone", "--json"]).stdout), "", "no run was made");
    assert_eq!(fs::read_dir(home.join("sessions/tone/runs")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_session_imports_exports_and_verifies() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let checked = json(home, &["replay", "tone", "--check", "--json"]);
    assert_eq!((&checked["ok"], &checked["verdicts"]), (&true.into(), &2.into()), "{checked}");
    assert_eq!((&checked["hashes_verified"], &checked["winners_verified"]), (&1.into(), &2.into()), "{checked}");
    let out = home.join("out.jsonl");
    assert_eq!(json(home, &["export", "tone", "--to", out.to_str().unwrap(), "--json"])["rows"], 2);
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 2);
    // A changed byte in the middle is detected.
    let log = home.join("sessions/tone/events/000001.jsonl");
    let bytes = fs::read_to_string(&log).unwrap().replacen("good", "goad", 1);
    fs::write(&log, bytes).unwrap();
    let output = tiebreak(home, &["replay", "tone", "--check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not verify"), "{}", text(&output.stderr));
}

#[test]
fn texts_and_ratings_are_imported_and_exported_with_their_kind() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let chat = "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]}\n";
    let turns = "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":\"b\"}]}\n";
    let answer = "{\"prompt\":\"q\",\"completion\":\"a\"}\n";
    let rating = "{\"prompt\":\"q\",\"completion\":\"a\",\"label\":false}\nnot json\n";
    let general = "{\"text\":\"All is well.\"}\n";
    let bring = |text: &str, kind: &[&str]| {
        let file = home.join("rows.jsonl");
        fs::write(&file, text).unwrap();
        let mut args = vec!["import", "tone", file.to_str().unwrap(), "--json"];
        args.extend(kind);
        let added = json(home, &args);
        let count = |name: &str| added[name].as_u64().unwrap();
        (added["kind"].as_str().unwrap().to_owned(), count("rows") + count("prompts"), count("bad_lines"))
    };
    let told = |kind: &str, rows, bad| (kind.to_owned(), rows, bad);
    // The kind is detected from the content if it is unambiguous; a conversation may be a prompt.
    assert_eq!(bring(answer, &[]), told("sft", 1, 0));
    assert_eq!(bring(turns, &[]), told("sharegpt", 1, 0));
    assert_eq!(bring(general, &[]), told("sft", 1, 0));
    assert_eq!(bring(rating, &[]), told("ratings", 1, 1));
    assert_eq!(bring(chat, &[]), told("prompts", 1, 0));
    assert_eq!(bring(chat, &["--as", "sft"]), told("sft", 1, 0));
    assert_eq!(bring(general, &["--as", "probe"]), told("probe", 1, 0));
    assert_eq!(bring(&answer.replace('q', "new"), &["--as", "prompts"]), told("prompts", 1, 0));
    assert!(
        refused(home, &["import", "tone", home.join("rows.jsonl").to_str().unwrap(), "--as", "ratings"], 1)
            .contains("holds no usable ratings")
    );

    let out = home.join("out.jsonl");
    let export = |format: &str| {
        let done = json(home, &["export", "tone", "--to", out.to_str().unwrap(), "--format", format, "--json"]);
        let text = fs::read_to_string(&out).unwrap();
        assert_eq!(done["rows"].as_u64(), Some(text.lines().count() as u64));
        text
    };
    assert_eq!(export("sft").lines().count(), 4);
    assert!(export("sft").contains(general.trim_end()));
    // The imported rating, and a good and a bad one from each of the two pairs.
    let ratings = export("kto");
    let labels = |good: bool| ratings.lines().filter(|line| line.contains(&format!("\"label\":{good}"))).count();
    assert_eq!((labels(true), labels(false)), (2, 3));
    assert_eq!(export("trl").lines().count(), 2);
    assert_eq!(json(home, &["replay", "tone", "--check", "--json"])["ok"], true);
}

#[test]
fn help_names_every_command_and_no_unknown_one() {
    let home = tempfile::tempdir().unwrap();
    let help = text(&tiebreak(home.path(), &["--help"]).stdout);
    for name in
        ["models", "new", "import", "sample", "label", "train", "runs", "watch", "pause", "resume", "checkpoint"]
    {
        assert!(help.contains(&format!("  {name} ")), "{name}:\n{help}");
        let own = tiebreak(home.path(), &[name, "--help"]);
        assert!(own.status.success(), "{name}");
    }
    assert!(!help.contains("worker"), "{help}");
    let doctor = json(home.path(), &["doctor", "--json"]);
    assert!(doctor["cores"].as_u64() > Some(0), "{doctor}");
    assert!(text(&tiebreak(home.path(), &["completions", "bash"]).stdout).contains("tiebreak"));
}

#[test]
fn a_bare_file_name_is_relative_to_the_working_directory() {
    let home = tempfile::tempdir().unwrap();
    with_pairs(home.path());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.current_dir(home.path()).args(["--home", ".", "export", "tone", "--to", "pairs.jsonl"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(home.path().join("pairs.jsonl").exists());
}

/// A damaged copy of the tiny model.
fn spoiled(home: &Path, name: &str, spoil: impl Fn(&Path)) -> PathBuf {
    let model = home.join(format!("model-{name}"));
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        fs::copy(tiny().join(file), model.join(file)).unwrap();
    }
    spoil(&model);
    model
}

fn edit(file: &'static str, from: &'static str, to: &'static str) -> impl Fn(&Path) {
    move |model: &Path| {
        let text = fs::read_to_string(model.join(file)).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(model.join(file), text.replace(from, to)).unwrap();
    }
}

fn cut(model: &Path) {
    let file = model.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..20_000]).unwrap();
}

#[test]
fn an_unusable_model_is_refused_with_the_reason_before_a_session_is_created() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let new = |name: &str, model: &Path| refused(home, &["new", name, "--model", model.to_str().unwrap()], 1);
    let tokens = spoiled(home, "tokens", |model| fs::remove_file(model.join("tokenizer.json")).unwrap());
    assert!(new("tokens", &tokens).contains("tokenizer.json"));
    let kind = spoiled(home, "kind", edit("config.json", "\"llama\"", "\"gpt_bigcode\""));
    assert!(new("kind", &kind).contains("`gpt_bigcode` is not supported"));
    let shape = spoiled(home, "shape", edit("config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 48"));
    assert!(new("shape", &shape).contains("has shape [64, 32], but config.json asks for [48, 32]"));
    let deep = spoiled(home, "deep", edit("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"));
    assert!(new("deep", &deep).contains("tensors are missing"));
    assert!(new("cut", &spoiled(home, "cut", cut)).contains("model.safetensors"));
    let empty = spoiled(home, "empty", |model| {
        for file in fs::read_dir(model).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    });
    assert!(new("empty", &empty).contains("has no config.json"));
    let file = home.join("file.gguf");
    fs::write(&file, "not a model").unwrap();
    assert!(new("file", &file).contains("file.gguf"));
    assert!(new("none", Path::new("/no/such/model")).contains("/no/such/model"));
    assert!(!home.join("sessions").exists(), "a refused session leaves nothing behind");
}

#[test]
fn a_model_damaged_after_its_session_was_created_is_refused_by_train() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let pairs = home.join("pair.jsonl");
    fs::write(&pairs, "{\"prompt\":\"q\",\"chosen\":\"good\",\"rejected\":\"bad\"}\n").unwrap();
    let model = spoiled(home, "cut", |_| ());
    json(home, &["new", "cut", "--model", model.to_str().unwrap(), "--json"]);
    json(home, &["import", "cut", pairs.to_str().unwrap(), "--json"]);
    cut(&model);
    assert!(refused(home, &["train", "cut", "dpo"], 1).contains("model.safetensors"));
    let whole = spoiled(home, "whole", |_| ());
    json(home, &["new", "whole", "--model", whole.to_str().unwrap(), "--json"]);
    json(home, &["import", "whole", pairs.to_str().unwrap(), "--json"]);
    let said = refused(home, &["train", "whole", "dpo", "--device", "tpu"], 1);
    assert!(said.contains("no device `tpu`") && said.contains("cpu"), "{said}");
    assert_eq!(text(&tiebreak(home, &["runs", "whole", "--json"]).stdout), "", "no run was made");
    assert!(refused(home, &["sample", "cut", "--top-k", "3"], 2).contains("`--top-p`"));
}

#[test]
fn a_file_instead_of_the_data_folder_is_named_with_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a-file");
    fs::write(&file, "").unwrap();
    let said = refused(home.path(), &["--home", file.to_str().unwrap(), "runs", "x"], 1);
    assert!(said.contains("a-file is a file") && said.contains("--home"), "{said}");
}

#[test]
fn a_benchmark_reports_speed_memory_and_machine_and_uses_the_pairs_that_fit() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let file = home.join("pairs.jsonl");
    let row = |i: usize| {
        format!("{{\"prompt\":\"question {i} \",\"chosen\":\"{}\",\"rejected\":\"no\"}}\n", "well said ".repeat(i + 1))
    };
    fs::write(&file, (0..8).map(row).collect::<String>()).unwrap();
    let (model, data, start) = (tiny(), file.to_str().unwrap().to_owned(), home.join("start"));
    let train = |more: &[&str]| {
        let mut args = vec!["bench", "train", "--model", model.to_str().unwrap(), "--data", &data];
        args.extend(["--batch", "2", "--min", "1", "--max", "400"]);
        args.extend(more);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let asked = |more: &[&str]| {
        let args = train(more);
        json(home, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let said = asked(&["--json", "--steps", "2", "--start-to", start.to_str().unwrap()]);
    for key in ["real_tokens_per_s", "step_s", "reference_s", "product_gflops", "share_of_product"] {
        assert!(said[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {said}");
    }
    assert!(!cfg!(target_os = "linux") || said["peak_mib"].as_f64().is_some_and(|x| x > 1.0), "{said}");
    assert!(said["machine"]["threads"].as_u64().is_some_and(|n| n > 0), "{said}");
    let steps = said["steps"].as_array().unwrap();
    assert_eq!((steps.len(), &said["pairs"], &steps[0]["warm_up"]), (3, &6.into(), &true.into()));
    assert!((steps[0]["metrics"]["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-5);
    assert!(start.join("model.safetensors").is_file());
    let tables = asked(&["--json", "--tokens", "64,128", "--pairs", "1", "--no-product"]);
    let tokens: Vec<_> = tables["by_tokens"].as_array().unwrap().iter().map(|r| r["tokens_a_pair"].clone()).collect();
    assert_eq!((tokens, &tables["by_pairs"][0]["pairs_a_step"]), (vec![64.into(), 128.into()], &1.into()));
    let refuse = |more: &[&str], code| {
        let args = train(more);
        refused(home, &args.iter().map(String::as_str).collect::<Vec<_>>(), code)
    };
    assert!(refuse(&["--set", "shuffle=true"], 2).contains("the benchmark's own"));
    assert!(refuse(&["--steps", "9"], 1).contains("lower --steps"));
    assert!(refuse(&["--device", "cuda:9", "--steps", "1"], 1).contains("cpu"));
    let sampled = json(
        home,
        &[
            "bench",
            "sample",
            "--model",
            model.to_str().unwrap(),
            "--rows",
            "1,2",
            "--tokens",
            "4",
            "--runs",
            "2",
            "--json",
        ],
    );
    assert_eq!(sampled["rows"].as_array().unwrap().len(), 2, "{sampled}");
    assert!(sampled["rows"][1]["tokens_per_s"].as_f64().is_some_and(|x| x > 0.0), "{sampled}");
}

#[test]
fn doctor_lists_the_libraries_of_a_cuda_build_and_the_searched_folders() {
    let home = tempfile::tempdir().unwrap();
    let said = json(home.path(), &["doctor", "--json"]);
    assert!(said["gpus"].is_array() && said["cuda_build"].is_boolean(), "{said}");
    for library in ["libcuda.so", "libcublas.so", "libnvrtc.so"] {
        assert!(said["cuda_libraries"][library].is_object(), "{said}");
    }
    assert!(said["cuda_searched"].as_array().is_some_and(|places| !places.is_empty()), "{said}");
    let words = text(&tiebreak(home.path(), &["doctor"]).stdout);
    assert!(words.contains("libcuda.so (the driver)"), "{words}");
}

#[test]
fn a_run_that_waits_for_disk_space_is_listed_as_waiting() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let session = SessionDir::find(&Home::resolve(Some(home)).unwrap(), "tone").unwrap();
    let run = session.create_run(&crate::support::sampling("sample-1"), b"").unwrap();
    let lock = run.lock().unwrap().unwrap();
    let mut log = run.writer(&lock).unwrap();
    for event in crate::support::sampling_began(4) {
        log.append(&event).unwrap();
    }
    let listed = || json(home, &["runs", "tone", "--json"])["waiting_for"].clone();
    let mut find = |severity| {
        let (rule, text, remedy) = ("disk_full".into(), String::new(), String::new());
        log.append(&RunEvent::Found(Finding { rule, step: 0, severity, text, remedy, pair: None })).unwrap();
        log.sync().unwrap();
    };
    find(Severity::Warn);
    assert_eq!(listed(), "disk_space");
    let words = text(&tiebreak(home, &["runs", "tone"]).stdout);
    assert!(words.contains("waiting") && words.contains("space on the disk"), "{words}");
    find(Severity::Note);
    assert_eq!(listed(), serde_json::Value::Null);
    let words = text(&tiebreak(home, &["runs", "tone"]).stdout);
    assert!(words.contains("running") && !words.contains("disk"), "{words}");
}
