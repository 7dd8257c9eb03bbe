//! The trainer's invariants on the tiny Llama: exact resume, batch-independent gradients, working self-checks.

use crate::trl::{cases, fixtures, rows, spec};
use std::path::Path;
use tiebreak::domain::{Finding, Metrics, PairId, PairRow, Severity};
use tiebreak::protocol::{RunEvent, RunSpec, Task};
use tiebreak::train::{Rows, RunPaths, StepOutcome, Trainer, estimate};

fn settings<'a>(more: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    let base =
        [("learning_rate", "1e-2"), ("lora_r", "4"), ("eval_fraction", "0"), ("per_device_train_batch_size", "2")];
    base.iter().chain(more).map(|(k, v)| (*k, (*v).to_owned())).collect()
}

fn open(spec: &RunSpec, rows: &[PairRow], cache: &Path, resume: Option<&Path>) -> (Trainer, Vec<RunEvent>) {
    let mut events = Vec::new();
    let paths = RunPaths { resume, ..RunPaths::new(cache) };
    let trainer = Trainer::open(spec, &Rows::Pairs(rows.to_vec()).into(), &paths, &mut events).unwrap();
    (trainer, events)
}

fn finish(trainer: &mut Trainer) -> Vec<RunEvent> {
    let mut events = Vec::new();
    while trainer.step(&mut events).unwrap() == StepOutcome::Stepped {}
    events
}

fn metrics(events: &[RunEvent]) -> Vec<Metrics> {
    let stepped = |e: &RunEvent| if let RunEvent::Stepped { metrics, .. } = e { Some(metrics.clone()) } else { None };
    events.iter().filter_map(stepped).collect()
}

/// A run interrupted repeatedly, at steps drawn from a fixed seed, ends with the same bytes.
fn resumes(method: &str, more: &[(&str, &str)]) {
    let rows = rows(&cases(), false);
    let spec = spec(method, &settings(more));
    let dir = tempfile::tempdir().unwrap();
    let (mut whole, _) = open(&spec, &rows, dir.path(), None);
    let plain = metrics(&finish(&mut whole));
    let total = whole.total_steps();
    assert!(total >= 12, "{total}");
    let whole_dir = dir.path().join("whole");
    std::fs::create_dir(&whole_dir).unwrap();
    whole.save(&whole_dir).unwrap();

    let mut rng = tiebreak::nn::stream(5, 1);
    let mut stops: Vec<u64> = (0..10).map(|_| (tiebreak::nn::uniform(&mut rng) * total as f64) as u64).collect();
    stops.sort_unstable();
    let mut from = None;
    let mut parts = Vec::new();
    for (n, stop) in stops.into_iter().enumerate() {
        // A deleted cache must not matter.
        let cache = dir.path().join(format!("cache{}", n % 3));
        let (mut part, _) = open(&spec, &rows, &cache, from.as_deref());
        let mut events = Vec::new();
        while part.step_count() < stop {
            part.step(&mut events).unwrap();
        }
        parts.extend(metrics(&events));
        // Steps after the checkpoint are lost with the process.
        let at = dir.path().join(format!("ckpt{n}"));
        std::fs::create_dir(&at).unwrap();
        part.save(&at).unwrap();
        part.step(&mut events).unwrap();
        from = Some(at);
    }
    let (mut last, _) = open(&spec, &rows, dir.path(), from.as_deref());
    parts.extend(metrics(&finish(&mut last)));
    assert_eq!(last.state_hash().unwrap(), whole.state_hash().unwrap());
    let end = dir.path().join("end");
    std::fs::create_dir(&end).unwrap();
    last.save(&end).unwrap();
    for file in ["model.safetensors", "optim.safetensors", "trainer.json"] {
        assert_eq!(std::fs::read(end.join(file)).unwrap(), std::fs::read(whole_dir.join(file)).unwrap(), "{file}");
    }
    assert_eq!(parts.len(), plain.len());
    for (a, b) in parts.iter().zip(&plain) {
        for key in ["loss", "grad_norm", "learning_rate", "num_tokens"] {
            assert_eq!(a.get(key), b.get(key), "{key}");
        }
    }
}

#[test]
fn an_interrupted_dpo_run_ends_in_the_same_bytes() {
    resumes("dpo", &[("num_train_epochs", "5"), ("gradient_accumulation_steps", "2"), ("lora_dropout", "0.2")]);
}

#[test]
fn an_interrupted_full_weight_run_ends_in_the_same_bytes() {
    resumes("dpo", &[("tune", "full"), ("learning_rate", "1e-4"), ("num_train_epochs", "2")]);
}

