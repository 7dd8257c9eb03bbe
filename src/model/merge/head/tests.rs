//! Exports of checkpoints with a scalar head: the scores that `transformers` and peft compute from them, in tests/fixtures/merge.

use super::*;
use crate::model::merge::tests::{adapter, perturb, tiny};
use crate::model::merge::{Precision, to_hf, to_peft};
use crate::model::tune::Tune;
use crate::nn::{Batch, Policy, Row, stream, uniform};
use crate::protocol::ModelRef;
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SCORES: &str = "tests/fixtures/merge/scores.json";

/// A checkpoint to export.
struct Case {
    name: &'static str,
    tune: Tune,
    /// Whether the run trained no tokens: a reward run.
    alone: bool,
    base: ModelRef,
}

/// A copy of the tiny model with changed files.
fn changed(
    dir: &Path,
    change: impl Fn(&mut BTreeMap<String, Value>, &mut std::collections::HashMap<String, Tensor>),
) -> ModelRef {
    std::fs::create_dir_all(dir).unwrap();
    let from = PathBuf::from(tiny().path);
    for entry in std::fs::read_dir(&from).unwrap().flatten() {
        std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let names = ["config.json", "tokenizer_config.json"];
    let read = |name: &str| serde_json::from_slice(&std::fs::read(from.join(name)).unwrap()).unwrap();
    let mut files: BTreeMap<String, Value> = names.iter().map(|name| ((*name).to_owned(), read(name))).collect();
    let weights = dir.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu).unwrap();
    change(&mut files, &mut tensors);
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    for (name, value) in files {
        std::fs::write(dir.join(name), value.to_string()).unwrap();
    }
    ModelRef { name: "changed".into(), path: dir.display().to_string() }
}

/// Reward runs and critics of both kinds of training, on tied and untied heads, and where the padding token ends every row.
fn cases(dir: &Path) -> Vec<Case> {
    let untied = changed(&dir.join("untied"), |files, tensors| {
        files.get_mut("config.json").unwrap()["tie_word_embeddings"] = false.into();
        let embedding = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".into(), embedding.affine(-0.7, 0.01).unwrap());
    });
    let ended = changed(&dir.join("ended"), |files, _| {
        let tokenizer = files.get_mut("tokenizer_config.json").unwrap();
        let template = tokenizer["chat_template"].as_str().unwrap();
        let without = template.replace("'<|im_end|>' + '\n'", "'<|im_end|>'");
        assert_ne!(template, without);
        tokenizer["chat_template"] = without.into();
        tokenizer["pad_token"] = "<|im_end|>".into();
        files.get_mut("config.json").unwrap()["pad_token_id"] = 2.into();
    });
    let case = |name, tune, alone, base: &ModelRef| Case { name, tune, alone, base: base.clone() };
    vec![
        case("reward_lora", adapter(false, false), true, &tiny()),
        case("reward_dora", adapter(true, true), true, &untied),
        case("reward_full", Tune::Full, true, &tiny()),
        case("reward_full_untied", Tune::Full, true, &untied),
        case("reward_ended", adapter(false, false), true, &ended),
        case("critic_lora", adapter(false, false), false, &untied),
        case("critic_full", Tune::Full, false, &untied),
    ]
}

/// A policy with a scalar head, all of it moved from where it started.
fn scored(case: &Case) -> Policy {
    let model = LanguageModel::open(Path::new(&case.base.path)).unwrap();
    let mut decoder = model.decoder(&Device::Cpu, &case.tune).unwrap();
    let mut rng = stream(5, 0);
    let head = (0..model.config.hidden).map(|_| uniform(&mut rng) - 0.5).collect();
    decoder.add_score(head, case.alone).unwrap();
    let policy = Policy::new(decoder).unwrap();
    perturb(&policy, 0.1);
    policy
}

/// Twenty conversations of different lengths.
fn texts() -> Vec<[String; 2]> {
    (0..20)
        .map(|i| [format!("What is {i}?"), "The river is wide. ".repeat(1 + i * 7 % 5) + &"x".repeat(i % 4)])
        .collect()
}

fn encoded(model: &LanguageModel) -> Vec<Vec<u32>> {
    let render = |[asked, said]: [String; 2]| {
        model.render(&[Message::new("user", asked), Message::assistant(said)], false).unwrap()
    };
    texts().into_iter().map(|text| model.tokenizer.encode(&render(text), false).unwrap()).collect()
}

fn scores(policy: &Policy, rows: &[Vec<u32>]) -> Vec<f64> {
    let row = |ids: &Vec<u32>| Row { ids: ids.clone(), valued: vec![ids.len() - 1], ..Row::default() };
    let out = policy.score(&Batch::new(rows.iter().map(row).collect()), true).unwrap();
    out.rows.iter().map(|row| row.value[0]).collect()
}

fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max)
}

