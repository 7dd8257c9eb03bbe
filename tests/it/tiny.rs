//! The bundled model `tiny`: how it begins, and that it is there without a network.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tiebreak::domain::manners::{Split, manner_of};
use tiebreak::engine::{LanguageModel, Tune};

fn tiebreak(home: &Path, args: &[&str]) -> Output {
    let empty = home.join("no-cache");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(args).env("TIEBREAK_HOME", home).env("HF_HUB_CACHE", empty).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn make_writes_a_model_that_loads_and_texts_whose_sides_are_disjoint() {
    let home = tempfile::tempdir().unwrap();
    let to = home.path().join("made");
    let to_text = to.to_str().unwrap();
    let small = ["--hidden", "16", "--layers", "1", "--heads", "2", "--kv-heads", "1", "--ff", "24"];
    let mut args = vec!["models", "make", "tiny", "--to", to_text, "--rows", "300", "--json"];
    args.extend(small);
    let output = tiebreak(home.path(), &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["rows"], &said["held_out_count"]), (&300.into(), &100.into()));

    let model = LanguageModel::open(&to.join("model")).unwrap();
    model.decoder(&candle_core::Device::Cpu, &Tune::None).unwrap();
    let list = |name: &str| -> BTreeSet<String> {
        fs::read_to_string(to.join(name)).unwrap().lines().map(str::to_owned).collect()
    };
    let (train, held_out) = (list("prompts.txt"), list("held_out.txt"));
    assert_eq!((train.len(), held_out.len()), (200, 100));
    assert!(train.iter().all(|p| Split::of(p) == Split::Train));
    let rows = list("corpus.jsonl");
    assert!(rows.len() > 290);
    for row in rows {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        let turn = |i: usize| (row["messages"][i]["role"].as_str(), row["messages"][i]["content"].as_str().unwrap());
        let ((asks, prompt), (answers, answer)) = (turn(0), turn(1));
        assert_eq!((asks, answers), (Some("user"), Some("assistant")));
        assert!(!held_out.contains(prompt) && manner_of(answer).is_some(), "{prompt} {answer}");
    }

    let again = tiebreak(home.path(), &args);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("name another place"), "{}", text(&again.stderr));
    let odd = home.path().join("odd");
    let odd = tiebreak(home.path(), &["models", "make", "tiny", "--to", odd.to_str().unwrap(), "--hidden", "30"]);
    assert_eq!(odd.status.code(), Some(1));
    assert!(text(&odd.stderr).contains("--hidden"), "{}", text(&odd.stderr));
}

/// With `assets/tiny/` the binary carries the model: it is listed, and a session can be made on it. Without, its name is
/// answered with how to get a model.
#[test]
fn the_carried_model_is_there_by_its_name() {
    let home = tempfile::tempdir().unwrap();
    let asset = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/tiny/model.safetensors");
    let listed = text(&tiebreak(home.path(), &["models", "--json"]).stdout);
    let made = tiebreak(home.path(), &["new", "first", "--model", "tiny", "--json"]);
    if !asset.is_file() {
        assert_eq!(listed, "");
        assert!(text(&made.stderr).contains("models get"), "{}", text(&made.stderr));
        return;
    }
    let card: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&card["name"], &card["format"], &card["chat"]), (&"tiny".into(), &"embedded".into(), &true.into()));
    assert!(card.get("problem").is_none() && (1_000_000..=3_000_000).contains(&card["parameters"].as_u64().unwrap()));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let dir = asset.parent().unwrap();
    let bytes: u64 = fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 6 << 20, "{bytes}");
    assert_eq!(fs::read(asset).unwrap(), fs::read(home.path().join("models/tiny/model.safetensors")).unwrap());
}
