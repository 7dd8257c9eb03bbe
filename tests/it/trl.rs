//! Three steps of DPO and ORPO against what TRL logged for them, LoRA and full weights: the cases of
//! tests/fixtures/trl/cases.json and, of dpo_family.json, those that the engine has so far (README.md there has the shapes).

use candle_core::Var;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tiebreak::domain::{Message, Metrics, PairId, PairRow, Params, PromptBody, PromptId, RunId, method};
use tiebreak::engine::{Places, Rows, StepOutcome, Trained, Trainer, tune_of};
use tiebreak::protocol::{DataSnapshot, ModelRef, RunEvent, RunSpec, Task, TrainSpec};

/// Relative tolerance.
const TOLERANCE: f64 = 1e-4;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A run on the tiny Llama with `settings` over the method's defaults.
pub fn spec(name: &str, settings: &[(&str, String)]) -> RunSpec {
    let row = method(name).unwrap();
    let mut params = Params::defaults(&row.rows());
    for (key, value) in settings {
        params.set(&row.rows(), name, key, value).unwrap();
    }
    let model = ModelRef { name: "tiny".into(), path: fixtures().join("tiny-llama").display().to_string() };
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: 0, session_seq: 0 };
    RunSpec {
        id: RunId::new(format!("{name}-1")),
        task: Task::Train(TrainSpec::new(name, model, params, data)),
        device: "cpu".into(),
        created_ms: 0,
        app: "test".into(),
    }
}

pub fn cases() -> Value {
    golden("cases")
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join(format!("trl/{name}.json"))).unwrap()).unwrap()
}

/// The fixture's rows, as conversations or as plain text.
pub fn rows(doc: &Value, plain: bool) -> Vec<PairRow> {
    pair_rows(&doc[if plain { "plain" } else { "chat" }], plain)
}

fn pair_rows(list: &Value, plain: bool) -> Vec<PairRow> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let said = |v: &Value| text(&v[0]["content"]);
    list.as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(i, r)| PairRow {
            pair: PairId::new(format!("q{i}")),
            prompt_id: PromptId::new(format!("p{i}")),
            prompt: if plain {
                PromptBody::Text(text(&r["prompt"]))
            } else {
                PromptBody::Chat(vec![Message { role: "user".into(), content: said(&r["prompt"]) }])
            },
            chosen: if plain { text(&r["chosen"]) } else { said(&r["chosen"]) },
            rejected: if plain { text(&r["rejected"]) } else { said(&r["rejected"]) },
            margin: None,
            agreed: None,
        })
        .collect()
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
}

/// A checkpoint folder of the adapters TRL started from, under our names: those of `file` whose names begin with `key`.
fn adapters(file: &str, key: &str, spec: &RunSpec, dir: &Path) -> PathBuf {
    let file = fixtures().join(format!("trl/{file}.safetensors"));
    let all = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
    let prefix = format!("{key}/base_model.model.");
    let ours: Vec<(String, Var)> = all
        .into_iter()
        .filter_map(|(k, t)| {
            Some((k.strip_prefix(&prefix)?.replace(".default.weight", ".weight"), Var::from_tensor(&t).unwrap()))
        })
        .collect();
    assert!(!ours.is_empty(), "no adapters for {key}");
    let dir = dir.join("init");
    std::fs::create_dir(&dir).unwrap();
    let Task::Train(train) = &spec.task else { panic!("not a training run") };
    Trained::write(&dir, &tune_of(&train.params), &ours).unwrap();
    dir
}

/// TRL sums log-probs in f32, so its rewards, β times a difference of two sums, carry no more than the sums' last bits.
fn slack(key: &str, theirs: &Value, beta: f64) -> f64 {
    let sums = theirs["logps/chosen"].as_f64().unwrap().abs() + theirs["logps/rejected"].as_f64().unwrap().abs();
    if key.starts_with("rewards/") { beta * sums * f64::from(f32::EPSILON) } else { 0.0 }
}

fn check(case: &Value, step: usize, ours: &Metrics, theirs: &Value, keys: &[&str]) {
    let (beta, case) = (case["own"]["beta"].as_f64().unwrap(), case["name"].as_str().unwrap());
    for key in keys {
        let want = theirs[*key].as_f64().unwrap_or_else(|| panic!("{case}: TRL logged no {key}"));
        let got = ours.get(key).unwrap_or_else(|| panic!("{case}: no {key} here"));
        assert!(
            (got - want).abs() <= TOLERANCE * want.abs() + slack(key, theirs, beta) + 1e-7,
            "{case}, step {step}: {key} is {got}, TRL has {want}"
        );
    }
}

