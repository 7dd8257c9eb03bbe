//! The binary: the only place that knows both the shell and the worker.

use std::process::ExitCode;
use tiebreak_kernels::memory::ReportingAllocator;

/// A worker that runs out of memory says so in its run's log.
#[global_allocator]
static ALLOCATOR: ReportingAllocator = ReportingAllocator;

/// Runs the hidden worker subcommand or the shell. Both report bugs in the same way.
fn main() -> ExitCode {
    // A file at its limit is an error of the write, as a full disk is, and not the end of the process.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
    let reports = tiebreak::shell::reports();
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|arg| arg == "worker") {
        return tiebreak::worker::main(args, reports);
    }
    tiebreak::shell::main(reports)
}
