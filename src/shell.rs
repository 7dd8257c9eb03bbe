//! The impure rim: terminal, events, effects, headless commands.
//!
//! Owns everything that touches the world on behalf of a person: the terminal, the clock, threads, child processes, the
//! command line. Refuses to know candle, weights or losses: what needs a model is asked of a worker process.

pub mod terminal;

/// Runs the program on the process's arguments.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