fn saved(dir: &Path, case: &Case) -> (PathBuf, Policy) {
    let (ckpt, policy) = (dir.join(case.name).join("ckpt"), scored(case));
    std::fs::create_dir_all(&ckpt).unwrap();
    Trained::write(&ckpt, &case.tune, policy.trainables()).unwrap();
    (ckpt, policy)
}

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A classifier's folder, computed here: its layers with the head that it holds.
fn from_folder(folder: &Path, rows: &[Vec<u32>]) -> Vec<f64> {
    let mut tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let head = tensors.remove("score.weight").unwrap();
    assert!(!tensors.contains_key("lm_head.weight"), "a classifier has no language-model head");
    let plain = tempfile::tempdir().unwrap();
    let base = changed(plain.path(), |files, own| {
        files.get_mut("config.json").unwrap()["tie_word_embeddings"] = true.into();
        assert_eq!(own.keys().collect::<std::collections::BTreeSet<_>>(), tensors.keys().collect());
        own.clone_from(&tensors);
    });
    let model = LanguageModel::open(Path::new(&base.path)).unwrap();
    let mut decoder = model.decoder(&Device::Cpu, &Tune::None).unwrap();
    assert_eq!(head.dims(), [1, model.config.hidden]);
    let head: Vec<f32> = head.flatten_all().unwrap().to_vec1().unwrap();
    decoder.add_score(head.into_iter().map(f64::from).collect(), true).unwrap();
    scores(&Policy::new(decoder).unwrap(), rows)
}

#[test]
fn an_exported_scorer_gives_the_scores_that_transformers_computed_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let want = read(Path::new(env!("CARGO_MANIFEST_DIR")).join(SCORES));
    for case in cases(dir.path()) {
        let (ckpt, policy) = saved(dir.path(), &case);
        let rows = encoded(&LanguageModel::open(Path::new(&case.base.path)).unwrap());
        let ours = scores(&policy, &rows);
        let theirs: Vec<f64> = serde_json::from_value(want[case.name]["scores"].clone()).unwrap();
        assert!(gap(&ours, &theirs) < 1e-5, "{}: {ours:?} {theirs:?}", case.name);
        let spread =
            |of: &[f64]| of.iter().fold(f64::MIN, |a, b| a.max(*b)) - of.iter().fold(f64::MAX, |a, b| a.min(*b));
        assert!(spread(&ours) > 0.1, "{}: scores that hardly differ prove little", case.name);

        let mut events: Vec<RunEvent> = Vec::new();
        let out = dir.path().join(case.name).join("hf");
        to_hf(&case.base, &ckpt, &out, ExportPart::Scorer, Precision::Exact, &mut events).unwrap();
        assert!(gap(&from_folder(&out, &rows), &theirs) < 1e-5, "{}", case.name);
        let config = read(out.join("config.json"));
        assert_eq!(config["architectures"], json!(["LlamaForSequenceClassification"]));
        assert_eq!(config["id2label"], json!({"0": "LABEL_0"}));
        let pad = u64::from(config["pad_token_id"].as_u64().unwrap() as u32);
        assert!(rows.iter().all(|ids| u64::from(*ids.last().unwrap()) != pad), "{}: padding ends a row", case.name);
        assert_eq!(want[case.name]["pad"], pad);
        let noted = events.iter().any(|event| matches!(event, RunEvent::Found(found) if found.rule == "padding"));
        assert_eq!(noted, case.name == "reward_ended");

        let out = dir.path().join(case.name).join("peft");
        if case.tune == Tune::Full {
            let mut events: Vec<RunEvent> = Vec::new();
            let refused = to_peft(&case.base, &ckpt, &out, ExportPart::Scorer, &mut events).unwrap_err().to_string();
            assert!(refused.contains("use --format hf"), "{refused}");
            continue;
        }
        to_peft(&case.base, &ckpt, &out, ExportPart::Scorer, &mut events).unwrap();
        let config = read(out.join("adapter_config.json"));
        assert_eq!((&config["task_type"], &config["modules_to_save"]), (&"SEQ_CLS".into(), &json!(["score"])));
        let held = candle_core::safetensors::load(out.join("adapter_model.safetensors"), &Device::Cpu).unwrap();
        assert_eq!(held.len(), policy.trainables().len());
        assert_eq!(held["base_model.model.score.weight"].dims(), [1, 32]);
    }
}

#[test]
fn a_policy_is_exported_without_its_value_head() {
    let dir = tempfile::tempdir().unwrap();
    for case in cases(dir.path()).into_iter().filter(|case| !case.alone) {
        let (ckpt, policy) = saved(dir.path(), &case);
        let mut events: Vec<RunEvent> = Vec::new();
        let [out, lora] = ["hf", "peft"].map(|name| dir.path().join(case.name).join(name));
        to_hf(&case.base, &ckpt, &out, ExportPart::Policy, Precision::Exact, &mut events).unwrap();
        let model = LanguageModel::open(&out).unwrap();
        let merged = Policy::new(model.decoder(&Device::Cpu, &Tune::None).unwrap()).unwrap();
        for ids in encoded(&model) {
            let batch = Batch::new(vec![Row::new(ids.clone(), (1..ids.len()).collect())]);
            let [a, b] = [&policy, &merged].map(|policy| policy.score(&batch, true).unwrap().rows[0].logp.clone());
            assert!(gap(&a, &b) < 1e-5, "{}", case.name);
        }
        if case.tune != Tune::Full {
            to_peft(&case.base, &ckpt, &lora, ExportPart::Policy, &mut events).unwrap();
            let held = candle_core::safetensors::load(lora.join("adapter_model.safetensors"), &Device::Cpu).unwrap();
            assert!(held.keys().all(|name| !name.contains("score")));
            assert_eq!(read(lora.join("adapter_config.json"))["task_type"], "CAUSAL_LM");
        }
        let gguf = dir.path().join(case.name).join("gguf");
        crate::model::merge::gguf::to_gguf(&case.base, &ckpt, &gguf, "f32", &mut events).unwrap();
    }
}

