//! `bench`: how fast this program is on this machine, by what users run, in words or as one JSON object.
//!
//! Owns which benchmark is asked for. What needs a model is measured by a worker process of its own, so that its peak memory
//! is its own; the screens are measured from the other end of a terminal.

mod figures;
mod machine;
mod pty;
mod sample;
mod train;
mod ui;

use super::super::cli::BenchAction;
use super::super::error::Result;
use super::context::CommandContext;

/// Measures what is asked for.
pub fn run(context: &CommandContext, action: BenchAction) -> Result<()> {
    match action {
        BenchAction::Train(args) => train::run(context, &args),
        BenchAction::Sample(args) => sample::run(context, &args),
        BenchAction::Ui(args) => ui::run(context, &args),
    }
}
