//! Options that contradict each other, or of which one would be without effect, as sentences that name them and the remedy.
//!
//! Owns what can be said from the options alone, so that a run is refused before it is made. Refuses what hangs on rows or
//! models.

use super::{Method, Needs};
use crate::domain::param::Params;

impl Method {
    /// What is wrong with these options taken together; none where nothing is.
    #[must_use]
    pub fn contradiction(&self, params: &Params) -> Option<String> {
        contradiction(params).or_else(|| if self.needs == Needs::Prompts { answering(self.name, params) } else { None })
    }
}

/// What is wrong with the options that all methods share.
#[must_use]
pub fn contradiction(params: &Params) -> Option<String> {
    let adapters = ["use_dora", "use_rslora"].iter().find(|key| params.bool(key));
    if let Some(key) = adapters.filter(|_| params.text("tune") == "full") {
        return Some(format!("{key} has no meaning for tune=full; set it to false or take tune=lora"));
    }
    let sentence = if params.bool("group_by_length") && !params.bool("shuffle") {
        "group_by_length changes the order that shuffle=false keeps; set one of them to the other value"
    } else if params.usize("early_stopping_patience") == 0 {
        return None;
    } else if params.usize("eval_steps") == 0 {
        "early_stopping_patience counts evaluations and eval_steps=0 makes none on the way; set eval_steps"
    } else if params.f64("eval_fraction") == 0.0 {
        "early_stopping_patience counts evaluations and eval_fraction=0 keeps no rows for them; raise it"
    } else if params.text("metric_for_best_model").is_empty() {
        "early_stopping_patience watches metric_for_best_model, which is empty; name a metric"
    } else {
        return None;
    };
    Some(sentence.into())
}

/// The same of the methods that learn from their own answers.
fn answering(method: &str, params: &Params) -> Option<String> {
    let of = |key: &str| params.usize(key).max(1);
    // Runs from before an option was there have none of it.
    let differs = |key: &str, default: f64| params.f64(key) < default || params.f64(key) > default;
    let group = of("num_generations");
    if method != "ppo" && group < 2 {
        return Some("num_generations=1 leaves an answer nothing to be compared with; set it to 2 or more".into());
    }
    let answers = of("per_device_train_batch_size") * of("gradient_accumulation_steps") * of("num_mini_batches");
    if !answers.is_multiple_of(group) {
        return Some(format!(
            "a round has {answers} answers (per_device_train_batch_size × gradient_accumulation_steps × num_mini_batches), \
             which are no whole groups of num_generations={group}; make one a multiple of the other"
        ));
    }
    if differs("checks_weight", 1.0) && params.text("reward_checks").is_empty() {
        return Some("checks_weight has no meaning without reward_checks; set it to 1 or name checks".into());
    }
    if method == "ppo" && differs("kl_horizon", 10_000.0) && params.f64("kl_target") == 0.0 {
        return Some("kl_horizon has no meaning for kl_target=0; leave it at 10000 or set kl_target".into());
    }
    let corrected = params.text("use_bias_correction_kl") != "false";
    if method == "grpo" && !corrected && params.f64("beta") == 0.0 {
        return Some(
            "use_bias_correction_kl=false has no meaning for beta=0, which has no KL; set it to true or raise beta"
                .into(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::domain::{Params, method, methods};

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

    #[test]
    fn defaults_and_runs_from_before_an_option_agree_with_themselves() {
        for m in methods() {
            assert_eq!(said(m.name, &[]), None, "{}", m.name);
            assert!(m.contradiction(&Params::default()).is_none_or(|s| s.contains("num_generations")), "{}", m.name);
        }
        assert_eq!(said("dpo", &[("early_stopping_patience", "2"), ("eval_steps", "5")]), None);
        assert_eq!(said("ppo", &[("kl_horizon", "5"), ("kl_target", "6")]), None);
        assert_eq!(said("ppo", &[("num_generations", "1")]), None);
        assert_eq!(said("grpo", &[("use_bias_correction_kl", "false"), ("beta", "0.1")]), None);
    }

    #[test]
    fn what_has_no_effect_is_refused_by_name() {
        let refused: [Case; 12] = [
            ("dpo", &[("use_dora", "true"), ("tune", "full")], "use_dora has no meaning"),
            ("dpo", &[("use_rslora", "true"), ("tune", "full")], "use_rslora has no meaning"),
            ("dpo", &[("group_by_length", "true"), ("shuffle", "false")], "group_by_length"),
            ("dpo", &[("early_stopping_patience", "2")], "set eval_steps"),
            ("dpo", &[("early_stopping_patience", "2"), ("eval_steps", "5"), ("eval_fraction", "0")], "eval_fraction"),
            (
                "dpo",
                &[("early_stopping_patience", "2"), ("eval_steps", "5"), ("metric_for_best_model", "")],
                "name a metric",
            ),
            ("grpo", &[("num_generations", "1")], "num_generations=1"),
            ("rloo", &[("num_generations", "1")], "num_generations=1"),
            ("ppo", &[("num_generations", "3")], "no whole groups of num_generations=3"),
            ("ppo", &[("kl_horizon", "5")], "kl_target=0"),
            ("rloo", &[("checks_weight", "2")], "without reward_checks"),
            ("grpo", &[("use_bias_correction_kl", "false")], "beta=0"),
        ];
        for (name, settings, part) in refused {
            let sentence = said(name, settings).unwrap_or_default();
            assert!(sentence.contains(part), "{name} {settings:?}: {sentence}");
        }
    }
}
