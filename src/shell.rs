//! The impure rim: terminal, events, effects, headless commands.
//!
//! Owns everything that touches the world on behalf of a person: the terminal, the clock, threads, child processes, the
//! command line. Refuses to know candle, weights or losses: what needs a model is asked of a worker process.
//!
//! **Invariants.** The thread that draws waits for no disk, no worker and no model. A verdict is called saved only after its
//! record reached the disk. The terminal is given back on every way out. A run outlives whoever launched it.

pub mod cli;
pub mod terminal;

mod bundle;
mod commands;
mod desk;
mod effects;
mod embedded;
mod error;
mod events;
mod fetch;
mod foretell;
mod inputs;
mod intake;
mod journal;
mod models;
mod out;
mod plan;
mod reply;
mod run;
mod supervisor;
mod tails;

pub use error::{Error, Result};

use std::process::ExitCode;

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    let done = cli::parse(std::env::args_os()).and_then(|parsed| match parsed {
        cli::Parsed::Show(text) => out::raw(text.as_bytes()),
        cli::Parsed::Run(cli) => commands::run(*cli),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, Error::Closed | Error::Ended(_)) {
                out::note(&format!("tiebreak: {error}"));
            }
            error.exit_code()
        }
    }
}
