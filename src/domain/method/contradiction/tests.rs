//! Every rule fires for every method that has its options, in words that name them, and the defaults agree with themselves.

use super::{Dependency, SHARED};
use crate::domain::{Method, ParamKind, ParamRow, Params, method, methods};

/// A method, settings over its defaults, and a part of the sentence.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

fn said(name: &str, settings: &[(&str, &str)]) -> Option<String> {
    let m = method(name).unwrap();
    let mut params = Params::defaults(&m.rows());
    for (key, value) in settings {
        params.set(&m.rows(), name, key, value).unwrap();
    }
    m.contradiction(&params)
}

/// Values that a row takes, its default among them.
fn values(row: &ParamRow) -> Vec<String> {
    let own = row.default.to_owned();
    match row.kind {
        ParamKind::Bool => vec!["true".into(), "false".into()],
        ParamKind::Choice(words) | ParamKind::List(words) => words.iter().map(|w| (*w).to_owned()).collect(),
        ParamKind::Float(lo, hi) => vec![own, lo.to_string(), (lo + (hi - lo).min(1.0) * 0.37).to_string()],
        ParamKind::Int(lo, _) => vec![own, lo.max(0).to_string(), (lo.max(2) + 1).to_string()],
        ParamKind::Floats(..) => vec![own, "0.5".into()],
        ParamKind::Word => vec![own, "reward-1".into()],
        ParamKind::Names => vec![own, "degenerate".into()],
        ParamKind::Metric => vec![own, "eval_accuracy".into()],
        ParamKind::Variables => vec![own, "{\"enable_thinking\":false}".into()],
        ParamKind::Checks => vec![own, "max_words=7".into()],
    }
}

/// Whether some value of the governing option violates the rule and is reported.
fn fires(m: &Method, dependency: &Dependency, row: &ParamRow) -> bool {
    let rows = m.rows();
    let of = rows
        .iter()
        .find(|r| r.key == dependency.on)
        .unwrap_or_else(|| panic!("{}: no option {}", m.name, dependency.on));
    values(of).iter().any(|governor| {
        values(row).iter().filter(|v| **v != row.default).any(|value| {
            let mut params = Params::defaults(&rows);
            params.set(&rows, m.name, dependency.on, governor).unwrap();
            params.set(&rows, m.name, row.key, value).unwrap();
            let sentence = m.contradiction(&params).unwrap_or_default();
            sentence.starts_with(&format!("{} has no effect", row.key))
                && sentence.ends_with(dependency.remedy.as_ref())
        })
    })
}

#[test]
fn every_rule_of_every_method_fires_for_each_of_its_options() {
    for m in methods() {
        let rows = m.rows();
        // A shared rule does not apply to a method without the governing option.
        let applicable = SHARED.iter().filter(|dependency| rows.iter().any(|row| row.key == dependency.on));
        for dependency in applicable.chain(&(m.dependencies)()) {
            for row in rows.iter().filter(|row| dependency.keys.contains(&row.key)) {
                assert!(fires(m, dependency, row), "{}: {} under {}", m.name, row.key, dependency.on);
            }
        }
        // A method's own rules are about its own options.
        for key in (m.dependencies)().iter().flat_map(|dependency| dependency.keys) {
            assert!(rows.iter().any(|row| row.key == *key), "{}: no option {key}", m.name);
        }
    }
    // And a shared rule is about options that some method has.
    for key in SHARED.iter().flat_map(|dependency| dependency.keys.iter().chain(std::iter::once(&dependency.on))) {
        assert!(methods().iter().any(|m| m.rows().iter().any(|row| row.key == *key)), "{key} is no option");
    }
}

#[test]
fn defaults_and_runs_from_before_an_option_agree_with_themselves() {
    for m in methods() {
        assert_eq!(said(m.name, &[]), None, "{}", m.name);
        assert!(m.contradiction(&Params::default()).is_none_or(|s| s.contains("num_generations")), "{}", m.name);
        // However the default is written, and where nothing governs it, an option asks for nothing.
        let old = Params([("lora_r", "8"), ("mix_weight", "2")].map(|(k, v)| (k.into(), v.into())).into());
        assert!(m.contradiction(&old).is_none_or(|s| s.contains("num_generations")), "{}", m.name);
    }
    for agree in [
        ("dpo", &[("early_stopping_patience", "2"), ("eval_steps", "5")][..]),
        ("dpo", &[("early_stopping_patience", "2"), ("metric_for_best_model", "suite/ifeval/prompt_strict")]),
        ("dpo", &[("tune", "full"), ("lora_r", "16"), ("lora_alpha", "32.0")]),
        ("dpo", &[("mix_ratio", "0.2"), ("mix_weight", "0.5"), ("mix_order", "sequential")]),
        ("dpo", &[("eval_fraction", "0"), ("metric_for_best_model", "")]),
        ("dpo", &[("loss_type", "robust"), ("soft_labels", "true")]),
        ("dpo", &[("loss_type", "sigmoid,sft"), ("loss_weights", "1,0.2")]),
        ("dpo", &[("loss_type", "discopop,sft"), ("discopop_tau", "0.1"), ("f_divergence_type", "forward_kl")]),
        ("cpo", &[("label_smoothing", "0.1")]),
        ("kto", &[("per_device_train_batch_size", "1"), ("loss_type", "apo_zero_unpaired")]),
        ("ppo", &[("kl_horizon", "5"), ("kl_target", "6")]),
        ("ppo", &[("num_generations", "1")]),
        ("grpo", &[("use_bias_correction_kl", "false"), ("beta", "0.1")]),
        ("rloo", &[("checks_weight", "2"), ("reward_checks", "json")]),
    ] {
        assert_eq!(said(agree.0, agree.1), None, "{agree:?}");
    }
}

