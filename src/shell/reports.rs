//! Reports of bugs: panics and errors that no user can cause or mend.
//!
//! Owns how a report looks, for the screens, the commands and the worker alike, and that it never lands inside the alternate
//! screen. A user's mistake is no bug: it stays one plain sentence (`error`).

use super::terminal;
use color_eyre::config::{EyreHook, HookBuilder, PanicHook, Theme};
use std::io::{IsTerminal, Write};

/// What stands below every report.
pub(super) const SECTION: &str = "This is a bug in tiebreak. Please report it with this text and what you did before. \
                       RUST_BACKTRACE=1 adds where it happened.";

/// How panics and errors are reported, before it is installed: in colour where standard error is a terminal and NO_COLOR is
/// not set.
#[must_use]
pub fn reports() -> HookBuilder {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let theme = if plain || !std::io::stderr().is_terminal() { Theme::new() } else { Theme::dark() };
    HookBuilder::blank().theme(theme).panic_section(SECTION).display_env_section(false)
}

/// Installs the reports: a panic in any thread gives the terminal back before its report is written. A panic outside the main
/// thread while the screens are open ends the process: a program that lost its log writer or its input must not look alive.
pub fn install(reports: HookBuilder) {
    let (panics, errors): (PanicHook, EyreHook) = reports.into_hooks();
    // Only one hook can be installed for a process; the first one stays.
    let _ = errors.install();
    std::panic::set_hook(Box::new(move |info| {
        let screens = terminal::restore();
        // A closed standard error is no reason to fail.
        let _ = writeln!(std::io::stderr(), "{}", panics.panic_report(info));
        if screens && std::thread::current().name() != Some("main") {
            signal_hook::low_level::exit(101);
        }
    }));
}
