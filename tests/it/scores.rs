//! Suites by log-probs against `transformers` (tests/fixtures/scores: the numbers, the script that made them, two small files),
//! and what must hold of any scores: an unchanged model, a random head, a stopped evaluation.

use candle_core::Device;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tiebreak::domain::{Contestant, EvalState, ItemKey, RunId, Sampler, eval_report};
use tiebreak::evaluate::{EvalInputs, Evaluation, JudgeInputs};
use tiebreak::protocol::{DataSnapshot, EvalSide, EvalSpec, ModelRef, RunEvent, SuiteSpec};

const TOLERANCE: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name)
}

fn smollm2() -> PathBuf {
    let root = std::env::var("TIEBREAK_MODELS")
        .map_or_else(|_| PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/tiebreak-models"), PathBuf::from);
    root.join("smollm2/hf")
}

/// An evaluation of two folders on suites with their files, the first `limit` items of each.
struct Bench<'a> {
    a: &'a Path,
    b: &'a Path,
    suites: &'a [(&'a str, PathBuf)],
    limit: Option<usize>,
    trained: BTreeSet<String>,
}

impl Bench<'_> {
    fn spec(&self) -> EvalSpec {
        let side = |path: &Path| EvalSide {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            model: Some(ModelRef { name: "m".into(), path: path.display().to_string() }),
            adapter: None,
            server: None,
        };
        let suite = |(name, file): &(&str, PathBuf)| SuiteSpec {
            name: (*name).into(),
            data: DataSnapshot { file: "f".into(), sha256: String::new(), rows: 0, session_seq: 0 },
            file: file.display().to_string(),
            sampler: Sampler::default(),
            limit: self.limit,
        };
        let suites = self.suites.iter().map(suite).collect();
        EvalSpec { a: side(self.a), b: side(self.b), suites, judges: Vec::new(), seeds: 1 }
    }

    fn open(&self, past: EvalState) -> Evaluation {
        let spec = self.spec();
        let identity = |path: &Path| path.display().to_string();
        Evaluation::open(EvalInputs {
            run: RunId::new("eval-1"),
            gates: Vec::new(),
            spec: &spec,
            texts: self.suites.iter().map(|(_, file)| std::fs::read_to_string(file).unwrap()).collect(),
            checkpoints: [None, None],
            identities: [identity(self.a), identity(self.b)],
            rendering: tiebreak::protocol::Rendering::default(),
            reward_renderings: [None, None],
            trained: self.trained.clone(),
            past,
            known: Vec::new(),
            judges: JudgeInputs::default(),
            device: Device::Cpu,
            asking: None,
        })
        .unwrap()
    }

    fn run(&self) -> (EvalState, Vec<RunEvent>) {
        let mut events = Vec::new();
        let mut evaluation = self.open(EvalState::default());
        while evaluation.next(&mut events).unwrap() {}
        (evaluation.state().clone(), events)
    }
}

