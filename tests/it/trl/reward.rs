//! Reward models, with and without margins and centring; the initial head comes from a checkpoint.

use super::{
    TOLERANCE, adapters, checkpoint, compare, count, covers, find, fixtures, golden, numbers, open, pair_rows, scores,
    settings, spec, steps, tries,
};
use candle_core::{Device, Var};
use serde_json::Value;
use tiebreak::model::{LanguageModel, Tune};
use tiebreak::train::Rows;

const LOGGED: &[&str] = &[
    "loss",
    "grad_norm",
    "learning_rate",
    "num_tokens",
    "accuracy",
    "margin",
    "min_reward",
    "mean_reward",
    "max_reward",
];

/// Absolute tolerance of an f32 score of about 1.
const SCORE: f64 = 1e-6;

/// Small scores are differences of large values: their tolerance is relative to the step's largest.
fn slack(key: &str, theirs: &Value) -> f64 {
    let size = |key: &str| theirs[key].as_f64().unwrap().abs();
    let score = key.contains("reward") || key == "margin";
    if score { TOLERANCE * size("min_reward").max(size("max_reward")) } else { 0.0 }
}

/// The tensors a case starts from: its adapter or the model's own weights, and the head.
fn tensors(case: &Value) -> Vec<(String, Var)> {
    let mut all = if let Some(key) = case["adapter"].as_str() {
        adapters("reward", key)
    } else {
        let model = LanguageModel::open(&fixtures().join("tiny-llama")).unwrap();
        model.decoder(&Device::Cpu, &Tune::Full).unwrap().trainables().to_vec()
    };
    let stored = candle_core::safetensors::load(fixtures().join("trl/reward.safetensors"), &Device::Cpu).unwrap();
    all.push(("score.weight".into(), Var::from_tensor(&stored["score.weight"]).unwrap()));
    all
}

fn run(name: &str) {
    let doc = golden("reward");
    let case = find(&doc, name);
    let mut all = vec![("center_rewards_coefficient", "0".to_owned())];
    all.extend(settings(case));
    all.push(("use_margin", case["margins"].to_string()));
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("reward", &all);
    let init = checkpoint(&spec, &tensors(case), dir.path());
    let mut rows = pair_rows(&doc["rows"]);
    rows.truncate(count(&case["rows"]));
    let mut trainer = open(&spec, Rows::Pairs(rows), Some(&init), dir.path());
    assert_eq!(trainer.examples().len(), count(&case["rows"]));
    for (i, ours) in trainer.examples().iter().enumerate() {
        let before = scores(&trainer, i);
        for (side, key) in ["chosen", "rejected"].into_iter().enumerate() {
            assert_eq!(ours.rows[side].ids, numbers(&doc["ids"][i][key]));
            assert_eq!(ours.rows[side].valued, [count(&doc["score_at"][i][key])]);
            let (got, want) = (before[side].value[0], case["start"][i][side].as_f64().unwrap());
            assert!((got - want).abs() <= 1e-5 * want.abs() + SCORE, "{name}, pair {i}, {key}: {got}, not {want}");
        }
    }
    let steps = steps(case, &mut trainer, &mut |_, _| Vec::new());
    compare(case, &steps, LOGGED, &slack);
}

tries! { TESTED run:
    reward_lora reward_margin_lora reward_center_lora reward_short_window_lora reward_full reward_margin_center_full
}

#[test]
fn every_case_is_tested() {
    covers("reward", TESTED, &[]);
}
