//! PPO on TRL 1.12's sampled answers: its rounds are injected with their scores, and trained on in its order.
//!
//! Intended differences: TRL puts the score of a finished answer on the padding after it, and its means of the ratio, of its
//! square and of the entropy include padding. The first has its own case; for the others the padding's part is removed from
//! TRL's value where it is known (a ratio of 1), and otherwise the metric is skipped.

use super::{
    FLOOR, TOLERANCE, adapters, checkpoint, count, covers, find, fixtures, golden, open, prompt, rollout, settings,
    spec, tries,
};
use candle_core::{Device, Var};
use serde_json::Value;
use std::path::Path;
use tiebreak::domain::{Metrics, Prompt, PromptId};
use tiebreak::model::{LanguageModel, Tune};
use tiebreak::protocol::{RunEvent, RunSpec};
use tiebreak::train::{KlEstimator, Rows, SampledAnswer, StepOutcome, Trainer, token_rewards, whiten};

/// Absolute tolerance of f32 log-probs of about 5, and of their sums.
const LOGP: f64 = 3e-6;

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// The tensors a case starts from: its adapter or the model's own weights, and the value head.
fn tensors(case: &Value) -> Vec<(String, Var)> {
    let mut all = if let Some(key) = case["adapter"].as_str() {
        adapters("ppo", key)
    } else {
        let model = LanguageModel::open(&fixtures().join("tiny-llama")).unwrap();
        model.decoder(&Device::Cpu, &Tune::Full).unwrap().trainables().to_vec()
    };
    let stored = candle_core::safetensors::load(fixtures().join("trl/ppo.safetensors"), &Device::Cpu).unwrap();
    all.push(("score.weight".into(), Var::from_tensor(&stored["score.weight"]).unwrap()));
    all
}

/// The case's run under our names for its options.
fn run_of(case: &Value) -> RunSpec {
    let mut all = Vec::new();
    let mut minis = 1;
    for (key, value) in settings(case) {
        match key {
            "num_ppo_epochs" => all.push(("num_iterations", value)),
            "num_mini_batches" => {
                minis = value.parse().unwrap();
                all.push((key, value));
            }
            "response_length" => all.push(("max_completion_length", value)),
            // Answers are injected with their penalty applied; sampling options do not matter.
            "stop_token" | "missing_eos_penalty" | "seed" | "max_steps" => {}
            _ => all.push((key, value)),
        }
    }
    let updates = case["steps"].as_array().unwrap().iter().map(|s| s["grad_norms"].as_array().unwrap().len());
    all.extend([
        ("max_steps", updates.sum::<usize>().to_string()),
        // TRL's batch is a round, ours an update.
        ("per_device_train_batch_size", (count(&case["batch"]) / minis).to_string()),
        ("num_generations", "1".into()),
        ("lr_scheduler_type", "constant".into()),
        ("max_grad_norm", "0".into()),
        // Rewards are injected, but a reward option is required.
        ("reward_checks", "min_chars=0".into()),
    ]);
    spec("ppo", &all)
}

fn start(case: &Value, dir: &Path) -> Trainer {
    let doc = golden("ppo");
    let prompts = doc["prompts"].as_array().unwrap().iter().enumerate().map(|(i, p)| Prompt {
        id: PromptId::new(format!("p{i}")),
        body: prompt(p),
        source: "test".into(),
        tags: [].into(),
    });
    let spec = run_of(case);
    let init = checkpoint(&spec, &tensors(case), dir);
    open(&spec, Rows::Prompts(prompts.collect()), Some(&init), dir)
}

/// Runs the round's updates; returns the metrics, and the answers with their advantages.
fn round(trainer: &mut Trainer, step: &Value, dir: &Path) -> (Vec<Metrics>, Vec<SampledAnswer>) {
    trainer.inject_round(step["rollouts"].as_array().unwrap().iter().map(rollout).collect());
    let mut logged = Vec::new();
    for _ in step["grad_norms"].as_array().unwrap() {
        let mut events: Vec<RunEvent> = Vec::new();
        assert_eq!(trainer.step(&mut events).unwrap(), StepOutcome::Stepped);
        let stepped = |e| if let RunEvent::Stepped { metrics, .. } = e { Some(metrics) } else { None };
        logged.push(events.into_iter().find_map(stepped).unwrap());
    }
    // A checkpoint contains the round.
    let at = dir.join(format!("after-{}", trainer.step_count()));
    std::fs::create_dir(&at).unwrap();
    trainer.save(&at).unwrap();
    let state: Value = serde_json::from_str(&std::fs::read_to_string(at.join("trainer.json")).unwrap()).unwrap();
    (logged, serde_json::from_value(state["online"]["round"]["answers"].clone()).unwrap())
}

/// A round's rollouts in the order of the checkpoint.
fn by_row(step: &Value) -> Vec<&Value> {
    let mut all: Vec<&Value> = step["rollouts"].as_array().unwrap().iter().collect();
    all.sort_by_key(|r| count(&r["row"]));
    all
}

fn near(what: &str, got: f64, want: f64, slack: f64) {
    assert!((got - want).abs() <= TOLERANCE * want.abs() + slack, "{what} is {got}, not {want}");
}

fn all_near(what: &str, got: &[f64], want: &Value, slack: f64) {
    let want = floats(want);
    assert_eq!(got.len(), want.len(), "{what}");
    got.iter().zip(&want).for_each(|(g, w)| near(what, *g, *w, slack));
}

