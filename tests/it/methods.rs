//! Properties of every method, on the tiny Llama: exact resume, every trained tensor moves, gradients that do not depend on
//! splitting, padding or order ([`sums`]), options that have an effect or are refused ([`options`]), what goes wrong and is said
//! ([`findings`]).

mod findings;
mod options;
mod sums;

use crate::trl::{cases, rows, spec};
use std::path::Path;
use tiebreak::domain::{
    Method, Metrics, Needs, PairId, Prompt, PromptBody, PromptId, RatedRow, SftBody, SftRow, method, methods,
};
use tiebreak::model::Trained;
use tiebreak::protocol::{RunEvent, RunSpec, Task};
use tiebreak::train::{Rows, RunPaths, RunRows, StepOutcome, Trainer, tune_of};

/// Rows of the kind that a method needs, from the pairs of the golden runs.
fn data(needs: Needs) -> RunRows {
    let pairs = rows(&cases(), false);
    let mix = pairs.iter().take(5).map(|r| SftRow {
        id: PairId::new(format!("m{}", r.pair)),
        prompt_id: r.prompt_id.clone(),
        body: SftBody::Completion { prompt: r.prompt.clone(), completion: r.chosen.clone() },
    });
    let mix: Vec<SftRow> = mix.collect();
    let probe = vec![SftRow {
        id: PairId::new("probe"),
        prompt_id: PromptId::new("probe"),
        body: SftBody::Text("The river is wide here, and the news is slow in the evening.".into()),
    }];
    let main = match needs {
        Needs::Pairs => Rows::Pairs(pairs),
        Needs::Examples => Rows::Examples(mix.clone()),
        Needs::Ratings => Rows::Ratings(
            pairs
                .iter()
                .take(4)
                .flat_map(|r| {
                    [(&r.chosen, true), (&r.rejected, false)].map(|(text, good)| RatedRow {
                        cut: false,
                        turns: [].into(),
                        id: PairId::new(format!("{}{good}", r.pair)),
                        prompt_id: r.prompt_id.clone(),
                        prompt: r.prompt.clone(),
                        completion: text.clone(),
                        good,
                    })
                })
                .collect(),
        ),
        Needs::Prompts => Rows::Prompts(
            pairs
                .iter()
                .take(4)
                .map(|r| Prompt {
                    id: r.prompt_id.clone(),
                    body: r.prompt.clone(),
                    source: "test".into(),
                    tags: [].into(),
                })
                .collect(),
        ),
    };
    RunRows { mix, probe, ..rows_of(main) }
}

/// Rows without mixed SFT rows.
fn rows_of(rows: Rows) -> RunRows {
    rows.into()
}

/// Settings under which a method's runs are short.
fn settings(m: &Method, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("learning_rate", "5e-3"),
        ("lora_r", "4"),
        ("eval_fraction", "0"),
        ("max_length", "256"),
        ("per_device_train_batch_size", "2"),
        ("max_steps", "6"),
    ];
    if m.needs == Needs::Prompts {
        // A model with random weights gives answers of different lengths, and so different rewards.
        all.extend([
            (
                "reward_checks",
                "max_chars=5;max_chars=8;max_chars=11;max_chars=14;max_chars=17;max_chars=20;max_chars=23;max_chars=26",
            ),
            ("num_generations", "4"),
            ("per_device_train_batch_size", "4"),
            ("max_completion_length", "6"),
        ]);
    }
    all.extend(more);
    all.into_iter().map(|(k, v)| (k, v.to_owned())).collect()
}

fn open(spec: &RunSpec, rows: &RunRows, dir: &Path, resume: Option<&Path>) -> Trainer {
    let paths = RunPaths { resume, ..RunPaths::new(dir) };
    Trainer::open(spec, rows, &paths, &mut Vec::new()).unwrap()
}

fn metrics(events: &[RunEvent]) -> Vec<Metrics> {
    let stepped = |e: &RunEvent| if let RunEvent::Stepped { metrics, .. } = e { Some(metrics.clone()) } else { None };
    events.iter().filter_map(stepped).collect()
}

