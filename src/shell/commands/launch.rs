//! `sample` and `train`: launching runs and following them.

use super::super::cli::{SampleArgs, TrainArgs};
use super::super::error::{Error, Result};
use super::super::estimate::estimate;
use super::super::plan::{self, SampleOrder, TrainOrder};
use super::super::run_name::RunName;
use super::super::{adapters, models, out, supervisor, system};
use super::context::CommandContext;
use super::follow;
use crate::domain::{RunId, Sampler, adapter_base_note, counted};
use crate::protocol::{Estimate, RunSpec, Task, TrainSpec};
use crate::storage::{DataFile, RunDir, SessionDir};
use clap::Args;
use serde_json::json;

/// Launches a sampling run.
pub fn sample(context: &CommandContext, args: SampleArgs) -> Result<()> {
    refuse_options(&args.template.set)?;
    let dir = SessionDir::find(&context.home, &args.session)?;
    let sampler = Sampler {
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens as usize,
        seed: args.seed.unwrap_or_default(),
        ..Sampler::default()
    };
    let count_seed = args.seed.is_none();
    let order = SampleOrder {
        models: args.models,
        servers: args.server.options(),
        adapters: args.adapters.into_iter().map(RunId::new).collect(),
        per_prompt: args.per_prompt.into(),
        sampler,
        count_seed,
        device: args.device,
        upto: None,
    };
    out::warn_of_damage(&dir.state()?.1);
    let (mut spec, data) = plan::sample(&context.home, &dir, order)?;
    spec.inputs.chat_template_kwargs = args.template.variables();
    let run = supervisor::launch(&dir, None, &spec, &data, RunName::of_sampling(count_seed))?;
    launched(context, &dir, &run, args.detach)
}

/// Refuses a variable with the name of an option: `train` sets options by `--set`, and here it would change nothing.
fn refuse_options(set: &[(String, serde_json::Value)]) -> Result<()> {
    let command = SampleArgs::augment_args(clap::Command::new("sample"));
    for (name, value) in set {
        let long = name.replace('_', "-");
        if command.get_arguments().any(|option| option.get_long() == Some(&long)) {
            let what =
                format!("--set sets variables of the chat template, and `{name}` is an option: write --{long} {value}");
            return Err(Error::Usage(what));
        }
    }
    Ok(())
}

/// Launches a training run.
pub fn train(context: &CommandContext, args: TrainArgs) -> Result<()> {
    // The method and its options are checked before any file.
    let mut set = args.set;
    let variables = args.template.variables();
    if !variables.is_empty() {
        set.insert(0, format!("{}={}", plan::TEMPLATE_KEY, serde_json::Value::Object(variables)));
    }
    let params = plan::params(&args.method, &set)?;
    let dir = SessionDir::find(&context.home, &args.session)?;
    let choice = args.choice.choice();
    let (init, adapter) = match &args.init {
        Some(text) => adapters::start(&dir, text)?,
        None => (None, None),
    };
    let name = RunName::of(args.name.as_ref());
    let order = TrainOrder {
        method: args.method,
        params,
        choice: choice.clone(),
        name: args.name,
        init,
        adapter,
        device: args.device,
        allow_damaged: args.allow_damaged,
        suites: args.data,
        upto: None,
    };
    let allowed = order.allow_damaged;
    let (spec, data) = plan::train(&context.home, &dir, order)?;
    let (session, found) = dir.state()?;
    if allowed {
        out::warn_of_damage(&found);
    }
    let partial = session.supply_of(&choice).partial;
    if partial > 0 {
        let verdicts = counted(partial, "verdict");
        out::note(&format!("{verdicts} given before both answers had ended: `--filter -partial` leaves the pairs out"));
    }
    if let Task::Train(TrainSpec { adapter: Some(adapter), model, params, .. }) = &spec.task {
        let settings =
            ["lora_r", "lora_alpha", "use_rslora", "use_dora"].map(|key| format!("{key}={}", params.text(key)));
        out::note(&format!("starts from the adapter in {}, which decides {}", adapter.path, settings.join(", ")));
        if let Some(note) = adapter_base_note(&adapter.base, &model.name) {
            out::note(&note);
        }
    }
    announce(context, &spec, &data)?;
    let run = supervisor::launch(&dir, None, &spec, &data, name)?;
    launched(context, &dir, &run, args.detach)
}

