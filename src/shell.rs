//! The impure rim: terminal, events, effects, headless commands.

/// Runs the program on the process's arguments.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
