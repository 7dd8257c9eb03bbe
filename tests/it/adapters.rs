//! The real binary with adapters and merged models: `train --init DIR` with what Python's peft wrote, `merge` of runs with a scalar head.

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

#[test]
fn a_score_head_is_merged_where_it_is_the_result_and_a_value_head_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let rows: Vec<String> = (0..6)
        .map(|i| format!(r#"{{"prompt":"What is {i}?","chosen":"The river is wide.","rejected":"A list."}}"#))
        .collect();
    let file = home.join("pairs.jsonl");
    fs::write(&file, rows.join("\n")).unwrap();
    let done = |args: &[&str]| {
        let out = run(home, args);
        assert!(out.status.success(), "{args:?}: {}{}", text(&out.stderr), text(&out.stdout));
    };
    let refused = |args: &[&str]| {
        let out = run(home, args);
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        text(&out.stderr)
    };
    done(&["new", "s", "--model", &fixtures("tiny-llama")]);
    done(&["import", "s", file.to_str().unwrap()]);
    let common = ["--set", "eval_fraction=0", "--set", "max_steps=1"];
    done(&[&["train", "s", "reward"], &common[..]].concat());
    done(&[&["train", "s", "dpo"], &common[..]].concat());
    let online = ["--set", "tune=full", "--set", "reward_checks=max_chars=20", "--set", "max_completion_length=4"];
    done(&[&["train", "s", "ppo"], &common[..], &online].concat());
    let merged = |run: &str, more: &[&str]| {
        let to = home.join(format!("{run}{}", more.concat()));
        let run = format!("s/{run}");
        done(&[&["merge", &run, "--to", to.to_str().unwrap()], more].concat());
        let config: serde_json::Value = serde_json::from_slice(&fs::read(to.join("config.json")).unwrap()).unwrap();
        let tensors = candle_core::safetensors::load(to.join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
        let class = config["architectures"][0].as_str().unwrap().to_owned();
        (class, tensors.contains_key("score.weight"), fs::read_to_string(to.join("README.md")).unwrap())
    };
    for (name, more) in [("reward-1", &[][..]), ("reward-1", &["--format", "hf-base"]), ("ppo-1", &["--critic"])] {
        let (class, head, card) = merged(name, more);
        assert_eq!((class.as_str(), head), ("LlamaForSequenceClassification", true), "{name} {more:?}");
        assert!(
            card.contains("pipeline_tag: text-classification") && card.contains("AutoModelForSequenceClassification"),
            "{card}"
        );
    }
    let (class, head, card) = merged("ppo-1", &[]);
    assert_eq!((class.as_str(), head), ("LlamaForCausalLM", false));
    assert!(card.contains("pipeline_tag: text-generation"), "{card}");
    let to = home.join("out").display().to_string();
    let said = refused(&["merge", "s/reward-1", "--to", &to, "--format", "gguf"]);
    assert!(said.contains("--format hf, hf-base or peft"), "{said}");
    let said = refused(&["merge", "s/reward-1", "--to", &to, "--critic"]);
    assert!(said.contains("leave --critic out"), "{said}");
    let said = refused(&["merge", "s/dpo-1", "--to", &to, "--critic"]);
    assert!(said.contains("trained no critic"), "{said}");
    assert!(!Path::new(&to).exists());
}
