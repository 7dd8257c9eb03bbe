//! Three steps of DPO on every family and variant of tests/fixtures/families, against TRL (dpo.json, made by make_dpo.py there):
//! the logs, then the trained model's log-probs of the fixture's rows and its greedy tokens from the packed decoder.

use super::{checkpoint, fixtures, numbers, pair_rows, pairs, settings, spec_on};
use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tiebreak::domain::Sampler;
use tiebreak::generate::generate;
use tiebreak::nn::{Batch, Row, stream};

/// A log-prob may be off by this, and by this part of its size.
const LOG_PROB: f64 = 1e-4;

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join("families").join(name)).unwrap()).unwrap()
}

/// The model's folder with the tiny tokenizer, and the values of its adapter.
fn folder(name: &str, config: &Value, dir: &Path) -> (PathBuf, Vec<(String, Var)>) {
    let model = dir.join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("config.json"), config.to_string()).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixtures().join("tiny-llama").join(file), model.join(file)).unwrap();
    }
    let held = candle_core::safetensors::load(fixtures().join(format!("families/{name}.safetensors")), &Device::Cpu);
    let (mut weights, mut adapter) = (HashMap::new(), Vec::new());
    for (key, tensor) in held.unwrap() {
        if let Some(own) = key.strip_prefix("adapter.") {
            adapter.push((own.to_owned(), Var::from_tensor(&tensor).unwrap()));
        } else if !key.starts_with("gradient.") && !key.starts_with("adapter_gradient.") {
            weights.insert(key, Tensor::to_dtype(&tensor, DType::F32).unwrap());
        }
    }
    candle_core::safetensors::save(&weights, model.join("model.safetensors")).unwrap();
    (model, adapter)
}

/// Every case with that `tune`, on that engine.
fn three_steps(tune: &str, engine: &str) {
    let (models, doc) = (read("cases.json"), read("dpo.json"));
    let cases: Vec<&Value> = doc["cases"].as_array().unwrap().iter().filter(|case| case["tune"] == tune).collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    let all: BTreeSet<&str> = models["cases"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, all, "make_dpo.py was not run after make.py");
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let model = &models["cases"][name];
        let dir = tempfile::tempdir().unwrap();
        let (path, adapter) = folder(name, &model["config"], dir.path());
        let mut set = settings(case);
        set.retain(|(key, _)| !["max_length", "lora_r", "lora_alpha"].contains(key));
        let own = [("max_length", "64"), ("lora_r", "2"), ("lora_alpha", "4"), ("engine", engine)];
        set.extend(own.map(|(key, value)| (key, value.to_owned())));
        let spec = spec_on(&path, "dpo", &set);
        let init = (tune == "lora").then(|| checkpoint(&spec, &adapter, dir.path()));
        let of = |key: &str| numbers(&case["rows"]).iter().map(|i| doc[key][*i as usize].clone()).collect::<Value>();
        let trainer = pairs::run(case, &spec, &pair_rows(&of("pairs")), &of("ids"), init.as_deref(), dir.path());

        let policy = trainer.policy();
        assert_eq!(policy.path(), engine, "{name}");
        let rows = model["rows"].as_array().unwrap().iter().map(numbers);
        let rows = rows.map(|ids| {
            let scored = (1..ids.len()).collect();
            Row::new(ids, scored)
        });
        let scores = policy.score(&Batch::new(rows.collect()), true).unwrap();
        for (row, want) in scores.rows.iter().zip(case["logps"].as_array().unwrap()) {
            assert_eq!(row.logp.len(), want.as_array().unwrap().len(), "{name}");
            for (got, want) in row.logp.iter().zip(want.as_array().unwrap()) {
                let want = want.as_f64().unwrap();
                assert!((got - want).abs() < LOG_PROB * (1.0 + want.abs()), "{name}, {tune}: {got} and not {want}");
            }
        }
        let want = numbers(&case["greedy"]);
        let sampler = Sampler { temperature: 0.0, max_new_tokens: want.len(), ..Sampler::default() };
        let prompt = numbers(&model["prompt"]);
        let made = generate(policy.decoder(), &prompt, &[], &sampler, &mut [stream(1, 0)], true).unwrap();
        assert_eq!(made[0].ids, want, "{name}, {tune}");
    }
}

#[test]
fn adapters_on_the_fast_path() {
    three_steps("lora", "fast");
}

#[test]
fn adapters_on_the_reference_path() {
    three_steps("lora", "reference");
}

#[test]
fn all_weights_on_the_fast_path() {
    three_steps("full", "fast");
}

#[test]
fn all_weights_on_the_reference_path() {
    three_steps("full", "reference");
}