fn small_files() -> [(&'static str, PathBuf); 2] {
    let scores = fixtures().join("scores");
    [("hhh", scores.join("hhh.json")), ("forgetting", scores.join("forgetting.jsonl"))]
}

/// A copy of a model's folder with other weights: `change` edits the header and the data of its safetensors.
fn copied(from: &Path, to: &Path, change: impl Fn(&mut Value, &mut Vec<u8>)) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        if entry.file_name() != "model.safetensors" {
            std::fs::write(to.join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    let mut data = bytes[start..].to_vec();
    change(&mut header, &mut data);
    let header = serde_json::to_vec(&header).unwrap();
    let out = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    std::fs::write(to.join("model.safetensors"), out).unwrap();
}

/// The copy that the golden numbers compare with: `mlp.down_proj` of the middle layer is halved.
fn halved(from: &Path, to: &Path, layers: usize) {
    copied(from, to, |header, data| {
        let tensor = &header[format!("model.layers.{}.mlp.down_proj.weight", layers / 2)];
        let [first, last] = [0, 1].map(|k| tensor["data_offsets"][k].as_u64().unwrap() as usize);
        match tensor["dtype"].as_str().unwrap() {
            "F32" => data[first..last].chunks_exact_mut(4).for_each(|x| {
                let half = f32::from_le_bytes((&*x).try_into().unwrap()) * 0.5;
                x.copy_from_slice(&half.to_le_bytes());
            }),
            "BF16" => data[first..last].chunks_exact_mut(2).for_each(|x| {
                let wide = f32::from_bits(u32::from(u16::from_le_bytes((&*x).try_into().unwrap())) << 16) * 0.5;
                x.copy_from_slice(&((wide.to_bits() >> 16) as u16).to_le_bytes());
            }),
            other => panic!("{other}"),
        }
    });
}

/// A copy with an untied head of random numbers.
fn with_random_head(from: &Path, to: &Path) {
    copied(from, to, |header, data| {
        let embedding = header["model.embed_tokens.weight"].clone();
        let width = if embedding["dtype"] == "F32" { 4 } else { 2 };
        let values: u64 = embedding["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
        let start = data.len();
        let mut x = 1_u64;
        for _ in 0..values {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = ((x >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.4;
            data.extend_from_slice(&value.to_le_bytes()[4 - width..]);
        }
        let offsets = json!([start, data.len()]);
        header["lm_head.weight"] =
            json!({ "dtype": embedding["dtype"], "shape": embedding["shape"], "data_offsets": offsets });
    });
    let config = std::fs::read_to_string(to.join("config.json")).unwrap();
    assert!(config.contains("\"tie_word_embeddings\": true"));
    let untied = config.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    std::fs::write(to.join("config.json"), untied).unwrap();
}

fn value(state: &EvalState, suite: &str, item: &str, side: Contestant, name: &str) -> f64 {
    let key = ItemKey { suite: suite.into(), item: item.into(), seed: 0 };
    let measured = state.measurement_of(&key, side).unwrap_or_else(|| panic!("{suite}/{item} was not measured"));
    measured.values.get(name).unwrap_or_else(|| panic!("{suite}/{item} has no {name}"))
}

/// Compares every pair and every text with the golden numbers; prints the largest differences.
fn equal_transformers(state: &EvalState, golden: &Value, same_top: f64) {
    let mut worst = [0.0_f64; 3];
    let mut near = |which: usize, got: f64, want: f64, what: &str| {
        worst[which] = worst[which].max((got - want).abs());
        assert!((got - want).abs() < TOLERANCE, "{what}: {got} and {want}");
    };
    for (item, row) in golden["hhh"].as_object().unwrap() {
        let number = |k: usize| row[k].as_f64().unwrap();
        let (better, other) = (number(0) / number(1), number(2) / number(3));
        for (name, want) in [("logp_better", better), ("logp_other", other), ("margin", better - other)] {
            near(0, value(state, "hhh", item, Contestant::A, name), want, &format!("{item} {name}"));
        }
        let right = f64::from(u8::from(better > other));
        assert_eq!(value(state, "hhh", item, Contestant::A, "accuracy"), right, "{item}");
    }
    for (item, row) in golden["forgetting"].as_object().unwrap() {
        let number = |k: usize| row[k].as_f64().unwrap();
        let of = |side, name| value(state, "forgetting", item, side, name);
        let tokens = of(Contestant::A, "tokens");
        assert_eq!(tokens, number(5), "{item}");
        near(1, of(Contestant::A, "nats") / tokens, number(0), item);
        near(1, of(Contestant::B, "nats") / tokens, number(1), item);
        near(2, of(Contestant::A, "kl") / tokens, number(2), item);
        near(2, of(Contestant::A, "reverse_kl") / tokens, number(3), item);
        let agreed = of(Contestant::A, "top1");
        assert!((agreed - number(4)).abs() <= same_top + 1e-9, "{item}: {agreed} and {}", number(4));
        assert_eq!(of(Contestant::B, "kl"), 0.0);
    }
    println!("largest differences: log-probs {:.1e}, nats {:.1e}, KL {:.1e}", worst[0], worst[1], worst[2]);
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join("scores").join(name)).unwrap()).unwrap()
}

#[test]
fn log_probs_and_divergences_of_the_tiny_model_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let (model, copy) = (fixtures().join("tiny-llama"), dir.path().join("copy"));
    halved(&model, &copy, 2);
    let suites = small_files();
    let (state, events) = Bench { a: &model, b: &copy, suites: &suites, limit: None, trained: BTreeSet::new() }.run();
    equal_transformers(&state, &golden("tiny.json"), 0.0);
    let planned =
        events.iter().find_map(|e| if let RunEvent::Planned(plan) = e { Some(plan.total_steps) } else { None });
    assert_eq!(planned, Some(20));
}

#[test]
fn an_unchanged_model_gives_exactly_zero_and_cannot_tell() {
    let dir = tempfile::tempdir().unwrap();
    let (model, copy) = (fixtures().join("tiny-llama"), dir.path().join("copy"));
    copied(&model, &copy, |_, _| {});
    let suites = small_files();
    for b in [&model, &copy] {
        let (state, events) = Bench { a: &model, b, suites: &suites, limit: None, trained: BTreeSet::new() }.run();
        let report = eval_report(&state, &[]);
        assert_eq!(report.suites.iter().map(|s| s.measures.len()).collect::<Vec<_>>(), [9, 6]);
        for measure in report.suites.iter().flat_map(|suite| &suite.measures) {
            assert_eq!((measure.difference, measure.conclusion.word), (Some(0.0), "cannot tell"), "{}", measure.key);
        }
        assert!(!events.iter().any(|e| matches!(e, RunEvent::Found(_))));
    }
}

fn rules(events: &[RunEvent]) -> Vec<String> {
    events.iter().filter_map(|e| if let RunEvent::Found(f) = e { Some(f.rule.clone()) } else { None }).collect()
}

#[test]
fn a_random_head_raises_the_alarm_and_trained_prompts_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let (model, copy) = (fixtures().join("tiny-llama"), dir.path().join("copy"));
    with_random_head(&model, &copy);
    let suites = small_files();
    let asked = tiebreak::domain::PromptBody::Text("How do I boil an egg?".into()).asked_hash();
    let bench = Bench { a: &copy, b: &model, suites: &suites, limit: None, trained: BTreeSet::from([asked]) };
    let (_, events) = bench.run();
    let rules = rules(&events);
    assert_eq!(rules[0], "trained_on");
    assert!(rules.iter().any(|rule| rule == "forgetting_alarm"), "{rules:?}");
}

#[test]
fn another_tokenizer_has_no_kl_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (model, copy) = (fixtures().join("tiny-llama"), dir.path().join("copy"));
    copied(&model, &copy, |_, _| {});
    // Without its merges the tokenizer splits texts into bytes.
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(copy.join("tokenizer.json")).unwrap()).unwrap();
    tokenizer["model"]["merges"] = json!([]);
    std::fs::write(copy.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let suites = &small_files()[1..];
    let (state, events) = Bench { a: &model, b: &copy, suites, limit: None, trained: BTreeSet::new() }.run();
    assert_eq!(rules(&events)[0], "other_vocabulary");
    let report = eval_report(&state, &[]);
    let keys: Vec<&str> = report.suites[0].measures.iter().map(|m| m.key).collect();
    assert!(keys.contains(&"bits") && !keys.contains(&"kl") && !keys.contains(&"top1"), "{keys:?}");
}

