//! Options that contradict each other, or of which one would be without effect, as sentences that name them and the remedy.
//!
//! Owns what can be said from the options alone, so that a run is refused before it is made: what all methods share, and
//! how each method's own rules (its [`Under`] rows and its `refuse`) are asked. Refuses what hangs on rows or models.
//!
//! An option that is absent, as in runs from before it was there, contradicts nothing.

#[cfg(test)]
mod tests;

use super::row::{Condition, Dependency, Method, Needs};
use super::shared::{RolloutParams, TrainerParams};
use crate::domain::hyper::Hyperparameters;
use crate::domain::param::{ParamRow, Params};
use std::borrow::Cow;

/// Those of the options that all methods share.
const SHARED: &[Dependency] = &[
    Dependency {
        keys: &["use_dora", "use_rslora", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"],
        condition: Condition::Not("full"),
        on: "tune",
        remedy: Cow::Borrowed("take tune=lora"),
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
        remedy: Cow::Borrowed("take lr_scheduler_type=warmup_stable_decay"),
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
    /// What is wrong with these options taken together; none where nothing is.
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
    /// The sentence about the first option that is set and means nothing.
    fn violation(&self, rows: &[ParamRow], params: &Params) -> Option<String> {
        if !params.0.contains_key(self.on) || self.condition.holds(params.text(self.on)) {
            return None;
        }
        let set = |key: &&&str| rows.iter().find(|row| row.key == **key).filter(|row| differs(row, params));
        let row = self.keys.iter().find_map(|key| set(&key))?;
        let place = match params.text(self.on) {
            "" => format!("without {}", self.on),
            value => format!("for {}={value}", self.on),
        };
        Some(format!("{} has no meaning {place}; leave it at {} or {}", row.key, row.default, self.remedy))
    }
}

/// Whether an option is there and is not its default, however a number is written. Where nothing is asked for (an empty
/// text), nothing differs.
fn differs(row: &ParamRow, params: &Params) -> bool {
    let text = params.text(row.key);
    match (text.parse::<f64>(), row.default.parse::<f64>()) {
        (Ok(x), Ok(default)) => x != default,
        _ => !text.is_empty() && text != row.default,
    }
}

/// What is wrong with the options that all methods share.
fn trainer(p: &TrainerParams) -> Option<String> {
    let sentence = if p.group_by_length && !p.shuffle {
        "group_by_length changes the order that shuffle=false keeps; set one of them to the other value"
    } else if p.max_tokens_per_batch > 0 && !p.shuffle {
        "max_tokens_per_batch changes the order that shuffle=false keeps; set it to 0 or take shuffle=true"
    } else if p.early_stopping_patience == 0 {
        return None;
    } else if p.eval_steps == 0 {
        "early_stopping_patience counts evaluations and eval_steps=0 makes none on the way; set eval_steps"
    } else if p.eval_fraction == 0.0 {
        "early_stopping_patience counts evaluations and eval_fraction=0 keeps no rows for them; raise it"
    } else if p.metric_for_best_model.is_empty() {
        "early_stopping_patience watches metric_for_best_model, which is empty; name a metric"
    } else {
        return None;
    };
    Some(sentence.into())
}

/// The same of the methods that learn from their own answers.
fn rollouts(method: &str, p: &TrainerParams, rollout: &RolloutParams) -> Option<String> {
    let group = rollout.num_generations.max(1);
    if method != "ppo" && group < 2 {
        return Some("num_generations=1 leaves an answer nothing to be compared with; set it to 2 or more".into());
    }
    let answers =
        p.per_device_train_batch_size.max(1) * p.gradient_accumulation_steps.max(1) * rollout.num_mini_batches.max(1);
    if !answers.is_multiple_of(group) {
        return Some(format!(
            "a round has {answers} answers (per_device_train_batch_size × gradient_accumulation_steps × num_mini_batches), \
             which are no whole groups of num_generations={group}; make one a multiple of the other"
        ));
    }
    None
}
