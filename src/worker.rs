//! The child process: a run's specification in, its recipe, events out.

/// Runs the worker on a run's folder.
pub fn main(_run_dir: Option<std::ffi::OsString>) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