#[test]
fn contradictions_are_refused_with_the_option_named() {
    let refused: &[Case] = &[
        (
            "dpo",
            &[("use_dora", "true"), ("tune", "full")],
            "use_dora has no effect for tune=full; leave it at false or",
        ),
        ("sft", &[("lora_r", "8"), ("tune", "full")], "lora_r has no effect for tune=full; leave it at 16 or set"),
        ("sft", &[("num_train_epochs", "2"), ("max_steps", "5")], "leave it at 3 or set max_steps=-1"),
        ("orpo", &[("lr_decay_share", "0.1")], "lr_decay_share has no effect for lr_scheduler_type=linear"),
        ("dpo", &[("group_by_length", "true"), ("shuffle", "false")], "group_by_length"),
        ("dpo", &[("max_tokens_per_batch", "2048"), ("shuffle", "false")], "max_tokens_per_batch"),
        (
            "sft",
            &[("max_tokens_per_batch", "2048"), ("per_device_train_batch_size", "2")],
            "per_device_train_batch_size has no effect for max_tokens_per_batch=2048; leave it at 8 or set",
        ),
        ("dpo", &[("eval_steps", "5"), ("eval_fraction", "0")], "eval_steps has no effect for eval_fraction=0"),
        ("dpo", &[("early_stopping_patience", "2")], "set eval_steps"),
        ("dpo", &[("early_stopping_patience", "2"), ("eval_steps", "5"), ("eval_fraction", "0")], "eval_fraction"),
        (
            "dpo",
            &[("early_stopping_patience", "2"), ("eval_steps", "5"), ("metric_for_best_model", "")],
            "needs a metric",
        ),
        ("dpo", &[("mix_weight", "0.5")], "mix_weight has no effect for mix_ratio=0"),
        ("dpo", &[("probe_alarm", "1")], "probe_alarm has no effect for probe_steps=0"),
        ("dpo", &[("loss_type", "hinge"), ("label_smoothing", "0.1")], "label_smoothing has no effect"),
        ("dpo", &[("loss_type", "ipo,hinge"), ("soft_labels", "true")], "soft_labels has no effect"),
        ("dpo", &[("loss_type", "exo_pair")], "needs label_smoothing"),
        ("dpo", &[("loss_type", "robust")], "is sigmoid"),
        ("dpo", &[("discopop_tau", "0.1")], "discopop_tau has no effect"),
        ("dpo", &[("dpop_lambda", "5")], "dpop_lambda has no effect"),
        ("dpo", &[("f_alpha_divergence_coef", "0.3")], "f_alpha_divergence_coef has no effect"),
        ("dpo", &[("loss_type", "nca_pair"), ("f_divergence_type", "js_divergence")], "nca_pair is only defined"),
        ("dpo", &[("loss_type", "dpop"), ("f_divergence_type", "forward_kl")], "dpop is only defined"),
        ("dpo", &[("loss_type", "sigmoid,aot"), ("use_weighting", "true")], "loss_type=aot sorts"),
        ("dpo", &[("loss_type", "sigmoid,sft"), ("loss_weights", "1,2,3")], "3 values"),
        ("dpo", &[("loss_type", "ipo,ipo")], "twice"),
        ("dpo", &[("loss_type", "sft")], "no preference"),
        ("cpo", &[("loss_type", "ipo"), ("soft_labels", "true")], "soft_labels has no effect for loss_type=ipo"),
        ("cpo", &[("loss_type", "hinge"), ("label_smoothing", "0.1")], "set loss_type=sigmoid"),
        ("kto", &[("per_device_train_batch_size", "1")], "per_device_train_batch_size to 2"),
        ("grpo", &[("num_generations", "1")], "num_generations=1"),
        ("rloo", &[("num_generations", "1")], "num_generations=1"),
        ("ppo", &[("num_generations", "3")], "not a multiple of num_generations=3"),
        ("ppo", &[("kl_horizon", "5")], "kl_target=0"),
        ("ppo", &[("cliprange_value", "5"), ("vf_coef", "0")], "cliprange_value has no effect for vf_coef=0"),
        (
            "rloo",
            &[("checks_weight", "2")],
            "checks_weight has no effect without reward_checks; leave it at 1 or set reward_checks",
        ),
        ("grpo", &[("use_bias_correction_kl", "false")], "beta=0"),
    ];
    for (name, settings, part) in refused {
        let sentence = said(name, settings).unwrap_or_default();
        assert!(sentence.contains(part), "{name} {settings:?}: {sentence}");
        assert!(!sentence.contains("  ") && sentence.lines().count() == 1, "{sentence}");
    }
}