/// Interrupted at ten steps drawn from a fixed seed, the run ends in the same bytes.
fn resumes(name: &str, more: &[(&'static str, &str)]) {
    let m = method(name).unwrap();
    let (spec, rows) = (spec(name, &settings(m, more)), data(m.needs));
    let dir = tempfile::tempdir().unwrap();
    let mut whole = open(&spec, &rows, dir.path(), None);
    let mut events = Vec::new();
    while whole.step(&mut events).unwrap() == StepOutcome::Stepped {}
    let plain = metrics(&events);
    let mut rng = tiebreak::nn::stream(7, name.len() as u64);
    let total = whole.total_steps() as f64;
    let mut stops: Vec<u64> = (0..10).map(|_| (tiebreak::nn::uniform(&mut rng) * total) as u64).collect();
    stops.sort_unstable();
    let (mut from, mut parts) = (None, Vec::new());
    for (n, stop) in stops.into_iter().enumerate() {
        let mut part = open(&spec, &rows, dir.path(), from.as_deref());
        let mut events = Vec::new();
        while part.step_count() < stop {
            part.step(&mut events).unwrap();
        }
        parts.extend(metrics(&events));
        let at = dir.path().join(format!("ckpt{n}"));
        std::fs::create_dir(&at).unwrap();
        part.save(&at).unwrap();
        from = Some(at);
    }
    let mut last = open(&spec, &rows, dir.path(), from.as_deref());
    let mut events = Vec::new();
    while last.step(&mut events).unwrap() == StepOutcome::Stepped {}
    parts.extend(metrics(&events));
    assert_eq!(last.state_hash().unwrap(), whole.state_hash().unwrap(), "{name}");
    assert_eq!(parts.len(), plain.len());
    for (a, b) in parts.iter().zip(&plain) {
        for (key, value) in b.iter().filter(|(k, _)| !k.contains("second") && *k != "peak_mib") {
            assert_eq!(a.get(key), Some(value), "{name}: {key}");
        }
    }
}

macro_rules! interrupted {
    ($($test:ident: $name:literal $more:expr;)*) => {$(
        #[test]
        fn $test() {
            resumes($name, &$more);
        }
    )*};
}

interrupted! {
    sft_resumes_exactly: "sft" [("lora_dropout", "0.1")];
    dpo_resumes_exactly: "dpo" [];
    orpo_resumes_exactly: "orpo" [];
    cpo_resumes_exactly: "cpo" [("lora_dropout", "0.1")];
    a_reward_model_resumes_exactly: "reward" [];
    kto_resumes_exactly: "kto" [];
    simpo_resumes_exactly: "simpo" [];
    dpo_with_a_token_budget_resumes_exactly: "dpo" [
        ("max_tokens_per_batch", "512"), ("per_device_train_batch_size", "4"), ("lora_dropout", "0.1"),
    ];
    dpo_with_mixed_rows_resumes_exactly: "dpo" [("mix_ratio", "0.3"), ("probe_steps", "2"), ("max_steps", "4")];
    ppo_resumes_exactly_within_a_round: "ppo" [("num_iterations", "2"), ("num_mini_batches", "2"), ("kl_target", "1")];
    grpo_resumes_exactly_within_a_round: "grpo" [("num_iterations", "2"), ("beta", "0.04")];
    rloo_resumes_exactly: "rloo" [];
}

#[test]
fn every_trained_tensor_moves_under_every_method() {
    for m in methods() {
        let rows = data(m.needs);
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(m.name, &settings(m, &[("max_steps", "4"), ("shuffle", "false")]));
        let mut trainer = open(&spec, &rows, dir.path(), None);
        let values = |t: &Trainer| -> Vec<Vec<f32>> {
            t.policy().trainables().iter().map(|(_, v)| v.flatten_all().unwrap().to_vec1().unwrap()).collect()
        };
        let before = values(&trainer);
        while trainer.step(&mut Vec::new()).unwrap() == StepOutcome::Stepped {}
        for ((name, _), (a, b)) in trainer.policy().trainables().iter().zip(before.iter().zip(&values(&trainer))) {
            assert!(b.iter().all(|x| x.is_finite()) && a != b, "{}: {name} did not move", m.name);
        }
    }
}

/// [`tiebreak::train::RewardScorer`] reproduces the scores that the reward run measured.
#[test]
fn a_reward_run_scores_answers_as_in_training() {
    let m = method("reward").unwrap();
    let rows = RunRows { probe: Vec::new(), mix: Vec::new(), ..data(m.needs) };
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("reward", &settings(m, &[("eval_fraction", "0.4"), ("max_steps", "8")]));
    let mut trainer = open(&spec, &rows, dir.path(), None);
    let mut events = Vec::new();
    while trainer.step(&mut events).unwrap() == StepOutcome::Stepped {}
    let at = dir.path().join("ckpt");
    std::fs::create_dir(&at).unwrap();
    trainer.save(&at).unwrap();
    let Task::Train(train) = &spec.task else { panic!("not training") };
    let judge =
        tiebreak::train::RewardScorer::open(Path::new(&train.model.path), &at, &candle_core::Device::Cpu).unwrap();
    assert_eq!(Trained::read(&at).unwrap().tune, tune_of(&train.params).unwrap());
    let Rows::Pairs(pairs) = &rows.rows else { panic!("not pairs") };
    let held = |r: &&tiebreak::domain::PairRow| tiebreak::domain::is_held_out(&r.prompt.derived_id(), 0.4);
    let (mut right, mut n) = (0.0, 0.0);
    for row in pairs.iter().filter(held) {
        let (c, r) = (judge.score(&row.prompt, &row.chosen).unwrap(), judge.score(&row.prompt, &row.rejected).unwrap());
        right += f64::from(c > r);
        n += 1.0;
    }
    let last = events
        .iter()
        .rev()
        .find_map(|e| if let RunEvent::Evaluated { metrics, .. } = e { Some(metrics) } else { None });
    let last = last.unwrap();
    assert!(n > 0.0 && (last.get("eval_accuracy").unwrap() - right / n).abs() < 1e-9);
    let calibration = judge.calibration().unwrap();
    assert_eq!(calibration.pairs as f64, n);
    assert!(last.get("eval_accuracy_low").unwrap() <= right / n);
    // A changed tokenizer or EOS token is refused: scores would not be comparable.
    let state = at.join("trainer.json");
    let text = std::fs::read_to_string(&state).unwrap();
    assert!(text.contains("\"template\"") && text.contains("\"end_of_text\"") && text.contains("\"ece\""), "{text}");
    std::fs::write(&state, text.replace("\"end_of_text\": \"", "\"end_of_text\": \"x")).unwrap();
    let path = Path::new(&train.model.path);
    let refused = tiebreak::train::RewardScorer::open(path, &at, &candle_core::Device::Cpu);
    assert!(refused.err().unwrap().to_string().contains("train the reward model again"));
    let other = PromptBody::user("What is a tuple?");
    assert!(judge.score(&other, "Water.").unwrap().is_finite());
}
