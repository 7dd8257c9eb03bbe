//! Options that contradict each other or would have no effect, reported as sentences that name them and the remedy.
//!
//! Owns the checks that need the options alone, so that a run is refused before it is created: the rules of all methods, and
//! the evaluation of each method's own ([`Dependency`] rows and `refuse`). Refuses checks that need rows or models.
//!
//! An absent option contradicts nothing: runs from older versions lack some.

#[cfg(test)]
mod tests;

use super::row::{Condition, Dependency, Method, Needs};
use super::shared::{RolloutParams, TrainerParams};
use crate::domain::hyper::Hyperparameters;
use crate::domain::param::{ParamRow, Params};
use std::borrow::Cow;

/// Dependencies among the shared options.
const SHARED: &[Dependency] = &[
    Dependency {
        keys: &["use_dora", "use_rslora", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"],
        condition: Condition::Not("full"),
        on: "tune",
        remedy: Cow::Borrowed("set tune=lora"),
    },
    Dependency {
        keys: &["per_device_train_batch_size", "group_by_length"],
        condition: Condition::NotPositive,
        on: "max_tokens_per_batch",
        remedy: Cow::Borrowed("set max_tokens_per_batch=0"),
    },
    Dependency {
        keys: &["num_train_epochs"],
        condition: Condition::NotPositive,
        on: "max_steps",
        remedy: Cow::Borrowed("set max_steps=-1"),
    },
    Dependency {
        keys: &["lr_decay_share"],
        condition: Condition::Includes("warmup_stable_decay"),
        on: "lr_scheduler_type",
        remedy: Cow::Borrowed("set lr_scheduler_type=warmup_stable_decay"),
    },
    Dependency {
        keys: &["eval_steps", "metric_for_best_model"],
        condition: Condition::Positive,
        on: "eval_fraction",
        remedy: Cow::Borrowed("raise eval_fraction"),
    },
    Dependency {
        keys: &["mix_order", "mix_weight"],
        condition: Condition::Positive,
        on: "mix_ratio",
        remedy: Cow::Borrowed("raise mix_ratio"),
    },
    Dependency {
        keys: &["probe_alarm"],
        condition: Condition::Positive,
        on: "probe_steps",
        remedy: Cow::Borrowed("set probe_steps"),
    },
];

impl Method {
    /// The first contradiction among these options.
    #[must_use]
    pub fn contradiction(&self, params: &Params) -> Option<String> {
        let rows = self.rows();
        let shared = match TrainerParams::read(params) {
            Ok(shared) => shared,
            Err(e) => return Some(e.to_string()),
        };
        let rollout = || match RolloutParams::read(params) {
            Ok(rollout) => rollouts(self.name, &shared, &rollout),
            Err(e) => Some(e.to_string()),
        };
        trainer(&shared)
            .or_else(|| SHARED.iter().chain(&(self.dependencies)()).find_map(|rule| rule.violation(&rows, params)))
            .or_else(|| if self.needs == Needs::Prompts { rollout() } else { None })
            .or_else(|| (self.refuse)(params))
    }
}

impl Dependency {
    /// The sentence about the first option that is set without effect.
    fn violation(&self, rows: &[ParamRow], params: &Params) -> Option<String> {
        if !params.0.contains_key(self.on) || self.condition.holds(params.text(self.on)) {
            return None;
        }
        let set = |key: &&&str| rows.iter().find(|row| row.key == **key).filter(|row| differs(row, params));
        let row = self.keys.iter().find_map(|key| set(&key))?;
        let setting = match params.text(self.on) {
            "" => format!("without {}", self.on),
            value => format!("for {}={value}", self.on),
        };
        Some(format!("{} has no effect {setting}; leave it at {} or {}", row.key, row.default, self.remedy))
    }
}

/// Whether an option is set to another value than its default. Numbers compare by value; an empty text never differs.
fn differs(row: &ParamRow, params: &Params) -> bool {
    let text = params.text(row.key);
    match (text.parse::<f64>(), row.default.parse::<f64>()) {
        (Ok(x), Ok(default)) => x != default,
        _ => !text.is_empty() && text != row.default,
    }
}

/// Contradictions among the shared options.
fn trainer(p: &TrainerParams) -> Option<String> {
    // Suites have steps and items of their own.
    let on_rows = !p.metric_for_best_model.starts_with("suite/");
    let sentence = if p.group_by_length && !p.shuffle {
        "group_by_length reorders rows but shuffle=false keeps the file's order; set group_by_length=false or shuffle=true"
    } else if p.max_tokens_per_batch > 0 && !p.shuffle {
        "max_tokens_per_batch reorders rows but shuffle=false keeps the file's order; set it to 0 or set shuffle=true"
    } else if p.early_stopping_patience == 0 {
        return None;
    } else if on_rows && p.eval_steps == 0 {
        "early_stopping_patience counts evaluations, but eval_steps=0 runs none before the end; set eval_steps"
    } else if on_rows && p.eval_fraction == 0.0 {
        "early_stopping_patience counts evaluations, but eval_fraction=0 leaves no rows to evaluate; raise it"
    } else if p.metric_for_best_model.is_empty() {
        "early_stopping_patience needs a metric in metric_for_best_model, which is empty"
    } else {
        return None;
    };
    Some(sentence.into())
}

/// Contradictions among the options of online methods.
fn rollouts(method: &str, p: &TrainerParams, rollout: &RolloutParams) -> Option<String> {
    let group = rollout.num_generations.max(1);
    if method != "ppo" && group < 2 {
        return Some("num_generations=1 gives an answer no group to compare with; set it to 2 or more".into());
    }
    let answers =
        p.per_device_train_batch_size.max(1) * p.gradient_accumulation_steps.max(1) * rollout.num_mini_batches.max(1);
    if !answers.is_multiple_of(group) {
        return Some(format!(
            "a round has {answers} answers (per_device_train_batch_size × gradient_accumulation_steps × num_mini_batches), \
             which is not a multiple of num_generations={group}; change one of them"
        ));
    }
    None
}
