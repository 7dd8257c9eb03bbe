//! Three steps of DPO and its family, ORPO, CPO, SimPO and KTO against what TRL logged for them, LoRA and full weights: the
//! cases of tests/fixtures/trl/ (README.md there has the shapes).
//!
//! Left out are three: `sigmoid_smooth_lora` (TRL leaves label smoothing out of `sigmoid`, we do not), `sft_lora` (a list of
//! nothing but `sft` is refused) and `alphapo_lora` (not there).

use candle_core::Var;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tiebreak::domain::{Message, Metrics, PairId, PairRow, Params, PromptBody, PromptId, RatedRow, RunId, method};
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
    let size = |side: &str| theirs[side].as_f64().unwrap_or_default().abs();
    let sums = size("logps/chosen") + size("logps/rejected");
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

/// A run of a case, opened.
fn open(spec: &RunSpec, rows: Rows, init: Option<&Path>, dir: &Path, events: &mut Vec<RunEvent>) -> Trainer {
    Trainer::open(spec, &rows.into(), &Places { init, ..Places::new(dir) }, events).unwrap()
}

/// Trains the three steps and gives what was logged for each.
fn steps(trainer: &mut Trainer, events: &mut Vec<RunEvent>) -> Vec<Metrics> {
    while trainer.step(events).unwrap() == StepOutcome::Stepped {}
    let steps: Vec<Metrics> = events
        .iter()
        .filter_map(|e| if let RunEvent::Stepped { metrics, .. } = e { Some(metrics.clone()) } else { None })
        .collect();
    assert_eq!(steps.len(), 3);
    steps
}

/// The settings that are the case's own: lists between commas.
fn own(case: &Value) -> Vec<(&str, String)> {
    let word = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let text = |v: &Value| v.as_array().map_or_else(|| word(v), |l| l.iter().map(word).collect::<Vec<_>>().join(","));
    case["own"].as_object().unwrap().iter().map(|(key, value)| (key.as_str(), text(value))).collect()
}

/// Trains three steps and compares what was trained on and logged with TRL's ids and the case's steps.
fn compare(case: &Value, spec: &RunSpec, rows: &[PairRow], their_ids: &Value, init: Option<&Path>, dir: &Path) {
    let mut events: Vec<RunEvent> = Vec::new();
    let mut trainer = open(spec, Rows::Pairs(rows.to_vec()), init, dir, &mut events);
    for (ours, theirs) in trainer.examples().iter().zip(their_ids.as_array().unwrap()) {
        assert_eq!(ours.rows[0].ids[..ours.prompt], ids(&theirs["prompt"]));
        assert_eq!(ours.answer(0), ids(&theirs["chosen"]));
        assert_eq!(ours.answer(1), ids(&theirs["rejected"]));
    }
    let steps = steps(&mut trainer, &mut events);
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
    } else if case["method"] == "cpo" {
        // TRL's logits are means over every position; its NLL is by micro-batches, and 0 where it has no weight.
        let nll = case["own"]["cpo_alpha"] != 0.0 && case["accumulate"] == 1;
        if nll { &["nll_loss"] } else { &[] }
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
    settings.extend(own(case));
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(method, &settings);
    let init = (case["tune"] == "lora").then(|| adapters("lora", name, &spec, dir.path()));
    compare(case, &spec, &rows(&doc, method == "orpo"), &case["ids"], init.as_deref(), dir.path());
}

/// A case of dpo_family.json.
fn run_family(name: &str) {
    let doc = golden("dpo_family");
    let case = find(&doc, name);
    let mut settings = settings(case);
    settings.extend(own(case));
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("dpo", &settings);
    let data = case["data"].as_str().unwrap();
    let rows = pair_rows(&doc["rows"][data], false);
    let rows = &rows[..usize::try_from(case["rows"].as_u64().unwrap()).unwrap()];
    let init = case["adapter"].as_str().map(|key| adapters("dpo_family", key, &spec, dir.path()));
    compare(case, &spec, rows, &doc["ids"][data], init.as_deref(), dir.path());
}

/// A case of cpo.json; SimPO is a method of its own here.
fn run_cpo(name: &str) {
    let doc = golden("cpo");
    let case = find(&doc, name);
    let simpo = case["own"]["loss_type"] == "simpo";
    let mut settings = settings(case);
    settings.extend(own(case).into_iter().filter(|(key, _)| !(simpo && *key == "loss_type")));
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(if simpo { "simpo" } else { "cpo" }, &settings);
    let rows = pair_rows(&doc["rows"], true);
    let rows = &rows[..usize::try_from(case["rows"].as_u64().unwrap()).unwrap()];
    let init = case["adapter"].as_str().map(|key| adapters("cpo", key, &spec, dir.path()));
    compare(case, &spec, rows, &doc["ids"], init.as_deref(), dir.path());
}

