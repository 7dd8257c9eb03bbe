//! The bundled model `tiny`: how it is made, that it works offline, and that DPO makes it kinder.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tiebreak::demo::{self, Manner, Split, manner_of};
use tiebreak::domain::{PairId, PairRow, Params, PromptBody, PromptId, RunId, Sampler, method};
use tiebreak::generate::generate;
use tiebreak::model::{LanguageModel, Tune};
use tiebreak::nn::{Decoder, stream};
use tiebreak::protocol::{DataSnapshot, Inputs, ModelRef, RunEvent, RunSpec, Task, TrainSpec};
use tiebreak::train::{Rows, RunPaths, StepOutcome, Trainer};

fn tiebreak(home: &Path, args: &[&str]) -> Output {
    let empty = home.join("no-cache");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiebreak"));
    command.args(args).env("TIEBREAK_HOME", home).env("HF_HUB_CACHE", empty).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn make_writes_a_loadable_model_and_disjoint_splits() {
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

/// With `assets/tiny/` the binary embeds the model: it is listed, and a session can use it. Without, the error says how to get a
/// model.
#[test]
fn the_embedded_model_is_available_by_name() {
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
    // The folder's name has a content hash, so that versions of the model do not collide.
    let place = PathBuf::from(card["path"].as_str().unwrap());
    assert!(place.file_name().unwrap().to_str().unwrap().starts_with("tiny-"), "{}", place.display());
    assert_eq!(fs::read(asset).unwrap(), fs::read(place.join("model.safetensors")).unwrap());
}

/// `n` answers to each prompt at temperature 1.
fn answers(model: &LanguageModel, decoder: &Decoder, prompts: &[String], n: u64) -> Vec<Vec<String>> {
    let sampler = Sampler { temperature: 1.0, top_p: 1.0, max_new_tokens: 64, ..Sampler::default() };
    let answer = |(i, prompt): (usize, &String)| {
        let ids = model.encode_prompt(&PromptBody::user(prompt.as_str())).unwrap();
        let mut rngs: Vec<_> = (0..n).map(|k| stream(7, i as u64 * 64 + k)).collect();
        let made = generate(decoder, &ids, model.tokenizer.stops(), &sampler, &mut rngs, true).unwrap();
        made.iter().map(|g| model.tokenizer.decode(&g.ids).unwrap()).collect()
    };
    prompts.iter().enumerate().map(answer).collect()
}

/// DPO on 200 pairs of its own answers, ranked kind over rude, makes it kinder on held-out prompts that no setting was tuned
/// on. `cargo bench --bench manners` runs the other methods too.
#[test]
fn two_hundred_ranked_pairs_make_it_kinder_by_dpo() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/tiny");
    let model = LanguageModel::open(&path).unwrap();
    let base = model.decoder(&candle_core::Device::Cpu, &Tune::None).unwrap();
    let prompts = demo::prompts(42, 120, Split::Train);
    let mut pairs = Vec::new();
    for (i, answers) in answers(&model, &base, &prompts, 8).into_iter().enumerate() {
        let (kind, rest): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| manner_of(a) == Some(Manner::Kind));
        let rude = rest.into_iter().filter(|a| manner_of(a) == Some(Manner::Rude));
        for (k, (chosen, rejected)) in kind.into_iter().zip(rude).enumerate() {
            pairs.push(PairRow {
                turns: None,
                pair: PairId::new(format!("q{i}.{k}")),
                prompt_id: PromptId::new(format!("p{i}")),
                prompt: PromptBody::user(prompts[i].as_str()),
                chosen,
                rejected,
                margin: None,
                agreed: None,
                strategy: None,
                rater: None,
            });
        }
    }
    assert!(pairs.len() >= 200, "{}", pairs.len());
    pairs.truncate(200);

    let dpo = method("dpo").unwrap();
    let mut params = Params::defaults(&dpo.rows());
    for set in ["learning_rate=3e-3", "num_train_epochs=3", "per_device_train_batch_size=8", "eval_fraction=0"] {
        params.set_pair(&dpo.rows(), "dpo", set).unwrap();
    }
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: 200, session_seq: 0 };
    let asked = ModelRef { name: "tiny".into(), path: path.display().to_string() };
    let spec = RunSpec {
        id: RunId::new("dpo-1"),
        task: Task::Train(TrainSpec::new("dpo", asked, params, data)),
        device: "cpu".into(),
        created_ms: 0,
        app: "test".into(),
        inputs: Inputs::default(),
    };
    let cache = tempfile::tempdir().unwrap();
    let mut events: Vec<RunEvent> = Vec::new();
    let mut trainer =
        Trainer::open(&spec, &Rows::Pairs(pairs).into(), &RunPaths::new(cache.path()), &mut events).unwrap();
    while trainer.step(&mut events).unwrap() == StepOutcome::Stepped {}

    let held_out = demo::judging(100);
    let kind = |decoder: &Decoder| {
        let all = answers(&model, decoder, &held_out, 1);
        all.iter().flatten().filter(|a| manner_of(a) == Some(Manner::Kind)).count()
    };
    let (before, after) = (kind(&base), kind(trainer.policy().decoder()));
    println!("kind answers on 100 held-out prompts: {before} before, {after} after");
    assert!(after >= before + 30, "{before} of 100 kind before, {after} after");
}

#[test]
fn a_model_shows_what_it_reads_and_what_it_learns() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let out = tiebreak(home.path(), args);
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    let shown = run(&["models", "show", "tiny"]);
    for line in [
        "answers end with <|im_end|>",
        "head             tied to the embedding",
        "answer · 13 tokens, 4 learned",
        "  ▌ Hi.<|im_end|>",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let model: serde_json::Value = serde_json::from_str(&run(&["models", "show", "tiny", "--json"])).unwrap();
    assert_eq!((&model["ends"][0], model["conversations"].as_array().unwrap().len()), (&"<|im_end|>".into(), 4));

    let file = home.path().join("rows.jsonl");
    let turn = |role: &str, text: &str| serde_json::json!([{"role": role, "content": text}]);
    let (chosen, rejected) = (turn("assistant", "Blue."), turn("assistant", "Red \u{1b}[31m."));
    let row = serde_json::json!({"prompt": turn("user", "Sky?"), "chosen": chosen, "rejected": rejected});
    std::fs::write(&file, format!("{row}\n")).unwrap();
    let rendered = run(&["render", "tiny", file.to_str().unwrap()]);
    for line in ["row 1, chosen", "row 1, rejected", "    Sky?<|im_end|>⏎", "  ▌ Blue.<|im_end|>"] {
        assert!(rendered.contains(line), "{line}\n{rendered}");
    }
    assert!(!rendered.contains('\u{1b}'), "an escape sequence reached the terminal");
    std::fs::write(&file, "{}\n").unwrap();
    let odd = tiebreak(home.path(), &["render", "tiny", file.to_str().unwrap(), "--as", "pairs"]);
    assert!(text(&odd.stderr).contains("holds no usable pairs"), "{}", text(&odd.stderr));
}
