//! What a run does not use of a model's files is said: in its log, and by `models show`.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn done(home: &Path, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_tiebreak")).arg("--home").arg(home).args(args).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{args:?}: {said}");
    said
}

#[test]
fn a_run_says_which_tensors_and_fields_of_its_model_are_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let model = home.join("model");
    std::fs::create_dir_all(&model).unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny.join(name), model.join(name)).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(tiny.join("config.json")).unwrap()).unwrap();
    config["final_logit_softcapping"] = 30.0.into();
    std::fs::write(model.join("config.json"), config.to_string()).unwrap();
    let mut tensors = candle_core::safetensors::load(tiny.join("model.safetensors"), &Device::Cpu).unwrap();
    let extra = "model.layers.1.self_attn.q_proj.bias";
    tensors.insert(extra.into(), Tensor::ones(32, DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, model.join("model.safetensors")).unwrap();
    let model = model.to_str().unwrap();
    std::fs::write(home.join("prompts.txt"), "Once\n").unwrap();
    done(home, &["new", "s", "--model", model, "--prompts", home.join("prompts.txt").to_str().unwrap()]);
    let sampled = done(home, &["sample", "s", "--per-prompt", "1", "--max-new-tokens", "2", "--device", "cpu"]);
    let shown = done(home, &["models", "show", model]);
    for said in [&sampled, &shown] {
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("1 tensor is not read") && said.contains(extra), "{said}");
        assert!(said.contains("final_logit_softcapping=30"), "{said}");
    }
    let log = std::fs::read_to_string(home.join("sessions/s/runs/sample-1/metrics/000001.jsonl")).unwrap();
    assert_eq!(log.matches("model_part_unread").count(), 2, "{log}");
}
