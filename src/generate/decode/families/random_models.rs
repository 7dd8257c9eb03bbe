//! Folders of random models against `transformers` (`make_random.py`): each is computed as there, or refused by a sentence that names
//! the field. Committed are those that showed a fault once; `TIEBREAK_RANDOM_MODELS=DIR` takes others and prints a line for each.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of a folder.
#[derive(Debug, PartialEq)]
enum Outcome {
    Equal,
    /// The sentence.
    Refused(String),
    /// Numbers that differ, and where.
    Different(String),
}

fn folders() -> Vec<PathBuf> {
    let home = std::env::var_os("TIEBREAK_RANDOM_MODELS");
    let home = home.map_or_else(|| fixtures().join("families/random"), PathBuf::from);
    let mut all: Vec<PathBuf> = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.join("facts.json").is_file());
    all.sort();
    assert!(!all.is_empty(), "{}", home.display());
    all
}

/// The name here of a tensor of a model of transformers 5.
fn own_name(config: &Config, name: &str) -> String {
    if name.rsplit('.').next() == Some("sinks") {
        return format!("{name}.weight");
    }
    match config.family.name() {
        "mixtral" => name.replace(".mlp.gate.", ".block_sparse_moe.gate."),
        _ => name.to_owned(),
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Computes what the facts hold of it.
fn compare(at: &Path, facts: &Value) -> Outcome {
    let model = match LanguageModel::open(at) {
        Ok(model) => model,
        Err(e) => return Outcome::Refused(e.to_string()),
    };
    let full = || model.decoder(&Device::Cpu, &Tune::Full);
    if let Err(e) = full() {
        return Outcome::Refused(e.to_string());
    }
    let (rows, want): (Vec<Vec<u32>>, Vec<Vec<f64>>) = (numbers(&facts["rows"]), numbers(&facts["logps"]));
    // f32 rounds these models so far, by `transformers` in f64.
    let rounding = facts["rounding"].as_f64().unwrap();
    let rows =
        rows.into_iter().map(|ids| (1..ids.len()).collect::<Vec<_>>()).zip(numbers::<Vec<Vec<u32>>>(&facts["rows"]));
    let batch = Batch::new(rows.map(|(scored, ids)| Row::new(ids, scored)).collect());
    let mut k = 0.0;
    let weight = |row: &Vec<f64>| -> RowGradient {
        let next = |_: &f64| {
            k += 1.0;
            (1.7_f64 * k).sin()
        };
        row.iter().map(next).collect::<Vec<_>>().into()
    };
    let g: Vec<RowGradient> = want.iter().map(weight).collect();
    let mut gradients = candle_core::safetensors::load(at.join("gradients.safetensors"), &Device::Cpu).unwrap();
    for (name, t) in &mut gradients {
        let linear = ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| name.ends_with(end));
        if model.config.family.names.transposed && linear {
            *t = t.t().unwrap();
        }
    }
    for (path, mut policy) in paths(|| full().unwrap()) {
        let (scores, tape) = match policy.score_train(&batch) {
            Ok(made) => made,
            Err(e) => return Outcome::Refused(e.to_string()),
        };
        for (i, (row, want)) in scores.rows.iter().zip(&want).enumerate() {
            for (at, (got, want)) in row.logp.iter().zip(want).enumerate() {
                let off = (got - want).abs() / (1.0 + want.abs());
                if off.is_nan() || off > 1e-4_f64.max(4.0 * rounding) {
                    return Outcome::Different(format!("{path}: row {i}, token {at}: {got} and not {want}"));
                }
            }
        }
        policy.backward(tape, &g).unwrap();
        let made = policy.take_gradients().unwrap();
        let largest = gradients.values().map(|t| norm(&flat(t))).fold(0.0, f64::max);
        for (name, want) in &gradients {
            let (name, want) = (own_name(&model.config, name), flat(want));
            let Some(i) = policy.trainables().iter().position(|(own, _)| *own == name) else {
                return Outcome::Different(format!("{path}: no gradient of {name}"));
            };
            let got = made.get(i).map_or(vec![0.0; want.len()], flat);
            let off: Vec<f64> = want.iter().zip(&got).map(|(a, b)| a - b).collect();
            let most = 3e-4_f64.max(100.0 * rounding) * norm(&want).max(1e-2 * largest);
            if got.len() != want.len() || norm(&off).is_nan() || norm(&off) > most {
                return Outcome::Different(format!("{path}: {name} is off by {} of {}", norm(&off), norm(&want)));
            }
        }
    }
    let (prompt, want): (Vec<u32>, Vec<u32>) = (numbers(&facts["prompt"]), numbers(&facts["greedy"]));
    let decode = match PackedDecoder::open(&model) {
        Ok(decode) => decode,
        Err(e) => return Outcome::Refused(e.to_string()),
    };
    let mut queue = Queue::new(3, &[]);
    let sampler = Sampler { temperature: 0.0, max_new_tokens: want.len(), ..Sampler::default() };
    let rngs = vec![stream(1, 0), stream(1, 1)];
    queue.push(PromptRequest { number: 0, prompt: prompt.clone(), rngs, sampler });
    queue.push(PromptRequest { number: 1, prompt: prompt[1..].to_vec(), rngs: vec![stream(1, 2)], sampler });
    while queue.step(&decode).unwrap() > 0 {}
    for made in queue.take(0).unwrap() {
        if made.ids != want {
            return Outcome::Different(format!("greedy tokens {:?} and not {want:?}", made.ids));
        }
    }
    Outcome::Equal
}

/// Whether the sentence names one of these keys of config.json, or of an object in it.
fn names_a_field(said: &str, keys: &Value) -> bool {
    let names = |key: &str| said.contains(&format!("`{key}`")) || said.contains(&format!("`{key}="));
    keys.as_object().unwrap().iter().any(|(key, value)| names(key) || value.is_object() && names_a_field(said, value))
}

#[test]
fn random_models_equal_transformers_or_are_refused_by_name() {
    let mut faults = Vec::new();
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for at in folders() {
        let facts: Value = serde_json::from_str(&std::fs::read_to_string(at.join("facts.json")).unwrap()).unwrap();
        let name = at.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(why) = facts["refused"].as_str() {
            let read = catch_unwind(AssertUnwindSafe(|| {
                let model = LanguageModel::open(&at)?;
                if at.join("model.safetensors").is_file() {
                    model.decoder(&Device::Cpu, &Tune::None).map(drop)
                } else {
                    Ok(())
                }
            }));
            let said = match read {
                Ok(Ok(())) => "read here alone".to_owned(),
                Ok(Err(e)) => format!("refused here too: {e}"),
                Err(_) => "panicked".to_owned(),
            };
            let kind = said.split(':').next().unwrap_or_default().to_owned();
            *counts
                .entry(if kind.starts_with("refused") { "refused by both" } else { "read here alone" })
                .or_default() += 1;
            println!("{name}: {said} (transformers: {why}; {})", facts["extra"]);
            if kind == "panicked" {
                faults.push(name);
            }
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| compare(&at, &facts)));
        let outcome = outcome.unwrap_or_else(|_| Outcome::Different("panicked".to_owned()));
        let said = facts["said"].as_str();
        let right = match (&outcome, said) {
            (Outcome::Equal, None) => true,
            (Outcome::Refused(sentence), Some(said)) => sentence.contains(said),
            (Outcome::Refused(sentence), None) => names_a_field(sentence, &facts["drawn"]),
            _ => false,
        };
        *counts
            .entry(match &outcome {
                Outcome::Equal => "equal",
                Outcome::Refused(_) => "refused here alone",
                Outcome::Different(_) => "different",
            })
            .or_default() += 1;
        if outcome != Outcome::Equal {
            println!("{name}: {outcome:?} ({})", facts["extra"]);
        }
        if !right {
            faults.push(name);
        }
    }
    println!("{counts:?}");
    assert!(faults.is_empty(), "{faults:?}");
}
