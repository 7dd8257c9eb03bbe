//! The binary: the only place that knows both the shell and the worker.

use std::process::ExitCode;

/// Runs the hidden worker subcommand or hands the arguments to the shell.
fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|arg| arg == "worker") {
        return tiebreak::worker::main(args);
    }
    tiebreak::shell::main()
}
