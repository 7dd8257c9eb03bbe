//! KTO and unpaired APO: the mismatched answers, and the metrics of desirable and undesirable answers.
//!
//! Intended differences: a single row in a batch has no mismatched answer here, so its z is 0, where TRL uses the row's own answer
//! (`kto_one_kind_lora`, whose last step is such a batch); and `kl` is not logged where it is not measured (`apo_zero_unpaired`),
//! where TRL logs 0.

use super::{
    answer, compare, count, covers, find, golden, numbers, open, prompt, rewards, scores, settings, spec, start, steps,
    tries,
};
use serde_json::Value;
use tiebreak::domain::{PairId, PromptId, RatedRow};
use tiebreak::train::{Rows, Trainer};

fn rows(list: &Value) -> Vec<RatedRow> {
    let row = |(i, r): (usize, &Value)| RatedRow {
        cut: false,
        turns: Vec::new(),
        id: PairId::new(format!("q{i}")),
        prompt_id: PromptId::new(format!("p{i}")),
        prompt: prompt(&r["prompt"]),
        completion: answer(&r["completion"]),
        good: r["label"].as_bool().unwrap(),
    };
    list.as_array().unwrap().iter().enumerate().map(row).collect()
}

/// The summed log-prob of an answer.
fn sum(trainer: &Trainer, i: usize) -> f64 {
    scores(trainer, i)[0].logp.iter().sum()
}

fn run(name: &str) {
    let doc = golden("kto");
    let mut case = find(&doc, name).clone();
    let settings = settings(&case);
    let dir = tempfile::tempdir().unwrap();
    let spec = spec("kto", &settings);
    let data = case["data"].as_str().unwrap();
    let mut rows = rows(&doc["rows"][data]);
    rows.truncate(count(&case["rows"]));
    let init = start(&case, "kto", &spec, dir.path());
    let mut trainer = open(&spec, Rows::Ratings(rows), init.as_deref(), dir.path());
    assert_eq!(trainer.examples().len(), count(&case["rows"]));
    let kl = case["own"]["loss_type"] == "kto";
    let (mut alone, batch) = (Vec::new(), count(&case["batch"]));
    for (i, ours) in trainer.examples().iter().enumerate() {
        let theirs = &doc["ids"][data][i];
        assert_eq!(ours.rows[0].ids[..ours.prompt], numbers(&theirs["prompt"]));
        assert_eq!(ours.answer(0), numbers(&theirs["completion"]));
        assert_eq!(ours.desirable, theirs["label"] == true);
        let kl_rows: Vec<_> = ours.kl_rows.iter().map(|row| row.ids[ours.prompt..].to_vec()).collect();
        if kl && i % batch == 0 && i + 1 == trainer.examples().len() {
            alone.push(i / batch);
            assert!(kl_rows.is_empty());
        } else {
            let behind = case["kl_completions"].as_array().map(|all| numbers(&all[i]));
            assert_eq!(kl_rows, behind.into_iter().collect::<Vec<_>>());
        }
    }
    assert_eq!(!alone.is_empty(), name == "kto_one_kind_lora");

    // The policy before the first step is the reference.
    let (n, beta) = (trainer.examples().len(), case["own"]["beta"].as_f64().unwrap());
    let reference: Vec<f64> = (0..n).map(|i| sum(&trainer, i)).collect();
    let steps = steps(&case, &mut trainer, &mut |trainer, i| {
        let own = scores(trainer, i).remove(0);
        let logp: f64 = own.logp.iter().sum();
        let (reward, logps, logits) = if trainer.examples()[i].desirable {
            ("rewards/chosen", "logps/chosen", "logits/chosen")
        } else {
            ("rewards/rejected", "logps/rejected", "logits/rejected")
        };
        let mut out = vec![(reward, beta * (logp - reference[i])), (logps, logp)];
        out.extend(own.mean_logit.iter().map(|x| (logits, *x)));
        out.extend(own.entropy.iter().map(|x| ("entropy", *x)));
        out
    });
    if !kl {
        assert!(steps.iter().all(|s| s.ours.get("kl").is_none()));
    }
    // The values that depend on z in a single-row step.
    for at in alone {
        let (ours, theirs) = (&steps[at].ours, &mut case["steps"][at]);
        assert_eq!(ours.get("kl"), Some(0.0));
        let loss = 1.0 / (1.0 + (-steps[at].whole["rewards/rejected"]).exp());
        assert!((ours.get("loss").unwrap() - loss).abs() < 1e-6);
        for key in ["loss", "grad_norm", "kl"] {
            theirs[key] = ours.get(key).unwrap().into();
        }
    }
    let mut direct = vec!["loss", "grad_norm", "learning_rate", "num_tokens"];
    if kl {
        direct.push("kl");
    }
    if name != "kto_one_kind_lora" {
        direct.push("rewards/margins");
    }
    // `kl` is a difference of sums like a reward, without β.
    let slack = rewards(beta);
    compare(&case, &steps, &direct, &|key, theirs| match key {
        "kl" => slack("rewards/kl", theirs) / beta,
        _ => slack(key, theirs),
    });
}

tries! { TESTED run:
    kto_lora kto_fresh_adapter_lora kto_weights_lora kto_one_kind_lora kto_short_window_lora apo_zero_unpaired_lora kto_full
    kto_accumulate_full apo_zero_unpaired_full
}

#[test]
fn every_case_is_tested() {
    covers("kto", TESTED, &[]);
}
