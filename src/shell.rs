//! All side effects of the interface: terminal, events, effects, headless commands.
//!
//! Owns the terminal, the clock, threads, child processes and the command line. Refuses
//! to know candle, weights or losses: a worker process does whatever needs a model.
//!
//! **Invariants.** The drawing thread never waits for a disk, a worker or a model. A verdict counts as saved only after fsync.
//! The terminal is restored on every exit. A run outlives the process that launched it.

pub mod cli;
pub mod terminal;

mod adapters;
mod bundle;
mod clipboard;
mod commands;
mod config;
mod effects;
mod embedded;
mod error;
mod estimate;
mod eval_jobs;
mod evaluation;
mod events;
mod fetch;
mod hub;
mod inputs;
mod intake;
mod job_context;
mod jobs;
mod journal;
mod models;
mod out;
mod pairing;
mod paths;
mod plan;
mod reply;
mod report;
mod reports;
mod rounds;
mod run;
mod run_name;
mod scoring;
mod servers;
mod suite_folder;
mod suites;
mod supervisor;
mod system;
mod tails;
mod writer;

pub use config::UserSettings;
pub use error::{Error, Result};
pub use reports::{install, reports};

use color_eyre::config::HookBuilder;
use std::process::ExitCode;

/// Runs the program with the process's arguments. `reports` configures bug reports.
pub fn main(reports: HookBuilder) -> ExitCode {
    install(reports);
    let done = cli::parse(std::env::args_os()).and_then(|parsed| match parsed {
        cli::Parsed::Show(text) => out::raw(text.as_bytes()),
        cli::Parsed::Run(cli) => commands::run(*cli),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Bug(report)) => {
            out::bug(&report);
            ExitCode::FAILURE
        }
        Err(error) => {
            if !matches!(error, Error::Closed | Error::Ended(_)) {
                out::note(&format!("tiebreak: {error}"));
            }
            error.exit_code()
        }
    }
}
