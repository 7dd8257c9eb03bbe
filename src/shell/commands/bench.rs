//! `bench`: measures the speed of this program on this machine, as text or one JSON object.
//!
//! Owns the choice of the benchmark. Training and sampling are measured in a worker process, so that its peak memory is
//! theirs alone; the screens are measured through a pseudo-terminal.

mod figures;
mod machine;
mod pty;
mod sample;
mod train;
mod ui;

use super::super::cli::BenchAction;
use super::super::error::Result;
use super::context::CommandContext;

/// Runs a benchmark.
pub fn run(context: &CommandContext, action: BenchAction) -> Result<()> {
    match action {
        BenchAction::Train(args) => train::run(context, &args),
        BenchAction::Sample(args) => sample::run(context, &args),
        BenchAction::Ui(args) => ui::run(context, &args),
    }
}