/// Prints the estimate of a run. Refuses a run that could not start, before its folder exists.
fn announce(context: &CommandContext, spec: &RunSpec, data: &[DataFile]) -> Result<()> {
    if let Task::Train(train) = &spec.task {
        models::check(&train.model)?;
    }
    let plan = estimate(&context.home, None, spec, data)?;
    // A run without rows reports the reasons itself.
    if plan.steps > 0 {
        out::note(&words(&plan, system::memory().1));
    }
    Ok(())
}

/// The estimate as a sentence; `free` is available memory in bytes, 0 if unknown.
fn words(plan: &Estimate, free: u64) -> String {
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let mut text = format!(
        "plan: {} on {}, at most {} tokens each, {} trainable parameters, {} of memory",
        counted(plan.steps as usize, "step"),
        counted(plan.train_rows, "row"),
        plan.longest,
        plan.trainable,
        gb(plan.memory_bytes)
    );
    let activations = match (plan.kept_layers, plan.layers) {
        (kept, all) if kept == all => "all activations kept".to_owned(),
        (0, all) => format!("each of {all} layers recomputed"),
        (kept, all) => format!("{} of {all} layers recomputed", all - kept),
    };
    if free > 0 {
        text.push_str(&format!(" ({} free; {activations})", gb(free)));
    } else {
        text.push_str(&format!(" ({activations})"));
    }
    if free > 0 && plan.memory_bytes > free {
        text.push_str(&format!(": it may not fit; {}", remedy(plan, free)));
    }
    text
}

/// The remedy for a run that needs more than `free` bytes, by its largest part.
fn remedy(plan: &Estimate, free: u64) -> String {
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let rest = plan.memory_bytes.saturating_sub(plan.weights_bytes + plan.trained_bytes);
    if plan.weights_bytes > free {
        return format!("the weights alone take {}: choose a smaller model", gb(plan.weights_bytes));
    }
    if plan.trained_bytes > rest {
        return format!("trainable parameters take {}: set tune=lora or a lower lora_r", gb(plan.trained_bytes));
    }
    format!("activations take {}: lower max_length or per_device_train_batch_size", gb(rest))
}

/// Follows the run, or prints how to.
pub(super) fn launched(context: &CommandContext, dir: &SessionDir, run: &RunDir, detach: bool) -> Result<()> {
    if !detach {
        return follow::run(context, dir, run);
    }
    let name = format!("{}/{}", dir.name(), run.id());
    if context.json {
        out::json(&json!({ "session": dir.name(), "run": run.id(), "path": run.path() }))
    } else {
        out::line(&format!("run {name} started; follow it with `tiebreak watch {name}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_that_does_not_fit_names_the_remedy() {
        let plan = Estimate {
            steps: 3,
            train_rows: 1,
            longest: 320,
            trainable: 42,
            memory_bytes: 1_500_000_000,
            weights_bytes: 500_000_000,
            trained_bytes: 100_000_000,
            layers: 30,
            kept_layers: 30,
            ..Estimate::default()
        };
        let fits = words(&plan, 2_000_000_000);
        assert_eq!(
            fits,
            "plan: 3 steps on 1 row, at most 320 tokens each, 42 trainable parameters, 1.5 GB of memory (2.0 GB free; all \
             activations kept)"
        );
        let ends = |plan: &Estimate, with: &str| {
            let text = words(plan, 1_000_000_000);
            assert!(text.ends_with(with), "{text}");
        };
        ends(&plan, "activations take 0.9 GB: lower max_length or per_device_train_batch_size");
        let full = Estimate { trained_bytes: 800_000_000, ..plan.clone() };
        ends(&full, "trainable parameters take 0.8 GB: set tune=lora or a lower lora_r");
        let large = Estimate { weights_bytes: 1_200_000_000, ..plan.clone() };
        ends(&large, "the weights alone take 1.2 GB: choose a smaller model");
        assert!(!words(&plan, 0).contains("free"));
        let some = Estimate { kept_layers: 22, ..plan.clone() };
        assert!(words(&some, 0).ends_with("(8 of 30 layers recomputed)"));
        assert!(words(&Estimate { kept_layers: 0, ..plan }, 0).ends_with("(each of 30 layers recomputed)"));
    }
}
