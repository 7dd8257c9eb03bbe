//! `sample` and `train`: launching runs and following them.

use super::super::cli::{SampleArgs, TrainArgs};
use super::super::error::Result;
use super::super::plan::{self, SampleOrder, TrainOrder};
use super::super::{out, supervisor};
use super::{Context, follow};
use crate::domain::{RunId, Sampler};
use crate::storage::{RunDir, SessionDir};
use serde_json::json;

/// Launches a sampling run.
pub fn sample(context: &Context, args: SampleArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    let sampler = Sampler {
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens as usize,
        seed: args.seed.unwrap_or_default(),
        ..Sampler::default()
    };
    let order = SampleOrder {
        models: args.models,
        adapter: args.adapter.map(RunId),
        per_prompt: args.per_prompt.into(),
        sampler,
        count_seed: args.seed.is_none(),
        device: args.device,
    };
    let (spec, data) = plan::sample(&context.home, &dir, order)?;
    let run = supervisor::launch(&dir, None, &spec, &data)?;
    launched(context, &dir, &run, args.detach)
}

/// Launches a training run.
pub fn train(context: &Context, args: TrainArgs) -> Result<()> {
    // The method and its options are checked before the disk is looked at.
    let params = plan::params(&args.method, &args.set)?;
    let dir = SessionDir::find(&context.home, &args.session)?;
    let order =
        TrainOrder { method: args.method, params, name: args.name, init: args.init.map(RunId), device: args.device };
    let (spec, data) = plan::train(&context.home, &dir, order)?;
    let run = supervisor::launch(&dir, None, &spec, &data)?;
    launched(context, &dir, &run, args.detach)
}

/// Follows the run, or says where it is.
fn launched(context: &Context, dir: &SessionDir, run: &RunDir, detach: bool) -> Result<()> {
    if !detach {
        return follow::run(context, dir, run);
    }
    let name = format!("{}/{}", dir.name(), run.id());
    if context.json {
        out::json(&json!({ "session": dir.name(), "run": run.id(), "path": run.path() }))
    } else {
        out::line(&format!("run {name} is going; `tiebreak watch {name}` shows it"))
    }
}
