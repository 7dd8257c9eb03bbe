//! Three steps of every method against TRL's logs: the cases of tests/fixtures/trl (its README.md has the shapes and the
//! precision).
//!
//! Owns what the methods share: a case as a run, TRL's initial adapters as a checkpoint, the comparison. Our token metrics are
//! means over the tokens of the whole step, TRL's are means of its micro-batches' means. Both are computed here from the
//! policy's scores before the step: the first must equal our log, the second TRL's.

mod families;
mod kto;
mod online;
mod pairs;
mod ppo;
mod reward;
mod sft;

use candle_core::Var;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tiebreak::domain::{Message, Metrics, PairId, PairRow, Params, PromptBody, PromptId, RunId, method};
use tiebreak::model::Trained;
use tiebreak::nn::{Batch, RowScores};
use tiebreak::protocol::{DataSnapshot, Inputs, ModelRef, RunEvent, RunSpec, Task, TrainSpec};
use tiebreak::train::{Rows, RunPaths, SampledAnswer, StepOutcome, Trainer, tune_of};

/// Relative tolerance.
const TOLERANCE: f64 = 1e-4;
/// Absolute tolerance of an f32 near zero.
const FLOOR: f64 = 1e-7;
/// Tolerance between two of our own computations: alone or padded, a batch or its parts.
const OURS: f64 = 1e-5;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A run on the tiny Llama with `settings` over the method's defaults.
pub fn spec(name: &str, settings: &[(&str, String)]) -> RunSpec {
    spec_on(&fixtures().join("tiny-llama"), name, settings)
}

/// A run on the model in that folder.
fn spec_on(model: &Path, name: &str, settings: &[(&str, String)]) -> RunSpec {
    let row = method(name).unwrap();
    let mut params = Params::defaults(&row.rows());
    // Full fine-tuning refuses adapter options.
    let full = settings.iter().any(|(key, value)| *key == "tune" && value == "full");
    for (key, value) in settings.iter().filter(|(key, _)| !full || !key.starts_with("lora_")) {
        params.set(&row.rows(), name, key, value).unwrap();
    }
    let model = ModelRef { name: "tiny".into(), path: model.display().to_string() };
    let data = DataSnapshot { file: "data.jsonl".into(), sha256: String::new(), rows: 0, session_seq: 0 };
    RunSpec {
        id: RunId::new(format!("{name}-1")),
        task: Task::Train(TrainSpec::new(name, model, params, data)),
        device: "cpu".into(),
        created_ms: 0,
        app: "test".into(),
        inputs: Inputs::default(),
    }
}

/// The first fixture: DPO and ORPO.
pub fn cases() -> Value {
    golden("cases")
}

/// A fixture by its file's name.
pub fn golden(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join(format!("trl/{name}.json"))).unwrap()).unwrap()
}

/// The case of that name.
pub fn find<'a>(doc: &'a Value, name: &str) -> &'a Value {
    doc["cases"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()
}

/// A rollout as a sampled answer with its reward.
fn rollout(v: &Value) -> SampledAnswer {
    let (prompt, completion) = (numbers(&v["prompt"]), numbers(&v["completion"]));
    SampledAnswer {
        row: count(&v["row"]),
        prompt: prompt.len(),
        // The tiny tokenizer's end of turn.
        ended: completion.last() == Some(&2),
        ids: prompt.into_iter().chain(completion).collect(),
        reward: v["reward"].as_f64().unwrap(),
        ..SampledAnswer::default()
    }
}

/// Fails when a case of the fixture is neither in `tested` nor in `separate`, which have their own tests.
fn covers(file: &str, tested: &[&str], separate: &[&str]) {
    let doc = golden(file);
    let mut have: Vec<&str> = doc["cases"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let mut tests: Vec<&str> = tested.iter().chain(separate).copied().collect();
    have.sort_unstable();
    tests.sort_unstable();
    assert_eq!(have, tests, "{file}");
}

/// One test per case, and a constant with their names.
macro_rules! tries {
    ($names:ident $run:ident: $($name:ident)*) => {
        const $names: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                $run(stringify!($name));
            }
        )*
    };
}
use tries;

/// The rows of cases.json, as conversations or as plain text.
pub fn rows(doc: &Value, plain: bool) -> Vec<PairRow> {
    pair_rows(&doc[if plain { "plain" } else { "chat" }])
}

