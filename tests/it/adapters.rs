//! `train --init DIR` of the real binary with adapters that Python's peft wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(args).env("TIEBREAK_HOME", home).env("HF_HOME", home.join("hf")).env_remove("HF_HUB_CACHE");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fixtures(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).display().to_string()
}

#[test]
fn a_run_starts_from_an_adapter_made_elsewhere_and_needs_its_folder_once() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let rows: Vec<String> = (0..8)
        .map(|i| format!(r#"{{"prompt":"What is {i}?","chosen":"The river is wide.","rejected":"A list."}}"#))
        .collect();
    let file = home.join("pairs.jsonl");
    fs::write(&file, rows.join("\n")).unwrap();
    // The cache's layout names the model and its commit.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let model = home.join("hf/hub/models--acme--tiny-llama/snapshots").join(commit);
    fs::create_dir_all(&model).unwrap();
    for entry in fs::read_dir(fixtures("tiny-llama")).unwrap().flatten() {
        fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let adapter = home.join("adapter");
    fs::create_dir(&adapter).unwrap();
    for entry in fs::read_dir(fixtures("peft/patterns")).unwrap().flatten() {
        fs::copy(entry.path(), adapter.join(entry.file_name())).unwrap();
    }
    let done = |args: &[&str]| {
        let out = run(home, args);
        assert!(out.status.success(), "{args:?}: {}{}", text(&out.stderr), text(&out.stdout));
        text(&out.stderr)
    };
    done(&["new", "s", "--model", "acme/tiny-llama"]);
    done(&["import", "s", file.to_str().unwrap()]);
    let init = adapter.to_str().unwrap();
    let train = ["train", "s", "dpo", "--init", init, "--set", "eval_fraction=0", "--set", "max_steps=2"];
    let said = done(&train);
    assert!(said.contains("which decides lora_r=2, lora_alpha=4"), "{said}");
    assert!(!said.contains("names acme"), "{said}");
    let run_dir = home.join("sessions/s/runs/dpo-1");
    let inputs: serde_json::Value = serde_json::from_slice(&fs::read(run_dir.join("inputs.json")).unwrap()).unwrap();
    assert_eq!(inputs["adapter"]["path"], init);
    assert_eq!(inputs["adapter"]["files"]["adapter_model.safetensors"]["sha256"].as_str().unwrap().len(), 64);
    // The next run goes on from that one, without the folder.
    fs::remove_dir_all(&adapter).unwrap();
    let same = ["--set", "lora_r=2", "--set", "lora_alpha=4", "--set", "lora_target_modules=q_proj,k_proj,up_proj"];
    let mut next = vec!["train", "s", "dpo", "--init", "dpo-1", "--set", "eval_fraction=0", "--set", "max_steps=1"];
    next.extend(same);
    done(&next);
    // Its export names the model as the hub does, with ranks and scales of its own.
    let out = home.join("out");
    done(&["merge", "s/dpo-2", "--to", out.to_str().unwrap(), "--format", "peft"]);
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["base_model_name_or_path"], &config["revision"]), (&"acme/tiny-llama".into(), &commit.into()));
    assert_eq!(config["rank_pattern"]["model.layers.0.self_attn.q_proj"], 3);
    let refused = run(home, &["train", "s", "dpo", "--init", init]);
    assert!(text(&refused.stderr).contains("is no folder"), "{}", text(&refused.stderr));
    let lora = fixtures("peft/lora");
    let refused = run(home, &["train", "s", "dpo", "--init", &lora, "--set", "lora_r=8"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("leave --set lora_r out"), "{}", text(&refused.stderr));
}