/// The token rewards under the run's options.
fn rewards(case: &Value, answers: &[SampledAnswer]) -> Vec<Vec<f64>> {
    let coef = case["own"]["kl_coef"].as_f64().unwrap_or(0.05);
    let of = |a: &SampledAnswer| token_rewards(&a.old, &a.reference, a.reward, coef, KlEstimator::K1);
    let mut all: Vec<Vec<f64>> = answers.iter().map(of).collect();
    if case["own"]["whiten_rewards"] == true {
        whiten(&mut all, false);
    }
    all
}

/// Metrics of the round, and whether TRL's mean includes padding.
const LOGGED: &[(&str, bool)] = &[
    ("objective/kl", false),
    ("objective/entropy", false),
    ("objective/non_score_reward", false),
    ("objective/rlhf_reward", false),
    ("objective/scores", false),
    ("loss/policy_avg", false),
    ("loss/value_avg", false),
    ("policy/clipfrac_avg", false),
    ("val/clipfrac_avg", false),
    ("policy/approxkl_avg", true),
    ("policy/entropy_avg", true),
    ("val/ratio", true),
];

fn run(name: &str) {
    let doc = golden("ppo");
    let case = find(&doc, name);
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = start(case, dir.path());
    for (n, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let at = |what: &str| format!("{name}, round {}: {what}", n + 1);
        let (logged, answers) = round(&mut trainer, step, dir.path());
        let theirs = by_row(step);
        // Whitening divides by a standard deviation, which scales the tolerance.
        for ((ours, theirs), rewards) in answers.iter().zip(&theirs).zip(rewards(case, &answers)) {
            all_near(&at("old log-prob"), &ours.old, &theirs["old_logps"], LOGP);
            all_near(&at("reference log-prob"), &ours.reference, &theirs["ref_logps"], LOGP);
            all_near(&at("value"), &ours.values, &theirs["values"], LOGP);
            all_near(&at("reward"), &rewards, &theirs["rewards"], LOGP);
            all_near(&at("advantage"), &ours.advantages, &theirs["advantages"], 4.0 * LOGP);
            all_near(&at("return"), &ours.returns, &theirs["returns"], 4.0 * LOGP);
        }
        for (ours, theirs) in logged.iter().zip(floats(&step["grad_norms"])) {
            near(&at("grad_norm"), ours.get("grad_norm").unwrap(), theirs, FLOOR);
        }
        let tokens: usize = answers.iter().map(SampledAnswer::tokens).sum();
        let places = answers.len() * answers.iter().map(SampledAnswer::tokens).max().unwrap();
        let real = tokens as f64 / places as f64;
        for (key, padded) in LOGGED {
            let values: Vec<f64> = logged.iter().filter_map(|m| m.get(key)).collect();
            let ours = values.iter().sum::<f64>() / values.len() as f64;
            let mut want = step["logged"][*key].as_f64().unwrap();
            if *padded && tokens < places {
                match *key {
                    "policy/approxkl_avg" => want /= real,
                    "val/ratio" => want = (want - (1.0 - real)) / real,
                    _ => continue,
                }
            }
            // Advantages sum to 0, so the policy loss is rounding error of f32 values near 1; a KL is a difference of sums of
            // log-probs.
            let slack = match *key {
                "objective/kl" | "objective/entropy" => 16.0 * LOGP,
                "policy/approxkl_avg" => 1e-9,
                _ => 2e-6,
            };
            near(&at(key), ours, want, slack);
        }
    }
}

tries! { TESTED run:
    ppo_lora ppo_epochs_lora ppo_minis_lora ppo_accumulated_lora ppo_whitened_lora ppo_ended_lora ppo_ended_whitened_lora
        ppo_full
}

/// TRL's position of the score is one after the last token; its metrics of a round's answers are the same.
#[test]
fn the_score_of_a_finished_answer_is_on_its_last_token_not_after_it() {
    let name = "ppo_trl_place_lora";
    let doc = golden("ppo");
    let case = find(&doc, name);
    let dir = tempfile::tempdir().unwrap();
    let mut trainer = start(case, dir.path());
    // From the second round on the weights differ as well.
    let step = &case["steps"][0];
    let (logged, answers) = round(&mut trainer, step, dir.path());
    let mut behind = 0;
    for ((ours, theirs), rewards) in answers.iter().zip(by_row(step)).zip(rewards(case, &answers)) {
        let theirs = floats(&theirs["rewards"]);
        let n = rewards.len();
        if theirs.len() > n {
            behind += 1;
            near("the score behind the answer", theirs[n], ours.reward, FLOOR);
            near("the last token's own", theirs[n - 1], rewards[n - 1] - ours.reward, LOGP);
        } else {
            near("the last token's", theirs[n - 1], rewards[n - 1], LOGP);
        }
        (0..n - 1).for_each(|t| near("a token's", theirs[t], rewards[t], LOGP));
    }
    assert!(behind > 0 && behind < answers.len());
    for (key, _) in LOGGED.iter().filter(|(key, _)| key.starts_with("objective/")) {
        near(key, logged[0].get(key).unwrap(), step["logged"][*key].as_f64().unwrap(), 16.0 * LOGP);
    }
}

#[test]
fn every_case_is_tested() {
    covers("ppo", TESTED, &["ppo_trl_place_lora"]);
}
