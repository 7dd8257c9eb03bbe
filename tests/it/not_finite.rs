//! Weights that hold NaN or an infinity: whatever computes with them ends with one sentence that names the file and the tensor.

use crate::cli::{json, text, tiebreak, with_pairs};
use std::fs;
use std::path::{Path, PathBuf};

/// A copy of the small model whose tensors of that name hold NaN, or an infinity as their first value.
fn damaged(to: &Path, part: &str, whole: bool) -> PathBuf {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(&model).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let file = to.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    for (name, tensor) in
        tensors.as_object().unwrap().iter().filter(|(name, _)| name.contains(part) && *name != "__metadata__")
    {
        let bad: &[u8] = match (tensor["dtype"].as_str().unwrap(), whole) {
            ("F32", true) => &[0, 0, 0xc0, 0x7f],
            ("F32", false) => &[0, 0, 0x80, 0x7f],
            ("F16", true) => &[0, 0x7e],
            ("F16", false) => &[0, 0x7c],
            ("BF16", true) => &[0xc0, 0x7f],
            ("BF16", false) => &[0x80, 0x7f],
            (other, _) => panic!("{name} is of type {other}"),
        };
        let place = |i: usize| header + tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let end = if whole { place(1) } else { place(0) + bad.len() };
        bytes[place(0)..end].chunks_exact_mut(bad.len()).for_each(|value| value.copy_from_slice(bad));
    }
    fs::write(&file, bytes).unwrap();
    to.to_owned()
}

/// The last line on standard error of a command that fails.
fn failed(home: &Path, args: &[&str]) -> String {
    let output = tiebreak(home, args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}{}", text(&output.stdout));
    assert!(!said.contains("empty"), "{args:?}: {said}");
    said.trim_end().lines().next_back().unwrap().to_owned()
}

#[test]
fn weights_that_are_not_finite_end_every_command_with_their_file_and_tensor() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    with_pairs(home);
    let sound = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    let sound = sound.to_str().unwrap();
    let texts = home.join("forgetting.jsonl");
    let text = |domain: &str| format!("{{\"domain\":\"{domain}\",\"text\":\"The river is wide.\"}}\n");
    fs::write(&texts, ["chat", "math", "code", "fiction"].map(text).concat()).unwrap();
    for (at, (part, whole)) in [("", true), ("layers.1.mlp.down_proj", false), ("model.norm", false)].iter().enumerate()
    {
        let model = damaged(&home.join(format!("model-{at}")), part, *whole);
        let path = model.to_str().unwrap();
        let judge = format!("judge:{path}");
        let session = format!("s{at}");
        json(home, &["new", &session, "--model", path, "--json"]);
        json(home, &["import", &session, home.join("pairs.jsonl").to_str().unwrap(), "--json"]);
        let train = |method| vec!["train", &session, method, "--set", "max_steps=2", "--set", "eval_fraction=0"];
        let eval = ["eval", &session, "--a", path, "--b", sound, "--limit", "2", "--max-new-tokens", "4", "--suite"];
        let commands: [Vec<&str>; 7] = [
            vec!["models", "show", path],
            vec!["sample", &session, "--per-prompt", "2", "--max-new-tokens", "4"],
            train("dpo"),
            train("reward"),
            vec!["score", &session, "--with", &judge, "--vote"],
            [&eval[..], &["degenerate"]].concat(),
            [&eval[..], &["forgetting", "--data", texts.to_str().unwrap()]].concat(),
        ];
        for command in commands {
            let said = failed(home, &command);
            let file = model.join("model.safetensors");
            let named = format!("{}: the tensor ", file.display());
            assert!(
                said.contains(&named) && said.contains("NaN or infinite") && said.contains("download"),
                "{command:?}: {said}"
            );
            assert!(said.contains(part), "{command:?}: {said}");
            assert!(!said.contains("learning_rate"), "{command:?}: a remedy that would not help: {said}");
        }
    }
}