/// The settings of a case over the method's defaults.
fn settings(case: &Value) -> Vec<(&'static str, String)> {
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    vec![
        ("tune", plain(&case["tune"])),
        ("per_device_train_batch_size", plain(&case["batch"])),
        ("gradient_accumulation_steps", plain(&case["accumulate"])),
        ("learning_rate", plain(&case["learning_rate"])),
        ("max_steps", "3".into()),
        ("max_length", "256".into()),
        ("shuffle", "false".into()),
        ("eval_fraction", "0".into()),
        ("lora_r", "4".into()),
        ("lora_alpha", "8".into()),
    ]
}

/// Trains three steps and compares what was trained on and logged with TRL's ids and the case's steps.
fn compare(case: &Value, spec: &RunSpec, rows: &[PairRow], their_ids: &Value, init: Option<&Path>, dir: &Path) {
    let mut events: Vec<RunEvent> = Vec::new();
    let places = Places { init, ..Places::new(dir) };
    let mut trainer = Trainer::open(spec, &Rows::Pairs(rows.to_vec()).into(), &places, &mut events).unwrap();
    for (ours, theirs) in trainer.examples().iter().zip(their_ids.as_array().unwrap()) {
        assert_eq!(ours.rows[0].ids[..ours.prompt], ids(&theirs["prompt"]));
        assert_eq!(ours.answer(0), ids(&theirs["chosen"]));
        assert_eq!(ours.answer(1), ids(&theirs["rejected"]));
    }
    while trainer.step(&mut events).unwrap() == StepOutcome::Stepped {}
    let steps: Vec<&Metrics> = events
        .iter()
        .filter_map(|e| if let RunEvent::Stepped { metrics, .. } = e { Some(metrics) } else { None })
        .collect();
    assert_eq!(steps.len(), 3);
    let shared = [
        "loss",
        "grad_norm",
        "learning_rate",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
        "logps/rejected",
    ];
    let own: &[&str] = if case["method"] == "orpo" {
        &["nll_loss", "log_odds_ratio", "log_odds_chosen"]
    } else if case["accumulate"] == 1 {
        // Ours are weighted by tokens over the step, TRL's are means of micro-batches: equal with one of them.
        &["logits/chosen", "logits/rejected", "entropy", "mean_token_accuracy", "num_tokens"]
    } else {
        &["num_tokens"]
    };
    for (i, (ours, theirs)) in steps.iter().zip(case["steps"].as_array().unwrap()).enumerate() {
        check(case, i + 1, ours, theirs, &shared);
        check(case, i + 1, ours, theirs, own);
    }
}

/// A case of cases.json. TRL too takes an adapter that it is given as the reference, frozen as it was.
fn run(name: &str) {
    let doc = cases();
    let case = find(&doc, name);
    let method = case["method"].as_str().unwrap();
    let mut settings = settings(case);
    for (key, value) in case["own"].as_object().unwrap() {
        settings.push((key, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(method, &settings);
    let init = (case["tune"] == "lora").then(|| adapters("lora", name, &spec, dir.path()));
    compare(case, &spec, &rows(&doc, method == "orpo"), &case["ids"], init.as_deref(), dir.path());
}

/// A case of dpo_family.json with one loss; an option that the engine has not is an error here.
fn run_family(name: &str) {
    let doc = golden("dpo_family");
    let case = find(&doc, name);
    let own = &case["own"];
    assert_eq!(own["loss_type"].as_array().unwrap().len(), 1, "{name} has a list of losses");
    let mut settings = settings(case);
    for (key, value) in own.as_object().unwrap() {
        let value = if key == "loss_type" { &value[0] } else { value };
        settings.push((key, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("dpo", &settings);
    let data = case["data"].as_str().unwrap();
    let rows = pair_rows(&doc["rows"][data], false);
    let rows = &rows[..usize::try_from(case["rows"].as_u64().unwrap()).unwrap()];
    let init = case["adapter"].as_str().map(|key| adapters("dpo_family", key, &spec, dir.path()));
    compare(case, &spec, rows, &doc["ids"][data], init.as_deref(), dir.path());
}

fn find<'a>(doc: &'a Value, name: &str) -> &'a Value {
    doc["cases"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()
}

macro_rules! cases {
    ($run:ident: $($name:ident)*) => {$(
        #[test]
        fn $name() {
            $run(stringify!($name));
        }
    )*};
}

cases! { run: dpo_sigmoid_lora dpo_ipo_lora dpo_hinge_lora dpo_sigmoid_full dpo_ipo_full dpo_hinge_full orpo_lora orpo_full }
cases! { run_family: sigmoid_near_lora short_window_lora }
