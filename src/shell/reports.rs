//! Bug reports: panics and errors that no user can cause or fix.
//!
//! Owns their format for screens, commands and workers, and keeps them out of the alternate screen. A user's mistake is
//! no bug: it stays one plain sentence (`error`).

use super::terminal;
use crate::foreign::panics_are_contained;
use color_eyre::config::{EyreHook, HookBuilder, PanicHook, Theme};
use std::io::{IsTerminal, Write};

/// The last section of every report.
pub(super) const SECTION: &str = "This is a bug in tiebreak. Please report it with this text and what you did before. \
                       RUST_BACKTRACE=1 adds a backtrace.";

/// The report style, in colour if standard error is a terminal and NO_COLOR is not set.
#[must_use]
pub fn reports() -> HookBuilder {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let theme = if plain || !std::io::stderr().is_terminal() { Theme::new() } else { Theme::dark() };
    HookBuilder::blank().theme(theme).panic_section(SECTION).display_env_section(false)
}

/// Installs the panic hook: it restores the terminal before it writes the report. While the screens are open, a panic
/// outside the main thread ends the process: a program without its log writer or its input must not look alive.
pub fn install(reports: HookBuilder) {
    let (panics, errors): (PanicHook, EyreHook) = reports.into_hooks();
    // A process has only one hook: the first stays.
    let _ = errors.install();
    std::panic::set_hook(Box::new(move |info| {
        // A library gives up on damaged input: the caller says so.
        if panics_are_contained() {
            return;
        }
        let screens = terminal::restore();
        // A closed standard error is no reason to fail.
        let _ = writeln!(std::io::stderr(), "{}", panics.panic_report(info));
        if screens && std::thread::current().name() != Some("main") {
            signal_hook::low_level::exit(101);
        }
    }));
}
