//! Variables of the chat template: from the command line into a run's inputs, its texts and its answers.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Reads `enable_thinking` as published templates do.
const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}\
    {{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}";

/// A copy of the tiny model with that template, and a session on it.
fn session(home: &Path) -> PathBuf {
    let model = home.join("model");
    std::fs::create_dir_all(&model).unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    for name in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        std::fs::copy(tiny.join(name), model.join(name)).unwrap();
    }
    std::fs::write(model.join("chat_template.jinja"), TEMPLATE).unwrap();
    let rows = "{\"prompt\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"chosen\":\"Yes\",\"rejected\":\"No\"}\n";
    std::fs::write(home.join("pairs.jsonl"), rows).unwrap();
    done(home, &["new", "s", "--model", model.to_str().unwrap()]);
    done(home, &["import", "s", home.join("pairs.jsonl").to_str().unwrap()]);
    model
}

fn run(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tiebreak")).arg("--home").arg(home).args(args).output().unwrap()
}

/// What a command says, which must not fail.
fn done(home: &Path, args: &[&str]) -> String {
    let out = run(home, args);
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{args:?}: {said}");
    said
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn variables_reach_every_text_of_a_run_and_are_part_of_its_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let model = session(home);
    let (model, file) = (model.to_str().unwrap(), home.join("pairs.jsonl"));
    let file = file.to_str().unwrap();
    let off = ["--chat-template-kwargs", "{\"enable_thinking\": false}"];
    let rendered = |more: &[&str]| done(home, &[&["render", model, file], more].concat());
    assert!(!rendered(&[]).contains("<think>"));
    let card = done(home, &["models", "show", model, off[0], "{\"enable_thinking\": false, \"effort\": 1}"]);
    assert!(card.contains("never reads `effort`: it reads enable_thinking") && card.contains("<think>"), "{card}");

    // The prompt of a sampling run, by the option or by the variable's own name.
    let settings =
        ["--per-prompt", "2", "--max-new-tokens", "4", "--temperature", "1", "--seed", "1", "--device", "cpu"];
    let sample = |more: &[&str]| done(home, &[&["sample", "s"], &settings[..], more].concat());
    sample(&[]);
    sample(&off);
    let said = sample(&["--set", "enable_thinking=false", "--set", "effort=low"]);
    assert!(said.contains("never reads `effort`"), "{said}");
    let folder = |id: &str| home.join("sessions/s/runs").join(id);
    let inputs = |id: &str, name: &str| json(&folder(id).join(name));
    assert!(inputs("sample-1", "inputs.json").get("chat_template_kwargs").is_none());
    for (id, variables) in [
        ("sample-2", serde_json::json!({"enable_thinking": false})),
        ("sample-3", serde_json::json!({"enable_thinking": false, "effort": "low"})),
    ] {
        assert_eq!(inputs(id, "inputs.json")["chat_template_kwargs"], variables, "{id}");
        assert_eq!(inputs(id, "spec.json")["inputs"]["chat_template_kwargs"], variables, "{id}");
    }
    let logprob = |id: &str| {
        let log = std::fs::read_to_string(folder(id).join("metrics/000001.jsonl")).unwrap();
        let line = log.lines().find(|line| line.contains("\"logprob\"")).expect("an answer").to_owned();
        let record: Value = serde_json::from_str(&line).unwrap();
        record["d"]["logprob"].as_f64().unwrap()
    };
    let (plain, without, again) = (logprob("sample-1"), logprob("sample-2"), logprob("sample-3"));
    assert!((plain - without).abs() > 1e-6, "{plain} {without}: another prompt has other answers");
    assert!((without - again).abs() < 1e-9, "{without} {again}");

    // The same in training, where the prompt is longer by the thought.
    let set = ["--set", "max_steps=1", "--set", "eval_fraction=0", "--device", "cpu"];
    let train = |more: &[&str]| done(home, &[&["train", "s", "dpo"], &set[..], more].concat());
    train(&[]);
    train(&off);
    train(&["--set", "enable_thinking=false"]);
    assert_eq!(
        inputs("dpo-2", "inputs.json")["chat_template_kwargs"],
        inputs("dpo-3", "inputs.json")["chat_template_kwargs"]
    );
    let params = |id: &str| inputs(id, "spec.json")["task"]["train"]["params"]["chat_template_kwargs"].clone();
    assert_eq!((params("dpo-1"), params("dpo-2")), ("".into(), "{\"enable_thinking\":false}".into()));
    let others = home.join("others.txt");
    std::fs::write(&others, "Where?\nWhen?\n").unwrap();
    let others = others.to_str().unwrap();
    let evaluated = done(
        home,
        &[
            "eval",
            "s",
            "--a",
            "dpo-2",
            "--suite",
            "degenerate",
            "--prompts",
            others,
            "--max-new-tokens",
            "2",
            off[0],
            "{\"enable_thinking\": false, \"effort\": 1}",
        ],
    );
    assert!(evaluated.contains("finished"), "{evaluated}");
    let log = std::fs::read_to_string(folder("eval-1").join("metrics/000001.jsonl")).unwrap();
    assert_eq!(log.matches("never reads `effort`").count(), 1, "both contestants have one base: {log}");
    let variables = serde_json::json!({"enable_thinking": false, "effort": 1});
    assert_eq!(inputs("eval-1", "inputs.json")["chat_template_kwargs"], variables);
}

#[test]
fn what_is_no_variable_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    session(home);
    let refused = |args: &[&str], says: &str| {
        let out = run(home, args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{args:?}: {said}");
    };
    refused(&["sample", "s", "--chat-template-kwargs", "enable_thinking"], "expected a JSON object");
    refused(&["sample", "s", "--chat-template-kwargs", "{\"messages\": []}"], "`messages` is set by the conversation");
    refused(&["sample", "s", "--set", "enable_thinking"], "expected NAME=VALUE");
    refused(&["train", "s", "dpo", "--set", "enable_thinkin=false"], "did you mean `enable_thinking`?");
    refused(&["train", "s", "dpo", "--set", "chat_template_kwargs=[1]"], "expected a JSON object");
}

#[test]
fn a_variable_with_the_name_of_an_option_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    session(dir.path());
    let out = run(dir.path(), &["sample", "s", "--set", "max_new_tokens=8"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("write --max-new-tokens 8"), "{said}");
    assert!(!dir.path().join("sessions/s/runs/sample-1").exists(), "nothing was launched");
}