/// Rows of pairs, whose prompts are conversations or plain text.
pub fn pair_rows(list: &Value) -> Vec<PairRow> {
    let row = |(i, r): (usize, &Value)| PairRow {
        turns: None,
        pair: PairId::new(format!("q{i}")),
        prompt_id: PromptId::new(format!("p{i}")),
        prompt: prompt(&r["prompt"]),
        chosen: answer(&r["chosen"]),
        rejected: answer(&r["rejected"]),
        margin: r["margin"].as_f64(),
        agreed: None,
        strategy: None,
        rater: None,
    };
    list.as_array().unwrap().iter().enumerate().map(row).collect()
}

/// A prompt as text or as messages.
fn prompt(v: &Value) -> PromptBody {
    v.as_str().map_or_else(|| PromptBody::Chat(messages(v).into()), |text| PromptBody::Text(text.to_owned()))
}

fn messages(v: &Value) -> Vec<Message> {
    serde_json::from_value(v.clone()).unwrap()
}

/// An answer as text or as the one message of the assistant.
fn answer(v: &Value) -> String {
    v.as_str().unwrap_or_else(|| v[0]["content"].as_str().unwrap()).to_owned()
}

/// A list of whole numbers: token ids, for one.
fn numbers(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
}

fn count(v: &Value) -> usize {
    usize::try_from(v.as_u64().unwrap()).unwrap()
}

/// The settings of a case on top of the method's defaults, its own options last.
pub fn settings(case: &Value) -> Vec<(&str, String)> {
    let mut all = vec![
        ("tune", text(&case["tune"])),
        ("per_device_train_batch_size", text(&case["batch"])),
        ("gradient_accumulation_steps", text(&case["accumulate"])),
        ("learning_rate", text(&case["learning_rate"])),
        ("max_steps", "3".into()),
        ("max_length", "256".into()),
        ("shuffle", "false".into()),
        ("eval_fraction", "0".into()),
        ("lora_r", "4".into()),
        ("lora_alpha", "8".into()),
    ];
    all.extend(case["own"].as_object().unwrap().iter().map(|(key, value)| (key.as_str(), text(value))));
    all
}

/// A value as a hyper-parameter's text; lists are comma-separated.
fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// TRL's initial adapter under our names: the tensors of `file` with prefix `key`.
fn adapters(file: &str, key: &str) -> Vec<(String, Var)> {
    let file = fixtures().join(format!("trl/{file}.safetensors"));
    let prefix = format!("{key}/base_model.model.");
    let ours: Vec<_> = candle_core::safetensors::load(file, &candle_core::Device::Cpu)
        .unwrap()
        .into_iter()
        .filter_map(|(name, tensor)| {
            let name = name.strip_prefix(&prefix)?.replace(".default.weight", ".weight");
            Some((name, Var::from_tensor(&tensor).unwrap()))
        })
        .collect();
    assert!(!ours.is_empty(), "no adapters for {key}");
    ours
}

/// A checkpoint folder in `dir` for a run to start from.
fn checkpoint(spec: &RunSpec, tensors: &[(String, Var)], dir: &Path) -> PathBuf {
    let dir = dir.join("init");
    std::fs::create_dir(&dir).unwrap();
    let Task::Train(train) = &spec.task else { panic!("not a training run") };
    Trained::write(&dir, &tune_of(&train.params).unwrap(), tensors).unwrap();
    dir
}

/// A case's initial adapter as a checkpoint; none for full fine-tuning. TRL also uses a given adapter, frozen, as the
/// reference.
fn start(case: &Value, file: &str, spec: &RunSpec, dir: &Path) -> Option<PathBuf> {
    Some(checkpoint(spec, &adapters(file, case["adapter"].as_str()?), dir))
}

/// The trainer of a run, ready for its first step.
fn open(spec: &RunSpec, rows: Rows, init: Option<&Path>, dir: &Path) -> Trainer {
    Trainer::open(spec, &rows.into(), &RunPaths { init, ..RunPaths::new(dir) }, &mut Vec::<RunEvent>::new()).unwrap()
}

/// The current policy's scores of example `i`.
fn scores(trainer: &Trainer, i: usize) -> Vec<RowScores> {
    trainer.policy().score(&Batch::new(trainer.examples()[i].rows.clone()), true).unwrap().rows
}

