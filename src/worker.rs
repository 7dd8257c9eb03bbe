//! The child process: reads a run's specification, does the work, writes events.
//!
//! Owns the life cycle of one run: lock, log, control folder, checkpoints, signals and panics. Refuses to depend on its parent:
//! it keeps running when the parent, the terminal or the SSH connection is gone; others see it through its log.
//!
//! **Invariants.** Only the holder of a run's lock writes to its folder. A failed step overwrites nothing. A checkpoint is on
//! disk before the log reports it.

mod adapters;
mod answer;
mod ask;
mod bench;
mod describe;
mod drive;
mod error;
mod evaluate;
mod finite;
mod gpu;
mod growing;
mod inputs;
mod log;
mod memory;
mod out;
mod prepared;
mod process;
mod run;
mod score;
mod servers;
mod task;

#[cfg(test)]
mod tests;

pub use error::Error;

use crate::domain::RunId;
use color_eyre::config::HookBuilder;
use std::ffi::OsString;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs the worker with the arguments after `worker`: a verb and its operands. Exit code 0: done; 1: failed, with one sentence
/// as the last line of stderr; 2: unknown verb. `reports` configures panic reports, which precede that line.
pub fn main(args: impl IntoIterator<Item = OsString>, reports: HookBuilder) -> ExitCode {
    // A process has one panic hook; the first one stays.
    let _ = reports.install();
    let args: Vec<OsString> = args.into_iter().collect();
    catch_unwind(|| dispatch(&args)).unwrap_or_else(|panic| {
        out::note(&format!("tiebreak: {}", out::panicked(panic.as_ref(), "in a worker", "please report it")));
        ExitCode::FAILURE
    })
}

fn dispatch(args: &[OsString]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(|a| a.to_str().unwrap_or_default()).collect();
    let path = |i: usize| Path::new(&args[i]);
    let done = match words.as_slice() {
        ["run", _] => run::run(path(1)),
        ["ask", _] => ask::ask(path(1)),
        ["full", _, bytes] => memory::report(path(1), bytes),
        ["lost", _] => memory::lost(path(1)),
        ["models", roots @ ..] => {
            let roots: Vec<PathBuf> = (1..=roots.len()).map(|i| path(i).to_owned()).collect();
            answer::models(&roots)
        }
        ["model", _] => answer::model(path(1)),
        ["adapter", _, _] => adapters::describe(path(1), path(2)),
        ["describe", _, variables] => describe::describe(path(1), variables),
        ["render", _, _, format, most, variables] => describe::render(path(1), path(2), format, most, variables),
        ["gpus"] => answer::gpus(),
        ["estimate", _] => answer::estimate(path(1)),
        ["masks", _] => answer::masks(path(1)),
        ["verify", _] => answer::verify(path(1)),
        ["verify-models", _] => answer::verify_models(path(1)),
        ["score", _, id] => score::score(path(1), &RunId::new(*id), None),
        ["score", _, id, of] => score::score(path(1), &RunId::new(*id), Some(&RunId::new(*of))),
        ["merge", _, id, _, format, part, written @ ..] => {
            answer::merge(path(1), &RunId::new(*id), path(3), format, part, written.first().copied())
        }
        ["make", _, spec] => answer::make(path(1), spec),
        ["judge", _, model, rater] => score::judge(path(1), model, rater, None),
        ["judge", _, model, rater, of] => score::judge(path(1), model, rater, Some(&RunId::new(*of))),
        ["judge-inputs", _, model] => score::judge_inputs(path(1), model),
        ["server", spec] => servers::server(spec),
        ["server-models", spec] => servers::models(spec),
        ["bench", spec] => bench::bench(spec),
        _ => {
            out::note("tiebreak: `worker` is internal; see `tiebreak --help` for commands");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            out::note(&format!("tiebreak: {e}"));
            ExitCode::FAILURE
        }
    }
}
