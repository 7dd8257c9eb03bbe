//! GRPO and RLOO on TRL's sampled answers: its rounds are injected with their rewards, and trained on in its order.
//!
//! Intended differences: `entropy` and `kl` are weighted by tokens over the step, TRL's are means of micro-batches (equal
//! with one micro-batch); old log-probs are always from the training forward pass.

use super::{FLOOR, TOLERANCE, covers, find, golden, open, prompt, rollout, settings, spec, start, tries};
use tiebreak::domain::{Metrics, Prompt, PromptId};
use tiebreak::protocol::RunEvent;
use tiebreak::train::{Rows, StepOutcome};

fn run(name: &str) {
    let doc = golden("online");
    let case = find(&doc, name);
    let mut settings = settings(case);
    // TRL counts micro-batches per generation, we count updates.
    let minis = case["own"]["steps_per_generation"].as_u64().unwrap_or(1);
    for (key, value) in &mut settings {
        if *key == "steps_per_generation" {
            *key = "num_mini_batches";
            *value = minis.to_string();
        }
    }
    let named = |key: &str| settings.iter().any(|(k, _)| *k == key);
    if named("epsilon") && !named("epsilon_high") {
        // TRL's default is the lower one.
        settings.push(("epsilon_high", case["own"]["epsilon"].to_string()));
    }
    // Rewards are injected, but a reward option is required.
    settings.push(("reward_checks", "min_chars=0".into()));
    let dir = tempfile::tempdir().unwrap();
    let method = case["method"].as_str().unwrap();
    let spec = spec(method, &settings);
    let prompts = doc["prompts"].as_array().unwrap().iter().enumerate().map(|(i, p)| Prompt {
        id: PromptId::new(format!("p{i}")),
        body: prompt(p),
        source: "test".into(),
        tags: [].into(),
    });
    let init = start(case, "online", &spec, dir.path());
    let mut trainer = open(&spec, Rows::Prompts(prompts.collect()), init.as_deref(), dir.path());
    let steps = case["steps"].as_array().unwrap();
    let passes = case["own"]["num_iterations"].as_u64().unwrap_or(1);
    let per_round = (minis * passes) as usize;
    for (n, step) in steps.iter().enumerate() {
        let place = n % per_round;
        if place == 0 {
            let round = steps.get(n..n + minis as usize);
            // A round whose second half was not recorded has no advantages.
            let Some(round) = round else { break };
            let micro = round.iter().flat_map(|s| s["micro"].as_array().unwrap());
            trainer.inject_round(micro.flat_map(|m| m["rollouts"].as_array().unwrap()).map(rollout).collect());
        }
        let mut events: Vec<RunEvent> = Vec::new();
        assert_eq!(trainer.step(&mut events).unwrap(), StepOutcome::Stepped);
        let stepped = |e| if let RunEvent::Stepped { metrics, .. } = e { Some(metrics) } else { None };
        let ours: Metrics = events.into_iter().find_map(stepped).unwrap();
        let theirs = &step["logged"];
        let one = case["accumulate"] == 1;
        for (key, want) in theirs.as_object().unwrap() {
            let by_micro = key == "entropy" || key == "kl" || key.starts_with("clip_ratio/");
            // A name of the reward function's, and the clock's.
            if key.starts_with("rewards/") || key == "epoch" || (by_micro && !one && ours.get(key).is_some()) {
                continue;
            }
            let want = want.as_f64().unwrap();
            let got = ours.get(key).unwrap_or_else(|| panic!("{name}, step {}: no {key}", n + 1));
            // The loss is a mean of advantages that sum to 0, up to f32 rounding near 1. The KL is a difference of sums of
            // log-probs.
            let slack = match key.as_str() {
                "loss" => 2e-6,
                "kl" => 2e-6,
                _ => FLOOR,
            };
            assert!(
                (got - want).abs() <= TOLERANCE * want.abs() + slack,
                "{name}, step {}: {key} is {got}, not {want}",
                n + 1
            );
        }
    }
}

tries! { TESTED run:
    grpo_dapo_lora grpo_dapo_kl_lora grpo_grpo_kl_lora grpo_bnpo_lora grpo_dr_grpo_lora grpo_batch_scale_lora
        grpo_temperature_lora grpo_iterations_lora grpo_no_correction_lora grpo_sequence_lora grpo_two_steps_lora
        grpo_mask_truncated_lora grpo_dapo_full grpo_dr_grpo_full rloo_lora rloo_no_kl_lora rloo_iterations_lora rloo_full
}

#[test]
fn every_case_is_tested() {
    covers("online", TESTED, &[]);
}