/// A case of kto.json: what is trained on, the neighbours' answers, and the steps.
fn run_kto(name: &str) {
    let doc = golden("kto");
    let case = find(&doc, name);
    let mut settings = settings(case);
    settings.extend(own(case));
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("kto", &settings);
    let data = case["data"].as_str().unwrap();
    let said = |v: &Value| v[0]["content"].as_str().unwrap().to_owned();
    let rows: Vec<RatedRow> = doc["rows"][data]
        .as_array()
        .unwrap()
        .iter()
        .take(usize::try_from(case["rows"].as_u64().unwrap()).unwrap())
        .enumerate()
        .map(|(i, r)| RatedRow {
            id: PairId::new(format!("q{i}")),
            prompt_id: PromptId::new(format!("p{i}")),
            prompt: PromptBody::Chat(vec![Message { role: "user".into(), content: said(&r["prompt"]) }]),
            completion: said(&r["completion"]),
            good: r["label"].as_bool().unwrap(),
        })
        .collect();
    let init = case["adapter"].as_str().map(|key| adapters("kto", key, &spec, dir.path()));
    let mut events = Vec::new();
    let mut trainer = open(&spec, Rows::Ratings(rows), init.as_deref(), dir.path(), &mut events);
    let mut together = usize::MAX;
    for (i, ours) in trainer.examples().iter().enumerate() {
        let theirs = &doc["ids"][data][i];
        assert_eq!(ours.rows[0].ids[..ours.prompt], ids(&theirs["prompt"]));
        assert_eq!(ours.answer(0), ids(&theirs["completion"]));
        match ours.aside.first() {
            Some(aside) => assert_eq!(aside.ids[ours.prompt..], ids(&case["kl_completions"][i])),
            // A row alone in its block has no neighbour here; TRL takes its own answer for one.
            None => together = together.min(i),
        }
    }
    let per_step = case["batch"].as_u64().unwrap() * case["accumulate"].as_u64().unwrap();
    let compared = if case["own"]["loss_type"] == "kto" { together / per_step as usize } else { 3 };
    assert!(compared >= 2, "{name}: rows without a neighbour");
    let steps = steps(&mut trainer, &mut events);
    let mut keys = vec!["loss", "grad_norm", "learning_rate"];
    if case["own"]["loss_type"] == "kto" {
        keys.push("kl");
    }
    if case["accumulate"] == 1 {
        // Ours are weighted by answers and tokens over the step, TRL's are means of micro-batches: equal with one of them.
        keys.extend(["rewards/chosen", "logps/chosen", "logits/chosen", "entropy", "num_tokens"]);
    }
    for (i, (ours, theirs)) in steps.iter().zip(case["steps"].as_array().unwrap()).enumerate().take(compared) {
        let bad = ["rewards/rejected", "rewards/margins", "logps/rejected", "logits/rejected"];
        let both = bad.into_iter().filter(|key| case["accumulate"] == 1 && theirs.get(*key).is_some());
        let keys: Vec<&str> = keys.iter().copied().chain(both).filter(|key| theirs.get(*key).is_some()).collect();
        check(case, i + 1, ours, theirs, &keys);
    }
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
cases! { run_family:
    robust_lora exo_pair_lora nca_pair_lora bco_pair_lora sppo_hard_lora sigmoid_near_lora aot_lora aot_smooth_lora
    aot_unpaired_lora apo_zero_lora apo_down_lora discopop_lora discopop_tau_lora sigmoid_norm_lora sigmoid_sft_lora
    sigmoid_bco_sft_lora forward_kl_lora js_divergence_lora alpha_divergence_lora ipo_js_lora weighting_lora ld_alpha_lora
    ld_alpha_ipo_lora short_window_lora fresh_adapter_lora robust_full sppo_hard_full aot_full apo_down_full
    sigmoid_norm_full sigmoid_sft_full weighting_full
}
cases! { run_cpo:
    cpo_sigmoid_lora cpo_smooth_lora cpo_hinge_lora cpo_ipo_lora simpo_lora simpo_nll_lora cpo_short_window_lora
    cpo_sigmoid_full cpo_hinge_full simpo_full
}
cases! { run_kto:
    kto_lora kto_fresh_adapter_lora kto_weights_lora kto_one_kind_lora kto_short_window_lora apo_zero_unpaired_lora kto_full
    kto_accumulate_full apo_zero_unpaired_full
}