#[test]
fn an_evaluation_that_is_stopped_anywhere_gives_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (model, copy) = (fixtures().join("tiny-llama"), dir.path().join("copy"));
    halved(&model, &copy, 2);
    let suites = small_files();
    let bench = Bench { a: &model, b: &copy, suites: &suites, limit: None, trained: BTreeSet::new() };
    let (whole, events) = bench.run();
    let measured: Vec<_> =
        events.iter().filter_map(|e| if let RunEvent::Measured(m) = e { Some(m.clone()) } else { None }).collect();
    assert_eq!(measured.len(), 20);
    for stop in 0..=measured.len() {
        let mut past = EvalState::default();
        measured[..stop].iter().for_each(|m| past.measure(m.clone()));
        let mut again = bench.open(past);
        let mut events = Vec::new();
        while again.next(&mut events).unwrap() {}
        assert_eq!(again.state().result_hash(), whole.result_hash(), "stopped after {stop}");
        let logged = events.iter().filter(|e| matches!(e, RunEvent::Measured(_))).count();
        assert_eq!(logged, measured.len() - stop);
    }
}

/// Minutes on two cores.
#[test]
#[ignore = "needs SmolLM2 and the folder of shared data; ten minutes on two cores, so run it by hand"]
fn smollm2_measure_log_probs_and_divergences_are_those_of_transformers() {
    let suites = [("hhh", shared("hhh_alignment_bigbench.json")), ("forgetting", shared("forgetting_probe.jsonl"))];
    if suites.iter().any(|(_, file)| !file.exists()) {
        println!("skipped: the folder of shared data is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, copy) = (smollm2(), dir.path().join("copy"));
    halved(&model, &copy, 30);
    let (state, _) = Bench { a: &model, b: &copy, suites: &suites, limit: None, trained: BTreeSet::new() }.run();
    equal_transformers(&state, &golden("smollm2.json"), 1.0);
}

#[test]
#[ignore = "needs SmolLM2 and the folder of shared data"]
fn smollm2_unchanged_is_zero_and_a_random_head_raises_the_alarm() {
    let suites = [("forgetting", shared("forgetting_probe.jsonl"))];
    if !suites[0].1.exists() {
        println!("skipped: the folder of shared data is missing");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, copy) = (smollm2(), dir.path().join("copy"));
    with_random_head(&model, &copy);
    let bench = |a| Bench { a, b: &model, suites: &suites, limit: Some(16), trained: BTreeSet::new() }.run();
    let (state, events) = bench(&model);
    let report = eval_report(&state, &[]);
    assert!(report.suites[0].measures.iter().all(|m| m.difference == Some(0.0) && m.conclusion.word == "cannot tell"));
    assert_eq!(rules(&events), [""; 0]);
    let (state, events) = bench(&copy);
    let report = eval_report(&state, &[]);
    assert!(report.suites[0].measures[0].difference.unwrap() > 1.0);
    assert!(rules(&events).iter().filter(|rule| *rule == "forgetting_alarm").count() >= 2, "{:?}", rules(&events));
}