#[test]
fn an_interrupted_orpo_run_ends_in_the_same_bytes() {
    resumes("orpo", &[("num_train_epochs", "2"), ("lr_scheduler_type", "cosine"), ("warmup_steps", "0.1")]);
}

#[test]
fn an_interrupted_dora_run_by_length_ends_in_the_same_bytes() {
    let more = [("use_dora", "true"), ("use_rslora", "true"), ("group_by_length", "true"), ("num_train_epochs", "3")];
    let schedule = [("lr_scheduler_type", "warmup_stable_decay"), ("warmup_steps", "2"), ("lr_decay_share", "0.5")];
    resumes("dpo", &[&more[..], &schedule[..]].concat());
}

/// With a learning rate of 0 nothing improves: the first evaluation stays the best, and the third stops the run.
#[test]
fn a_run_without_improvement_stops_early_and_a_resumed_one_at_the_same_step() {
    let rows = rows(&cases(), false);
    let more = [("learning_rate", "0"), ("eval_fraction", "0.3"), ("num_train_epochs", "6"), ("eval_steps", "2")];
    let spec = spec("dpo", &settings(&[&more[..], &[("early_stopping_patience", "2")]].concat()));
    let dir = tempfile::tempdir().unwrap();
    let found = |events: &[RunEvent]| {
        let rule = |e: &RunEvent| if let RunEvent::Found(f) = e { Some((f.rule.clone(), f.step)) } else { None };
        events.iter().filter_map(rule).collect::<Vec<_>>()
    };
    let (mut trainer, _) = open(&spec, &rows, dir.path(), None);
    let mut events = Vec::new();
    let mut saved = Vec::new();
    while trainer.step(&mut events).unwrap() == StepOutcome::Stepped {
        assert_eq!(trainer.is_best_now(), trainer.step_count() == 2);
        let at = dir.path().join(format!("{}", trainer.step_count()));
        std::fs::create_dir(&at).unwrap();
        trainer.save(&at).unwrap();
        saved.push(at);
    }
    assert!(trainer.total_steps() > 6);
    assert_eq!((trainer.step_count(), trainer.best_step()), (6, Some(2)));
    assert_eq!(found(&events), [("early_stopping".to_owned(), 6)]);
    for (at, left) in [(3, 2), (5, 0)] {
        let (mut part, _) = open(&spec, &rows, dir.path(), Some(&saved[at]));
        let events = finish(&mut part);
        assert_eq!((part.step_count(), part.best_step(), metrics(&events).len()), (6, Some(2), left));
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let rows = rows(&cases(), false);
    let dir = tempfile::tempdir().unwrap();
    let (trainer, _) = open(&spec("dpo", &settings(&[])), &rows, dir.path(), None);
    trainer.save(dir.path()).unwrap();
    let other = spec("dpo", &settings(&[("beta", "0.2")]));
    let paths = RunPaths { resume: Some(dir.path()), ..RunPaths::new(dir.path()) };
    let said = Trainer::open(&other, &Rows::Pairs(rows).into(), &paths, &mut Vec::new());
    assert!(said.err().unwrap().to_string().contains("start a new run"));
}

fn first_step(method: &str, rows: &[PairRow], more: &[(&str, &str)]) -> Metrics {
    let dir = tempfile::tempdir().unwrap();
    let mut all = vec![("max_steps", "1"), ("shuffle", "false")];
    all.extend(more);
    let (mut trainer, _) = open(&spec(method, &settings(&all)), rows, dir.path(), None);
    metrics(&finish(&mut trainer)).remove(0)
}

fn near(a: &Metrics, b: &Metrics, keys: &[&str]) {
    for key in keys {
        let (x, y) = (a.get(key).unwrap(), b.get(key).unwrap());
        assert!((x - y).abs() <= 1e-5 * y.abs().max(1e-3), "{key}: {x} against {y}");
    }
}

const KEYS: [&str; 5] = ["loss", "grad_norm", "rewards/margins", "logps/chosen", "logits/rejected"];

#[test]
fn one_batch_of_eight_is_eight_batches_of_one() {
    let rows = rows(&cases(), false);
    for method in ["dpo", "orpo"] {
        // The per-answer SFT term is a mean over answers, so that splitting the batch does not change it.
        let own: &[(&str, &str)] = if method == "orpo" { &[("orpo_nll", "completion_seq_mean")] } else { &[] };
        let cut = |size: &'static str, times: &'static str| {
            let mut all = vec![("per_device_train_batch_size", size), ("gradient_accumulation_steps", times)];
            all.extend(own);
            first_step(method, &rows, &all)
        };
        near(&cut("8", "1"), &cut("1", "8"), &KEYS);
        near(&cut("8", "1"), &cut("2", "4"), &KEYS);
    }
}

#[test]
fn neither_the_order_in_a_batch_nor_its_padding_matters() {
    let mut rows = rows(&cases(), false);
    rows.truncate(6);
    let all = &[("per_device_train_batch_size", "6")];
    let straight = first_step("orpo", &rows, all);
    rows.reverse();
    near(&straight, &first_step("orpo", &rows, all), &KEYS);
    // A much longer row pads all others; a run on that row alone gives its own share.
    let short = first_step("dpo", &rows, &[("per_device_train_batch_size", "6")]);
    let alone = first_step("dpo", &rows, &[("per_device_train_batch_size", "1"), ("gradient_accumulation_steps", "6")]);
    near(&short, &alone, &KEYS);
}

#[test]
fn a_short_last_window_has_its_own_divisor() {
    let mut rows = rows(&cases(), false);
    rows.truncate(5);
    let dir = tempfile::tempdir().unwrap();
    let more = [("gradient_accumulation_steps", "2"), ("num_train_epochs", "1"), ("shuffle", "false")];
    let more: Vec<_> = more.into_iter().chain([("learning_rate", "0")]).collect();
    let (mut trainer, _) = open(&spec("dpo", &settings(&more)), &rows, dir.path(), None);
    let steps = metrics(&finish(&mut trainer));
    // Batches of 2, 2 and 1 in windows of 2 and 1: the second step has only the fifth pair.
    assert_eq!(steps.len(), 2);
    let alone = first_step("dpo", &rows[4..], &[("per_device_train_batch_size", "1")]);
    near(&steps[1], &alone, &["grad_norm", "logps/chosen"]);
}

#[test]
fn the_first_loss_is_ln_2_and_the_margins_grow() {
    let rows = rows(&cases(), false);
    let dir = tempfile::tempdir().unwrap();
    let more = [("num_train_epochs", "4"), ("eval_fraction", "0.3"), ("eval_steps", "5"), ("learning_rate", "2e-2")];
    let (mut trainer, planned) = open(&spec("dpo", &settings(&more)), &rows, dir.path(), None);
    let plan = planned.iter().find_map(|e| if let RunEvent::Planned(p) = e { Some(p.clone()) } else { None }).unwrap();
    assert_eq!(plan.train_rows + plan.eval_rows, 12);
    assert!(plan.eval_rows > 0 && plan.objective.contains("log σ") && plan.trainable > 0);
    assert!(planned.iter().any(|e| matches!(e, RunEvent::Progressed { stage, .. } if stage == "reference log-probs")));
    let events = finish(&mut trainer);
    let steps = metrics(&events);
    assert_eq!(steps.len() as u64, plan.total_steps);
    assert!((steps[0].get("loss").unwrap() - std::f64::consts::LN_2).abs() < 1e-4);
    assert_eq!(steps[0].get("rewards/accuracies"), Some(0.0));
    let last: f64 = steps.iter().rev().take(3).map(|m| m.get("rewards/margins").unwrap()).sum();
    assert!(last > 0.0, "{last}");
    assert!(steps.iter().all(|m| m.get("kl/chosen").is_some() && m.get("step_seconds").unwrap() > 0.0));
    let evaluated: Vec<_> = events
        .iter()
        .filter_map(|e| if let RunEvent::Evaluated { step, metrics } = e { Some((*step, metrics)) } else { None })
        .collect();
    assert_eq!(evaluated.last().unwrap().0, plan.total_steps);
    assert!(
        evaluated.iter().all(|(_, m)| m.iter().all(|(k, _)| k.starts_with("eval_")) && m.get("eval_loss").is_some())
    );
    let sampled: Vec<u64> =
        events.iter().filter_map(|e| if let RunEvent::Sampled { step, .. } = e { Some(*step) } else { None }).collect();
    assert_eq!(sampled, [0, 0, 0, plan.total_steps, plan.total_steps, plan.total_steps]);
    assert!(!events.iter().any(|e| matches!(e, RunEvent::Found(f) if f.severity == Severity::Stop)));
}

#[test]
fn every_trained_tensor_moves() {
    let rows = rows(&cases(), false);
    for (method, tune) in [("dpo", "lora"), ("dpo", "full"), ("orpo", "lora"), ("orpo", "full")] {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(method, &settings(&[("tune", tune), ("max_steps", "2"), ("learning_rate", "1e-3")]));
        let (mut trainer, _) = open(&spec, &rows, dir.path(), None);
        let values = |t: &Trainer| -> Vec<Vec<f32>> {
            let list = t.policy().trainables();
            list.iter().map(|(_, v)| v.flatten_all().unwrap().to_vec1().unwrap()).collect()
        };
        let before = values(&trainer);
        finish(&mut trainer);
        for ((name, _), (a, b)) in trainer.policy().trainables().iter().zip(before.iter().zip(&values(&trainer))) {
            assert!(a != b, "{method} {tune}: {name} did not change");
        }
    }
}

#[test]
fn a_damaged_reference_stops_the_run_before_the_first_update() {
    let rows = rows(&cases(), false);
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("dpo", &settings(&[]));
    let (mut trainer, _) = open(&spec, &rows, dir.path(), None);
    // Another policy than the one of the reference log-probs.
    for (name, var) in trainer.policy().trainables() {
        if name.contains("lora_B") {
            var.set(&var.ones_like().unwrap()).unwrap();
        }
    }
    let before = trainer.state_hash().unwrap();
    let mut events = Vec::new();
    let said = trainer.step(&mut events).unwrap_err().to_string();
    assert!(said.contains("does not equal its reference"), "{said}");
    assert!(events.iter().any(|e| matches!(e, RunEvent::Found(f) if f.rule == "step0_self_check")));
    assert_eq!((trainer.step_count(), trainer.state_hash().unwrap()), (0, before));
}

#[test]
fn a_non_finite_value_stops_the_run_unchanged_and_names_the_pair() {
    for bad in [f64::INFINITY, f64::NAN] {
        stops_by_name(bad);
    }
}

fn stops_by_name(bad: f64) {
    let rows = rows(&cases(), false);
    let dir = tempfile::tempdir().unwrap();
    let (mut trainer, _) = open(&spec("orpo", &settings(&[("shuffle", "false")])), &rows, dir.path(), None);
    let (_, var) = &trainer.policy().trainables()[1];
    var.set(&var.ones_like().unwrap().affine(bad, 0.0).unwrap()).unwrap();
    let before = trainer.state_hash().unwrap();
    let mut events = Vec::new();
    let said = trainer.step(&mut events).unwrap_err().to_string();
    assert!(said.contains("pair q0"), "{said}");
    let found = events.iter().find_map(|e| if let RunEvent::Found(f) = e { Some(f) } else { None }).unwrap();
    assert_eq!((found.rule.as_str(), found.severity, found.step), ("non_finite", Severity::Stop, 0));
    assert!(found.text.starts_with("The log-probs of sequence 1 of pair q0"), "{}", found.text);
    assert_eq!(found.pair.as_ref().map(tiebreak::domain::PairId::as_str), Some("q0"));
    assert_eq!(trainer.state_hash().unwrap(), before);
}

#[test]
fn the_estimate_equals_the_plan_of_the_run() {
    let mut rows = rows(&cases(), false);
    rows[3].chosen = " ".into();
    let dir = tempfile::tempdir().unwrap();
    for tune in ["lora", "full"] {
        let more = [("tune", tune), ("num_train_epochs", "2"), ("eval_fraction", "0.3"), ("max_length", "80")];
        let spec = spec("dpo", &settings(&more));
        let said = estimate(&spec, &Rows::Pairs(rows.clone())).unwrap();
        let (_, events) = open(&spec, &rows, dir.path(), None);
        let Some(RunEvent::Planned(plan)) = events.last() else { panic!("no plan") };
        assert_eq!((said.steps, said.train_rows, said.eval_rows), (plan.total_steps, plan.train_rows, plan.eval_rows));
        assert_eq!((&said.dropped, said.longest, said.trainable), (&plan.dropped, plan.longest, plan.trainable));
        assert!(said.dropped.iter().any(|d| d.reason == "an empty answer"));
        assert!((0.0..=1.0).contains(&said.longer_wins) && said.memory_bytes > 0 && said.tokens > 0);
    }
}

#[test]
fn a_contrary_label_is_found_by_name_and_reported_once_across_resumes() {
    let mut rows = rows(&cases(), false);
    let named = |row: &PairRow, id: &str| PairRow { pair: PairId::new(id), ..row.clone() };
    let contrary = PairRow { chosen: rows[0].rejected.clone(), rejected: rows[0].chosen.clone(), ..rows[0].clone() };
    rows.extend([named(&rows[0], "same-1"), named(&rows[0], "same-2"), named(&contrary, "contrary")]);
    rows[3].chosen = " ".into();
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("dpo", &settings(&[("num_train_epochs", "4"), ("max_length", "400")]));
    let found = |events: &[RunEvent]| -> Vec<Finding> {
        let finding = |e: &RunEvent| if let RunEvent::Found(f) = e { Some(f.clone()) } else { None };
        events.iter().filter_map(finding).collect()
    };
    let (mut whole, before) = open(&spec, &rows, dir.path(), None);
    let planned: Vec<String> = found(&before).into_iter().map(|f| f.rule).collect();
    assert!(planned.contains(&"dropped_rows".into()), "{planned:?}");
    let said = found(&finish(&mut whole));
    let fight = said.iter().find(|f| f.rule == "pair_fights").unwrap();
    assert_eq!(fight.pair, Some(PairId::new("contrary")), "{said:?}");

    let (mut part, _) = open(&spec, &rows, dir.path(), None);
    let mut events = Vec::new();
    while part.step_count() < fight.step + 1 {
        part.step(&mut events).unwrap();
    }
    let at = dir.path().join("ckpt");
    std::fs::create_dir(&at).unwrap();
    part.save(&at).unwrap();
    let (mut rest, again) = open(&spec, &rows, dir.path(), Some(&at));
    assert_eq!(found(&again), [], "findings before the first step are not repeated");
    events.extend(finish(&mut rest));
    assert_eq!(found(&events), said);
}

#[test]
fn a_run_without_rows_names_the_reasons() {
    let rows = rows(&cases(), false);
    let spec = spec("dpo", &settings(&[("max_length", "8")]));
    let dir = tempfile::tempdir().unwrap();
    let said = Trainer::open(&spec, &Rows::Pairs(rows).into(), &RunPaths::new(dir.path()), &mut Vec::new());
    let said = said.err().unwrap().to_string();
    assert!(said.contains("12 longer than max_length"), "{said}");
}

/// Four pairs of at most 320 tokens on SmolLM2: starts at ln 2, fits its memory, and prints what it measures.
#[test]
#[ignore = "takes minutes on two cores; run it with --ignored --nocapture"]
fn measure_that_a_step_on_smollm2_fits_its_memory() {
    let models = std::env::var("TIEBREAK_MODELS").map_or_else(
        |_| Path::new(&std::env::var("HOME").unwrap()).join(".cache/tiebreak-models"),
        |p| Path::new(&p).to_owned(),
    );
    let model = models.join("smollm2/hf");
    let data = fixtures().join("../../../shared/data/oasst_pairs.jsonl");
    assert!(model.exists() && data.exists(), "{} or {} is missing", model.display(), data.display());
    let text = std::fs::read_to_string(data).unwrap();
    let rows: Vec<PairRow> = text.lines().take(16).enumerate().map(|(i, l)| conversational(i, l)).collect();
    for (tune, rate) in [("lora", "1e-4"), ("full", "1e-6")] {
        let more = [
            ("per_device_train_batch_size", "4"),
            ("max_steps", "3"),
            ("max_length", "320"),
            ("tune", tune),
            ("learning_rate", rate),
            ("lora_r", "16"),
        ];
        let mut spec = spec("dpo", &settings(&more));
        let Task::Train(train) = &mut spec.task else { panic!("a training run") };
        train.model.path = model.display().to_string();
        let cache = tempfile::tempdir().unwrap();
        println!("{:?}", estimate(&spec, &Rows::Pairs(rows.clone())).unwrap());
        let (mut trainer, events) = open(&spec, &rows, cache.path(), None);
        println!("{:?}", events.last());
        let mut events = Vec::new();
        for step in 0..2 {
            let before = cpu_seconds();
            trainer.step(&mut events).unwrap();
            let last = metrics(&events).pop().unwrap();
            println!("{tune} CPU {:.1} s {last:?}", cpu_seconds() - before);
            assert!(last.get("peak_mib").unwrap() < 6.0 * 1024.0);
            assert!(step > 0 || (last.get("loss").unwrap() - std::f64::consts::LN_2).abs() < 1e-4);
        }
    }
}

/// CPU time of this process, all threads; 0 if unknown.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit(") ").next().unwrap_or_default();
    after.split(' ').skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn conversational(i: usize, line: &str) -> PairRow {
    let v: serde_json::Value = serde_json::from_str(line).unwrap();
    PairRow {
        turns: None,
        pair: tiebreak::domain::PairId::new(format!("q{i}")),
        prompt_id: tiebreak::domain::PromptId::new(format!("p{i}")),
        prompt: tiebreak::domain::PromptBody::Chat(serde_json::from_value(v["prompt"].clone()).unwrap()),
        chosen: v["chosen"][0]["content"].as_str().unwrap().into(),
        rejected: v["rejected"][0]["content"].as_str().unwrap().into(),
        margin: None,
        agreed: None,
        strategy: None,
        rater: None,
    }
}
