//! Every option of every method has an effect or is refused: it changes the objective, the plan, or the weights after three
//! steps; otherwise an error says why not.

use super::{data, settings};
use crate::trl::spec;
use tiebreak::domain::{Needs, ParamKind, ParamRow, Params, method};
use tiebreak::protocol::RunEvent;
use tiebreak::train::{Rows, RunPaths, RunRows, StepOutcome, Trainer};

/// Options that only change what is reported or saved, with the reason. For them the test is the opposite: the weights must be
/// the same with and without.
const REPORTS: &[(&str, &str)] = &[
    ("eval_steps", "evaluates held-out rows during the run"),
    ("metric_for_best_model", "selects the best checkpoint"),
    ("save_steps", "writes checkpoints during the run"),
    ("save_total_limit", "limits the checkpoints kept"),
    ("sample_steps", "logs sample answers during the run"),
    ("probe_steps", "measures general text during the run"),
    ("probe_alarm", "sets the threshold of a finding"),
    ("eval_suites", "measures suites during the run"),
    ("eval_every", "sets when suites are measured"),
    ("eval_limit", "limits the items of suites"),
    ("chat_template_kwargs", "is a variable that the template of this test's model does not read"),
];

/// Options that select an equivalent implementation; equivalence is tested elsewhere.
const EQUIVALENT: &[&str] = &["engine"];

/// Dependent options, and the settings under which they take effect.
const REQUIRED: &[(&str, &[(&str, &str)])] = &[
    ("num_train_epochs", &[("max_steps", "-1")]),
    ("lr_decay_share", &[("lr_scheduler_type", "warmup_stable_decay"), ("max_steps", "3")]),
    ("mix_order", &[("mix_ratio", "0.3")]),
    ("mix_weight", &[("mix_ratio", "0.3")]),
    ("kl_horizon", &[("kl_target", "1"), ("num_iterations", "1")]),
    ("use_bias_correction_kl", &[("beta", "0.1")]),
];

/// Other valid values of a row.
fn other(row: &ParamRow) -> Vec<String> {
    match row.kind {
        ParamKind::Bool => vec![if row.default == "true" { "false" } else { "true" }.into()],
        ParamKind::Choice(words) | ParamKind::List(words) => {
            words.iter().filter(|w| **w != row.default).map(|w| (*w).to_owned()).collect()
        }
        ParamKind::Float(lo, hi) => vec![format!("{}", (lo + (hi - lo).min(1.0) * 0.37).min(hi))],
        ParamKind::Floats(..) => vec!["0.5".into()],
        ParamKind::Int(lo, _) => vec![(lo.max(2) + 1).to_string()],
        ParamKind::Word => vec!["reward-1".into()],
        ParamKind::Names => vec!["degenerate".into()],
        ParamKind::Metric => vec!["eval_other".into()],
        ParamKind::Variables => vec!["{\"enable_thinking\":false}".into()],
        ParamKind::Checks => vec!["max_words=7".into()],
    }
}

/// Rows with disagreeing raters and different margins.
fn voted(needs: Needs) -> RunRows {
    let mut rows = data(needs);
    if let Rows::Pairs(pairs) = &mut rows.rows {
        for (i, pair) in pairs.iter_mut().enumerate() {
            pair.agreed = (i % 2 == 0).then_some(0.75);
            pair.margin = Some(i as f64 / 4.0);
        }
    }
    rows
}

/// The result of a run's first three steps.
#[derive(PartialEq)]
struct Outcome {
    /// Steps, rows, trainable parameters and the formula.
    plan: String,
    /// The weights.
    weights: String,
}

/// The first steps of a run with `more` on top of the short run's settings, or the error that refuses it.
fn outcome(name: &str, more: &[(&'static str, &str)]) -> Result<Outcome, String> {
    let m = method(name).unwrap();
    let (spec, rows) = (spec(name, &settings(m, more)), voted(m.needs));
    let dir = tempfile::tempdir().unwrap();
    let mut events = Vec::new();
    let mut trainer =
        Trainer::open(&spec, &rows, &RunPaths::new(dir.path()), &mut events).map_err(|e| e.to_string())?;
    let plan = events.iter().find_map(|e| if let RunEvent::Planned(p) = e { Some(format!("{p:?}")) } else { None });
    while trainer.step_count() < trainer.total_steps().min(3) {
        assert_eq!(trainer.step(&mut events).unwrap(), StepOutcome::Stepped);
    }
    Ok(Outcome { plan: plan.unwrap(), weights: trainer.state_hash().unwrap() })
}

fn has_an_effect(name: &str) {
    let m = method(name).unwrap();
    let all = m.rows();
    for row in all.iter().filter(|row| !EQUIVALENT.contains(&row.key)) {
        let under = REQUIRED.iter().find(|(key, _)| *key == row.key).map_or(&[][..], |(_, under)| *under);
        let reports = REPORTS.iter().any(|(key, _)| *key == row.key);
        let mut plain = Params::defaults(&all);
        for (key, value) in settings(m, under) {
            plain.set(&all, name, key, &value).unwrap();
        }
        let mut without = None;
        for value in other(row).into_iter().filter(|v| *v != plain.text(row.key)) {
            let what = format!("{name}: {}={value}", row.key);
            let mut params = plain.clone();
            if params.set(&all, name, row.key, &value).is_err() {
                assert!(matches!(row.kind, ParamKind::Floats(..)), "{what} is not taken");
                continue;
            }
            if m.formula(&params) != m.formula(&plain) {
                assert!(!reports, "{what} changes the objective; it is no report");
                continue;
            }
            let with = [under, &[(row.key, value.as_str())]].concat();
            let Ok(run) = outcome(name, &with) else { continue };
            let without = without.get_or_insert_with(|| outcome(name, under).unwrap());
            if reports {
                assert!(run.weights == without.weights, "{what} changes the weights; it is no report");
            } else {
                assert!(run != *without, "{what} changes nothing");
            }
        }
    }
}

macro_rules! options {
    ($($test:ident: $name:literal;)*) => {
        const TRIED: &[&str] = &[$($name),*];
        $(
            #[test]
            fn $test() {
                has_an_effect($name);
            }
        )*
    };
}

options! {
    every_option_of_dpo_has_an_effect_or_is_refused: "dpo";
    every_option_of_orpo_has_an_effect_or_is_refused: "orpo";
    every_option_of_sft_has_an_effect_or_is_refused: "sft";
    every_option_of_the_reward_model_has_an_effect_or_is_refused: "reward";
    every_option_of_ppo_has_an_effect_or_is_refused: "ppo";
    every_option_of_grpo_has_an_effect_or_is_refused: "grpo";
    every_option_of_rloo_has_an_effect_or_is_refused: "rloo";
    every_option_of_cpo_has_an_effect_or_is_refused: "cpo";
    every_option_of_simpo_has_an_effect_or_is_refused: "simpo";
    every_option_of_kto_has_an_effect_or_is_refused: "kto";
}

#[test]
fn every_method_is_tested_and_every_report_exists() {
    let all = tiebreak::domain::methods();
    assert!(all.iter().all(|m| TRIED.contains(&m.name)) && all.len() == TRIED.len());
    for (key, why) in REPORTS {
        assert!(!why.is_empty() && all.iter().any(|m| m.rows().iter().any(|r| r.key == *key)), "{key} is no option");
    }
}