/// Values with the names of their metrics.
type Measured = Vec<(&'static str, f64)>;

/// A step and its expected log.
struct Stepped {
    /// What was logged.
    ours: Metrics,
    /// What was measured before the step, as the mean over all its values.
    whole: BTreeMap<&'static str, f64>,
    /// The same, as the mean of the micro-batches' means.
    flat: BTreeMap<&'static str, f64>,
}

/// Means by name.
#[derive(Default)]
struct Means(BTreeMap<&'static str, (f64, f64)>);

impl Means {
    fn add(&mut self, name: &'static str, value: f64) {
        let (sum, n) = self.0.entry(name).or_default();
        *sum += value;
        *n += 1.0;
    }

    fn take(self) -> BTreeMap<&'static str, f64> {
        self.0.into_iter().map(|(name, (sum, n))| (name, sum / n)).collect()
    }
}

/// Runs the case's three steps. `measure` returns an example's values, one per token or sequence, before each step.
fn steps(case: &Value, trainer: &mut Trainer, measure: &mut dyn FnMut(&Trainer, usize) -> Measured) -> Vec<Stepped> {
    let order: Vec<usize> = (0..trainer.examples().len()).collect();
    let micro: Vec<&[usize]> = order.chunks(count(&case["batch"])).collect();
    let windows: Vec<&[&[usize]]> = micro.chunks(count(&case["accumulate"])).collect();
    let mut out = Vec::new();
    while trainer.step_count() < trainer.total_steps() {
        let (mut whole, mut flat) = (Means::default(), Means::default());
        for batch in windows[out.len() % windows.len()] {
            let mut part = Means::default();
            for (name, value) in batch.iter().flat_map(|i| measure(trainer, *i)) {
                whole.add(name, value);
                part.add(name, value);
            }
            part.take().into_iter().for_each(|(name, mean)| flat.add(name, mean));
        }
        let mut events: Vec<RunEvent> = Vec::new();
        assert_eq!(trainer.step(&mut events).unwrap(), StepOutcome::Stepped);
        let stepped = |e| if let RunEvent::Stepped { metrics, .. } = e { Some(metrics) } else { None };
        let ours = events.into_iter().find_map(stepped).unwrap();
        out.push(Stepped { ours, whole: whole.take(), flat: flat.take() });
    }
    assert_eq!(out.len(), case["steps"].as_array().unwrap().len());
    out
}

/// Compares the steps with TRL's: the metrics `direct` as logged, the measured ones each with its own mean. `slack` is the
/// absolute tolerance of a metric beside [`TOLERANCE`].
fn compare(case: &Value, steps: &[Stepped], direct: &[&str], slack: &dyn Fn(&str, &Value) -> f64) {
    let name = case["name"].as_str().unwrap();
    let theirs = case["steps"].as_array().unwrap();
    for key in direct {
        assert!(theirs.iter().any(|t| t[*key].is_f64()), "{name}: TRL logged no {key}");
    }
    for (n, (step, theirs)) in steps.iter().zip(theirs).enumerate() {
        let near = |key: &str, got: Option<f64>, want: Option<f64>, tolerance: f64, slack: f64| {
            let fits = match (got, want) {
                (Some(got), Some(want)) => (got - want).abs() <= tolerance * want.abs() + slack + FLOOR,
                (got, want) => got.is_none() && want.is_none(),
            };
            assert!(fits, "{name}, step {}: {key} is {got:?}, not {want:?}", n + 1);
        };
        for key in direct {
            near(key, step.ours.get(key), theirs[*key].as_f64(), TOLERANCE, slack(key, theirs));
        }
        let measured: Vec<&str> = steps.iter().flat_map(|s| s.whole.keys().copied()).collect();
        for key in measured {
            near(key, step.ours.get(key), step.whole.get(key).copied(), OURS, slack(key, theirs));
            near(key, step.flat.get(key).copied(), theirs[key].as_f64(), TOLERANCE, slack(key, theirs));
        }
    }
}

/// TRL sums log-probs in f32, so its rewards, β times a difference of two sums, have the sums' rounding error.
fn rewards(beta: f64) -> impl Fn(&str, &Value) -> f64 {
    move |key, theirs| {
        let sum = |key: &str| theirs[key].as_f64().unwrap_or_default().abs();
        let sums = sum("logps/chosen") + sum("logps/rejected");
        if key.starts_with("rewards/") { beta * sums * f64::from(f32::EPSILON) } else { 0.0 }
    }
}
