//! Methods on pairs: DPO with each of its losses and options, ORPO, CPO, SimPO.
//!
//! Not compared: ORPO's and CPO's `logits/*`, means over answer tokens here and over all positions, padding included, in TRL.
//! Intended differences have their own tests: DPO's label smoothing acts on `sigmoid`, its loss `sft` is refused alone, and
//! AlphaPO's `alpha` does not exist.

use super::{
    Measured, adapters, checkpoint, compare, count, covers, find, golden, numbers, open, pair_rows, rewards, scores,
    settings, spec, start, steps, tries,
};
use serde_json::{Value, json};
use std::path::Path;
use tiebreak::domain::{PairRow, Params, method};
use tiebreak::protocol::{RunEvent, RunSpec};
use tiebreak::train::{Rows, RunPaths, Trainer};

const SHARED: &[&str] = &[
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
];

/// DPO's metrics of a pair's answer tokens.
fn answers(trainer: &Trainer, i: usize) -> Measured {
    let scores = scores(trainer, i);
    let mut out = Vec::new();
    for (name, row) in ["logits/chosen", "logits/rejected"].into_iter().zip(&scores) {
        out.extend(row.mean_logit.iter().map(|x| (name, *x)));
        out.extend(row.entropy.iter().map(|x| ("entropy", *x)));
    }
    out.extend(scores[0].top1.iter().map(|hit| ("mean_token_accuracy", f64::from(*hit))));
    out
}

/// CPO's metrics of a pair's chosen tokens.
fn chosen_nll(trainer: &Trainer, i: usize) -> Measured {
    scores(trainer, i)[0].logp.iter().map(|x| ("nll_loss", -x)).collect()
}

/// Trains three steps and compares tokens and logs with TRL's; returns the trainer after them. A case's `roundings` is how many
/// roundings of the log-probs' sums a reward may be off; 1 where it names none.
pub(super) fn run(
    case: &Value,
    spec: &RunSpec,
    rows: &[PairRow],
    ids: &Value,
    init: Option<&Path>,
    dir: &Path,
) -> Trainer {
    let mut trainer = open(spec, Rows::Pairs(rows.to_vec()), init, dir);
    assert_eq!(trainer.examples().len(), rows.len());
    for (ours, theirs) in trainer.examples().iter().zip(ids.as_array().unwrap()) {
        assert_eq!(ours.rows[0].ids[..ours.prompt], numbers(&theirs["prompt"]));
        assert_eq!(ours.answer(0), numbers(&theirs["chosen"]));
        assert_eq!(ours.answer(1), numbers(&theirs["rejected"]));
    }
    // TRL's CPO logs 0 where the NLL has weight 0.
    let nll = case["method"] == "cpo" && case["own"]["cpo_alpha"] != 0.0;
    let (measure, own): (fn(&Trainer, usize) -> _, &[&str]) = match case["method"].as_str().unwrap() {
        "dpo" => (answers, &["num_tokens"]),
        "orpo" => (|_, _| Vec::new(), &["nll_loss", "log_odds_ratio", "log_odds_chosen"]),
        _ if nll => (chosen_nll, &[]),
        _ => (|_, _| Vec::new(), &[]),
    };
    let steps = steps(case, &mut trainer, &mut |trainer, i| measure(trainer, i));
    let direct = [SHARED, own].concat();
    let (slack, roundings) =
        (rewards(case["own"]["beta"].as_f64().unwrap()), case["roundings"].as_f64().unwrap_or(1.0));
    compare(case, &steps, &direct, &|key, theirs| roundings * slack(key, theirs));
    trainer
}

/// A case of cases.json.
fn first(name: &str) {
    let doc = golden("cases");
    let case = find(&doc, name);
    let method = case["method"].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(method, &settings(case));
    let init = (case["tune"] == "lora").then(|| checkpoint(&spec, &adapters("lora", name), dir.path()));
    let rows = pair_rows(&doc[if method == "orpo" { "plain" } else { "chat" }]);
    run(case, &spec, &rows, &case["ids"], init.as_deref(), dir.path());
}

/// A case of dpo_family.json, with `more` settings.
fn family_with(name: &str, more: &[(&str, &str)], against: impl Fn(&mut Value)) {
    let doc = golden("dpo_family");
    let mut case = find(&doc, name).clone();
    against(&mut case);
    let mut settings = settings(&case);
    settings.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("dpo", &settings);
    let data = case["data"].as_str().unwrap();
    let rows = &pair_rows(&doc["rows"][data])[..count(&case["rows"])];
    let init = start(&case, "dpo_family", &spec, dir.path());
    run(&case, &spec, rows, &doc["ids"][data], init.as_deref(), dir.path());
}

fn family(name: &str) {
    family_with(name, &[], |_| ());
}

