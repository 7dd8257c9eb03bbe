//! The child process: a run's specification in, its recipe, events out.
//!
//! Owns the life of one run: its lock, its log, its control folder, its checkpoints, signals and panics. Refuses to know
//! who started it: it lives on when its parent, the terminal or the link is gone, and whoever wants to see it reads its log.
//!
//! **Invariants.** Only the holder of a run's lock writes to its folder. A step that failed overwrites nothing. What the log
//! says about a checkpoint is true on disk before the log says it.

mod answer;
mod bench;
mod drive;
mod error;
mod gpu;
mod inputs;
mod log;
mod out;
mod prepared;
mod process;
mod run;
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

/// Runs the worker on the arguments behind `worker`: a verb and what it needs. 0: done; 1: failed, with one sentence as the
/// last line of standard error; 2: not a worker's order. `reports` says how bugs are reported; a report goes before that line.
pub fn main(args: impl IntoIterator<Item = OsString>, reports: HookBuilder) -> ExitCode {
    // Only one hook can be installed for a process; the first one stays.
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
        ["models", roots @ ..] => {
            let roots: Vec<PathBuf> = (1..=roots.len()).map(|i| path(i).to_owned()).collect();
            answer::models(&roots)
        }
        ["model", _] => answer::model(path(1)),
        ["gpus"] => answer::gpus(),
        ["estimate", _] => answer::estimate(path(1)),
        ["masks", _] => answer::masks(path(1)),
        ["verify", _] => answer::verify(path(1)),
        ["score", _, id] => answer::score(path(1), &RunId::new(*id)),
        ["merge", _, id, _, format] => answer::merge(path(1), &RunId::new(*id), path(3), format),
        ["make", _, spec] => answer::make(path(1), spec),
        ["bench", spec] => bench::bench(spec),
        _ => {
            out::note("tiebreak: `worker` is the workbench's own child process; use the commands of `tiebreak --help`");
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
