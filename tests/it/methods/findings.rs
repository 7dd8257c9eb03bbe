//! What a run says of itself when it goes wrong: each finding names the cause, on real runs of the tiny Llama.

use super::{data, settings};
use crate::trl::spec;
use std::path::Path;
use tiebreak::domain::{Finding, PromptBody, SftBody, method};
use tiebreak::protocol::{RunEvent, RunSpec, Task};
use tiebreak::train::{Rows, RunPaths, RunRows, StepOutcome, Trainer};

/// The findings of a run to its end, and the error that ended it early.
fn said(spec: &RunSpec, rows: &RunRows) -> (Vec<Finding>, Option<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut events: Vec<RunEvent> = Vec::new();
    let mut run = || -> Result<(), tiebreak::model::Error> {
        let mut trainer = Trainer::open(spec, rows, &RunPaths::new(dir.path()), &mut events)?;
        while trainer.step(&mut events)? == StepOutcome::Stepped {}
        Ok(())
    };
    let error = run().err().map(|e| e.to_string());
    let found = events.into_iter().filter_map(|event| match event {
        RunEvent::Found(finding) => Some(finding),
        _ => None,
    });
    (found.collect(), error)
}

fn run(name: &str, more: &[(&'static str, &str)]) -> (Vec<Finding>, Option<String>) {
    let m = method(name).unwrap();
    let rows = RunRows { mix: Vec::new(), probe: Vec::new(), ..data(m.needs) };
    said(&spec(name, &settings(m, more)), &rows)
}

fn of<'a>(found: &'a [Finding], rule: &str) -> &'a Finding {
    found.iter().find(|finding| finding.rule == rule).unwrap_or_else(|| panic!("no {rule} in {found:#?}"))
}

#[test]
fn a_loss_that_ends_above_its_start_is_a_divergence_and_a_learned_one_is_not() {
    let constant = [("lr_scheduler_type", "constant"), ("warmup_steps", "0"), ("max_steps", "25")];
    let wild = [("learning_rate", "1"), ("max_grad_norm", "0"), ("tune", "full")];
    let (found, error) = run("sft", &[&constant[..], &wild].concat());
    let finding = of(&found, "divergence");
    assert!(
        finding.remedy.contains("Lower learning_rate") && finding.text.contains("learning_rate 1.0e0"),
        "{finding:?}"
    );
    assert!(error.is_none_or(|error| error.contains("not finite")));
    let (found, error) = run("sft", &constant);
    assert_eq!((found, error), (Vec::new(), None));
}

#[test]
fn ratings_without_weight_are_named_and_not_the_answers() {
    let (found, error) = run("kto", &[("desirable_weight", "0"), ("undesirable_weight", "0")]);
    let finding = of(&found, "no_gradient");
    assert!(finding.remedy.contains("desirable_weight") && !finding.remedy.contains("differ"), "{finding:?}");
    assert!(error.unwrap().contains("does not depend on them"));
}

/// The tiny Llama with a final norm of zeros, whose logits and scores are all 0.
fn dead(dir: &Path) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-llama");
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let file = dir.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();
    let norm = tensors.get_mut("model.norm.weight").unwrap();
    *norm = norm.zeros_like().unwrap();
    candle_core::safetensors::save(&tensors, &file).unwrap();
    dir.display().to_string()
}

#[test]
fn a_dead_model_is_named_and_no_pair_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dead(dir.path());
    for (name, what) in [("dpo", "every token alike"), ("sft", "every token alike"), ("reward", "has the score 0.00")] {
        let m = method(name).unwrap();
        let mut spec = spec(name, &settings(m, &[]));
        let Task::Train(train) = &mut spec.task else { panic!("not training") };
        train.model.path.clone_from(&path);
        let (found, _) = said(&spec, &RunRows { mix: Vec::new(), probe: Vec::new(), ..data(m.needs) });
        let finding = of(&found, "no_gradient");
        assert!(finding.text.contains(what) && finding.remedy.contains("weights"), "{name}: {finding:?}");
        assert!(found.iter().all(|finding| finding.pair.is_none()), "{found:?}");
    }
}

#[test]
fn equal_rewards_are_said_of_the_reward_and_not_of_the_learning_rate() {
    let more = [("reward_checks", "max_chars=100000"), ("max_steps", "12"), ("beta", "0.04")];
    let (found, error) = run("grpo", &more);
    assert_eq!(error, None);
    let finding = of(&found, "zero_std");
    assert!(finding.text.contains("every answer got the reward 1.00"), "{finding:?}");
    assert_eq!(
        found.iter().map(|finding| finding.rule.as_str()).filter(|rule| *rule != "answers_cut").count(),
        1,
        "{found:?}"
    );
}

#[test]
fn probe_texts_beyond_the_context_are_counted() {
    let m = method("dpo").unwrap();
    let spec = spec("dpo", &settings(m, &[("max_steps", "2"), ("probe_steps", "1")]));
    let rows = data(m.needs);
    let long = |row: &tiebreak::domain::SftRow| tiebreak::domain::SftRow {
        body: SftBody::Text("The river is wide here. ".repeat(200)),
        ..row.clone()
    };
    let [short, beyond] = [rows.probe[0].clone(), long(&rows.probe[0])];
    let probe = |texts: Vec<tiebreak::domain::SftRow>| RunRows { mix: Vec::new(), probe: texts, ..rows.clone() };
    let (found, error) = said(&spec, &probe(vec![short.clone(), beyond.clone(), beyond.clone()]));
    let finding = of(&found, "probe_rows");
    assert!(finding.text.contains("2 of its 3 texts: 2 longer than the model's context"), "{finding:?}");
    assert_eq!(error, None);
    let (found, error) = said(&spec, &probe(vec![beyond]));
    assert!(of(&found, "probe_rows").text.contains("is off"), "{found:?}");
    assert_eq!(error, None);
    assert!(said(&spec, &probe(vec![short])).0.iter().all(|finding| finding.rule != "probe_rows"));
}

#[test]
fn rows_beyond_the_context_are_not_answered_with_max_length() {
    let m = method("dpo").unwrap();
    let spec = spec("dpo", &settings(m, &[]));
    let Rows::Pairs(mut pairs) = data(m.needs).rows else { panic!("not pairs") };
    for (i, row) in pairs.iter_mut().enumerate() {
        row.prompt = PromptBody::user(format!("{i} {}", "The river is wide here. ".repeat(200)));
    }
    let (_, error) = said(&spec, &Rows::Pairs(pairs.clone()).into());
    let error = error.unwrap();
    assert!(
        error.contains("longer than the model's context") && error.contains("a model with a longer context"),
        "{error}"
    );
    assert!(!error.contains("raise max_length"), "{error}");
    // One short row trains; the finding before the first step has the same remedy.
    pairs[0].prompt = PromptBody::user("What is a river?");
    let (found, error) = said(&spec, &Rows::Pairs(pairs).into());
    let finding = of(&found, "dropped_rows");
    assert!(!finding.remedy.contains("Raise max_length"), "{finding:?}");
    assert_eq!(error, None);
}