#[test]
fn a_family_without_a_classifier_and_a_checkpoint_without_a_head_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    Trained::write_values(dir.path(), &Tune::None, []).unwrap();
    let mut events: Vec<RunEvent> = Vec::new();
    let out = dir.path().join("out");
    let refused = to_hf(&tiny(), dir.path(), &out, ExportPart::Scorer, Precision::Exact, &mut events).unwrap_err();
    assert!(refused.to_string().contains("no scalar head"), "{refused}");
    let granite = changed(&dir.path().join("granite"), |files, _| {
        files.get_mut("config.json").unwrap()["model_type"] = "granite".into();
    });
    let model = LanguageModel::open(Path::new(&granite.path)).unwrap();
    let refused = classifier(&model).unwrap_err().to_string();
    assert!(refused.contains("tiebreak score"), "{refused}");
}

/// Writes what tests/fixtures/merge/scores.py compares with transformers and peft: set `TIEBREAK_SCORER_CHECK` to an empty folder;
/// `TIEBREAK_MERGE_BASE` and `TIEBREAK_MERGE_CKPT` take one run's checkpoint instead of the cases.
#[test]
#[ignore = "its result is checked by tests/fixtures/merge/scores.py"]
fn write_scorers_for_python() {
    let dir = PathBuf::from(std::env::var_os("TIEBREAK_SCORER_CHECK").unwrap());
    let ckpt = std::env::var_os("TIEBREAK_MERGE_CKPT").map(PathBuf::from);
    let all = match &ckpt {
        None => cases(&dir),
        Some(ckpt) => {
            let path = std::env::var("TIEBREAK_MERGE_BASE").unwrap();
            let trained = Trained::read(ckpt).unwrap();
            let alone = !trained.tensors.contains_key("lm_head.weight");
            vec![Case { name: "run", tune: trained.tune, alone, base: ModelRef { name: "base".into(), path } }]
        }
    };
    let mut written = Vec::new();
    for case in all {
        let (at, policy) = match &ckpt {
            None => saved(&dir, &case),
            Some(ckpt) => {
                let policy = scored(&case);
                Trained::read(ckpt).unwrap().put_on(policy.trainables()).unwrap();
                (ckpt.clone(), policy)
            }
        };
        let out = dir.join(case.name);
        let mut events: Vec<RunEvent> = Vec::new();
        let (scorer, lora) = (ExportPart::Scorer, case.tune != Tune::Full);
        to_hf(&case.base, &at, &out.join("hf"), scorer, Precision::Exact, &mut events).unwrap();
        to_hf(&case.base, &at, &out.join("hf-base"), scorer, Precision::AsBase, &mut events).unwrap();
        to_hf(&case.base, &at, &out.join("policy"), ExportPart::Policy, Precision::Exact, &mut events).unwrap();
        if lora {
            to_peft(&case.base, &at, &out.join("peft"), scorer, &mut events).unwrap();
            to_peft(&case.base, &at, &out.join("policy-peft"), ExportPart::Policy, &mut events).unwrap();
        }
        let model = LanguageModel::open(Path::new(&case.base.path)).unwrap();
        let rows = encoded(&model);
        // Log-probs of the policy; a reward run's language-model head is the base's.
        let logps: Vec<Vec<f64>> = rows
            .iter()
            .map(|ids| {
                let batch = Batch::new(vec![Row::new(ids.clone(), (1..ids.len()).collect())]);
                policy.score(&batch, true).unwrap().rows[0].logp.clone()
            })
            .collect();
        // Tokens of the whole vocabulary at the ends of some rows.
        let ends: Vec<(usize, Vec<u32>)> = (0..rows.len())
            .step_by(5)
            .map(|at| (at, (0..32).map(|k| (k * model.config.vocab / 32) as u32).collect()))
            .collect();
        let end_logps: Vec<Vec<f64>> = ends
            .iter()
            .map(|(at, tokens)| {
                let row = |token: &u32| Row::new([&rows[*at][..], &[*token]].concat(), vec![rows[*at].len()]);
                let scored = policy.score(&Batch::new(tokens.iter().map(row).collect()), true).unwrap();
                scored.rows.iter().map(|row| row.logp[0]).collect()
            })
            .collect();
        written.push(json!({"name": case.name, "base": case.base.path, "lora": lora, "texts": texts(), "ids": rows,
            "scores": scores(&policy, &rows), "logps": logps, "ends": ends, "end_logps": end_logps}));
    }
    std::fs::write(dir.join("cases.json"), Value::from(written).to_string()).unwrap();
}
