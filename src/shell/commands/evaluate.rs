//! `eval`: launching an evaluation, following it, and printing what it found.

use super::super::cli::EvalArgs;
use super::super::error::Result;
use super::super::evaluation::{EvalOrder, plan};
use super::super::{out, supervisor};
use super::context::CommandContext;
use super::launch::launched;
use crate::domain::Sampler;
use crate::storage::SessionDir;

/// Launches an evaluation.
pub fn evaluate(context: &CommandContext, args: EvalArgs) -> Result<()> {
    let dir = SessionDir::find(&context.home, &args.session)?;
    out::warn_of_damage(&dir.state()?.1);
    let sampler = Sampler {
        temperature: args.temperature,
        top_p: args.top_p,
        max_new_tokens: args.max_new_tokens.unwrap_or(0) as usize,
        seed: args.seed,
        ..Sampler::default()
    };
    let order = EvalOrder {
        a: args.a,
        b: args.b,
        suites: args.suites,
        judges: args.judges,
        prompts: args.prompts,
        data: args.data,
        limit: args.limit.map(|n| n as usize),
        seeds: args.seeds,
        sampler,
        servers: args.server.options(),
        device: args.device,
        upto: None,
    };
    let (spec, files, notes) = plan(&context.home, &dir, order)?;
    notes.0.iter().for_each(|note| out::note(note));
    let run = supervisor::launch(&dir, None, &spec, &files)?;
    launched(context, &dir, &run, args.detach)
}