/// A case of cpo.json; SimPO is a separate method here.
fn reference_free(name: &str) {
    let doc = golden("cpo");
    let case = find(&doc, name);
    let mut settings = settings(case);
    let simpo = case["own"]["loss_type"] == "simpo";
    settings.retain(|(key, _)| !simpo || *key != "loss_type");
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(if simpo { "simpo" } else { "cpo" }, &settings);
    let rows = &pair_rows(&doc["rows"])[..count(&case["rows"])];
    let init = start(case, "cpo", &spec, dir.path());
    run(case, &spec, rows, &doc["ids"], init.as_deref(), dir.path());
}

tries! { FIRST first:
    dpo_sigmoid_lora dpo_ipo_lora dpo_hinge_lora dpo_sigmoid_full dpo_ipo_full dpo_hinge_full orpo_lora orpo_full
}

tries! { FAMILY family:
    robust_lora exo_pair_lora nca_pair_lora bco_pair_lora sppo_hard_lora sigmoid_near_lora aot_lora aot_smooth_lora
    aot_unpaired_lora apo_zero_lora apo_down_lora discopop_lora discopop_tau_lora sigmoid_norm_lora sigmoid_sft_lora
    sigmoid_bco_sft_lora forward_kl_lora js_divergence_lora alpha_divergence_lora ipo_js_lora weighting_lora ld_alpha_lora
    ld_alpha_ipo_lora short_window_lora fresh_adapter_lora robust_full sppo_hard_full aot_full apo_down_full
    sigmoid_norm_full sigmoid_sft_full weighting_full
}

tries! { FREE reference_free:
    cpo_sigmoid_lora cpo_smooth_lora cpo_hinge_lora cpo_ipo_lora simpo_lora simpo_nll_lora cpo_short_window_lora
    cpo_sigmoid_full cpo_hinge_full simpo_full
}

#[test]
fn every_case_is_tested() {
    covers("cases", FIRST, &[]);
    covers("dpo_family", FAMILY, &["sigmoid_smooth_lora", "sft_lora"]);
    covers("cpo", FREE, &["alphapo_lora"]);
}

/// TRL 1.16 ignores `label_smoothing` for sigmoid: its run equals ours without it.
#[test]
fn sigmoid_smooth_lora() {
    family_with("sigmoid_smooth_lora", &[("label_smoothing", "0")], |_| ());
}

/// With label smoothing the slope at the reference is (1/2 − ε)·β instead of β/2, and the loss is still ln 2.
#[test]
fn smoothing_of_sigmoid_is_not_ignored_here() {
    let doc = golden("dpo_family");
    let case = find(&doc, "sigmoid_smooth_lora");
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("dpo", &settings(case));
    let init = start(case, "dpo_family", &spec, dir.path());
    let rows = Rows::Pairs(pair_rows(&doc["rows"]["chat"]));
    let mut trainer = open(&spec, rows, init.as_deref(), dir.path());
    let stepped = steps(case, &mut trainer, &mut |_, _| Vec::new());
    let ours = &stepped[0].ours;
    let theirs = &case["steps"][0];
    let smoothing = case["own"]["label_smoothing"].as_f64().unwrap();
    let norm = theirs["grad_norm"].as_f64().unwrap() * (1.0 - 2.0 * smoothing);
    assert!((ours.get("grad_norm").unwrap() - norm).abs() < 1e-4 * norm);
    assert!((ours.get("loss").unwrap() - theirs["loss"].as_f64().unwrap()).abs() < 1e-6);
}

/// The loss `sft` is refused alone, since it learns no preference. TRL's run of it equals our sum with a sigmoid of weight 0.
#[test]
fn sft_lora() {
    let doc = golden("dpo_family");
    let case = find(&doc, "sft_lora");
    let dir = tempfile::tempdir().unwrap();
    let rows = Rows::Pairs(pair_rows(&doc["rows"]["chat"]));
    let paths = RunPaths::new(dir.path());
    let alone = spec("dpo", &settings(case));
    let refused = Trainer::open(&alone, &rows.into(), &paths, &mut Vec::<RunEvent>::new());
    assert!(refused.is_err_and(|e| e.to_string().contains("learns no preference")));
    let sum = |case: &mut Value| case["own"]["loss_type"] = json!(["sigmoid", "sft"]);
    family_with("sft_lora", &[("loss_weights", "0,1")], sum);
}

/// AlphaPO's `alpha` is an unknown option of simpo, and so an error.
#[test]
fn alphapo_lora() {
    let doc = golden("cpo");
    let case = find(&doc, "alphapo_lora");
    let rows = method("simpo").unwrap().rows();
    let alpha = case["own"]["alpha"].to_string();
    let refused = Params::defaults(&rows).set(&rows, "simpo", "alpha", &alpha);
    assert!(refused.unwrap_err().to_string().contains("alpha"));
}
